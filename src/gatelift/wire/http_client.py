"""An HTTP/1.1 client for one upstream: a pool of connections, strict, bounded, without surprises.

Invariants
- A request is sent once. It is sent again only if the caller calls it idempotent and a pooled
  connection closed before the first byte of an answer.
- Every error says whether any byte of the request may have reached the upstream (`sent`).
- Every phase has a timeout and its own code (`UpstreamTimeouts`), every size a bound
  (`UpstreamLimits`), and so has the pool of connections (`http_pool`).
- Framing headers are written here; no header of the caller can add a line.
- Redirects are not followed, cookies not kept, proxies not asked, encodings not offered.

Which URLs are allowed (plain HTTP only on loopback, say) is for the caller to decide.
"""

from __future__ import annotations

import asyncio
import functools
import re
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import urlsplit

from gatelift.errors import CallerError
from gatelift.wire.http_pool import ConnectionPool
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
        self._last_head: tuple[object, bytes] = (None, b"")
        self._host_line = f"host: {authority}\r\n".encode("ascii")
        self.limits = limits or UpstreamLimits()
        self.timeouts = timeouts or UpstreamTimeouts()
        self._pool = ConnectionPool(
            self.host,
            self.port,
            tls=(tls or ssl.create_default_context()) if parts.scheme == "https" else None,
            server_name=server_name,
            limits=self.limits,
            timeouts=self.timeouts,
        )

    @property
    def open_connections(self) -> int:
        """How many connections there are, busy and idle."""
        return len(self._pool)

    async def request(
        self,
        method: str,
        path: str,
        headers: Sequence[tuple[bytes, bytes]],
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
        data = self._render(method, path, tuple(headers), body)
        until_s = time.monotonic() + self.timeouts.total_s
        connection = self._pool.take_kept() or await self._pool.take(until_s)
        repeats = idempotent
        while True:
            waiter = None
            try:
                waiter = connection.send(data, keep=keep, until_s=until_s)
                return await waiter
            except UpstreamError as error:
                kept = connection.exchanges > 1 and not connection.answered
                if not (repeats and kept and error.code == "died"):
                    raise
            except asyncio.CancelledError:
                if waiter is not None:
                    connection.forsake(waiter)
                raise
            repeats = False
            connection = await self._pool.take(until_s)

    def retire(self) -> None:
        """Use no present connection again: idle ones close now, busy ones after their answer."""
        self._pool.retire()

    async def aclose(self) -> None:
        """Close all connections, also under running requests; these raise."""
        await self._pool.aclose()

    def _render(
        self, method: str, path: str, headers: tuple[tuple[bytes, bytes], ...], body: bytes
    ) -> bytes:
        asked = (method, path, headers)
        # One request after the other has the same head but for its length.
        last, head = self._last_head
        if asked != last:
            head = self._render_head(method, path, headers)
            self._last_head = (asked, head)
        length = b"" if method == "GET" and not body else b"content-length: %d\r\n" % len(body)
        return b"".join((head, length, b"\r\n", body))

    def _render_head(
        self, method: str, path: str, headers: tuple[tuple[bytes, bytes], ...]
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
        return b"%b%b%b" % (line, self._host_line, block)
