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

_CONTROLS = bytes([*range(0x09), *range(0x0E, 0x1C), 0x7F])
_WORD = re.compile(r"[^\W_]+")
_BLANK_BUT_WORDS = bytes(byte if chr(byte).isalnum() else 0x20 for byte in range(128)) + bytes(
    range(128, 256)
)


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

    __slots__ = ("_original", "_origins", "_words", "text")

    def __init__(self, original: str, text: str, *, same_length: bool) -> None:
        self.text = text
        self._original = original
        self._origins: list[int] | None = None if not same_length else []
        self._words: frozenset[bytes] | None = None

    @property
    def words(self) -> frozenset[bytes]:
        """All words of the folded text, in UTF-8: the longest stretches of letters and digits."""
        if self._words is None:
            text = self.text
            self._words = frozenset(
                # The same words, by way of a byte table: ten times as fast where it can be used.
                text.encode("ascii").translate(_BLANK_BUT_WORDS).split()
                if text.isascii()
                else (word.encode("utf-8", "surrogatepass") for word in _WORD.findall(text))
            )
        return self._words

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
    if text.isascii():
        raw = text.encode("ascii")
        if len(raw.translate(None, _CONTROLS)) == len(raw):
            return FoldedText(text, text.lower(), same_length=True)
    return FoldedText(text, text.translate(_TABLE), same_length=False)
