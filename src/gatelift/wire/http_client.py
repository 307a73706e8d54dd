"""An HTTP/1.1 client for one upstream: a pool of connections, strict, bounded, without surprises.

Invariants
- A request is sent once. It is sent again only if the caller calls it idempotent and a pooled
  connection closed before the first byte of an answer.
- Every phase has a timeout (`UpstreamTimeouts`), every size a bound (`UpstreamLimits`).
- Framing headers are written here; no header of the caller can add a line.
- Redirects are not followed, cookies not kept, proxies not asked, encodings not offered.

Which URLs are allowed (plain HTTP only on loopback, say) is for the caller to decide.
"""

from __future__ import annotations

import asyncio
import functools
import re
import ssl
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from gatelift.errors import CallerError
from gatelift.wire.deadlines import Deadlines, tick_for
from gatelift.wire.http_connection import ClientConnection
from gatelift.wire.http_response import (
    UpstreamError,
    UpstreamLimits,
    UpstreamResponse,
    UpstreamTimeouts,
)

__all__ = [
    "Upstream",
    "UpstreamError",
    "UpstreamLimits",
    "UpstreamRequestError",
    "UpstreamResponse",
    "UpstreamTimeouts",
]

_TARGET: Final = re.compile(r"/[!-\"$-~]*")
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_METHODS: Final = frozenset({"GET", "POST", "PUT", "DELETE"})
_OURS: Final = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"connection", b"accept-encoding", b"expect"}
)


class UpstreamRequestError(CallerError):
    """The URL, path or headers can't be sent as they are."""

    code = "bad_upstream_request"


@functools.lru_cache(maxsize=512)
def _checked_name(name: bytes) -> bytes:
    if name in _OURS or not _TOKEN.fullmatch(name):
        raise UpstreamRequestError(
            f"expected a lower-case header name that is not one of the client's own, got {name[:40]!r}"
        )
    return name


class Upstream:
    """One server that answers. Use it inside one event loop, and `aclose` it."""

    def __init__(
        self,
        base_url: str,
        *,
        limits: UpstreamLimits | None = None,
        timeouts: UpstreamTimeouts | None = None,
        tls: ssl.SSLContext | Callable[[], ssl.SSLContext] | None = None,
        server_name: str | None = None,
    ) -> None:
        """Name the server; `tls` replaces the default context of an `https` one (client certificates).

        As a function it is asked for each new connection, and may raise `UpstreamError` instead.
        `server_name` is what the server's certificate must say, if not the URL's host.
        """
        parts = urlsplit(base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
            raise UpstreamRequestError("expected http://host[:port][/path] or https://, no user")
        if parts.query or parts.fragment or not _TARGET.fullmatch(parts.path or "/"):
            raise UpstreamRequestError("expected a base URL without query, fragment and blanks")
        if tls is not None and parts.scheme != "https":
            raise UpstreamRequestError("expected an https URL beside a TLS context")
        self.host = parts.hostname
        usual = 443 if parts.scheme == "https" else 80
        self.port = parts.port or usual
        self._prefix = parts.path.rstrip("/")
        name = f"[{self.host}]" if ":" in self.host else self.host
        authority = name if self.port == usual else f"{name}:{self.port}"
        self._host_line = f"host: {authority}\r\n".encode("ascii")
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        self._server_name = server_name
        self.limits = limits or UpstreamLimits()
        self.timeouts = timeouts or UpstreamTimeouts()
        self._idle: list[ClientConnection] = []
        self._connections: set[ClientConnection] = set()
        self._connecting = 0
        self._deadlines = Deadlines(
            tick_s=tick_for(
                self.timeouts.first_byte_s,
                self.timeouts.idle_s,
                self.timeouts.total_s,
                self.timeouts.keep_s,
            )
        )

    @property
    def open_connections(self) -> int:
        """How many connections there are, busy and idle."""
        return len(self._connections)

    async def request(
        self,
        method: str,
        path: str,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
        *,
        idempotent: bool = False,
        keep: bool = True,
    ) -> UpstreamResponse:
        """Send a request, return the response once its head is there; raise `UpstreamError`.

        `path` begins with `/`, comes after the base URL's own path, and may have a query.
        `idempotent` allows one repetition, if a kept connection was closed under the request.
        `keep=False` uses the connection for nothing after this: some servers close after a stream
        without saying so, and a request sent into that would be lost.
        """
        data = self._render(method, path, headers, body)
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_usable:
                continue
            try:
                return await connection.exchange(data, keep=keep)
            except UpstreamError as error:
                if error.sent and not (
                    idempotent and error.code == "died" and not connection.answered
                ):
                    raise
                break
        connection = await self._connect()
        return await connection.exchange(data, keep=keep)

    def retire(self) -> None:
        """Use no present connection again: idle ones close now, busy ones after their answer."""
        for connection in list(self._connections):
            connection.retire()

    async def aclose(self) -> None:
        """Close all connections, also under running requests; these raise."""
        self._idle.clear()
        for connection in list(self._connections):
            connection.abandon()
        # One turn of the loop each to close and to tell; then nothing of ours is left in it.
        for _ in range(3):
            await asyncio.sleep(0)

    def _render(
        self, method: str, path: str, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> bytes:
        if method not in _METHODS or not _TARGET.fullmatch(path):
            raise UpstreamRequestError(
                "expected GET, POST, PUT or DELETE and a path without blanks"
            )
        block = b"".join([b"%b: %b\r\n" % (_checked_name(name), value) for name, value in headers])
        if (
            block.count(b"\n") != len(headers)
            or block.count(b"\r") != len(headers)
            or b"\0" in block
        ):
            raise UpstreamRequestError("expected header values without CR, LF and NUL")
        line = f"{method} {self._prefix}{path} HTTP/1.1\r\n".encode("ascii")
        length = b"" if method == "GET" and not body else b"content-length: %d\r\n" % len(body)
        return b"%b%b%b%b\r\n%b" % (line, self._host_line, length, block, body)

    async def _connect(self) -> ClientConnection:
        if len(self._connections) + self._connecting >= self.limits.max_connections:
            raise UpstreamError(
                f"{self.limits.max_connections} connections to the upstream are open: all in use",
                code="too_many_connections",
                sent=False,
            )
        loop = asyncio.get_running_loop()
        tls = self._tls() if callable(self._tls) else self._tls
        name = None if tls is None else self._server_name
        self._connecting += 1
        try:
            async with asyncio.timeout(self.timeouts.connect_s):
                _, connection = await loop.create_connection(
                    self._make, self.host, self.port, ssl=tls, server_hostname=name
                )
        except TimeoutError as error:
            raise UpstreamError(
                f"no connection to {self.host}:{self.port} within {self.timeouts.connect_s} s",
                code="timeout_connect",
                sent=False,
            ) from error
        except OSError as error:
            raise UpstreamError(
                f"can't connect to {self.host}:{self.port}: {type(error).__name__}",
                code="connect_failed",
                sent=False,
            ) from error
        finally:
            self._connecting -= 1
        self._connections.add(connection)
        self._deadlines.watch(connection)
        return connection

    def _make(self) -> ClientConnection:
        return ClientConnection(
            limits=self.limits, timeouts=self.timeouts, on_free=self._free, on_lost=self._lost
        )

    def _free(self, connection: ClientConnection) -> None:
        if len(self._idle) < self.limits.max_idle_connections:
            self._idle.append(connection)
        else:
            connection.abandon()

    def _lost(self, connection: ClientConnection) -> None:
        self._connections.discard(connection)
        self._deadlines.forget(connection)
        # A linear search over at most `max_idle_connections`, once in the life of a connection.
        if connection in self._idle:
            self._idle.remove(connection)
