"""Keeping bundle and roster current, and telling the node about it.

Invariants
- They are built again when the log or its cosigned head grew, and each second for what time alone
  ends (a certificate, a grant).
- What is told (`outgoing`, frames) is durable before it is told, and told as one value.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from gatelift.control.bundles import Bundles, Outgoing
from gatelift.control.publisher import Call
from gatelift.decide import State
from gatelift.messages.frames import BundleFrame, RosterFrame

__all__ = ["REFRESH_S", "Outlet"]

REFRESH_S = 1.0


class Outlet:
    """Refreshes `bundles` in the writer's thread (`call`) and pushes what changed.

    `situation()` returns the state, the cosigned size and the time in ms UTC.
    """

    def __init__(
        self,
        bundles: Bundles,
        *,
        situation: Callable[[], tuple[State, int, int]],
        call: Call,
        push: Callable[[BundleFrame | RosterFrame], None],
        on_changed: Callable[[], None],
    ) -> None:
        self._bundles = bundles
        self._situation = situation
        self._call = call
        self._push = push
        self._on_changed = on_changed
        self._due = asyncio.Event()
        self._outgoing = bundles.outgoing

    @property
    def outgoing(self) -> Outgoing:
        """What gateways are told to hold."""
        return self._outgoing

    def refresh_soon(self) -> None:
        """Note that something changed."""
        self._due.set()

    def frames(self) -> list[BundleFrame | RosterFrame]:
        """Return the frames that name what is out."""
        frames: list[BundleFrame | RosterFrame] = []
        if self._outgoing.bundle is not None:
            frames.append(BundleFrame(digest=self._outgoing.bundle.digest))
        if self._outgoing.roster is not None:
            roster = self._outgoing.roster
            frames.append(RosterFrame(number=roster.number, digest=roster.digest))
        return frames

    async def run(self) -> None:
        """Refresh until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_S):
                    await self._due.wait()
            self._due.clear()
            situation = self._situation()

            def work(now: tuple[State, int, int] = situation) -> Outgoing:
                return self._bundles.refresh(*now)

            before, self._outgoing = self._outgoing, await self._call(work)
            if self._outgoing != before:
                for frame in self.frames():
                    self._push(frame)
                self._on_changed()
