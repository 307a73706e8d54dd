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

__all__ = ["FoldedText", "fold"]

_CONTROLS = bytes([*range(0x09), *range(0x0E, 0x1C), 0x7F])
_BESIDE_ASCII = re.compile(r"([^\x00-\x7f]++)")
_NO_WORD_BESIDE_ASCII = re.compile(r"[^\w\x00-\x7f]")
# In lower case, and blank where there is neither letter nor digit.
_BLANK_BUT_WORDS = bytes(
    ord(chr(byte).lower()) if chr(byte).isalnum() else 0x20 for byte in range(128)
) + bytes(range(128, 256))
_MOST_REMEMBERED = 16384


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
    """What `str.translate` asks for each character; it remembers those that came."""

    def __missing__(self, code: int) -> str:
        if len(self) >= _MOST_REMEMBERED:
            self.clear()
        folded = self[code] = _fold_char(code)
        return folded


_TABLE = _FoldTable()


class FoldedText:
    """A text, its folded form, and the way back from folded offsets.

    `blanked` is the folded text where it is known as bytes of words and blanks.
    """

    __slots__ = ("_blanked", "_original", "_origins", "_same_length", "_text", "_words")

    def __init__(self, original: str, text: str | None, *, blanked: bytes | None = None) -> None:
        self._original = original
        self._text = text
        self._blanked = blanked
        self._same_length = text is None
        self._origins: list[int] | None = None
        self._words: list[bytes] | None = None

    @property
    def text(self) -> str:
        """The folded text."""
        if self._text is None:
            # Plain ASCII: most prompts are read no further than their words, so it waits.
            self._text = self._original.lower()
        return self._text

    @property
    def words(self) -> list[bytes]:
        """All words of the folded text, in UTF-8: the longest stretches of letters and digits."""
        if self._words is None:
            blanked = self._blanked
            if blanked is None:
                # By way of bytes and a table of them: many times as fast as a search for words.
                text = _NO_WORD_BESIDE_ASCII.sub(" ", self.text)
                blanked = text.encode("utf-8", "surrogatepass").translate(_BLANK_BUT_WORDS)
            self._words = blanked.split()
        return self._words

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return the span of the original that the folded span [start, end) comes from."""
        if self._same_length:
            return start, end
        if self._origins is None:
            self._origins = [
                at for at, char in enumerate(self._original) for _ in range(len(_TABLE[ord(char)]))
            ]
        return self._origins[start], self._origins[end - 1] + 1


def fold(text: str) -> FoldedText:
    """Return `text` folded."""
    if text.isascii():
        # One pass takes out what folding leaves out; where that is nothing, it gave the words.
        blanked = text.encode("ascii").translate(_BLANK_BUT_WORDS, _CONTROLS)
        if len(blanked) == len(text):
            return FoldedText(text, None, blanked=blanked)
        return FoldedText(text, _fold_ascii(text))
    # Between the other letters stand long stretches of ASCII, for which there is a quicker way.
    pieces = _BESIDE_ASCII.split(text)
    pieces[::2] = [_fold_ascii(piece) for piece in pieces[::2]]
    pieces[1::2] = [piece.translate(_TABLE) for piece in pieces[1::2]]
    return FoldedText(text, "".join(pieces))


def _fold_ascii(text: str) -> str:
    raw = text.encode("ascii")
    return raw.translate(None, _CONTROLS).lower().decode("ascii")
