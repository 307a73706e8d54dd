"""The connections to one upstream: kept, lent one request at a time, bounded.

Invariants
- There are never more than `max_connections`, those under way included.
- While all are in use at most `max_waiting` requests wait, in order, each at most `pool_s`; nobody
  who comes later is served before them.
- A connection is lent again only if the kernel knows of no close and of no byte on it, if it is
  younger than `age_s`, and was unused for less than `keep_s`.
- Every error raised here says `sent=False`: no request has been given to a connection yet.

Does not send anything, and does not know what a request is.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable

from gatelift.wire.deadlines import Deadlines, tick_for
from gatelift.wire.http_connection import ClientConnection
from gatelift.wire.http_known_heads import KnownHeads
from gatelift.wire.http_response import UpstreamError, UpstreamLimits, UpstreamTimeouts

__all__ = ["ConnectionPool"]

# What a waiter is given: a connection, or the right to open one.
_Turn = ClientConnection | None


class ConnectionPool:
    """Connections to `host`:`port`. Use it inside one event loop, and `aclose` it."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | Callable[[], ssl.SSLContext] | None,
        server_name: str | None = None,
        limits: UpstreamLimits,
        timeouts: UpstreamTimeouts,
    ) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._server_name = server_name
        self._limits = limits
        self._timeouts = timeouts
        self._known_heads = KnownHeads()
        self._idle: list[ClientConnection] = []
        self._connections: set[ClientConnection] = set()
        # Rights to open a connection that were given and not yet used up.
        self._opening = 0
        self._waiting: deque[asyncio.Future[_Turn]] = deque()
        self._deadlines = Deadlines(
            tick_s=tick_for(
                timeouts.write_s,
                timeouts.first_byte_s,
                timeouts.idle_s,
                timeouts.total_s,
                timeouts.keep_s,
            )
        )

    def __len__(self) -> int:
        """Return how many connections there are, busy and idle."""
        return len(self._connections)

    def take_kept(self) -> ClientConnection | None:
        """Return a connection that was used before, null if none is fit or others wait for one."""
        return None if self._waiting else self._fit_idle()

    async def take(self, until_s: float) -> ClientConnection:
        """Return a connection, waiting for one if need be; raise `UpstreamError`, never sent.

        `until_s`, in seconds of `loop.time()`, is when the whole exchange must have ended. Codes:
        `too_many_connections`, `timeout_pool`, `timeout_connect`, `timeout_total`,
        `connect_failed`, `closed`.
        """
        give_up_s = asyncio.get_running_loop().time() + self._timeouts.pool_s
        first = False
        while True:
            if first or not self._waiting:
                if self._has_room:
                    self._opening += 1
                    return await self._open(until_s)
                kept = self._fit_idle()
                if kept is not None:
                    return kept
            turn = await self._wait(min(give_up_s, until_s), first=first)
            if turn is None:
                return await self._open(until_s)
            if turn.is_fit:
                return turn
            # It closed between its being given and our waking: that costs nobody its place.
            turn.abandon()
            first = True

    def retire(self) -> None:
        """Lend no present connection again: idle ones close now, busy ones after their answer."""
        for connection in list(self._connections):
            connection.retire()

    async def aclose(self) -> None:
        """Close all connections, also under running requests; these and who waits raise."""
        self._idle.clear()
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(
                    UpstreamError("the client was closed by us", code="closed", sent=False)
                )
        for connection in list(self._connections):
            connection.abandon()
        # One turn of the loop each to close and to tell; then nothing of ours is left in it.
        for _ in range(3):
            await asyncio.sleep(0)

    @property
    def _has_room(self) -> bool:
        return len(self._connections) + self._opening < self._limits.max_connections

    def _fit_idle(self) -> ClientConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_fit:
                return connection
            connection.abandon()
        return None

    async def _wait(self, until_s: float, *, first: bool) -> _Turn:
        if len(self._waiting) >= self._limits.max_waiting and not first:
            raise UpstreamError(
                f"{self._limits.max_connections} connections to the upstream are in use and "
                f"{self._limits.max_waiting} requests wait for one: ask again later",
                code="too_many_connections",
                sent=False,
            )
        waiter: asyncio.Future[_Turn] = asyncio.get_running_loop().create_future()
        if first:
            self._waiting.appendleft(waiter)
        else:
            self._waiting.append(waiter)
        try:
            async with asyncio.timeout_at(until_s):
                return await waiter
        except TimeoutError as error:
            self._leave(waiter)
            raise UpstreamError(
                f"no connection to the upstream was free within {self._timeouts.pool_s} s",
                code="timeout_pool",
                sent=False,
            ) from error
        except asyncio.CancelledError:
            self._leave(waiter)
            raise

    def _leave(self, waiter: asyncio.Future[_Turn]) -> None:
        # Its turn may have come in the very moment in which it gave up: then the next has it.
        if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            connection = waiter.result()
            if connection is None:
                self._opening -= 1
                self._give_room()
            else:
                self._free(connection)
        elif waiter in self._waiting:
            self._waiting.remove(waiter)

    def _give(self, turn: _Turn) -> bool:
        """Give the longest waiter its turn; return whether anybody took it."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(turn)
                return True
        return False

    def _give_room(self) -> None:
        if self._waiting and self._has_room:
            self._opening += 1
            if not self._give(None):
                self._opening -= 1

    async def _open(self, until_s: float) -> ClientConnection:
        """Open a connection with a right that was counted in `_opening`."""
        loop = asyncio.get_running_loop()
        connect_by_s = loop.time() + self._timeouts.connect_s
        try:
            tls = self._tls() if callable(self._tls) else self._tls
            async with asyncio.timeout_at(min(connect_by_s, until_s)):
                lowest, connection = await loop.create_connection(
                    self._make, self._host, self._port
                )
                if tls is not None and connection.is_usable:
                    connection.secured(await self._start_tls(lowest, connection, tls))
        except TimeoutError as error:
            late = until_s < connect_by_s
            raise UpstreamError(
                f"no connection to {self._host}:{self._port} within {self._timeouts.connect_s} s",
                code="timeout_total" if late else "timeout_connect",
                sent=False,
            ) from error
        except OSError as error:
            raise UpstreamError(
                f"can't connect to {self._host}:{self._port}: {type(error).__name__}",
                code="connect_failed",
                sent=False,
            ) from error
        else:
            if not connection.is_usable:
                raise UpstreamError(
                    f"{self._host}:{self._port} closed at once", code="connect_failed", sent=False
                )
            self._connections.add(connection)
            self._deadlines.watch(connection)
            return connection
        finally:
            self._opening -= 1
            self._give_room()

    async def _start_tls(
        self, lowest: asyncio.Transport, connection: ClientConnection, tls: ssl.SSLContext
    ) -> asyncio.Transport | None:
        """Return the transport of TLS over `lowest`, which the connection goes on pacing itself."""
        name = self._server_name or self._host
        try:
            return await asyncio.get_running_loop().start_tls(
                lowest, connection, tls, server_hostname=name
            )
        except BaseException:
            lowest.abort()
            raise

    def _make(self) -> ClientConnection:
        return ClientConnection(
            limits=self._limits,
            timeouts=self._timeouts,
            known_heads=self._known_heads,
            on_free=self._free,
            on_lost=self._lost,
        )

    def _free(self, connection: ClientConnection) -> None:
        if not self._limits.max_idle_connections:
            connection.abandon()
        elif not self._give(connection):
            if len(self._idle) < self._limits.max_idle_connections:
                self._idle.append(connection)
            else:
                connection.abandon()

    def _lost(self, connection: ClientConnection) -> None:
        self._connections.discard(connection)
        self._deadlines.forget(connection)
        # A linear search over at most `max_idle_connections`, once in the life of a connection.
        if connection in self._idle:
            self._idle.remove(connection)
        self._give_room()
