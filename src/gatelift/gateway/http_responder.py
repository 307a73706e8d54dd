"""The answer to one request: one piece, or a stream that ends in one of two distinguishable ways.

Invariants
- A stream that was not finished never looks finished: the last chunk is sent by `finish` alone.
- After `abort` nothing more leaves this host, not even what the kernel had queued (`flush=True`
  lets that through, still without the last chunk).
- Once the client is gone every write raises `ClientGoneError`, and `disconnected` is done.

One task answers one request; two writes at a time are refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from gatelift.gateway.http_messages import (
    ClientGoneError,
    ResponseMisuseError,
    render_chunk,
    render_head,
    render_response,
)

__all__ = ["Connection", "Responder", "ResponseState"]

_LAST_CHUNK: Final = b"0\r\n\r\n"


class ResponseState(enum.Enum):
    """How far the answer is. `AWAITED → SENT`, or `AWAITED → STREAMING → SENT`; `CUT` from any."""

    AWAITED = "awaited"
    STREAMING = "streaming"
    SENT = "sent"
    CUT = "cut"


# Asked at every request and chunk: a name of the module is found sooner than one of the enumeration.
_AWAITED: Final = ResponseState.AWAITED
_SENT: Final = ResponseState.SENT
_STREAMING: Final = ResponseState.STREAMING


class Connection(Protocol):
    """What a responder needs of the connection it answers on."""

    write_paused: bool
    closes_after: bool

    def write(self, data: bytes) -> None:
        """Queue bytes for the client."""

    async def drained(self) -> None:
        """Wait until the client has taken enough, or is gone."""

    def cut(self, *, flush: bool) -> None:
        """Close without an orderly end."""


class Responder:
    """Answers one request. Made by the connection."""

    __slots__ = ("_callbacks", "_connection", "_future", "_head_only", "_http_1_1", "gone", "state")

    def __init__(self, connection: Connection, *, head_only: bool, http_1_1: bool) -> None:
        self._connection = connection
        self._head_only = head_only
        self._http_1_1 = http_1_1
        self._callbacks: list[Callable[[], None]] | None = None
        self._future: asyncio.Future[None] | None = None
        self.state = _AWAITED
        self.gone = False
        """True once the client has closed (even only its sending side) or was cut off."""

    @property
    def disconnected(self) -> asyncio.Future[None]:
        """A future that is done once the client is gone. Shield it, or wait with `asyncio.wait`."""
        if self._future is None:
            self._future = asyncio.get_running_loop().create_future()
            if self.gone:
                self._future.set_result(None)
        return self._future

    def on_disconnect(self, callback: Callable[[], None]) -> None:
        """Call `callback` once when the client is gone; at once if it is. It must not raise."""
        if self.gone:
            callback()
        elif self._callbacks is None:
            self._callbacks = [callback]
        else:
            self._callbacks.append(callback)

    def send(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Send the whole answer in one segment, with its length."""
        if self.state is not _AWAITED:
            self._expect(_AWAITED)
        data = render_response(
            status,
            headers,
            body,
            epoch_s=int(time.time()),
            close=self._connection.closes_after,
            head_only=self._head_only,
        )
        self.state = _SENT
        self._connection.write(data)

    def start_stream(
        self, status: int, headers: Sequence[tuple[bytes, bytes]], first: bytes = b""
    ) -> None:
        """Send the head of a chunked answer, with the bytes of `first` in the same segment."""
        self._expect(ResponseState.AWAITED)
        if not self._http_1_1 or status in {204, 304}:
            raise ResponseMisuseError("expected HTTP/1.1 and a status with a body for a stream")
        framing = b"transfer-encoding: chunked\r\n"
        data = render_head(
            status, headers, framing, epoch_s=int(time.time()), close=self._connection.closes_after
        )
        if first and not self._head_only:
            data += render_chunk(first)
        self.state = ResponseState.STREAMING
        self._connection.write(data)

    def push(self, data: bytes) -> bool:
        """Send a part of the stream, waiting for nothing; return whether the client keeps up.

        If it does not, `drained` is to be awaited before the next part.
        """
        if self.state is not _STREAMING:
            self._expect(_STREAMING)
        connection = self._connection
        if data and not self._head_only:
            connection.write(render_chunk(data))
        return not connection.write_paused

    async def drained(self) -> None:
        """Wait while the client has too much unread; raises `ClientGoneError` once it is gone."""
        self._expect(ResponseState.STREAMING)
        if self._connection.write_paused:
            await self._connection.drained()

    async def write(self, data: bytes) -> None:
        """Send a part of the stream; wait while the client has too much unread."""
        if not self.push(data):
            await self.drained()

    async def finish(self, data: bytes = b"") -> None:
        """End the stream in order, with the last part `data` in the same segment."""
        self._expect(ResponseState.STREAMING)
        self.state = ResponseState.SENT
        if self._head_only:
            return
        self._connection.write(render_chunk(data) + _LAST_CHUNK if data else _LAST_CHUNK)

    def abort(self, *, flush: bool = False, last: bytes = b"") -> None:
        """Close the connection without an orderly end; harmless if it is closed already.

        `flush=False` is for stops: nothing more leaves. `flush=True` is for an upstream that died:
        the client gets what was released, and of a stream also `last`, then sees the stream break.
        """
        if self.state is not ResponseState.CUT:
            if flush and last and self.state is ResponseState.STREAMING and not self._head_only:
                with contextlib.suppress(ClientGoneError):
                    self._connection.write(render_chunk(last))
            self.state = ResponseState.CUT
            self._connection.cut(flush=flush)

    def notify_gone(self) -> list[Exception]:
        """Tell everybody that the client is gone; called by the connection, returns what failed."""
        if self.gone:
            return []
        self.gone = True
        if self._future is not None and not self._future.done():
            self._future.set_result(None)
        failed: list[Exception] = []
        callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks or ():
            try:
                callback()
            except Exception as error:  # noqa: BLE001 - all must be told; the connection reports it
                failed.append(error)
        return failed

    def _expect(self, state: ResponseState) -> None:
        if self.state is ResponseState.CUT:
            raise ClientGoneError("the client is gone or was cut off: stop the upstream and settle")
        if self.state is not state:
            raise ResponseMisuseError(
                f"expected the response to be {state.value}, it is {self.state.value}"
            )
