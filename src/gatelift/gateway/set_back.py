"""Ending a worker whose wall clock was set back past what it has forgotten.

Such a worker's book is without windows that have come again. It serves nothing in them (`leases`), and
it must not say what it holds, since it would leave them out. What it spent is in its journal, so
the cure is a new process: the keeper settles the old one, and both count every window anew.

Invariants
- Once seen, never unseen: the clock may have been right before or after.

Does not end anything by itself: it sets the event that the worker waits for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from gatelift.errors import CallerError

__all__ = ["ClockSetBackError", "SetBackWatch"]

_LOG = logging.getLogger(__name__)


class ClockSetBackError(CallerError):
    """The wall clock stood before what was counted and forgotten."""

    code = "clock_set_back"


class SetBackWatch:
    """Compares the clock with `past_ms()`, what is forgotten; sets `stop` when it stands before."""

    def __init__(self, past_ms: Callable[[], int], stop: asyncio.Event) -> None:
        self._past_ms = past_ms
        self._stop = stop
        self._seen: ClockSetBackError | None = None

    def seen(self, now_ms: int) -> bool:
        """Return whether the clock ever stood before what is forgotten."""
        behind_ms = self._past_ms() - now_ms
        if self._seen is None and behind_ms > 0:
            self._seen = ClockSetBackError(
                f"the clock was set back, {behind_ms // 1000} s into windows that are closed: this "
                "worker ends, and its successor counts every window again"
            )
            _LOG.error("%s", self._seen)
            self._stop.set()
        return self._seen is not None

    def check(self) -> None:
        """Raise `ClockSetBackError` if that was seen."""
        if self._seen is not None:
            raise self._seen
