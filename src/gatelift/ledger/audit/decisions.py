"""Decisions, made again: the log is folded from its beginning and `decide` is run after each group.

Invariants
- Every recorded decision equals the computed one in kind, stage, target, reasons, figures and
  narrowings; none is missing, none too many.
- Every entry passes, at its own time, the checks that control must make before logging it: so a
  certificate for which the gate was shut shows, whoever signed it.
- Without every entry there is no replay: a hole in the log is itself the finding.

It proves that decisions follow from their inputs, not that the inputs are true.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gatelift.decide import State, check_entry, fold, replay
from gatelift.encoding import Digest
from gatelift.ledger.audit.folder import Folder
from gatelift.ledger.audit.releases import Releases, ReleasesEntry
from gatelift.ledger.audit.report import Findings
from gatelift.messages import Body, EntryHeader, EntryKind

__all__ = ["Replayed", "replay_decisions"]


class Replayed(NamedTuple):
    """How many decisions were recorded, and the state that all entries lead to, if they could be folded."""

    recorded: int
    state: State | None


def replay_decisions(folder: Folder, releases: Releases, findings: Findings) -> Replayed:
    """Replay all decisions. Each difference is a finding."""
    recorded = sum(e.header.kind is EntryKind.DECISION for e in releases.entries)
    if not releases.is_whole:
        findings.error(
            "not_replayed", releases.log.folder, "entries are missing or do not hold: no replay"
        )
        return Replayed(recorded, None)
    files = _Files(folder)
    with findings.reading(releases.log.folder, "not_replayed"):
        for mismatch in replay(_groups(releases.entries), files.read):
            findings.error(
                "decision_differs",
                releases.place(mismatch.index),
                f"{mismatch.what}: recorded {mismatch.recorded[:240]}, "
                f"computed {mismatch.computed[:240]}",
            )
    state = None
    with findings.reading(releases.log.folder, "not_replayed"):
        state = _check_admission(releases, files, findings)
    return Replayed(recorded, state)


def _groups(entries: tuple[ReleasesEntry, ...]) -> Iterator[list[tuple[EntryHeader, Body]]]:
    group: list[tuple[EntryHeader, Body]] = []
    for entry in entries:
        group.append((entry.header, entry.body))
        if entry.header.end:
            yield group
            group = []
    if group:
        yield group


def _check_admission(releases: Releases, files: _Files, findings: Findings) -> State:
    state = State()
    for entry in releases.entries:
        header = entry.header
        with findings.reading(releases.place(entry.index), "not_admissible"):
            check_entry(state, header.kind, entry.body, entry.data, header.at, files.read)
        state = fold(state, entry.index, header, entry.body, files.read)
    return state


class _Files:
    """Files by digest, each read and hashed once: plan and candidate are asked for again and again."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._held: dict[Digest, bytes] = {}

    def read(self, digest: Digest) -> bytes:
        """Return the file's bytes; raises `FolderError`."""
        if digest not in self._held:
            self._held[digest] = self._folder.read_digest(digest)
        return self._held[digest]
