"""Committed batches of a deployment's journals, found by their entries in a requests log.

Invariants
- A batch is handed out only if its records hash to its root (`journal.reader`), and once.
- Each run is read once and in order, so what was found while looking for another is kept till asked for.

A journal that cannot be read ends the reading of its run: its batches are then not found.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from gatelift.encoding import decode_json
from gatelift.journal import CommittedBatch, JournalError, RunFollower, list_runs
from gatelift.messages import BatchEntry

__all__ = ["CommittedBatches"]


class CommittedBatches:
    """Finds a committed batch by its entry, reading each run once and in order."""

    def __init__(self, directory: Path) -> None:
        self._runs: dict[str, RunFollower] = {}
        self._read: dict[bytes, CommittedBatch] = {}
        folders = sorted(p for p in directory.iterdir() if p.is_dir()) if directory.is_dir() else []
        for folder in folders:
            for run in list_runs(folder):
                self._runs[run] = RunFollower(folder, run)

    def find(self, leaf: bytes) -> CommittedBatch | None:
        """Return the batch with these entry bytes, none if no journal holds it."""
        run = decode_json(leaf, BatchEntry).run
        while leaf not in self._read and run in self._runs:
            found: list[CommittedBatch] = []
            with contextlib.suppress(JournalError):
                found = self._runs[run].poll()
            if not found:
                del self._runs[run]
            self._read.update((batch.data, batch) for batch in found)
        return self._read.pop(leaf, None)
