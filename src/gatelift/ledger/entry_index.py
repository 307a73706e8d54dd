"""Where in a log an entry lies, by the digest of its bytes: on disk, so that memory stays flat.

Invariants
- It is a copy: everything in it can be read from the log's bundles, and is, when it falls short.
- It never says more than the log: opening cuts it to the log's size.

It is a SQLite file of its own that nobody else reads.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from gatelift.ledger.errors import LedgerError

__all__ = ["EntryIndex"]

_ASKED_AT_ONCE: Final = 64


class EntryIndex:
    """The index in the file at `path`, made anew if it is damaged."""

    __slots__ = ("_connection",)

    def __init__(self, path: Path) -> None:
        try:
            self._connection = _open(path)
        except sqlite3.DatabaseError:
            for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
                path.with_name(name).unlink(missing_ok=True)
            self._connection = _open(path)

    def size(self) -> int:
        """Return up to which position, without a hole, digests are held."""
        (newest, count) = self._connection.execute(
            "SELECT max(position), count(*) FROM entry"
        ).fetchone()
        return 0 if newest is None or newest + 1 != count else int(count)

    def find(self, digest: bytes) -> int | None:
        """Return the position of the entry with this SHA-256, None if it is not held."""
        query = "SELECT position FROM entry WHERE digest = ?"
        row = self._connection.execute(query, (digest,)).fetchone()
        return None if row is None else int(row[0])

    def find_all(self, digests: Sequence[bytes]) -> dict[bytes, int]:
        """Return the positions of those entries that are held, by their SHA-256."""
        found: dict[bytes, int] = {}
        for start in range(0, len(digests), _ASKED_AT_ONCE):
            asked = digests[start : start + _ASKED_AT_ONCE]
            marks = ",".join("?" * len(asked))
            query = f"SELECT digest, position FROM entry WHERE digest IN ({marks})"
            found.update(self._connection.execute(query, asked))
        return found

    def add(self, first: int, digests: Iterable[bytes]) -> None:
        """Hold the digests of the entries from `first` on."""
        rows = [(digest, first + i) for i, digest in enumerate(digests)]
        try:
            with self._connection:
                self._connection.executemany("INSERT OR IGNORE INTO entry VALUES (?, ?)", rows)
        except sqlite3.Error as error:
            raise LedgerError(
                f"the index of a log could not be written ({error}): free or mend the disk",
                code="index_failed",
            ) from error

    def cut(self, size: int) -> None:
        """Forget everything from position `size` on."""
        with self._connection:
            self._connection.execute("DELETE FROM entry WHERE position >= ?", (size,))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        # Consistent after a power cut; what it lost is read from the log again.
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS entry (digest BLOB PRIMARY KEY, position INTEGER NOT NULL)"
            " WITHOUT ROWID"
        )
        connection.execute("CREATE INDEX IF NOT EXISTS by_position ON entry (position)")
        connection.commit()
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection
