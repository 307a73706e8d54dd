"""One HTTP/1.1 connection to an upstream, used for one request after the other.

Invariants
- A response is taken only if `http_response_head` takes its head.
- It begins with `HTTP/1.`, which llhttp alone would not ask for, and no byte of its first line is a
  control character (after an interim response the parser's word for the protocol is taken).
- Heads, interim responses, trailers and everything else that is no body are bounded.
- A connection is used again only if the last exchange ended exactly where it should: nothing unsent,
  not one byte too many (empty lines in the same read aside, which the parser skips), nobody asked to
  close.
- An error says `sent=False` only where not one byte of the request was handed to the socket: the
  connection was already closing. A kept connection that dies without an answer counts as sent, since
  what the kernel took may have arrived.

Over TLS `timeout_write` sees only what waits above the socket's own buffers; what it misses ends as
`timeout_first_byte`.

Follows RFC 9112, section 6 above all.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import select
import socket
from collections.abc import Callable
from typing import Final, cast

import httptools

from gatelift.wire.deadlines import NEVER
from gatelift.wire.http_response import (
    UpstreamError,
    UpstreamErrorCode,
    UpstreamLimits,
    UpstreamResponse,
    UpstreamTimeouts,
)
from gatelift.wire.http_response_head import SINGLE, check_head

__all__ = ["ClientConnection"]

_BEGINNING: Final = b"HTTP/1."
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})
_STALE: Final = select.POLLIN | getattr(select, "POLLRDHUP", 0)


class ClientConnection(asyncio.Protocol):
    """A connection to the upstream. Made by `Upstream`, which gets it back through `on_free`."""

    def __init__(
        self,
        *,
        limits: UpstreamLimits,
        timeouts: UpstreamTimeouts,
        on_free: Callable[[ClientConnection], None],
        on_lost: Callable[[ClientConnection], None],
    ) -> None:
        self._limits = limits
        self._timeouts = timeouts
        self._on_free = on_free
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._head_waiter: asyncio.Future[UpstreamResponse] | None = None
        self._response: UpstreamResponse | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._in_head = True
        self._interim = 0
        self._begun = b""
        # Bytes since the parser last said anything: a bound on what it holds or skips unseen.
        self._silent_bytes = 0
        self._spoke = False
        self._reusable = False
        self._ended = False
        self._overrun = False
        self._busy = False
        self._keep = True
        self._poll: select.poll | None = None
        self._too_old_s = self._loop.time() + timeouts.age_s
        self._head_deadline = NEVER
        self._total_deadline = NEVER
        self.exchanges = 0
        """How many requests were sent here, the present one included."""
        self.answered = False
        """True once any byte of a response to the present request has come."""
        self.deadline = NEVER

    @property
    def is_usable(self) -> bool:
        """Say whether a request can be sent."""
        transport = self._transport
        return not self._busy and transport is not None and not transport.is_closing()

    @property
    def is_fit(self) -> bool:
        """Say whether a kept connection can be used again: young, open, nothing waits to be read.

        Asks the kernel, because a close that has arrived is told to us only in the loop's next turn.
        """
        young = self._loop.time() < self._too_old_s
        return young and self.is_usable and (self._poll is None or not self._poll.poll(0))

    async def exchange(
        self, request: bytes, *, keep: bool = True, until_s: float = NEVER
    ) -> UpstreamResponse:
        """Send a whole request; return the response once its head is there.

        `keep=False` closes the connection after the answer, whatever the upstream says of it.
        `until_s`, in seconds of `loop.time()`, is when the whole exchange must have ended.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            raise UpstreamError("the upstream closed the connection", code="died", sent=False)
        self._busy = True
        self._keep = keep
        self.exchanges += 1
        self.answered = self._ended = self._overrun = False
        self._interim = self._silent_bytes = 0
        self._begun = b""
        self._reset_for_message()
        now = self._loop.time()
        self._total_deadline = min(until_s, now + self._timeouts.total_s)
        self._head_deadline = min(now + self._timeouts.first_byte_s, self._total_deadline)
        self.deadline = min(now + self._timeouts.write_s, self._head_deadline)
        waiter: asyncio.Future[UpstreamResponse] = self._loop.create_future()
        self._head_waiter = waiter
        transport.write(request)
        try:
            return await waiter
        except asyncio.CancelledError:
            self.abandon()
            raise
        finally:
            # A whole answer in one read frees the connection before we wake: by now another
            # exchange may wait on it, with a waiter of its own.
            if self._head_waiter is waiter:
                self._head_waiter = None

    # Called by the response.

    def pause(self) -> None:
        """Stop reading; the upstream's silence is ours until `resume`."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
            self.deadline = self._total_deadline

    def resume(self) -> None:
        """Read on."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
            self._expect_more()

    def abandon(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def retire(self) -> None:
        """Be used for nothing after what runs now."""
        self._keep = False
        if not self._busy:
            self.abandon()

    # Called by the loop and the sweep.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock is None:
            return
        self._poll = select.poll()
        self._poll.register(sock.fileno(), _STALE)
        if sock.family != socket.AF_UNIX:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                size = self._limits.socket_buffer_bytes
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)

    def data_received(self, data: bytes) -> None:
        """Parse; on the end of the message give the connection back."""
        if not self._busy:
            # Bytes that nobody asked for: whatever they are, the next answer would not be ours.
            self.abandon()
            return
        self.answered = True
        if len(self._begun) < len(_BEGINNING):
            self._begun += data[: len(_BEGINNING) - len(self._begun)]
            if not _BEGINNING.startswith(self._begun):
                self._fail("bad_response", "the upstream's response is not HTTP/1.1")
                return
        self._spoke = False
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._on_parse_error(error)
            return
        if self._spoke:
            self._silent_bytes = 0
        else:
            self._silent_bytes += len(data)
            if self._silent_bytes > self._limits.max_header_bytes:
                self._fail("bad_response", "the upstream sent endless bytes that are no body")
                return
        if self._ended:
            self._give_back()
        else:
            self._expect_more()

    def eof_received(self) -> bool:
        """Close: no upstream of ours closes one side only."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """End: whoever waits is told that the upstream died."""
        self._transport = None
        self.deadline = NEVER
        reason = f": {type(exc).__name__}" if exc is not None else ""
        self._fail("died", f"the upstream closed before its response had ended{reason}")
        self._on_lost(self)

    def on_deadline(self) -> None:
        """Act on a deadline that has passed."""
        self.deadline = NEVER
        if not self._busy:
            if self._transport is not None:
                self._transport.close()
        elif self._loop.time() >= self._total_deadline:
            self._fail("timeout_total", f"no end within {self._timeouts.total_s} s")
        elif self._response is None:
            self._on_no_answer()
        else:
            self._fail("timeout_idle", f"nothing for {self._timeouts.idle_s} s amid a response")

    def _on_no_answer(self) -> None:
        # A timer for the writing alone would cost every request; instead its deadline, once passed,
        # looks whether anything is left to write, and else makes way for that of the first byte.
        if self._transport is not None and self._transport.get_write_buffer_size() > 0:
            self._fail(
                "timeout_write",
                f"the upstream did not take the request within {self._timeouts.write_s} s",
            )
        elif self._loop.time() >= self._head_deadline:
            self._fail("timeout_first_byte", f"no answer within {self._timeouts.first_byte_s} s")
        else:
            self.deadline = self._head_deadline

    # Called by the parser. What they raise comes back wrapped, to `_on_parse_error`.

    def on_message_begin(self) -> None:
        """Note bytes beyond the end of the response."""
        self._overrun = self._ended

    def on_status(self, reason: bytes) -> None:
        """Judge the reason phrase and drop it."""
        self._spoke = True
        self._head_bytes += len(reason)
        if self._head_bytes > self._limits.max_header_bytes or _CONTROL.search(reason):
            raise self._error("bad_response", "the upstream's reason phrase is too large or odd")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header, or drop a trailer; either is bounded."""
        self._spoke = True
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > self._limits.max_header_bytes or self._overrun:
            raise self._error("bad_response", "the upstream's headers are too large")
        if self._in_head:
            self._headers.append((name.lower(), value.strip(b" \t")))
            if len(self._headers) > self._limits.max_headers:
                raise self._error("bad_response", "the upstream sent too many headers")
        elif name.lower() in SINGLE:
            raise self._error("bad_response", "the upstream sent framing or type as a trailer")

    def on_headers_complete(self) -> None:
        """Take the head, or skip an interim one."""
        self._spoke = True
        self._in_head = False
        if self._overrun:
            raise self._error("bad_response", "the upstream sent a response nobody asked for")
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self._interim += 1
            if status == 101 or self._interim > self._limits.max_interim:
                raise self._error("bad_response", f"the upstream sent {status}, or too many 1xx")
            if any(name in _FRAMING for name, _ in self._headers):
                raise self._error("bad_response", "the upstream framed an interim response")
            return
        headers, self._reusable = check_head(status, self._parser.get_http_version(), self._headers)
        self._response = UpstreamResponse(
            status=status, headers=headers, source=self, limits=self._limits
        )
        if self._head_waiter is not None and not self._head_waiter.done():
            self._head_waiter.set_result(self._response)

    def on_body(self, data: bytes) -> None:
        """Hand a piece of the body on."""
        self._spoke = True
        if self._response is not None:
            self._response.push(data)

    def on_message_complete(self) -> None:
        """Note the end, or get ready for what follows an interim response."""
        if self._response is None:
            self._reset_for_message()
        else:
            self._ended = True

    # Inside.

    def _reset_for_message(self) -> None:
        # `_head_bytes` goes on counting over interim responses of one exchange.
        if not self._interim:
            self._head_bytes = 0
        self._headers = []
        self._in_head = True

    def _expect_more(self) -> None:
        response = self._response
        if response is not None and not response.paused:
            self.deadline = min(self._loop.time() + self._timeouts.idle_s, self._total_deadline)

    def _give_back(self) -> None:
        response, self._response = self._response, None
        self._busy = False
        transport = self._transport
        clean = (
            self._reusable
            and self._keep
            and not self._overrun
            and transport is not None
            and not transport.is_closing()
            and transport.get_write_buffer_size() == 0
        )
        if clean and transport is not None:
            if response is not None and response.paused:
                transport.resume_reading()
            self.deadline = self._loop.time() + self._timeouts.keep_s
        else:
            self.abandon()
        if response is not None:
            response.end()
        if clean:
            self._on_free(self)

    def _on_parse_error(self, error: Exception) -> None:
        if self._ended:
            # The response is whole; what follows it is not ours and costs only the connection.
            self._overrun = True
            self._give_back()
            return
        cause = error.__context__
        if isinstance(cause, UpstreamError):
            self._fail(cast("UpstreamErrorCode", cause.code), str(cause))
        else:
            self._fail("bad_response", f"the upstream's response is not HTTP/1.1: {error}")

    def _error(self, code: UpstreamErrorCode, message: str) -> UpstreamError:
        return UpstreamError(message, code=code, sent=True)

    def _fail(self, code: UpstreamErrorCode, message: str) -> None:
        if not self._busy:
            return
        self._busy = False
        error = self._error(code, message)
        response, self._response = self._response, None
        if response is not None:
            response.fail(error)
        if self._head_waiter is not None and not self._head_waiter.done():
            self._head_waiter.set_exception(error)
        self.abandon()
