"""Frames between processes: a length and a msgpack message, over a unix or TCP stream.

A frame is `u32 big-endian length ‖ payload`; the payload is one msgpack value of a tagged union of
structs, at most `MAX_FRAME_BYTES`.

Invariants
- A length is judged before its payload is waited for: memory is bounded by one frame and one read.
- The first malformed or oversize frame ends the connection. The frames before it are delivered, so
  that a stop order is not lost because nonsense followed it.
- A peer that does not read is cut off when `max_queued_bytes` wait for it: it must not go on with
  frames missing. `on_lost` tells; nothing is dropped in silence.
- `on_lost` is called exactly once, after the last `on_frame`.

It does not authenticate, reconnect, or know what the messages mean.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar, cast

import msgspec

from gatelift.errors import GateliftError, PeerError

__all__ = ["MAX_FRAME_BYTES", "FrameCodec", "FrameConnection", "FrameError", "dial_frames"]

MAX_FRAME_BYTES: Final = 1024 * 1024
_LENGTH: Final = struct.Struct(">I")

FrameT = TypeVar("FrameT")


class FrameError(PeerError):
    """The other side sent what is no frame, or takes none: close the connection.

    Codes: `frame_too_large`, `frame_malformed`, `frame_queue_full`, `frame_connection_closed`.
    """

    code = "frame_malformed"


class FrameCodec(Generic[FrameT]):
    """Turns messages of one union type into frames and back. One for each connection."""

    __slots__ = ("_broken", "_buffer", "_decoder", "_encoder", "_max_frame_bytes")

    def __init__(self, union_type: Any, *, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._decoder = msgspec.msgpack.Decoder(union_type)
        self._encoder = msgspec.msgpack.Encoder()
        self._buffer = bytearray()
        self._max_frame_bytes = max_frame_bytes
        self._broken: FrameError | None = None

    def encode(self, frame: FrameT) -> bytes:
        """Return the bytes of `frame`; raise `FrameError` if it is too large to be taken."""
        payload = self._encoder.encode(frame)
        if len(payload) > self._max_frame_bytes:
            raise self._too_large(len(payload))
        return _LENGTH.pack(len(payload)) + payload

    def feed(self, data: bytes) -> list[FrameT]:
        """Return the frames that `data` completes.

        After a malformed frame the good ones before it are returned, and `error` is set: nothing
        more is read. Feeding on raises it.
        """
        if self._broken is not None:
            raise self._broken
        self._buffer += data
        frames: list[FrameT] = []
        position = 0
        try:
            while len(self._buffer) - position >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(self._buffer, position)
                if not 0 < length <= self._max_frame_bytes:
                    raise self._too_large(length)
                end = position + _LENGTH.size + length
                if len(self._buffer) < end:
                    break
                with memoryview(self._buffer) as view:
                    payload = bytes(view[position + _LENGTH.size : end])
                frames.append(self._decode(payload))
                position = end
        except FrameError as error:
            self._broken = error
            self._buffer.clear()
            if not frames:
                raise
            return frames
        if position:
            del self._buffer[:position]
        return frames

    @property
    def error(self) -> FrameError | None:
        """The reason why nothing more can be read, if there is one."""
        return self._broken

    @property
    def unfinished(self) -> bool:
        """Say whether part of a frame is held."""
        return bool(self._buffer)

    def _decode(self, payload: bytes) -> FrameT:
        try:
            return cast("FrameT", self._decoder.decode(payload))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise FrameError(f"expected a msgpack message of a known type: {error}") from error

    def _too_large(self, length: int) -> FrameError:
        return FrameError(
            f"expected a frame of 1 to {self._max_frame_bytes} bytes, got {length}:"
            " put big things into a file named by its digest",
            code="frame_too_large",
        )


class FrameConnection(asyncio.Protocol, Generic[FrameT]):
    """One connection of frames, for either end of a stream.

    `on_frame(connection, frame)` is called for each frame, in order. `on_lost(connection, error)`
    is called once; `error` is None if the other side closed between frames or we did.
    """

    def __init__(
        self,
        codec: FrameCodec[FrameT],
        *,
        on_frame: Callable[[FrameConnection[FrameT], FrameT], None],
        on_lost: Callable[[FrameConnection[FrameT], Exception | None], None],
        on_made: Callable[[FrameConnection[FrameT]], None] | None = None,
        max_queued_bytes: int = 4 * MAX_FRAME_BYTES,
    ) -> None:
        self._codec = codec
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._on_made = on_made
        self._max_queued_bytes = max_queued_bytes
        self._transport: asyncio.Transport | None = None
        self._error: Exception | None = None

    @property
    def is_open(self) -> bool:
        """Say whether frames can still be sent."""
        return not self._is_closing()

    @property
    def transport(self) -> asyncio.Transport | None:
        """The stream below, for its socket and peer; None before it is made and after it is lost."""
        return self._transport

    def send(self, frame: FrameT) -> None:
        """Queue `frame` for sending; raise `FrameError` if the connection is closed or stuck.

        A stuck connection is cut off here, as its peer would otherwise miss this frame.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            raise FrameError("the connection is closed", code="frame_connection_closed")
        data = self._codec.encode(frame)
        if transport.get_write_buffer_size() + len(data) > self._max_queued_bytes:
            self._error = FrameError(
                f"the other side left {self._max_queued_bytes} bytes unread: it was cut off",
                code="frame_queue_full",
            )
            transport.abort()
            raise self._error
        transport.write(data)

    def close(self) -> None:
        """Send what is queued, then close."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once; what is queued is lost."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; called by the loop."""
        self._transport = cast("asyncio.Transport", transport)
        if self._on_made is not None:
            self._on_made(self)

    def data_received(self, data: bytes) -> None:
        """Deliver the frames in `data`; called by the loop."""
        if self._is_closing():
            return
        try:
            for frame in self._codec.feed(data):
                self._on_frame(self, frame)
                # The owner may have closed on what it got.
                if self._is_closing():
                    return
            if self._codec.error is not None:
                raise self._codec.error
        except GateliftError as error:
            self._error = error
            self.abort()
        except Exception as error:
            # A handler that fails must not leave the two sides with different histories.
            self._error = error
            self.abort()
            raise

    def eof_received(self) -> bool:
        """Close; called by the loop when the other side has ended."""
        if self._codec.unfinished and self._error is None:
            self._error = FrameError("the stream ended inside a frame")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner, once; called by the loop, or by `dial_frames` where the loop does not."""
        if self._transport is None:
            return
        self._transport = None
        self._on_lost(self, self._error or exc)

    def _is_closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()


async def dial_frames(
    make: Callable[[], FrameConnection[FrameT]], path: str, timeout_s: float
) -> None:
    """Connect what `make` returns to the socket at `path`; raises `OSError`, also when it is late.

    A connection that was made and given up in the same turn of the loop is lost like any other. The
    loop closes its handle and tells nobody, and whatever is then sent on it raises `RuntimeError`.
    """
    made: list[FrameConnection[FrameT]] = []

    def connect() -> FrameConnection[FrameT]:
        made.append(make())
        return made[-1]

    try:
        async with asyncio.timeout(timeout_s):
            await asyncio.get_running_loop().create_unix_connection(connect, path)
    except BaseException:
        for connection in made:
            connection.connection_lost(None)
        raise
