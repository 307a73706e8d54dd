"""Read a chunked request body, strictly.

Invariants
- Exactly the bytes of the body are taken from the front of the buffer, never one of the next request.
- Sizes are one to sixteen hex digits; extensions, trailers, bare line ends and blanks are refused:
  no client of ours sends them, and readers disagree on them.
- The body is bounded in bytes and in chunks; what is held is little more than its bytes, however
  small the chunks.

Follows RFC 9112 section 7.1, without its optional parts.
"""

from __future__ import annotations

import re
from typing import Final

from gatelift.gateway.http_messages import HttpRejectionError

__all__ = ["MAX_CHUNKS", "ChunkedBody"]

MAX_CHUNKS: Final = 2_048
"""Reading a chunk costs a microsecond: nobody may keep all others waiting for a body of crumbs."""
_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,16}")
_LONGEST_SIZE_LINE: Final = 16 + 2


class ChunkedBody:
    """One body on its way in."""

    __slots__ = ("_body", "_chunks", "_max_body_bytes")

    def __init__(self, *, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        # One growing array: a list of parts would cost 30 times the bytes of tiny chunks.
        self._body = bytearray()
        self._chunks = 0

    @property
    def held(self) -> int:
        """How many bytes of the body have been taken."""
        return len(self._body)

    def take(self, buffer: bytearray) -> bytes | None:
        """Take whole chunks from the front of `buffer`; return the body once it has ended.

        An unfinished chunk stays in the buffer, which its caller may so let grow to the bound of
        the body and no further.
        """
        position = 0
        body: bytes | None = None
        while body is None:
            line_end = buffer.find(b"\r\n", position, position + _LONGEST_SIZE_LINE)
            if line_end < 0:
                if len(buffer) - position >= _LONGEST_SIZE_LINE:
                    raise _bad_chunk()
                break
            size = self._parse_size(bytes(buffer[position:line_end]))
            start = line_end + 2
            end = start + size
            if len(buffer) < end + 2:
                break
            if buffer[end : end + 2] != b"\r\n":
                raise _bad_chunk()
            if size == 0:
                body = bytes(self._body)
            else:
                self._accept(buffer, start, end)
            position = end + 2
        del buffer[:position]
        return body

    def _parse_size(self, line: bytes) -> int:
        if not _SIZE.fullmatch(line):
            raise _bad_chunk()
        size = int(line, 16)
        if len(self._body) + size > self._max_body_bytes:
            raise HttpRejectionError(
                413, "body_too_large", f"expected a body of at most {self._max_body_bytes} bytes"
            )
        return size

    def _accept(self, buffer: bytearray, start: int, end: int) -> None:
        self._chunks += 1
        if self._chunks > MAX_CHUNKS:
            raise HttpRejectionError(
                413, "too_many_chunks", f"expected a body of at most {MAX_CHUNKS} chunks"
            )
        with memoryview(buffer) as view:
            self._body += view[start:end]


def _bad_chunk() -> HttpRejectionError:
    return HttpRejectionError(
        400, "bad_chunk", "expected chunks of hex size, CRLF, data, CRLF; no extensions or trailers"
    )
