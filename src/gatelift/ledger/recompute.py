"""The releases log computed again from its entries, to be compared with what is stored beside them.

    entry bytes --> leaf hashes --> complete subtrees --> roots
                        |                |                  '-- heads that were signed
                        |                '-- table tree_hashes
                        '-- columns that repeat the header

Invariants
- Hashes come from the entries' bytes as the database gives them back; no stored hash is believed.
- One changed bit in an entry, in a stored hash, in a repeated column or in a stored head is a fault.
- It is said which side decayed, where a signed head tells: if the entries lead to every head, the
  stored hash did; if the stored hashes lead there, the entry did.
- Nothing is written or signed, and memory holds a frontier and one chunk.

`ReleasesLog` runs it at every opening, before anything can be signed; `fsck` when somebody asks.
It does not verify the signatures of heads (their key stands in an entry) nor read bodies.

Follows RFC 6962 section 2.1.
"""

from __future__ import annotations

from collections.abc import Iterator

from gatelift.encoding import EncodingError, decode_json
from gatelift.ledger.faults import Fault, Faults
from gatelift.messages import EntryHeader
from gatelift.store import EntryRow, Reader, StoredCheckpoint, StoreError
from gatelift.tlog import (
    EMPTY_FRONTIER,
    Frontier,
    MerkleError,
    SubtreeHash,
    leaf_hash,
    root_at,
)

__all__ = ["LEAVES_AT_ONCE", "recompute"]

LEAVES_AT_ONCE = 1024
_HEADS_AT_ONCE = 256
_RESTORE = (
    "`--repair` takes it from the published log where that is whole; else restore the newest copy of "
    "the store"
)


def recompute(store: Reader) -> tuple[Frontier, Faults]:
    """Return the frontier over all entries in `store`, and all that does not agree with them.

    The frontier is that of the entries before the first one that is missing.
    """
    faults = Faults()
    walk = _Walk(store, faults)
    frontier = walk.run()
    if walk.changed:
        _tell_side(store, walk, faults)
    return frontier, faults


class _Walk:
    """One pass over all entries."""

    def __init__(self, store: Reader, faults: Faults) -> None:
        self._store = store
        self._faults = faults
        self._heads = _Heads(store)
        self._completed = 0
        self.changed: list[SubtreeHash] = []
        """Subtrees whose stored hash is another than the computed one, or is not there."""
        self.heads_missed: list[StoredCheckpoint] = []
        """Heads to whose root the entries do not lead."""

    def run(self) -> Frontier:
        """Walk; return the frontier at the end."""
        frontier, size = EMPTY_FRONTIER, self._store.size()
        for first in range(0, size, LEAVES_AT_ONCE):
            stop = min(size, first + LEAVES_AT_ONCE)
            rows = self._store.entry_rows(first, stop)
            completed: list[SubtreeHash] = []
            for index, row in enumerate(rows, start=first):
                if row.position != index:
                    break
                self._check_columns(row)
                frontier, hashes = frontier.grow(leaf_hash(row.leaf))
                completed += hashes
                self._check_head(frontier)
            self._check_hashes(completed)
            if frontier.size != stop:
                self._faults.add(_entry_missing(frontier.size))
                return frontier
        self._check_beyond(frontier)
        return frontier

    def _check_columns(self, row: EntryRow) -> None:
        try:
            header = decode_json(row.leaf, EntryHeader)
        except EncodingError as error:
            self._faults.add(
                Fault(
                    code="entry_unreadable",
                    where=f"store entries#{row.position}",
                    expected="the JSON of an entry's header",
                    found=str(error),
                    do=_RESTORE,
                )
            )
            return
        for name, expected, found in (
            ("at", str(header.at), str(row.at)),
            ("kind", header.kind.value, row.kind),
            ("body", header.body, row.body),
        ):
            if expected != found:
                self._faults.add(
                    Fault(
                        code="entry_column",
                        where=f"store entries#{row.position}, column {name}",
                        expected=f"{expected!r} as the entry's bytes say",
                        found=repr(found),
                        do=_RESTORE,
                    )
                )

    def _check_hashes(self, completed: list[SubtreeHash]) -> None:
        by_level: dict[int, list[SubtreeHash]] = {}
        for each in completed:
            by_level.setdefault(each[0], []).append(each)
        for level, row in by_level.items():
            stored = self._store.hash_rows(level, row[0][1], row[-1][1] + 1)
            self.changed += [each for each in row if stored.get(each[1]) != each[2]]
        self._completed += len(completed)

    def _check_head(self, frontier: Frontier) -> None:
        head = self._heads.at(frontier.size)
        if head is not None and head.root != frontier.root():
            self.heads_missed.append(head)

    def _check_beyond(self, frontier: Frontier) -> None:
        for head in self._heads.rest():
            self._faults.add(
                Fault(
                    code="entries_missing",
                    where=f"store checkpoints#{head.size}",
                    expected=f"the {head.size} entries that this head was signed over",
                    found=f"{frontier.size} entries",
                    do=_RESTORE,
                )
            )
        missing = sum(self._store.hash_rows(lvl, i, i + 1) == {} for lvl, i, _ in self.changed)
        beyond = self._store.hash_count() - (self._completed - missing)
        if beyond > 0:
            self._faults.add(
                Fault(
                    code="hashes_beyond",
                    where="store tree_hashes",
                    expected=f"the {self._completed} subtrees of {frontier.size} entries",
                    found=f"{beyond} more",
                    do=_RESTORE,
                )
            )
        if not self.changed:
            for head in self.heads_missed:
                self._faults.add(_head_root(head))


class _Heads:
    """Hands out the stored heads in the order of their sizes."""

    def __init__(self, store: Reader) -> None:
        self._heads = _read_heads(store)
        self._next = next(self._heads, None)

    def at(self, size: int) -> StoredCheckpoint | None:
        """Return the head at `size`; sizes are asked for in order."""
        found = None
        while self._next is not None and self._next.size <= size:
            found = self._next if self._next.size == size else None
            self._next = next(self._heads, None)
        return found

    def rest(self) -> Iterator[StoredCheckpoint]:
        """Yield the heads beyond the last size that was asked for."""
        while self._next is not None:
            yield self._next
            self._next = next(self._heads, None)


def _read_heads(store: Reader) -> Iterator[StoredCheckpoint]:
    size = -1
    while found := store.checkpoints_above(size, _HEADS_AT_ONCE):
        yield from found
        size = found[-1].size


def _tell_side(store: Reader, walk: _Walk, faults: Faults) -> None:
    """Say of each difference whether the entry or the stored hash is the one that decayed."""
    newest = store.checkpoint()
    signed = 0 if newest is None else newest.size
    for level, index, hash_ in walk.changed:
        held = _hex(store.hash_rows(level, index, index + 1).get(index))
        if (index + 1) << level > signed:
            faults.add(_unsigned_differs(level, index, hash_, held))
        elif not walk.heads_missed:
            faults.add(_hash_changed(level, index, hash_, held))
        elif level == 0:
            faults.add(_entry_changed(index, hash_, held))
    for head in walk.heads_missed:
        if not _stored_leads_to(store, head):
            faults.add(_head_root(head))


def _stored_leads_to(store: Reader, head: StoredCheckpoint) -> bool:
    try:
        return root_at(store, head.size) == head.root
    except (StoreError, MerkleError):
        return False


def _hash_changed(level: int, index: int, hash_: bytes, held: str) -> Fault:
    return Fault(
        code="stored_hash",
        where=f"store tree_hashes, level {level}#{index}",
        expected=f"{hash_.hex()} over the entries, which lead to every signed head",
        found=held,
        do=_RESTORE,
    )


def _entry_changed(index: int, hash_: bytes, held: str) -> Fault:
    return Fault(
        code="entry_changed",
        where=f"store entries#{index}",
        expected=f"an entry with the stored leaf hash {held}",
        found=f"bytes that hash to {hash_.hex()}",
        do=_RESTORE,
    )


def _unsigned_differs(level: int, index: int, hash_: bytes, held: str) -> Fault:
    return Fault(
        code="unsigned_differs",
        where=f"store tree_hashes, level {level}#{index}",
        expected=f"{hash_.hex()} over the entries; no head was signed over them yet, so that "
        "nothing tells which of the two changed",
        found=held,
        do=_RESTORE,
    )


def _head_root(head: StoredCheckpoint) -> Fault:
    return Fault(
        code="head_root",
        where=f"store checkpoints#{head.size}",
        expected="the root that the entries lead to",
        found=f"{head.root.hex()}, which they do not lead to",
        do=_RESTORE,
    )


def _entry_missing(index: int) -> Fault:
    return Fault(
        code="entry_missing",
        where=f"store entries#{index}",
        expected="an entry at every index below the size",
        found="none",
        do=_RESTORE,
    )


def _hex(hash_: bytes | None) -> str:
    return "none" if hash_ is None else hash_.hex()
