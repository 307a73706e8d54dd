"""Cut the bytes of one connection into whole requests, one at a time.

Invariants
- `take` reads exactly one request; the bytes of the next stay unread, and unjudged, until asked for.
- The buffer is bounded by the limits plus one read, if its owner stops feeding beyond `buffered`.
- A head is judged only when whole, but its size and bare line feeds are judged as they come.

No sockets and no clocks: `phase` tells the connection which deadline applies.
"""

from __future__ import annotations

import enum
from typing import Final

from gatelift.gateway.http_body import ChunkedBody
from gatelift.gateway.http_head import CHUNKED, RequestHead, parse_request_head
from gatelift.gateway.http_known_heads import KnownHeads
from gatelift.gateway.http_messages import HttpRejectionError, ServerLimits

__all__ = ["ReadingPhase", "RequestReader"]

_EMPTY_LINE: Final = b"\r\n"
_HEAD_END: Final = b"\r\n\r\n"
_CHEAP_COPY: Final = 4096


class ReadingPhase(enum.Enum):
    """What of the next request has come."""

    NOTHING = "nothing"
    HEAD = "head"
    BODY = "body"


class RequestReader:
    """Reads the requests of one connection in order; `known_heads` is shared with the others."""

    __slots__ = (
        "_body",
        "_buffer",
        "_head",
        "_known_heads",
        "_limits",
        "_scanned",
        "_skipped_line",
    )

    def __init__(self, limits: ServerLimits, known_heads: KnownHeads | None = None) -> None:
        self._limits = limits
        # What came in one piece, as nearly every request does, is read where it lies; only what is
        # cut or pipelined is copied into a bytearray, which grows and shrinks cheaply.
        self._buffer: bytes | bytearray = b""
        self._scanned = 0
        self._skipped_line = False
        self._head: RequestHead | None = None
        self._body: ChunkedBody | None = None
        self._known_heads = KnownHeads() if known_heads is None else known_heads

    @property
    def buffered(self) -> int:
        """How many bytes wait to be read."""
        return len(self._buffer)

    @property
    def held(self) -> int:
        """How many bytes are kept, read or not."""
        return len(self._buffer) + (self._body.held if self._body is not None else 0)

    @property
    def phase(self) -> ReadingPhase:
        """What of the next request has come."""
        if self._head is not None:
            return ReadingPhase.BODY
        return ReadingPhase.HEAD if self._buffer else ReadingPhase.NOTHING

    @property
    def awaits_continue(self) -> bool:
        """Say whether the client holds its body back until it hears 100."""
        head = self._head
        return head is not None and head.expects_continue and not self._buffer

    def feed(self, data: bytes) -> None:
        """Keep `data` for `take`."""
        if self._buffer:
            self._mutable().extend(data)
        else:
            self._buffer = data

    def clear(self) -> None:
        """Forget everything: the connection reads no more."""
        self._buffer = b""
        self._head = self._body = None

    def take_whole(self, data: bytes) -> tuple[RequestHead, bytes] | None:
        """Return the request that `data` is, if it is one whole and its head is known.

        Only while nothing of a request has come. Null says nothing of `data`: `feed` it and `take`.
        """
        taken = self._known_heads.find_whole(data)
        if taken is not None:
            self._skipped_line = False
        return taken

    def take(self) -> tuple[RequestHead, bytes] | None:
        """Return the next whole request, None if it isn't; raise `HttpRejectionError`."""
        head = self._head
        if head is None:
            head = self._take_head()
            if head is None:
                return None
            if head.body_length == CHUNKED:
                self._body = ChunkedBody(max_body_bytes=self._limits.max_body_bytes)
        body = self._take_body(head)
        if body is None:
            self._head = head
            return None
        self._head = self._body = None
        self._skipped_line = False
        return head, body

    def _take_head(self) -> RequestHead | None:
        buffer = self._buffer
        # One empty line before a request is ignored (RFC 9112 section 2.2).
        if not self._skipped_line and buffer.startswith(_EMPTY_LINE):
            self._drop(2)
            buffer = self._buffer
            self._skipped_line = True
            self._scanned = 0
        end = buffer.find(_HEAD_END, max(0, self._scanned - 3))
        size = end + 4 if end >= 0 else len(buffer)
        if size > self._limits.max_header_bytes:
            self._refuse_bare_lf(self._limits.max_header_bytes)
            raise HttpRejectionError(
                431,
                "head_too_large",
                f"expected a head of at most {self._limits.max_header_bytes} bytes",
            )
        if end < 0:
            self._refuse_bare_lf(size)
            self._scanned = len(buffer)
            return None
        raw = bytes(buffer[:size])
        head = self._known_heads.get(raw)
        if head is None:
            head = self._parse_head(raw)
            self._known_heads.learn(raw, head)
        self._drop(size)
        self._scanned = 0
        return head

    def _parse_head(self, raw: bytes) -> RequestHead:
        try:
            return parse_request_head(raw, self._limits)
        except HttpRejectionError:
            # The reason that is told must not depend on how the bytes were cut.
            self._refuse_bare_lf(len(raw))
            raise

    def _refuse_bare_lf(self, size: int) -> None:
        # llhttp refuses it too, but only sees whole heads, and this one may never end with CRLF.
        start = self._scanned
        if start and self._buffer[start - 1] == 0x0D:
            start -= 1
        fresh = self._buffer[start:size]
        if fresh.count(b"\n") != fresh.count(b"\r\n"):
            raise HttpRejectionError(400, "bare_line_feed", "expected lines that end with CR LF")

    def _take_body(self, head: RequestHead) -> bytes | None:
        if self._body is not None:
            return self._body.take(self._mutable())
        length = head.body_length
        if len(self._buffer) < length:
            return None
        if not length:
            return b""
        body = bytes(self._buffer[:length])
        self._drop(length)
        return body

    def _mutable(self) -> bytearray:
        if not isinstance(self._buffer, bytearray):
            self._buffer = bytearray(self._buffer)
        return self._buffer

    def _drop(self, count: int) -> None:
        if isinstance(self._buffer, bytes) and len(self._buffer) <= _CHEAP_COPY:
            self._buffer = self._buffer[count:]
        else:
            del self._mutable()[:count]
