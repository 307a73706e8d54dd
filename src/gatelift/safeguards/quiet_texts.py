"""Texts in which the rules found nothing, so that a conversation is not read anew at each turn.

A caller sends the whole conversation with every request: all but its last text was read before. What
rules find depends on the text alone, so where they found nothing once, they find nothing again.

Invariants
- A text is known by the SHA-256 of all of it, and only from when it was read to its end without a
  finding. Whatever is unknown is read.
- Nothing readable is kept, and nothing at all of a short text: whoever guessed one could know it by
  its digest, and it is read as fast as it is hashed.
- At most `MAX_QUIET_TEXTS` are kept; a full memory begins anew.
"""

from __future__ import annotations

import hashlib
from typing import Final

__all__ = ["MAX_QUIET_TEXTS", "MIN_QUIET_CHARS", "QuietTexts"]

MAX_QUIET_TEXTS: Final = 8192
"""Some 1 MB."""
MIN_QUIET_CHARS: Final = 256


class QuietTexts:
    """The digests of texts in which one set of rules found nothing."""

    __slots__ = ("_digests", "_most")

    def __init__(self, most: int = MAX_QUIET_TEXTS) -> None:
        self._digests: set[bytes] = set()
        self._most = most

    def digest(self, text: str) -> bytes | None:
        """Return what a text is known by, null for one that is too short to be kept."""
        if len(text) < MIN_QUIET_CHARS:
            return None
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()

    def __contains__(self, digest: bytes | None) -> bool:
        return digest in self._digests

    def learn(self, digest: bytes | None) -> None:
        """Keep a text that was read to its end without a finding."""
        if digest is None:
            return
        if len(self._digests) >= self._most:
            self._digests.clear()
        self._digests.add(digest)
