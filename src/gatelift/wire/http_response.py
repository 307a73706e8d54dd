"""What an upstream answered: its head, and its body as it arrives.

Invariants
- `complete` is true only after the end of the message was seen; a body that broke off raises, after
  what did arrive was handed out.
- At most `high_water_bytes` (and one read) wait here; then the upstream is not read from.
- There is one reader at a time. What it cannot take at once waits here, in order.

A stream of small pieces is best read with `pour`: a task that is woken for each piece pays at each
for every coroutine that awaits it.

Upstream bytes are hostile: nothing here is passed on by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Annotated, Literal, Protocol

import msgspec

from gatelift.errors import PeerError

__all__ = [
    "UpstreamError",
    "UpstreamErrorCode",
    "UpstreamLimits",
    "UpstreamResponse",
    "UpstreamTimeouts",
]

UpstreamErrorCode = Literal[
    "connect_failed",
    "timeout_pool",
    "timeout_connect",
    "timeout_write",
    "timeout_first_byte",
    "timeout_idle",
    "timeout_total",
    "bad_response",
    "died",
    "too_large",
    "too_many_connections",
    "closed",
]
_Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]


class UpstreamError(PeerError):
    """The upstream failed, or broke its side of HTTP.

    `sent` says whether any byte of the request may have reached it: False means that it can't have
    begun to work. `closed` is our own doing: the response was closed before it had ended.
    """

    code = "upstream"

    def __init__(self, message: str, *, code: UpstreamErrorCode, sent: bool) -> None:
        super().__init__(message, code=code)
        self.sent = sent


class UpstreamLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every bound on what an upstream may send, and on our connections to it."""

    max_header_bytes: _Count = 32 * 1024
    max_headers: _Count = 128
    max_interim: _Count = 4
    """Responses 1xx before the real one."""
    max_body_bytes: _Count = 8 * 1024 * 1024
    """Of a body that is read whole."""
    max_stream_bytes: _Count = 256 * 1024 * 1024
    """Of any body."""
    high_water_bytes: _Count = 64 * 1024
    """Of a body that waits for its reader; beyond, the upstream is not read from."""
    socket_buffer_bytes: _Count = 64 * 1024
    """What the kernel keeps of an answer: no more than this comes in one read either."""
    max_connections: _Count = 16_384
    max_idle_connections: _Count = 256
    max_waiting: _Count = 1024
    """Requests that wait for a connection while `max_connections` are in use; one more is refused
    at once."""


class UpstreamTimeouts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long each phase of a request may take, in seconds.

    What is over its time ends with the code `timeout_<phase>`: `timeout_pool`, `timeout_connect`,
    `timeout_write`, `timeout_first_byte`, `timeout_idle`, `timeout_total`.
    """

    pool_s: _Seconds = 2.0
    """Waiting for a connection, while all are in use."""
    connect_s: _Seconds = 5.0
    """The name, the connection and the TLS handshake."""
    write_s: _Seconds = 30.0
    """Until the last byte of the request has left us."""
    first_byte_s: _Seconds = 120.0
    """From the request to the end of the response's head."""
    idle_s: _Seconds = 60.0
    """Between two pieces of the body, while we are reading."""
    total_s: _Seconds = 900.0
    """From asking for a connection to the end of the body."""
    keep_s: _Seconds = 4.0
    """An unused connection is kept this long: shorter than the 5 s after which common servers
    close it, so that a request seldom meets a closing connection."""
    age_s: _Seconds = 300.0
    """A connection this old is used for nothing new, so that a moved name is noticed."""


class Source(Protocol):
    """The connection that a response arrives on."""

    def pause(self) -> None:
        """Stop reading."""

    def resume(self) -> None:
        """Read on."""

    def abandon(self) -> None:
        """Close: nobody wants the rest."""


class UpstreamResponse:
    """One response. Read it with `read`, `chunks` or `pour`, and `close` it in any case."""

    __slots__ = (
        "_error",
        "_limits",
        "_loop",
        "_paused",
        "_queue",
        "_queued",
        "_sink",
        "_source",
        "_total",
        "_waiter",
        "complete",
        "headers",
        "status",
    )

    def __init__(
        self,
        *,
        status: int,
        headers: Mapping[bytes, bytes],
        source: Source | None,
        limits: UpstreamLimits,
        loop: asyncio.AbstractEventLoop,
        whole: bytes | None = None,
    ) -> None:
        """Begin with the head; `whole` is the body where all of it, and so its end, came at once."""
        self.status = status
        self.headers = headers
        self.complete = whole is not None
        """True once the end of the message was seen."""
        self._source = source
        self._limits = limits
        self._loop = loop
        self._queue: list[bytes] = [whole] if whole else []
        self._queued = self._total = len(whole) if whole else 0
        self._paused = False
        self._error: UpstreamError | None = None
        self._waiter: asyncio.Future[bool] | None = None
        self._sink: Callable[[bytes], bool] | None = None

    async def read(self) -> bytes:
        """Return the whole body; beyond `max_body_bytes` close and raise."""
        if self.complete and self._queued <= self._limits.max_body_bytes:
            return self._take()
        parts: list[bytes] = []
        size = 0
        async for part in self.chunks():
            size += len(part)
            if size > self._limits.max_body_bytes:
                self.close()
                raise UpstreamError(
                    f"expected a body of at most {self._limits.max_body_bytes} bytes, got more",
                    code="too_large",
                    sent=True,
                )
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def chunks(self) -> AsyncIterator[bytes]:
        """Iterate over the body as it arrives: never empty pieces, everything there is at once."""
        return self

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._queue:
            if self._error is not None:
                raise self._error
            if self.complete:
                raise StopAsyncIteration
            await self._news(None)
        return self._take()

    async def pour(self, take: Callable[[bytes], bool]) -> bool:
        """Hand each piece of the body to `take` at the moment when it arrives.

        Returns true once `take` returns false, which is its word for no more at present: call again
        for what follows. Returns false at the end of the body. Raises what `take` raises, and
        `UpstreamError` as `chunks` does.
        """
        while True:
            if self._queue:
                if not take(self._take()):
                    return True
            elif self._error is not None:
                raise self._error
            elif self.complete:
                return False
            elif await self._news(take):
                return True

    async def _news(self, take: Callable[[bytes], bool] | None) -> bool:
        """Wait for a piece, the end or a failure; with `take` also for its word for no more."""
        self._waiter = self._loop.create_future()
        self._sink = take
        try:
            return await self._waiter
        finally:
            self._waiter = self._sink = None

    def _take(self) -> bytes:
        """Return all that waits here, and let the upstream send on."""
        data = self._queue[0] if len(self._queue) == 1 else b"".join(self._queue)
        self._queue.clear()
        self._queued = 0
        if self._paused:
            self._paused = False
            if self._source is not None:
                self._source.resume()
        return data

    def close(self) -> None:
        """Let go: a body that has not ended takes its connection with it. May be called again."""
        source, self._source = self._source, None
        if not self.complete:
            if source is not None:
                source.abandon()
            self.fail(UpstreamError("the response was closed by us", code="closed", sent=True))

    # Called by the connection.

    def push(self, data: bytes) -> None:
        """Take a piece of the body; raise `UpstreamError` beyond `max_stream_bytes`."""
        self._total += len(data)
        if self._total > self._limits.max_stream_bytes:
            raise UpstreamError(
                f"expected at most {self._limits.max_stream_bytes} bytes, got more",
                code="too_large",
                sent=True,
            )
        take, waiter = self._sink, self._waiter
        if take is not None and waiter is not None and not waiter.done():
            # With either the reader has its word: what comes before it is awake is queued.
            try:
                if not take(data):
                    waiter.set_result(True)
            except Exception as error:  # noqa: BLE001 - the reader's own, raised where it waits
                waiter.set_exception(error)
                # The error leads to this frame: were it to lead on to the error, only the garbage
                # collector could free them.
                del waiter
            return
        self._queue.append(data)
        self._queued += len(data)
        if self._queued > self._limits.high_water_bytes and not self._paused:
            self._paused = True
            if self._source is not None:
                self._source.pause()
        self._wake()

    @property
    def paused(self) -> bool:
        """Say whether the reader is behind, so that silence is not the upstream's."""
        return self._paused

    def end(self) -> None:
        """Note the end of the message."""
        self.complete = True
        self._source = None
        self._wake()

    def fail(self, error: UpstreamError) -> None:
        """Note that nothing more comes; what did come is handed out first."""
        if not self.complete and self._error is None:
            self._error = error
            self._source = None
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(False)
