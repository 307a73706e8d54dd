"""The heads of requests that were taken lately, each with its meaning, for all connections of a server.

Clients say nearly the same head again and again, and the same bytes mean the same.

Invariants
- Known is only what `http_head` has taken, byte for byte, under the limits that still hold.
- At most `_MOST` heads of at most `_LONGEST` bytes are kept; one too many, and all are forgotten.
- What is kept may hold keys of callers: it never leaves this module but as the head it was.

It judges nothing itself.
"""

from __future__ import annotations

from typing import Final

from gatelift.gateway.http_head import RequestHead

__all__ = ["KnownHeads"]

_HEAD_END: Final = b"\r\n\r\n"
_MOST: Final = 256
_LONGEST: Final = 2048


class KnownHeads:
    """What is known of the heads of requests."""

    __slots__ = ("_heads",)

    def __init__(self) -> None:
        self._heads: dict[bytes, RequestHead] = {}

    def __len__(self) -> int:
        """Return how many heads are known."""
        return len(self._heads)

    def get(self, raw: bytes) -> RequestHead | None:
        """Return the meaning of a whole head, null if it is not known."""
        return self._heads.get(raw)

    def find_whole(self, data: bytes) -> tuple[RequestHead, bytes] | None:
        """Return head and body where `data` is a known head and exactly its body, else null."""
        start = data.find(_HEAD_END) + 4
        head = self._heads.get(data[:start])
        if head is None or head.body_length != len(data) - start:
            return None
        return head, data[start:]

    def learn(self, raw: bytes, head: RequestHead) -> None:
        """Know what `raw`, a whole head, was taken for."""
        if len(raw) > _LONGEST:
            return
        if len(self._heads) >= _MOST:
            self._heads.clear()
        self._heads[raw] = head
