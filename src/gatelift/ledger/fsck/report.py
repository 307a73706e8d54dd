"""What `fsck` found and did: faults by code, what was written again, and what is only worth knowing.

Invariants
- `ok` means that no fault is left: each was mended, or there was none.
- A note is no fault: a crash leaves it and the next start takes care of it, or nobody can judge it
  from this disk alone.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gatelift.ledger.faults import Fault, Faults

__all__ = ["Checkup", "FsckReport", "LogFound"]


class LogFound(msgspec.Struct, frozen=True, kw_only=True):
    """A log that was computed again. `root` in hex; `published` is the size of its checkpoint."""

    origin: str
    size: int
    root: str
    published: int


class FsckReport(msgspec.Struct, frozen=True, kw_only=True):
    """The result. `left_out` counts, by code, the faults beyond the first few of each."""

    ok: bool
    logs: tuple[LogFound, ...]
    faults: tuple[Fault, ...]
    left_out: dict[str, int]
    repaired: tuple[Fault, ...]
    notes: tuple[str, ...]


class Checkup:
    """Collects what the checks find; mends what they can derive, if that was asked for."""

    def __init__(self, *, repair: bool) -> None:
        self.faults = Faults()
        self.notes: list[str] = []
        self.logs: list[LogFound] = []
        self._repair = repair
        self._repaired = Faults()

    @property
    def repairs(self) -> bool:
        """Whether what can be derived is written."""
        return self._repair

    def mended(self, faults: Faults) -> None:
        """Note faults that were mended."""
        self._repaired.extend(faults)

    def derivable(self, fault: Fault, write: Callable[[], None]) -> None:
        """Note a fault that `write` mends, or mend it."""
        if self._repair:
            write()
            self._repaired.add(fault)
        else:
            self.faults.add(fault)

    def report(self) -> FsckReport:
        """Return all of it."""
        return FsckReport(
            ok=len(self.faults) == 0,
            logs=tuple(self.logs),
            faults=self.faults.kept,
            left_out=self.faults.left_out,
            repaired=self._repaired.kept,
            notes=tuple(self.notes),
        )
