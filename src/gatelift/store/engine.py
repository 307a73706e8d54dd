"""Connections: what each database needs before standard SQL can be relied on.

Invariants
- SQLite runs in WAL mode with `synchronous=FULL`, so a commit that returned survives a power cut;
  a database that refuses is not used (`not_durable`).
- A transaction that writes takes the write lock when it begins, not when it first writes.

Other databases are taken by their URL as they are; their own settings decide how durable they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event

from gatelift.store.errors import StoreError

__all__ = ["WRITES", "connect", "sqlite_path"]

WRITES: Final = "gatelift_writes"
"""The execution option of a connection that will write."""

_BUSY_TIMEOUT_MS: Final = 5_000
_FULL: Final = 2


def sqlite_path(where: Path | str) -> Path | None:
    """Return the database file for a folder or an SQLite URL; None for other databases."""
    if isinstance(where, Path):
        return where / "control.sqlite"
    prefix = "sqlite:///"
    return Path(where.removeprefix(prefix)) if where.startswith(prefix) else None


def connect(where: Path | str, *, read_only: bool = False) -> Engine:
    """Return the engine for a folder (SQLite inside it) or a database URL.

    `read_only` is SQLite's own: neither data nor the journal beside them are changed.
    """
    path = sqlite_path(where)
    if path is None:
        return create_engine(str(where), pool_pre_ping=True, hide_parameters=True)
    url = URL.create("sqlite", database=str(path))
    if read_only:
        query = {"mode": "ro", "uri": "true"}
        url = URL.create("sqlite", database=path.absolute().as_uri(), query=query)
    engine = create_engine(url, hide_parameters=True)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # The driver's own BEGIN comes too late and takes no lock; `_begin_sqlite` sends ours.
    connection.isolation_level = None
    cursor = connection.cursor()
    try:
        cursor.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")
        mode = cursor.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        level = cursor.execute("PRAGMA synchronous").fetchone()[0]
    finally:
        cursor.close()
    if mode != "wal" or level != _FULL:
        raise StoreError(
            f"expected SQLite in WAL mode with synchronous=FULL, got {mode} and {level}: "
            "put the store on a local disk",
            code="not_durable",
        )


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
