"""The store: entries, their tree and the log's heads, in one database with one writer.

Invariants
- A transaction is durable as a whole when its `with` block ends, or leaves nothing behind.
- There is one leader. Opening raises the epoch; a transaction of an older epoch fails (`fenced`),
  so a leader that was thought dead cannot write after its successor.
- Entries are appended at exactly the present size; a stored entry, hash or root never changes. A
  checkpoint's note may only be replaced by one with more signatures, at the same root.

Bodies lie beside it, by digest (`wire.files`). It does not know what entries mean, and it does not
check hashes against leaves: the ledger does, before it signs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Engine, Select, delete, func, insert, inspect, select, update
from sqlalchemy.exc import SQLAlchemyError

from gatelift.messages import EntryHeader
from gatelift.store.engine import WRITES, connect, sqlite_path
from gatelift.store.errors import StoreError
from gatelift.store.lock import StoreLock
from gatelift.store.schema import (
    SCHEMA_VERSION,
    checkpoints,
    entries,
    items,
    meta,
    metadata,
    tree_hashes,
)
from gatelift.tlog import SubtreeHash

__all__ = ["Store", "StoredCheckpoint", "Transaction"]

_VERSION: Final = "schema_version"
_EPOCH: Final = "epoch"


class StoredCheckpoint(NamedTuple):
    """A head that was signed, with all signatures gathered so far."""

    size: int
    root: bytes
    note: bytes


class _Reader:
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


class Transaction(_Reader):
    """Writes of one transaction; made by `Store.transaction`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def append_entry(self, header: EntryHeader, leaf: bytes) -> int:
        """Add an entry whose stored header is `leaf`; return its index."""
        index = self.size()
        self._connection.execute(
            insert(entries).values(
                position=index, at=header.at, kind=header.kind.value, body=header.body, leaf=leaf
            )
        )
        return index

    def put_hashes(self, hashes: Iterable[SubtreeHash]) -> None:
        """Add hashes of complete subtrees; one that is there already is an error."""
        rows = [{"level": lvl, "position": index, "hash": hash_} for lvl, index, hash_ in hashes]
        if rows:
            self._connection.execute(insert(tree_hashes), rows)

    def put_checkpoint(self, size: int, root: bytes, note: bytes, *, signatures: int) -> None:
        """Keep a signed head, or the same head with more signatures.

        Raises `StoreError` (`conflict`) for another root at a size, for fewer signatures than
        there were, and for a first head below the largest.
        """
        newest = self.checkpoint()
        held = self.checkpoint(size)
        if held is None:
            if newest is not None and size < newest.size:
                raise _conflict(f"a first head at {size} below the head at {newest.size}")
            self._connection.execute(
                insert(checkpoints).values(size=size, root=root, note=note, signatures=signatures)
            )
            return
        if held.root != root:
            raise _conflict(f"a second root at size {size}")
        same = checkpoints.c.size == size
        changed = self._connection.execute(
            update(checkpoints)
            .where(same, checkpoints.c.signatures <= signatures)
            .values(note=note, signatures=signatures)
        )
        if changed.rowcount != 1:
            raise _conflict(f"fewer signatures at size {size} than are there")

    def set_meta(self, name: str, value: str) -> None:
        """Keep a setting."""
        # Updated in place: the row of the epoch is what other leaders wait for.
        changed = self._connection.execute(
            update(meta).where(meta.c.name == name).values(value=value)
        )
        if changed.rowcount == 0:
            self._connection.execute(insert(meta).values(name=name, value=value))

    def put_item(self, space: str, name: str, value: bytes) -> None:
        """Keep bytes under a name in a space, in place of what was there."""
        self.drop_item(space, name)
        self._connection.execute(insert(items).values(space=space, name=name, value=value))

    def drop_item(self, space: str, name: str) -> None:
        """Forget what is kept under a name; nothing there is no error."""
        self._connection.execute(delete(items).where(items.c.space == space, items.c.name == name))

    def _rows(self, query: Select[Any]) -> list[Any]:
        return list(self._connection.execute(query))


class Store(_Reader):
    """An open store; the process that holds it leads until `close` or until it is fenced."""

    def __init__(self, engine: Engine, lock: StoreLock | None, epoch: int) -> None:
        self._engine = engine
        self._lock = lock
        self.epoch = epoch

    @classmethod
    def open(cls, where: Path | str) -> Store:
        """Return the store in a folder (SQLite) or at a database URL, created if it is new.

        Raises `StoreError` (`store_locked`, `unknown_schema`, `not_durable`).
        """
        path = sqlite_path(where)
        lock = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = StoreLock(path.with_name(f"{path.name}.lock"))
        engine = connect(where)
        try:
            store = cls(engine, lock, 0)
            store._create()
            store.epoch = store._take_over()
        except BaseException:
            engine.dispose()
            if lock is not None:
                lock.release()
            raise
        return store

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Yield a transaction, committed when the block ends and rolled back when it raises."""
        with self._writing() as connection:
            transaction = Transaction(connection)
            # The lock on this row keeps other leaders out until the commit.
            query = select(meta.c.value).where(meta.c.name == _EPOCH).with_for_update()
            (row,) = connection.execute(query)
            if int(row.value) != self.epoch:
                raise StoreError(
                    f"expected to lead with epoch {self.epoch}, but epoch {row.value} has begun: "
                    "this process must stop",
                    code="fenced",
                )
            yield transaction

    def close(self) -> None:
        """Close all connections and give the lock back."""
        self._engine.dispose()
        if self._lock is not None:
            self._lock.release()

    def _create(self) -> None:
        with _told_as_ours():
            there = inspect(self._engine).has_table(meta.name)
        if there:
            version = self.meta(_VERSION)
        else:
            with self._writing() as connection:
                metadata.create_all(connection)
                transaction = Transaction(connection)
                transaction.set_meta(_VERSION, SCHEMA_VERSION)
                transaction.set_meta(_EPOCH, "0")
            version = SCHEMA_VERSION
        if version != SCHEMA_VERSION:
            raise StoreError(
                f"expected a store of schema {SCHEMA_VERSION}, got {version}: use the version of "
                "gatelift that wrote it",
                code="unknown_schema",
            )

    def _take_over(self) -> int:
        with self._writing() as connection:
            query = select(meta.c.value).where(meta.c.name == _EPOCH).with_for_update()
            (row,) = connection.execute(query)
            epoch = int(row.value) + 1
            Transaction(connection).set_meta(_EPOCH, str(epoch))
        return epoch

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with _told_as_ours(), self._engine.connect() as connection:
            writing = connection.execution_options(**{WRITES: True})
            with writing.begin():
                yield writing

    def _rows(self, query: Select[Any]) -> list[Any]:
        with _told_as_ours(), self._engine.connect() as connection:
            return list(connection.execute(query))


@contextmanager
def _told_as_ours() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        # The cause's kind is enough for people; its text may quote what was to be stored.
        cause = getattr(error, "orig", None) or error
        raise StoreError(
            f"the database failed ({type(cause).__name__}): what was to be written may or may not "
            "be there; read it before trying again"
        ) from error


def _first_checkpoint(rows: list[Any]) -> StoredCheckpoint | None:
    if not rows:
        return None
    row = rows[0]
    return StoredCheckpoint(int(row.size), bytes(row.root), bytes(row.note))


def _missing(what: str) -> StoreError:
    return StoreError(f"{what} are not in the store", code="not_stored")


def _conflict(what: str) -> StoreError:
    return StoreError(
        f"refused to keep {what}: another process signs, or a backup was restored; stop and compare",
        code="conflict",
    )
