"""The heads of answers that an upstream has sent lately, each with what it was found to say.

A server sends nearly the same head again and again, and a head that was read strictly once need not
be read again: the same bytes say the same.

Invariants
- Known is only what the strict reader has taken, byte for byte, with its length in Content-Length, of
  an answer that ended exactly there and left the connection fit for the next.
- Found is only an answer that is whole: a known head and exactly as many bytes as it promised.
- At most `_MOST` heads of at most `_LONGEST` bytes are kept; one too many, and all are forgotten.

It judges nothing itself: `http_response_reader` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["KnownHeads"]

_HEAD_END: Final = b"\r\n\r\n"
_MOST: Final = 64
_LONGEST: Final = 2048


class KnownHeads:
    """What is known of the heads of one upstream, for all connections to it."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        # The length of head and body together, and the headers.
        self._known: dict[bytes, tuple[int, Mapping[bytes, bytes]]] = {}

    def __len__(self) -> int:
        """Return how many heads are known."""
        return len(self._known)

    def find_whole(self, data: bytes) -> tuple[Mapping[bytes, bytes], bytes] | None:
        """Return headers and body of a whole answer whose head is known, null for any other."""
        start = data.find(_HEAD_END) + 4
        known = self._known.get(data[:start])
        if known is None or len(data) != known[0]:
            return None
        return known[1], data[start:]

    def learn(self, data: bytes, headers: Mapping[bytes, bytes]) -> None:
        """Know the head of `data`: one read, one whole answer 200 that was taken, nothing else.

        Where head and Content-Length do not make up `data` exactly, nothing is learned.
        """
        start = data.find(_HEAD_END) + 4
        length = headers.get(b"content-length")
        if length is None or start > _LONGEST or start + int(length) != len(data):
            return
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[data[:start]] = (len(data), headers)
