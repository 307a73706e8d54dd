"""Putting back what decayed in the store, from the published log.

    logs/releases/checkpoint --signed root--> tiles --> bundles --> entries --> hashes --> store

Invariants
- An entry is taken from a bundle only if it leads to a root that the log signed.
- It is one transaction, and it is kept only if afterwards the whole store leads to every head that
  was signed; else nothing is changed.
- Only entries, the columns that repeat them, and hashes are put back. Heads are never touched, and
  nothing is appended: entries that the store never had are not this module's business.
"""

from __future__ import annotations

from pathlib import Path

from gatelift.encoding import decode_json
from gatelift.errors import GateliftError
from gatelift.ledger.errors import LedgerError
from gatelift.ledger.recompute import LEAVES_AT_ONCE, recompute
from gatelift.ledger.tile_files import read_checkpoint
from gatelift.ledger.tiles_reader import TileLog
from gatelift.messages import EntryHeader
from gatelift.store import EntryRow, Store, Transaction
from gatelift.tlog import EMPTY_FRONTIER, SubtreeHash, VerifierKey, leaf_hash, verify_checkpoint

__all__ = ["mend_store"]


def mend_store(store: Store, published: Path, key: VerifierKey) -> str | None:
    """Mend `store` from the log published in `published`; return why not, none if it is whole now."""
    try:
        note = read_checkpoint(published)
        if note is None:
            return "nothing was published to mend it from"
        log = TileLog(published, verify_checkpoint(note, key))
        with store.transaction() as transaction:
            _mend(transaction, log)
            _, faults = recompute(transaction)
            if faults.kept:
                raise LedgerError(f"it would still not be whole: {faults.kept[0]}")
    except (GateliftError, OSError) as error:
        return str(error)
    return None


def _mend(transaction: Transaction, log: TileLog) -> None:
    size = transaction.size()
    frontier = EMPTY_FRONTIER
    for first in range(0, size, LEAVES_AT_ONCE):
        stop = min(size, first + LEAVES_AT_ONCE)
        rows = transaction.entry_rows(first, stop)
        known = dict(log.entries(first, max(first, min(stop, log.size))))
        completed: list[SubtreeHash] = []
        for row in rows:
            leaf = known.get(row.position, row.leaf)
            header = decode_json(leaf, EntryHeader)
            if row != _row_of(row.position, header, leaf):
                transaction.mend_entry(row.position, header, leaf)
            frontier, hashes = frontier.grow(leaf_hash(leaf))
            completed += hashes
        transaction.mend_hashes(
            each
            for each in completed
            if transaction.hash_rows(each[0], each[1], each[1] + 1) != {each[1]: each[2]}
        )


def _row_of(index: int, header: EntryHeader, leaf: bytes) -> EntryRow:
    return EntryRow(index, header.at, header.kind.value, header.body, leaf)
