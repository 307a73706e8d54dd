"""Folds a prompt so that the usual disguises of a word look alike.

Invariants
- Folding is character by character, so that every folded offset has one origin in the text.
- Lower case (Unicode case folding), compatibility forms (NFKD), without accents of the block
  U+0300 to U+036F, without format characters (zero width, soft hyphen, bidirectional marks),
  variation selectors and control characters other than white space.

Coarser than NFKC on purpose: an accent on a letter is a disguise here, not a difference. Letters
of other scripts that look like Latin ones stay what they are.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

__all__ = ["FoldedText", "fold"]

_ASCII_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f]")


@lru_cache(maxsize=8192)
def _fold_char(code: int) -> str:
    kept = []
    for char in unicodedata.normalize("NFKD", chr(code)):
        kind = unicodedata.category(char)
        if (
            "\u0300" <= char <= "\u036f"
            or "\ufe00" <= char <= "\ufe0f"
            or kind in ("Cf", "Cs")
            or (kind == "Cc" and not char.isspace())
        ):
            continue
        kept.append(char.casefold())
    return "".join(kept)


class _FoldTable(dict[int, str]):
    """What `str.translate` asks for each character."""

    def __missing__(self, code: int) -> str:
        return _fold_char(code)


_TABLE = _FoldTable()


class FoldedText:
    """A text, its folded form, and the way back from folded offsets."""

    __slots__ = ("_original", "_origins", "text")

    def __init__(self, original: str, text: str, *, same_length: bool) -> None:
        self.text = text
        self._original = original
        self._origins: list[int] | None = None if not same_length else []

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return the span of the original that the folded span [start, end) comes from."""
        if self._origins is None:
            self._origins = [
                at
                for at, char in enumerate(self._original)
                for _ in range(len(_fold_char(ord(char))))
            ]
        if not self._origins:
            return start, end
        return self._origins[start], self._origins[end - 1] + 1


def fold(text: str) -> FoldedText:
    """Return `text` folded."""
    if text.isascii() and _ASCII_CONTROL.search(text) is None:
        return FoldedText(text, text.lower(), same_length=True)
    return FoldedText(text, text.translate(_TABLE), same_length=False)
