"""Deadlines of many connections behind one coarse timer.

A timer of the loop per chunk or per request costs more than the bytes it guards. Here each
connection only keeps a number, `deadline` (seconds of `loop.time()`), and one sweep looks at all of
them every tick.

Invariants
- A deadline acts at the earliest when it has passed, at the latest one tick (and a busy loop) later.
- The timer runs only while somebody is watched, so an idle process does not wake up.

It does not say what a passed deadline means: that is the connection's `on_deadline`.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

__all__ = ["NEVER", "Deadlines", "Watched", "tick_for"]

NEVER: Final = float("inf")
_SHORTEST_TICK_S: Final = 0.01
_LONGEST_TICK_S: Final = 1.0


class Watched(Protocol):
    """Something with a deadline."""

    @property
    def deadline(self) -> float:
        """When to be told, in seconds of `loop.time()`; `NEVER` for not at all."""

    def on_deadline(self) -> None:
        """Act on a deadline that has passed: set a later one, or close."""


def tick_for(*timeouts_s: float) -> float:
    """Return the seconds between two sweeps that keep each timeout within a quarter of itself."""
    return min(max(min(timeouts_s) / 4, _SHORTEST_TICK_S), _LONGEST_TICK_S)


class Deadlines:
    """Watches any number of deadlines from inside one running loop."""

    __slots__ = ("_tick_s", "_timer", "_watched")

    def __init__(self, *, tick_s: float) -> None:
        self._tick_s = tick_s
        self._watched: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, item: Watched) -> None:
        """Look at `item.deadline` at each tick from now on."""
        self._watched.add(item)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._tick_s, self._sweep, loop)

    def forget(self, item: Watched) -> None:
        """Stop looking at `item`; one that was never watched is no error."""
        self._watched.discard(item)
        if not self._watched and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(self._tick_s, self._sweep, loop)
        now = loop.time()
        # The list comes first: acting on a deadline changes the set.
        for item in [item for item in self._watched if item.deadline <= now]:
            item.on_deadline()
