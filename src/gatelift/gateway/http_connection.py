"""One HTTP/1.1 connection from a client.

The connection is a machine of few states; bytes, the end of a handler and deadlines move it:

    state     bytes come in                  deadline passes       leaves to
    IDLE      a head begins                  close                 HEAD, CLOSED
    HEAD      head whole, or refused         answer 408            BODY, EXCHANGE, LINGER
    BODY      body whole, or refused         answer 408            EXCHANGE, LINGER
    EXCHANGE  kept (bounded, then unread)    writes stalled: cut   FLUSHING, IDLE, LINGER, CLOSED
    FLUSHING  kept (bounded, then unread)    writes stalled: cut   IDLE, LINGER, CLOSED
    LINGER    thrown away                    close                 CLOSED
    CLOSED    thrown away                    -                     -

Invariants
- One exchange at a time; the next request is not even parsed before the handler has returned and
  its answer is below the write buffer's mark.
- Whatever is no request is answered once, then the connection is closed. The answer survives: we
  end our side and read on for a moment, as a reset would destroy it (RFC 9112 section 9.6).
- Every state but a running handler has a deadline, and a handler that waits on the client has one.
- A client that leaves is noticed while its exchange runs, also one that closes its sending side
  only (it may still be answered, if not by TLS); one that pipelines beyond the bound is noticed at
  the next write.
- What waits unread for all clients together is bounded (`http_room`); whoever has waited longest
  gives way.
- An error of a handler never reaches the client: 500 and close, or a broken stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final, cast

from gatelift.gateway.http_client_side import ClientSide
from gatelift.gateway.http_head import RequestHead
from gatelift.gateway.http_hub import ConnectionState, Hub
from gatelift.gateway.http_messages import (
    ClientGoneError,
    HttpRejectionError,
    Request,
    render_rejection,
)
from gatelift.gateway.http_reader import ReadingPhase, RequestReader
from gatelift.gateway.http_responder import Responder, ResponseState
from gatelift.wire.deadlines import NEVER

__all__ = ["HttpServerProtocol"]


_IDLE: Final = ConnectionState.IDLE
_EXCHANGE: Final = ConnectionState.EXCHANGE
_SENT: Final = ResponseState.SENT


class HttpServerProtocol(asyncio.Protocol):
    """Serves one connection for `hub`. Made by the server for each client."""

    __slots__ = (
        "_held",
        "_hub",
        "_limits",
        "_loop",
        "_reader",
        "_responder",
        "_side",
        "_state",
        "_task",
        "closes_after",
        "deadline",
        "drained",
        "write",
        "write_paused",
    )

    def __init__(self, hub: Hub[HttpServerProtocol]) -> None:
        self._hub = hub
        self._side = side = ClientSide()
        # The responder's way to the client, without a step in between.
        self.write = side.write
        self.drained = side.drained
        self._limits = hub.limits
        self._loop = asyncio.get_running_loop()
        self._state = ConnectionState.IDLE
        self._reader = RequestReader(hub.limits, hub.known_heads)
        self._responder: Responder | None = None
        self._task: asyncio.Task[None] | None = None
        self._held = 0
        self.closes_after = False
        self.write_paused = False
        self.deadline = NEVER

    @property
    def state(self) -> ConnectionState:
        """What the connection waits for."""
        return self._state

    # Called by the loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or refuse if there are too many connections."""
        self._side.attach(
            cast("asyncio.Transport", transport), write_buffer_high=self._limits.write_buffer_high
        )
        limits = self._limits
        wait_s = limits.linger_timeout_s if self._hub.draining else limits.header_timeout_s
        self.deadline = self._loop.time() + wait_s
        if not self._hub.opened(self):
            self._refuse(HttpRejectionError(503, "too_many_connections", "too many connections"))

    @property
    def may_be_closed(self) -> bool:
        """Say whether no exchange runs and none is being answered."""
        return self._state.awaits_request or self._state is ConnectionState.LINGER

    def data_received(self, data: bytes) -> None:
        """Read on, keep for later, or throw away, by state."""
        if self._state is _IDLE:
            # The way of nearly every request of a kept connection: nothing is kept, or counted.
            whole = self._reader.take_whole(data)
            if whole is not None:
                self._begin_exchange(*whole)
                return
        match self._state:
            case ConnectionState.IDLE | ConnectionState.HEAD | ConnectionState.BODY:
                self._reader.feed(data)
                self._advance()
            case ConnectionState.EXCHANGE | ConnectionState.FLUSHING if not self.closes_after:
                self._reader.feed(data)
                if self._reader.buffered > self._limits.max_buffered_bytes:
                    self._side.pause_reading()
            case _:
                return
        self._account()

    def eof_received(self) -> bool:
        """Note that the client sends no more; keep the way back open while an exchange runs."""
        self._side.eof = True
        if self._state in {ConnectionState.EXCHANGE, ConnectionState.FLUSHING}:
            self.closes_after = True
            self._notify_gone()
            # TLS here has no half-closed connection: the loop closes, and nothing more arrives.
            return not self._side.tls
        self._close()
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop's signature
        """End: tell the handler, free whoever waits."""
        self._state = ConnectionState.CLOSED
        self.deadline = NEVER
        self._side.detach()
        self._hub.closed(self)
        self._cut_responder()
        self._side.let_through()

    def pause_writing(self) -> None:
        """Note that the client takes less than it is sent: it has `write_timeout_s` to catch up."""
        self.write_paused = True
        self.deadline = self._loop.time() + self._limits.write_timeout_s

    def resume_writing(self) -> None:
        """Go on after the client has caught up."""
        self.write_paused = False
        self._side.let_through()
        if self._state is ConnectionState.EXCHANGE:
            self.deadline = NEVER
        elif self._state is ConnectionState.FLUSHING:
            self._next_request()

    # Called by the server's sweep.

    def on_deadline(self) -> None:
        """Act on a deadline that has passed, by state."""
        self.deadline = NEVER
        match self._state:
            case ConnectionState.HEAD | ConnectionState.BODY:
                self._refuse(
                    HttpRejectionError(408, "request_timeout", "the request did not come in time")
                )
            case ConnectionState.IDLE if not self._side.has_unsent:
                self._close()
            case _:
                self.cut(flush=False)

    # Called by the responder and the server.

    def cut(self, *, flush: bool) -> None:
        """Close without an orderly end; without `flush` also drop what the kernel has queued."""
        self._state = ConnectionState.CLOSED
        if not flush:
            self._side.reset()
        elif self._side.is_attached:
            self.deadline = self._loop.time() + self._limits.write_timeout_s
            self._side.close()
        self._cut_responder()
        self._side.let_through()

    def drain(self, idle_grace_s: float = 0.0) -> None:
        """Close now if idle, else after the answer that is on its way.

        With a grace a client that could not know yet has that long for one request more, the answer
        to which tells it `connection: close`. A stream's head that has left told it nothing.
        """
        told = self._responder is None or self._responder.state is ResponseState.AWAITED
        if self._state is ConnectionState.IDLE:
            if idle_grace_s:
                self.deadline = self._loop.time() + idle_grace_s
            else:
                self._finish_connection()
        elif not idle_grace_s or told:
            self.closes_after = True

    def give_way(self) -> None:
        """Let go of what is held, so that others are served: callers without an exchange are closed."""
        match self._state:
            case ConnectionState.HEAD | ConnectionState.BODY:
                self._refuse(
                    HttpRejectionError(503, "overloaded", "too many unfinished requests: try again")
                )
            case ConnectionState.EXCHANGE | ConnectionState.FLUSHING:
                self._reader.clear()
                self.closes_after = True
            case ConnectionState.IDLE:
                self._close()
            case _:
                self.cut(flush=False)
        self._account()

    # Running exchanges.

    def _advance(self) -> None:
        before = self._state
        try:
            taken = self._reader.take()
        except HttpRejectionError as error:
            self._refuse(error)
            return
        if taken is not None:
            if self._reader.buffered > self._limits.max_buffered_bytes:
                self._side.pause_reading()
            self._begin_exchange(*taken)
            return
        match self._reader.phase:
            case ReadingPhase.HEAD if before is ConnectionState.IDLE:
                self._state = ConnectionState.HEAD
                self.deadline = self._loop.time() + self._limits.header_timeout_s
            case ReadingPhase.BODY if before is not ConnectionState.BODY:
                self._state = ConnectionState.BODY
                self.deadline = self._loop.time() + self._limits.body_timeout_s
                if self._reader.awaits_continue:
                    # The client may have gone since; the loop says so in a moment.
                    with contextlib.suppress(ClientGoneError):
                        self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            case _:
                pass

    def _begin_exchange(self, head: RequestHead, body: bytes) -> None:
        self._state = _EXCHANGE
        if not self.write_paused:
            self.deadline = NEVER
        if not head.keep_alive or self._hub.draining:
            self.closes_after = True
        side = self._side
        request = Request(
            method=head.method,
            path=head.path,
            query=head.query,
            headers=head.headers,
            body=body,
            peer=side.peer,
            received_at_monotonic=time.monotonic(),
            tls=side.tls,
            client_certificate=side.certificate,
            by_name=head.by_name,
        )
        responder = Responder(self, head_only=head.method == "HEAD", http_1_1=head.http_1_1)
        self._responder = responder
        self._task = self._loop.create_task(self._run(request, responder))
        self._hub.exchanges.add(self._task)

    async def _run(self, request: Request, responder: Responder) -> None:
        try:
            await self._hub.handler(request, responder)
        except ClientGoneError:
            # Expected when the client left; `_end_exchange` does what is left to do.
            pass
        except Exception as error:  # noqa: BLE001 - reported; nothing of it may reach the client
            self._hub.failed(error)
            self.closes_after = True
        finally:
            self._end_exchange(responder)

    def _end_exchange(self, responder: Responder) -> None:
        self._responder = None
        if self._task is not None:
            self._hub.exchanges.discard(self._task)
            self._task = None
        state = self._state
        if state is _EXCHANGE and responder.state is _SENT and not self.write_paused:
            self._next_request()
            return
        if state is ConnectionState.CLOSED:
            return
        match responder.state:
            case ResponseState.AWAITED:
                self._refuse(HttpRejectionError(500, "internal_error", "internal error"))
            case ResponseState.STREAMING:
                self.cut(flush=False)
            case ResponseState.SENT if self.write_paused:
                # The write deadline is set already; `resume_writing` goes on.
                self._state = ConnectionState.FLUSHING
            case ResponseState.SENT | ResponseState.CUT:
                self._next_request()

    def _next_request(self) -> None:
        if self.closes_after:
            self._finish_connection()
            return
        self._state = _IDLE
        draining = self._hub.draining
        self.deadline = self._loop.time() + (
            self._limits.linger_timeout_s if draining else self._limits.idle_timeout_s
        )
        if self._side.reading_paused:
            self._side.resume_reading()
        if self._reader.buffered:
            self._advance()
            self._account()

    # Closing.

    def _refuse(self, error: HttpRejectionError) -> None:
        with contextlib.suppress(ClientGoneError):
            self.write(render_rejection(error, epoch_s=int(time.time())))
        self._finish_connection()

    def _finish_connection(self) -> None:
        if not self._side.is_open:
            return
        self._reader.clear()
        self._account()
        if not self._side.can_linger:
            self._close()
            return
        self._state = ConnectionState.LINGER
        limits = self._limits
        wait_s = limits.write_timeout_s if self._side.has_unsent else limits.linger_timeout_s
        self.deadline = self._loop.time() + wait_s
        self._side.end_sending()

    def _close(self) -> None:
        self._state = ConnectionState.CLOSED
        self.deadline = self._loop.time() + self._limits.write_timeout_s
        self._side.close()

    def _account(self) -> None:
        held = self._reader.held
        if held != self._held:
            self._held = held
            self._hub.hold(self, held)

    def _cut_responder(self) -> None:
        if self._responder is not None:
            self._responder.state = ResponseState.CUT
            self._notify_gone()

    def _notify_gone(self) -> None:
        if self._responder is not None:
            for error in self._responder.notify_gone():
                self._hub.failed(error)
