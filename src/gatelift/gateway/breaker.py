"""A breaker: when a placement that fails is left alone, and when it is tried again.

    closed --failures in a row--> open --a wait--> half open --one exchange--> trying
    trying --a head came--> closed; trying --a failure--> open, for longer

It is a literal table (`TABLE`), driven by what becomes of each exchange. An exchange `begin`s, and
then has at most one `answered` (a good head came) and exactly one of `ended`, `failed` and `left`.
`left` says nothing of the placement: the caller went, a stop came, the placement was only busy.

Invariants
- Open, nothing is let through. Half open, one exchange is, and no second until it is over.
- It opens after `failures` in a row and not before; only a whole answer ends the row. After a trial
  was answered, one more failure opens it again: a placement whose answers all break off amid a
  stream does not get `failures` callers each time.
- The wait doubles from `wait_s` up to `max_wait_s`, until a whole answer came.
- What becomes of an exchange that began before the breaker opened last is no news: it moves nothing.

Pure: time is an argument, in seconds of any clock that does not go back.
"""

from __future__ import annotations

import enum
from typing import Annotated, Final

import msgspec

from gatelift.errors import GateliftError

__all__ = ["TABLE", "Breaker", "BreakerError", "BreakerEvent", "BreakerState", "BreakerTerms"]

_Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
# Beyond this the doubled wait is over any cap, and over what a float should be asked.
_MAX_DOUBLINGS: Final = 30


class BreakerError(GateliftError):
    """An exchange was begun that the breaker did not let through."""

    code = "breaker_out_of_order"


class BreakerState(enum.StrEnum):
    """What a breaker lets through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    TRYING = "trying"


class BreakerEvent(enum.StrEnum):
    """What moves a breaker. `TRIPPED` is a failure that opens it: one too many, or of the trial."""

    WAITED = "waited"
    BEGUN = "begun"
    ANSWERED = "answered"
    ENDED = "ended"
    LEFT = "left"
    FAILED = "failed"
    TRIPPED = "tripped"


TABLE: Final[dict[BreakerState, dict[BreakerEvent, BreakerState]]] = {
    BreakerState.CLOSED: {
        BreakerEvent.BEGUN: BreakerState.CLOSED,
        BreakerEvent.ANSWERED: BreakerState.CLOSED,
        BreakerEvent.ENDED: BreakerState.CLOSED,
        BreakerEvent.LEFT: BreakerState.CLOSED,
        BreakerEvent.FAILED: BreakerState.CLOSED,
        BreakerEvent.TRIPPED: BreakerState.OPEN,
    },
    BreakerState.OPEN: {BreakerEvent.WAITED: BreakerState.HALF_OPEN},
    BreakerState.HALF_OPEN: {BreakerEvent.BEGUN: BreakerState.TRYING},
    BreakerState.TRYING: {
        BreakerEvent.ANSWERED: BreakerState.CLOSED,
        BreakerEvent.ENDED: BreakerState.CLOSED,
        BreakerEvent.LEFT: BreakerState.HALF_OPEN,
        BreakerEvent.TRIPPED: BreakerState.OPEN,
    },
}


class BreakerTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a breaker opens, and for how long."""

    failures: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 5
    """This many exchanges in a row that failed open it."""
    wait_s: _Seconds = 1.0
    """It stays open this long at first; each time it opens again, twice as long."""
    max_wait_s: _Seconds = 30.0
    """It never stays open longer than this."""


class Breaker:
    """The breaker of one placement."""

    __slots__ = ("_failures", "_openings", "_run", "_terms", "_until_s", "state")

    def __init__(self, terms: BreakerTerms) -> None:
        self._terms = terms
        self._failures = 0
        self._openings = 0
        # Goes up each time it opens, so that an exchange can be told from those before.
        self._run = 0
        self._until_s = 0.0
        self.state = BreakerState.CLOSED

    def lets_through(self, now_s: float) -> bool:
        """Return whether an exchange may begin."""
        if self.state is BreakerState.OPEN:
            return now_s >= self._until_s
        return self.state is not BreakerState.TRYING

    def waits_s(self, now_s: float) -> float:
        """Return in how many seconds it lets one through; 0 if now, or once the trial is over."""
        return max(0.0, self._until_s - now_s) if self.state is BreakerState.OPEN else 0.0

    def begin(self, now_s: float) -> int:
        """Note that an exchange begins; return what its `on` is to be called with.

        Raises `BreakerError` when it is not let through.
        """
        if self.state is BreakerState.CLOSED:
            # As the table says, without the look-up: this is every request of a healthy placement.
            return self._run
        if not self.lets_through(now_s):
            raise BreakerError(f"the breaker is {self.state.value}: nothing may begin")
        if self.state is BreakerState.OPEN:
            self._move(BreakerEvent.WAITED)
        self._move(BreakerEvent.BEGUN)
        return self._run

    def on(self, event: BreakerEvent, begun: int, now_s: float) -> BreakerState:
        """Take what became of the exchange that `begin` returned `begun` for; return the state."""
        if begun != self._run:
            return self.state
        if event is BreakerEvent.ENDED and self.state is BreakerState.CLOSED:
            # As above.
            self._failures = self._openings = 0
            return self.state
        was_trying = self.state is BreakerState.TRYING
        if event is BreakerEvent.FAILED:
            self._failures += 1
            if was_trying or self._failures >= self._terms.failures:
                event = BreakerEvent.TRIPPED
        self._move(event)
        if event is BreakerEvent.TRIPPED:
            self._run += 1
            wait_s = self._terms.wait_s * 2 ** min(self._openings, _MAX_DOUBLINGS)
            self._until_s = now_s + min(wait_s, self._terms.max_wait_s)
            self._openings += 1
        elif event is BreakerEvent.ENDED:
            self._failures = self._openings = 0
        elif was_trying and event is BreakerEvent.ANSWERED:
            self._failures = self._terms.failures - 1
        return self.state

    def _move(self, event: BreakerEvent) -> None:
        to = TABLE[self.state].get(event)
        if to is None:
            raise BreakerError(f"no {event.value} while {self.state.value}")
        self.state = to
