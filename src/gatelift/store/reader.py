"""What can be asked of a store, inside a transaction and outside one.

Invariants
- What is asked for by index is all there, or it is an error (`not_stored`), never a shorter answer.
  Only `entry_rows` and `hash_rows`, which are for whoever looks for damage, return what they find.

It changes nothing and checks no hashes (`ledger` does).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Select, func, select

from gatelift.store.errors import StoreError
from gatelift.store.schema import checkpoints, entries, items, meta, tree_hashes

__all__ = ["EntryRow", "Reader", "StoredCheckpoint"]


class StoredCheckpoint(NamedTuple):
    """A head that was signed, with all signatures gathered so far, and how many they are."""

    size: int
    root: bytes
    note: bytes
    signatures: int


class EntryRow(NamedTuple):
    """An entry as it lies in its row: `at`, `kind` and `body` repeat what `leaf` says."""

    position: int
    at: int
    kind: str
    body: str
    leaf: bytes


class Reader:
    """What can be asked inside a transaction and outside one."""

    def _rows(self, query: Select[Any]) -> list[Any]:
        raise NotImplementedError

    def size(self) -> int:
        """Return how many entries there are."""
        newest = self._rows(select(func.max(entries.c.position)))[0][0]
        return 0 if newest is None else int(newest) + 1

    def leaf(self, index: int) -> bytes:
        """Return the stored bytes of entry `index`; raises `StoreError` (`not_stored`)."""
        found = self.leaves(index, index + 1)
        return found[0]

    def leaves(self, first: int, stop: int) -> list[bytes]:
        """Return the entries from `first` up to, not including, `stop`; all must be there."""
        place = entries.c.position
        query = select(entries.c.leaf).where(place >= first, place < stop).order_by(place)
        found = [bytes(row.leaf) for row in self._rows(query)]
        if first < 0 or len(found) != stop - first:
            raise _missing(f"entries {first} to {stop - 1}")
        return found

    def last_at(self) -> int:
        """Return the `at` of the newest entry, 0 if there is none."""
        query = select(entries.c.at).order_by(entries.c.position.desc()).limit(1)
        rows = self._rows(query)
        return int(rows[0].at) if rows else 0

    def positions(self, kind: str) -> list[int]:
        """Return the indices of all entries of a kind, in order."""
        place = entries.c.position
        rows = self._rows(select(place).where(entries.c.kind == kind).order_by(place))
        return [int(row.position) for row in rows]

    def hash_at(self, level: int, index: int) -> bytes:
        """Return the hash of a complete subtree, as `tlog.HashReader` asks for it."""
        return self.hashes(level, index, index + 1)[0]

    def hashes(self, level: int, first: int, stop: int) -> list[bytes]:
        """Return the hashes of the complete subtrees from `first` up to `stop` of a level."""
        place = tree_hashes.c.position
        query = (
            select(tree_hashes.c.hash)
            .where(tree_hashes.c.level == level, place >= first, place < stop)
            .order_by(place)
        )
        found = [bytes(row.hash) for row in self._rows(query)]
        if first < 0 or len(found) != stop - first:
            raise _missing(f"subtrees {first} to {stop - 1} of level {level}")
        return found

    def checkpoint(self, size: int | None = None) -> StoredCheckpoint | None:
        """Return the head signed at `size`, by default the largest; None if none was."""
        query = select(checkpoints).order_by(checkpoints.c.size.desc()).limit(1)
        if size is not None:
            query = query.where(checkpoints.c.size == size)
        return _first_checkpoint(self._rows(query))

    def checkpoint_below(self, size: int) -> StoredCheckpoint | None:
        """Return the largest head below `size`; None if there is none."""
        query = (
            select(checkpoints)
            .where(checkpoints.c.size < size)
            .order_by(checkpoints.c.size.desc())
            .limit(1)
        )
        return _first_checkpoint(self._rows(query))

    def meta(self, name: str) -> str | None:
        """Return a setting by name, None if it was never set."""
        rows = self._rows(select(meta.c.value).where(meta.c.name == name))
        return str(rows[0].value) if rows else None

    def item(self, space: str, name: str) -> bytes | None:
        """Return the bytes kept under a name in a space, None if there are none."""
        query = select(items.c.value).where(items.c.space == space, items.c.name == name)
        rows = self._rows(query)
        return bytes(rows[0].value) if rows else None

    def items(self, space: str) -> dict[str, bytes]:
        """Return all that is kept in a space, by name in order."""
        query = select(items.c.name, items.c.value).where(items.c.space == space)
        return {row.name: bytes(row.value) for row in self._rows(query.order_by(items.c.name))}

    def checkpoints_above(self, size: int, limit: int) -> list[StoredCheckpoint]:
        """Return up to `limit` heads above `size`, the smallest first."""
        query = (
            select(checkpoints)
            .where(checkpoints.c.size > size)
            .order_by(checkpoints.c.size)
            .limit(limit)
        )
        return [_stored_checkpoint(row) for row in self._rows(query)]

    def entry_rows(self, first: int, stop: int) -> list[EntryRow]:
        """Return what is there of the entries from `first` up to, not including, `stop`.

        For whoever looks for damage: a gap is left out, and nothing is an error.
        """
        place = entries.c.position
        query = select(entries).where(place >= first, place < stop).order_by(place)
        return [
            EntryRow(int(r.position), int(r.at), str(r.kind), str(r.body), bytes(r.leaf))
            for r in self._rows(query)
        ]

    def hash_rows(self, level: int, first: int, stop: int) -> dict[int, bytes]:
        """Return what is there of the subtrees from `first` up to `stop` of a level, by index."""
        place = tree_hashes.c.position
        query = select(tree_hashes).where(
            tree_hashes.c.level == level, place >= first, place < stop
        )
        return {int(row.position): bytes(row.hash) for row in self._rows(query)}

    def hash_count(self) -> int:
        """Return how many subtrees are stored."""
        return int(self._rows(select(func.count()).select_from(tree_hashes))[0][0])


def _first_checkpoint(rows: list[Any]) -> StoredCheckpoint | None:
    return _stored_checkpoint(rows[0]) if rows else None


def _stored_checkpoint(row: Any) -> StoredCheckpoint:
    return StoredCheckpoint(int(row.size), bytes(row.root), bytes(row.note), int(row.signatures))


def _missing(what: str) -> StoreError:
    return StoreError(f"{what} are not in the store", code="not_stored")
