"""One HTTP/1.1 connection to an upstream, used for one request after the other.

Invariants
- A response is what `http_response_reader` takes for one; after its first doubt nothing more is read.
- A connection is used again only if the last exchange ended exactly where it should: nothing unsent,
  not one byte too many (empty lines in the same read aside, which the parser skips), nobody asked to
  close.
- An error says `sent=False` only where not one byte of the request was handed to the socket: the
  connection was already closing. A kept connection that dies without an answer counts as sent, since
  what the kernel took may have arrived.
- What arrived before the upstream closed reaches the reader, however slow it is: reading is paused at
  the socket, so that nothing waits in a TLS layer that drops it when the connection ends.

Over TLS `timeout_write` sees only what waits above the socket's own buffers; what it misses ends as
`timeout_first_byte`.

Follows RFC 9112, section 6 above all.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
from collections.abc import Callable, Mapping
from typing import Final, cast

from gatelift.wire.deadlines import NEVER
from gatelift.wire.http_known_heads import KnownHeads
from gatelift.wire.http_response import (
    UpstreamError,
    UpstreamErrorCode,
    UpstreamLimits,
    UpstreamResponse,
    UpstreamTimeouts,
)
from gatelift.wire.http_response_reader import ResponseReader

__all__ = ["ClientConnection"]

_STALE: Final = select.POLLIN | getattr(select, "POLLRDHUP", 0)


class ClientConnection(asyncio.Protocol):
    """A connection to the upstream. Made by `Upstream`, which gets it back through `on_free`."""

    def __init__(
        self,
        *,
        limits: UpstreamLimits,
        timeouts: UpstreamTimeouts,
        known_heads: KnownHeads,
        on_free: Callable[[ClientConnection], None],
        on_lost: Callable[[ClientConnection], None],
    ) -> None:
        self._limits = limits
        self._timeouts = timeouts
        self._on_free = on_free
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        # What lies on the socket itself: beneath TLS, else the same.
        self._lowest: asyncio.Transport | None = None
        self._reader = ResponseReader(limits, self._on_head, known_heads)
        self._head_waiter: asyncio.Future[UpstreamResponse] | None = None
        self._busy = False
        self._keep = True
        self._poll: select.poll | None = None
        self._too_old_s = self._loop.time() + timeouts.age_s
        self._first_look_s = min(timeouts.write_s, timeouts.first_byte_s)
        self._sent_at_s = 0.0
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
        transport = self._transport
        return (
            not self._busy
            and transport is not None
            and not transport.is_closing()
            and self._loop.time() < self._too_old_s
            and (self._poll is None or not self._poll.poll(0))
        )

    def send(
        self, request: bytes, *, keep: bool = True, until_s: float = NEVER
    ) -> asyncio.Future[UpstreamResponse]:
        """Send a whole request; return what is done once the head of the response is there.

        `keep=False` closes the connection after the answer, whatever the upstream says of it.
        `until_s`, in seconds of `loop.time()`, is when the whole exchange must have ended. Whoever
        waits no longer calls `forsake`.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            raise UpstreamError("the upstream closed the connection", code="died", sent=False)
        self._busy = True
        self._keep = keep
        self.exchanges += 1
        self.answered = False
        self._reader.begin()
        self._sent_at_s = now = self._loop.time()
        self._total_deadline = min(until_s, now + self._timeouts.total_s)
        self.deadline = min(now + self._first_look_s, self._total_deadline)
        waiter: asyncio.Future[UpstreamResponse] = self._loop.create_future()
        self._head_waiter = waiter
        transport.write(request)
        return waiter

    def forsake(self, waiter: asyncio.Future[UpstreamResponse]) -> None:
        """Let go of an exchange that nobody waits for any more, and of nobody else's.

        A whole answer in one read frees the connection before its waiter wakes: by then another
        exchange may run here, with a waiter of its own.
        """
        if self._head_waiter is waiter:
            self._head_waiter = None
            self.abandon()
        elif waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            waiter.result().close()

    # Called by the response.

    def pause(self) -> None:
        """Stop reading; the upstream's silence is ours until `resume`."""
        if self._lowest is not None and not self._lowest.is_closing():
            self._lowest.pause_reading()
            self.deadline = self._total_deadline

    def resume(self) -> None:
        """Read on."""
        if self._lowest is not None and not self._lowest.is_closing():
            self._lowest.resume_reading()
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

    # Called by the pool, the loop and the sweep.

    def secured(self, transport: asyncio.Transport | None) -> None:
        """Talk through TLS from now on; null if the connection ended with the handshake."""
        self._transport = transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = self._lowest = cast("asyncio.Transport", transport)
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
        whole = self._reader.take_whole(data)
        if whole is not None:
            self._answer_whole(*whole)
            return
        try:
            self._reader.feed(data)
        except UpstreamError as error:
            self._fail(cast("UpstreamErrorCode", error.code), str(error))
            return
        if self._reader.ended:
            response, self._reader.response = self._reader.response, None
            if response is not None:
                if response.paused:
                    self.resume()
                response.end()
            self._give_back(fit=self._reader.reusable and not self._reader.overrun)
        else:
            self._expect_more()

    def eof_received(self) -> bool:
        """Close: no upstream of ours closes one side only."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """End: whoever waits is told that the upstream died."""
        self._transport = self._lowest = None
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
        elif self._reader.response is None:
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
            return
        head_deadline = min(self._sent_at_s + self._timeouts.first_byte_s, self._total_deadline)
        if self._loop.time() >= head_deadline:
            self._fail("timeout_first_byte", f"no answer within {self._timeouts.first_byte_s} s")
        else:
            self.deadline = head_deadline

    # Inside.

    def _on_head(self, status: int, headers: Mapping[bytes, bytes]) -> UpstreamResponse:
        response = UpstreamResponse(
            status=status, headers=headers, source=self, limits=self._limits, loop=self._loop
        )
        self._wake(response)
        return response

    def _answer_whole(self, headers: Mapping[bytes, bytes], body: bytes) -> None:
        response = UpstreamResponse(
            status=200,
            headers=headers,
            source=None,
            limits=self._limits,
            loop=self._loop,
            whole=body,
        )
        self._wake(response)
        self._give_back(fit=True)

    def _wake(self, response: UpstreamResponse) -> None:
        waiter, self._head_waiter = self._head_waiter, None
        if waiter is None or waiter.done():
            # Whoever asked has gone in this very turn of the loop.
            response.close()
        else:
            waiter.set_result(response)

    def _expect_more(self) -> None:
        response = self._reader.response
        if response is not None and not response.paused:
            self.deadline = min(self._loop.time() + self._timeouts.idle_s, self._total_deadline)

    def _give_back(self, *, fit: bool) -> None:
        """End an exchange; `fit` says whether the upstream's bytes allow another on this connection."""
        self._busy = False
        transport = self._transport
        if (
            fit
            and self._keep
            and transport is not None
            and not transport.is_closing()
            and transport.get_write_buffer_size() == 0
        ):
            self.deadline = self._loop.time() + self._timeouts.keep_s
            self._on_free(self)
        else:
            self.abandon()

    def _fail(self, code: UpstreamErrorCode, message: str) -> None:
        if not self._busy:
            return
        self._busy = False
        error = UpstreamError(message, code=code, sent=True)
        response, self._reader.response = self._reader.response, None
        if response is not None:
            response.fail(error)
        waiter, self._head_waiter = self._head_waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
        self.abandon()
