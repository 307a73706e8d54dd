"""Where the one writer of an answer waits until its client has taken enough."""

from __future__ import annotations

import asyncio

from gatelift.gateway.http_messages import ResponseMisuseError

__all__ = ["WriteGate"]


class WriteGate:
    """Holds at most one waiter. Whoever is let through asks anew whether the client is there."""

    __slots__ = ("_waiter",)

    def __init__(self) -> None:
        self._waiter: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        """Wait until `open`; raises `ResponseMisuseError` for a second waiter."""
        if self._waiter is not None:
            raise ResponseMisuseError("expected one write at a time: await it before the next")
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def open(self) -> None:
        """Let the waiter through, if there is one."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
