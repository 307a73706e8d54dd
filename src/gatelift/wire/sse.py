"""Server-sent events: an incremental parser of hostile streams, and an encoder.

Invariants
- An event comes out only when its blank line has come in; what is left at the end is never an
  event (`unfinished` says that there was something).
- However the bytes are cut into pieces, the same events come out.
- Memory is bounded by `max_event_bytes`, whatever the other side sends.

It does not decode the data, reconnect, or keep `id` and `retry`: they and unknown fields are
dropped, so nothing that was not parsed can be passed on.

Follows the WHATWG HTML standard, section 9.2.6 (interpreting an event stream); different from it,
the data stays bytes.
"""

from __future__ import annotations

from typing import Final

import msgspec

from gatelift.errors import CallerError, PeerError

__all__ = ["MAX_EVENT_BYTES", "SseError", "SseEvent", "SseFieldError", "SseParser", "sse_event"]

MAX_EVENT_BYTES: Final = 256 * 1024
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class SseError(PeerError):
    """The event stream breaks a bound; the stream can't be read on."""

    code = "sse_event_too_large"


class SseFieldError(CallerError):
    """The value can't be written as an event."""

    code = "sse_bad_field"


class SseEvent(msgspec.Struct, frozen=True, gc=False):
    """One complete event: `data` lines joined by LF, `name` empty if none was given."""

    data: bytes
    name: bytes = b""


class SseParser:
    """Takes bytes in any pieces, gives complete events."""

    __slots__ = ("_data", "_first_line", "_held", "_max_event_bytes", "_name", "_size", "_skip_lf")

    def __init__(self, *, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        # Pieces of the line that has not ended, joined once it has: a line in a thousand pieces
        # costs no thousand copies.
        self._held: list[bytes] = []
        self._data: list[bytes] = []
        self._name = b""
        # Bytes held for the event so far, the unfinished line included.
        self._size = 0
        self._skip_lf = False
        self._first_line = True

    @property
    def unfinished(self) -> bool:
        """Say whether bytes of an event that has not ended are held."""
        return bool(self._held or self._data or self._name)

    def feed(self, data: bytes) -> list[SseEvent]:
        """Return the events that `data` completes; raise `SseError` beyond the bound."""
        if self._skip_lf and data:
            # A CR ended a line in the piece before; its LF may only come now.
            self._skip_lf = False
            data = data.removeprefix(b"\n")
        if b"\r" in data:
            self._skip_lf = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = data.split(b"\n")
        # So are nearly all pieces: one event and no more. What the bound counts of it is all but the
        # last line end.
        if not self._size and len(data) - 1 <= self._max_event_bytes:
            match lines:
                case [line, b"", b""] if line.startswith(b"data: "):
                    self._first_line = False
                    return [SseEvent(line[6:])]
                case [name, line, b"", b""] if name.startswith(b"event: ") and line.startswith(
                    b"data: "
                ):
                    self._first_line = False
                    return [SseEvent(line[6:], name[7:])]
                case _:
                    pass
        rest = lines.pop()
        if lines and self._held:
            self._size -= sum(map(len, self._held))
            lines[0] = b"".join([*self._held, lines[0]])
            self._held = []
        events: list[SseEvent] = []
        for line in lines:
            self._take_line(line, events)
        if rest:
            self._held.append(rest)
            self._grow(len(rest))
        return events

    def _grow(self, count: int) -> None:
        self._size += count
        if self._size > self._max_event_bytes:
            raise SseError(
                f"expected events of at most {self._max_event_bytes} bytes with a blank line after"
                " each, got more without one: the sender is broken or hostile, close the stream"
            )

    def _take_line(self, line: bytes, events: list[SseEvent]) -> None:
        if self._first_line:
            self._first_line = False
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if not line:
            if self._data:
                events.append(SseEvent(b"\n".join(self._data), self._name))
            self._data, self._name, self._size = [], b"", 0
            return
        # One more for the line end, so that a million empty data lines are not free.
        self._grow(len(line) + 1)
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._name = value


def sse_event(data: bytes, *, name: bytes = b"") -> bytes:
    """Return the bytes of one event.

    `data` may hold line feeds; a CR in it, or any line end in `name`, raises `SseFieldError`, as no
    reader could tell it from the end of the line.
    """
    if b"\r" in data or b"\r" in name or b"\n" in name:
        raise SseFieldError("expected data without CR and a name without line ends: encode as JSON")
    if b"\n" in data:
        data = data.replace(b"\n", b"\ndata: ")
    if name:
        return b"event: %b\ndata: %b\n\n" % (name, data)
    return b"data: %b\n\n" % data
