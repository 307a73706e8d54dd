"""Erased records: each stands under one logged erasure, and together they are exactly what it covers.

    batch's root ──leaf──> erased line ──digest over all lines of (erasure, log)──> logged erasure

Invariants
- An erased line counts only under an erasure on the log that no later one superseded, inside its range.
  Anything else is a record that is missing.
- The lines of an erasure in one log, in order, are the very bytes whose digest it names: no line more, none
  less, no figure changed since two people signed.
- An erasure that was logged while a hold stood on what it covers is a finding, whoever signed it.

What an erased line says is no longer proved by its leaf: it is the word of the two who signed, and of the
node that compared it before it erased. The report says how many such records there are.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gatelift.encoding import encode_json
from gatelift.ledger.audit.releases import Releases
from gatelift.ledger.audit.report import Findings
from gatelift.ledger.audit.requests import Batch
from gatelift.messages import (
    ErasedLine,
    ErasedRange,
    Erasure,
    ErasureScope,
    Hold,
    HoldLift,
    holds_back,
    supersedes,
)

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["Erased"]


@dataclass(slots=True)
class _Range:
    """What an erasure covers of one log, and what was read of it."""

    wanted: ErasedRange
    where: str
    lines: int = 0
    digest: _Hash = field(default_factory=hashlib.sha256)


class Erased:
    """Holds erased lines against the erasures of the releases log."""

    def __init__(self, releases: Releases, findings: Findings) -> None:
        self._findings = findings
        self._known: dict[str, Erasure] = {}
        self._ranges: dict[tuple[str, str], _Range] = {}
        self._holds: dict[str, Hold] = {}
        self.records = 0
        for entry in releases.entries:
            where = releases.place(entry.index)
            match entry.body.value:
                case Erasure() as value:
                    self._take(value, where)
                case Hold() as value:
                    self._holds[value.id] = value
                case HoldLift() as value:
                    self._holds.pop(value.id, None)
                case _:
                    pass

    @property
    def erasures(self) -> int:
        """How many erasures are on the log."""
        return len(self._known)

    def hides_names(self, line: ErasedLine) -> bool:
        """Return whether the line's erasure took the names of principal and grant."""
        held = self._known.get(line.erasure)
        return held is not None and held.scope is not ErasureScope.SESSIONS

    def hides_organisation(self, line: ErasedLine) -> bool:
        """Return whether the line's erasure took the organisation's name too."""
        held = self._known.get(line.erasure)
        return held is not None and held.scope is ErasureScope.ORGANISATION

    def fold(self, batch: Batch) -> None:
        """Take the erased lines of the next batch of a log."""
        for line in batch.erased:
            self.records += 1
            held = self._ranges.get((line.erasure, line.log))
            if held is None or not held.wanted.first <= line.batch <= held.wanted.last:
                self._findings.error(
                    "erased_without_entry",
                    batch.where,
                    f"record {line.i} is erased by {line.erasure[:60]!r}, and no erasure in force on "
                    "the releases log covers it: it is missing",
                )
                continue
            held.lines += 1
            held.digest.update(encode_json(line) + b"\n")

    def close(self) -> None:
        """Report every erasure whose lines are not those that it names."""
        for (name, origin), held in self._ranges.items():
            digest = f"sha256:{held.digest.hexdigest()}"
            if held.lines != held.wanted.records or digest != held.wanted.tombstones:
                self._findings.error(
                    "tombstones_differ",
                    held.where,
                    f"erasure {name[:60]} covers {held.wanted.records} records of {origin[:120]} with "
                    f"lines of {held.wanted.tombstones}, here are {held.lines} of {digest}",
                )

    def sentence(self, records: int) -> str:
        """Return how many of all records were erased, by what, on which ground."""
        bases = Counter(held.basis.value for held in self._known.values())
        grounds = ", ".join(f"{n} on {basis}" for basis, n in sorted(bases.items()))
        return (
            f"{self.records:,} of {records:,} records were erased, by {self.erasures} logged "
            f"erasure(s) of two people each ({grounds}): their leaves stand in their batches, what is "
            "left of them is what was signed, and no hold stood against it"
        )

    def _take(self, value: Erasure, where: str) -> None:
        if value.id in self._known:
            self._findings.error("id_taken", where, f"erasure {value.id[:60]} is on the log twice")
            return
        for hold in self._holds.values():
            if holds_back(hold, value):
                self._findings.error(
                    "erased_under_hold",
                    where,
                    f"hold {hold.id[:60]} stood on records that erasure {value.id[:60]} covers",
                )
        for name in value.supersedes:
            older = self._known.get(name)
            if older is None or not supersedes(value, older):
                self._findings.error(
                    "not_superseded",
                    where,
                    f"erasure {value.id[:60]} does not cover all that {name[:60]} did",
                )
                continue
            for each in older.covers:
                self._ranges.pop((name, each.origin), None)
        self._known[value.id] = value
        for each in value.covers:
            self._ranges[value.id, each.origin] = _Range(each, where)
