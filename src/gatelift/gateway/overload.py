"""When a worker has more than it can serve well: it says so at once and keeps what it serves fast.

A queue that only grows makes everybody wait, those who are served too. So a worker that has too much
answers newcomers `overloaded` before it looks at who they are or sets anything aside. Three signs:

    exchanges in flight   memory and file descriptors
    records waiting       a disk that falls behind: every answer waits for its own
    the loop's lag        a processor that falls behind: every byte waits for its turn

Invariants
- Shedding costs nothing of the caller's: no cap is drawn, nothing recorded, only counted by reason.
- The lag counts once it stands: its least of the last `lag_samples` looks is above the bound, so that
  one slow turn (a new suite of safeguards, a paused machine) sheds nobody. One good look ends it.
- Health, access and receipts are never shed: they are how one sees what is the matter.

It keeps no clock: `sample` is told how late the loop was.
"""

from __future__ import annotations

from collections import deque
from typing import Annotated

import msgspec

__all__ = ["Overload", "OverloadTerms"]

_Count = Annotated[int, msgspec.Meta(ge=1)]


class OverloadTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much one worker takes on: `DIR/overload.json`, every field may be left out."""

    max_in_flight: _Count = 10_000
    """Exchanges with the model at a time, streams among them."""
    max_waiting_records: _Count = 4_096
    """Records that wait for the disk. At 16,384 the journal itself refuses (`journal_failed`)."""
    max_lag_ms: _Count = 200
    """How late the loop comes to what is due."""
    lag_samples: _Count = 4
    """So many looks in a row must find it later than that."""
    retry_after_s: _Count = 1
    """What a caller that was shed is told."""


class Overload:
    """Judges whether one worker takes one exchange more."""

    __slots__ = ("_lags_ms", "standing_lag_ms", "terms")

    def __init__(self, terms: OverloadTerms) -> None:
        self.terms = terms
        self._lags_ms: deque[float] = deque(maxlen=terms.lag_samples)
        self.standing_lag_ms = 0.0

    def sample(self, lag_ms: float) -> None:
        """Take in how late the loop was this time."""
        self._lags_ms.append(lag_ms)
        full = len(self._lags_ms) == self.terms.lag_samples
        self.standing_lag_ms = min(self._lags_ms) if full else 0.0

    def reason(self, *, in_flight: int, waiting_records: int) -> str | None:
        """Return what there is too much of, null when one exchange more may begin."""
        terms = self.terms
        if in_flight >= terms.max_in_flight:
            return "too many exchanges at a time"
        if waiting_records >= terms.max_waiting_records:
            return "too many records wait for the disk"
        if self.standing_lag_ms > terms.max_lag_ms:
            return "the processor is behind"
        return None
