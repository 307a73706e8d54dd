"""The store: entries, their tree and the log's heads, in one database with one writer.

Invariants
- A transaction is durable as a whole when its `with` block ends, or leaves nothing behind.
- There is one leader. Opening raises the epoch; a transaction of an older epoch fails (`fenced`),
  so a leader that was thought dead cannot write after its successor.
- Entries are appended at exactly the present size; a stored entry, hash or root never changes, but to
  what it was before it decayed (`mend_*`, which only `fsck` calls, with control down). A checkpoint's note may only be replaced by one with more signatures, at the same root.

Bodies lie beside it, by digest (`wire.files`). It does not know what entries mean, and it does not
check hashes against leaves: the ledger does, before it signs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, Select, delete, insert, inspect, select, text, update
from sqlalchemy.exc import SQLAlchemyError

from gatelift.messages import EntryHeader
from gatelift.store.engine import WRITES, connect, sqlite_path
from gatelift.store.errors import StoreError
from gatelift.store.lock import StoreLock
from gatelift.store.reader import Reader
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

__all__ = ["Store", "Transaction"]

_VERSION: Final = "schema_version"
_EPOCH: Final = "epoch"


class Transaction(Reader):
    """Writes of one transaction; made by `Store.transaction`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def append_entries(self, group: Sequence[tuple[EntryHeader, bytes]]) -> list[int]:
        """Add entries, each a header and its stored bytes; return their indices."""
        first = self.size()
        rows = [{"position": first + n, **_row(*entry)} for n, entry in enumerate(group)]
        if rows:
            self._connection.execute(insert(entries), rows)
        return list(range(first, first + len(rows)))

    def mend_entry(self, index: int, header: EntryHeader, leaf: bytes) -> None:
        """Put back the bytes of an entry that decayed; the caller proved that they are its own."""
        same = entries.c.position == index
        self._connection.execute(update(entries).where(same).values(**_row(header, leaf)))

    def mend_hashes(self, hashes: Iterable[SubtreeHash]) -> None:
        """Put back hashes that decayed or are gone; the caller computed them again."""
        for level, index, hash_ in hashes:
            same = (tree_hashes.c.level == level) & (tree_hashes.c.position == index)
            self._connection.execute(delete(tree_hashes).where(same))
            self.put_hashes([(level, index, hash_)])

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


def _row(header: EntryHeader, leaf: bytes) -> dict[str, object]:
    return {"at": header.at, "kind": header.kind.value, "body": header.body, "leaf": leaf}


class Store(Reader):
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

    @classmethod
    def inspect(cls, where: Path | str, *, read_only: bool = True) -> Store:
        """Return the store as it lies there, locked and led by nobody; nothing is created.

        Raises `StoreError` (`store_missing`, `store_locked`, `unknown_schema`).
        """
        path = sqlite_path(where)
        if path is not None and not path.exists():
            raise StoreError(f"no store at {path}: restore the newest backup", code="store_missing")
        lock = None if path is None else StoreLock(path.with_name(f"{path.name}.lock"))
        engine = connect(where, read_only=read_only)
        try:
            store = cls(engine, lock, 0)
            store._check_version(store.meta(_VERSION))
            store.epoch = int(store.meta(_EPOCH) or "0")
        except BaseException:
            engine.dispose()
            if lock is not None:
                lock.release()
            raise
        return store

    def database_faults(self) -> list[str]:
        """Return what SQLite finds wrong with its own file, in its words; others find nothing."""
        if self._engine.dialect.name != "sqlite":
            return []
        with _told_as_ours(), self._engine.connect() as connection:
            found = [str(row[0]) for row in connection.execute(text("PRAGMA integrity_check(20)"))]
        return [line for line in found if line != "ok"]

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

    def check_leads(self) -> None:
        """Return if this process could write now; raises as `transaction` does, and writes nothing."""
        with self.transaction():
            pass

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
        self._check_version(version)

    def _check_version(self, version: str | None) -> None:
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


def _conflict(what: str) -> StoreError:
    return StoreError(
        f"refused to keep {what}: another process signs, or a backup was restored; stop and compare",
        code="conflict",
    )
