"""The tables of the store, in standard SQL through SQLAlchemy Core.

Invariants
- `entries` are dense from 0 and never change; `tree_hashes` hold each complete subtree once.
- A schema has a version; one that this code does not know is refused, never guessed at.

What is derived from entries (state, decisions, certificates in force) has no table: it is folded.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
)

__all__ = [
    "SCHEMA_VERSION",
    "checkpoints",
    "entries",
    "items",
    "meta",
    "metadata",
    "tree_hashes",
]

SCHEMA_VERSION: Final = "1"

metadata = MetaData()

entries = Table(
    "entries",
    metadata,
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("kind", String(40), nullable=False, index=True),
    Column("body", String(71), nullable=False),
    Column("leaf", LargeBinary, nullable=False),
)

tree_hashes = Table(
    "tree_hashes",
    metadata,
    Column("level", Integer, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("hash", LargeBinary(32), nullable=False),
    PrimaryKeyConstraint("level", "position"),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("root", LargeBinary(32), nullable=False),
    Column("note", LargeBinary, nullable=False),
    Column("signatures", Integer, nullable=False),
)

meta = Table(
    "meta",
    metadata,
    Column("name", String(80), primary_key=True),
    Column("value", String(1000), nullable=False),
)

items = Table(
    "items",
    metadata,
    Column("space", String(40), nullable=False),
    Column("name", String(200), nullable=False),
    Column("value", LargeBinary, nullable=False),
    PrimaryKeyConstraint("space", "name"),
)
