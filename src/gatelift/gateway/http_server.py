"""The gateway's HTTP/1.1 server: listens, counts, drains, cuts.

Invariants
- Every connection is in `connections` from its first to its last moment, so `abort_all` misses none.
- While draining nothing new is accepted; what runs may end, until the timeout cuts it. Whoever had
  connected before is served: what waits in the kernel's queue is taken out before listening ends.
- What a handler raised is reported by type alone: its message may hold a prompt or a key.

It serves HTTP/1.1, in the clear or inside TLS (`wire.tls`); a connection counts from the end of its
handshake, the handshakes themselves are bounded and counted there. Connections live in
`http_connection`, answers in `http_responder`, parsing in `http_head` and `http_body`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable
from typing import Any

from gatelift.gateway.http_connection import HttpServerProtocol
from gatelift.gateway.http_hub import ConnectionState, Handler
from gatelift.gateway.http_known_heads import KnownHeads
from gatelift.gateway.http_messages import Request, ServerLimits
from gatelift.gateway.http_responder import Responder
from gatelift.gateway.http_room import Room, connections_that_fit
from gatelift.gateway.http_sockets import bound_buffers
from gatelift.wire.deadlines import Deadlines, tick_for
from gatelift.wire.tls import ListenerContext

__all__ = [
    "Handler",
    "HttpServer",
    "HttpServerProtocol",
    "Request",
    "Responder",
    "ServerLimits",
    "connections_that_fit",
    "serve",
]

_LOG = logging.getLogger("gatelift.gateway.http")
_STOP_GRACE_S = 1.0
_LOOK_S = 0.02


def _report(error: BaseException) -> None:
    _LOG.error("a request handler raised %s", type(error).__name__)


class HttpServer:
    """A running server. Made by `serve`."""

    def __init__(
        self,
        handler: Handler,
        *,
        limits: ServerLimits,
        on_error: Callable[[BaseException], None] = _report,
    ) -> None:
        self.handler = handler
        self.limits = limits
        self.draining = False
        self.known_heads = KnownHeads()
        self.failed = on_error
        self._deadlines = Deadlines(
            tick_s=tick_for(
                limits.header_timeout_s,
                limits.body_timeout_s,
                limits.idle_timeout_s,
                limits.write_timeout_s,
                limits.linger_timeout_s,
            )
        )
        self._room: Room[HttpServerProtocol] = Room(
            max_guests=limits.max_connections, max_held_bytes=limits.max_held_bytes
        )
        self.exchanges: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        self.tls: dict[str, Any] = {}
        """How connections are accepted: empty in the clear."""
        self._emptied: asyncio.Event | None = None

    @property
    def open_connections(self) -> int:
        """How many clients are connected."""
        return len(self._room)

    @property
    def held_bytes(self) -> int:
        """How many bytes of unfinished and pipelined requests are kept."""
        return self._room.held_bytes

    @property
    def in_flight(self) -> int:
        """How many handlers run."""
        return len(self.exchanges)

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where it listens: (address, port) of each TCP socket."""
        if self._listener is None:
            return []
        names = [sock.getsockname() for sock in self._listener.sockets]
        return [(name[0], name[1]) for name in names if isinstance(name, tuple)]

    def abort_all(self) -> int:
        """Cut every answer on its way, at once; return how many handlers were still running.

        Connections that wait for a request stay. An answer that has ended, but whose bytes a slow
        client has not taken, is cut as well.
        """
        under_way = [c for c in self._room.guests if not c.state.awaits_request]
        running = sum(c.state is ConnectionState.EXCHANGE for c in under_way)
        for connection in under_way:
            connection.cut(flush=False)
        return running

    async def drain(self, timeout_s: float, *, idle_grace_s: float = 0.0) -> int:
        """Stop: accept nothing new, let answers end for `timeout_s`, cut the rest; return how many.

        A kept connection that is idle has `idle_grace_s` for a request that may be on its way.
        Handlers that were cut have a second to settle, then their tasks are cancelled.
        """
        self.draining = True
        if self._listener is not None:
            await self._stop_listening(self._listener)
        for connection in self._room.guests:
            connection.drain(idle_grace_s)
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        # Who is amid a handshake is no guest yet.
        shaking_until = loop.time() + (idle_grace_s if self.tls else 0)
        # Again and again, as a request that was half here when draining began may still start.
        while (left_s := until - loop.time()) > 0:
            if self.exchanges:
                await asyncio.wait(self.exchanges, timeout=left_s)
            elif loop.time() < shaking_until or (
                idle_grace_s and any(c.state.awaits_request for c in self._room.guests)
            ):
                await asyncio.sleep(min(left_s, _LOOK_S))
            else:
                break
        cut = 0
        if self.exchanges:
            cut = self.abort_all()
            await asyncio.wait(self.exchanges, timeout=_STOP_GRACE_S)
        stuck = list(self.exchanges)
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
        await self._close_connections()
        return cut

    async def _stop_listening(self, listener: asyncio.Server) -> None:
        # Closing a listening socket resets all who wait in its queue, so they are let in first. What
        # arrives between the last look and the close, some microseconds, is lost; on a socket that
        # another process listens on too, nothing is.
        queues = [socket.socket(fileno=os.dup(each.fileno())) for each in listener.sockets]
        listener.close()
        waiting: list[socket.socket] = []
        for queue in queues:
            queue.setblocking(False)
            with contextlib.suppress(OSError):
                while len(waiting) < self.limits.max_connections:
                    waiting.append(queue.accept()[0])
            queue.close()
        if waiting:
            entered = [self._let_in(each) for each in waiting]
            await asyncio.gather(*entered, return_exceptions=True)

    async def _let_in(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: HttpServerProtocol(self), sock=sock, **self.tls
        )

    async def _close_connections(self) -> None:
        # Answers that were just sent may still be on their way out: linger, then cut.
        if not len(self._room):
            return
        self._emptied = asyncio.Event()
        try:
            async with asyncio.timeout(self.limits.linger_timeout_s):
                await self._emptied.wait()
        except TimeoutError:
            for connection in self._room.guests:
                connection.cut(flush=False)
            await self._emptied.wait()

    def attach(self, listener: asyncio.Server) -> None:
        """Take over what listens, to close it when draining."""
        self._listener = listener

    # Called by connections.

    def opened(self, connection: HttpServerProtocol) -> bool:
        """Count a connection in; False if there are too many."""
        self._deadlines.watch(connection)
        return self._room.enter(connection)

    def closed(self, connection: HttpServerProtocol) -> None:
        """Count a connection out."""
        self._room.leave(connection)
        self._deadlines.forget(connection)
        if not len(self._room) and self._emptied is not None:
            self._emptied.set()

    def hold(self, connection: HttpServerProtocol, count: int) -> None:
        """Note how many bytes of unfinished requests a connection holds now."""
        self._room.hold(connection, count)


async def serve(
    handler: Handler,
    *,
    host: str | None = None,
    port: int = 0,
    sock: socket.socket | None = None,
    unix_path: str | None = None,
    reuse_port: bool = False,
    backlog: int = 1024,
    limits: ServerLimits | None = None,
    on_error: Callable[[BaseException], None] = _report,
    ssl_context: ListenerContext | None = None,
) -> HttpServer:
    """Listen on `host` and `port`, on `sock`, or on `unix_path`; return the running server.

    `handler` is awaited once for each request and answers through its responder. `on_error` gets
    what it raised, apart from `ClientGoneError`. With `ssl_context` TLS is spoken, on TCP only.
    """
    limits = limits or ServerLimits()
    server = HttpServer(handler, limits=limits, on_error=on_error)
    loop = asyncio.get_running_loop()

    def accept() -> HttpServerProtocol:
        return HttpServerProtocol(server)

    tls = server.tls
    if ssl_context is not None:
        tls |= {
            "ssl": ssl_context,
            "ssl_handshake_timeout": ssl_context.handshake_timeout_s,
            # A closing client may take that long for the rest of its answer, as without TLS.
            "ssl_shutdown_timeout": server.limits.write_timeout_s,
        }
    if unix_path is not None:
        listener = await loop.create_unix_server(accept, path=unix_path, backlog=backlog)
    elif sock is not None:
        listener = await loop.create_server(accept, sock=sock, backlog=backlog, **tls)
    else:
        listener = await loop.create_server(
            accept, host=host, port=port, reuse_port=reuse_port or None, backlog=backlog, **tls
        )
    for listening in listener.sockets:
        bound_buffers(listening, limits.socket_buffer_bytes)
    server.attach(listener)
    return server
