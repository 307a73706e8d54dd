"""The journals of a node as the source of its requests logs: every committed batch, in order.

Invariants
- A batch is handed out only if its records hash to its root (`journal.reader`).
- What a journal holds that cannot be read is a fault; what comes before it is handed out all the same.

It does not verify signatures: whoever compares a batch with a log does.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gatelift.journal import JournalError, RunFollower, list_runs
from gatelift.ledger.faults import Fault, Faults
from gatelift.tlog import leaf_hash

__all__ = ["JournalledBatch", "NodeJournals"]


class JournalledBatch(NamedTuple):
    """A committed batch as a journal holds it: its stored entry and the node's signature."""

    node: str
    data: bytes
    signature: bytes


class NodeJournals:
    """Reads all journals below `directory` once; what is wrong with them goes to `faults`."""

    def __init__(self, directory: Path, faults: Faults) -> None:
        self._faults = faults
        self._runs: dict[tuple[str, str], list[JournalledBatch]] = {}
        self._next: dict[tuple[str, str], int] = {}
        for folder in sorted(directory.iterdir()) if directory.is_dir() else ():
            if folder.is_dir():
                for run in list_runs(folder):
                    self._runs[folder.name, run] = list(self._read(folder, run))
        self._by_leaf: dict[bytes, bytes] | None = None

    @property
    def nodes(self) -> set[str]:
        """The nodes whose batches lie here."""
        return {batch.node for batches in self._runs.values() for batch in batches}

    @property
    def waiting(self) -> int:
        """How many committed batches were not asked for by `next_of`."""
        return sum(len(run) - self._next.get(key, 0) for key, run in self._runs.items())

    def next_of(self, worker: str, run: str) -> JournalledBatch | None:
        """Return the next batch of a run, none at its end."""
        index = self._next.get((worker, run), 0)
        batches = self._runs.get((worker, run), [])
        self._next[worker, run] = index + 1
        return batches[index] if index < len(batches) else None

    def entry_with(self, leaf: bytes) -> bytes | None:
        """Return the stored entry of the batch with this leaf hash, none if no journal holds it."""
        if self._by_leaf is None:
            batches = itertools.chain.from_iterable(self._runs.values())
            self._by_leaf = {leaf_hash(batch.data): batch.data for batch in batches}
        return self._by_leaf.get(leaf)

    def _read(self, folder: Path, run: str) -> Iterator[JournalledBatch]:
        follower = RunFollower(folder, run)
        try:
            while found := follower.poll():
                for batch in found:
                    yield JournalledBatch(batch.entry.node, batch.data, batch.signature)
        except JournalError as error:
            self._faults.add(
                Fault(
                    code=error.code,
                    where=f"journal/{folder.name}, run {run}",
                    expected="frames that pass their checks, and batches over the records before them",
                    found=str(error),
                    do="keep the file, and restore it from the second store (`--replica`) or a copy",
                )
            )
