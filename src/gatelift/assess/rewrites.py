"""Rewrites: a word written otherwise, in a disguise, in an encoding, or as half of a pair.

Invariants
- Pure and total; none invents content. A pair reads `left=right`.
- The list is closed and part of the generator's version: a changed rewrite is another data set.
"""

from __future__ import annotations

import base64
import codecs
from collections.abc import Callable, Mapping
from typing import Final

__all__ = ["REWRITES"]

_ZERO_WIDTH_SPACE = "\u200b"
_ACUTE = "\u0301"
_FULL_WIDTH_OFFSET = 0xFEE0
_LOOK_ALIKE_DIGITS = str.maketrans("aeio", "4310")


def _zero_width(text: str) -> str:
    return _ZERO_WIDTH_SPACE.join(text)


def _full_width(text: str) -> str:
    return "".join(chr(ord(c) + _FULL_WIDTH_OFFSET) if "!" <= c <= "~" else c for c in text)


def _accents(text: str) -> str:
    return "".join(c + _ACUTE if c in "aeiou" else c for c in text)


def _alternating_case(text: str) -> str:
    return "".join(c.upper() if at % 2 else c.lower() for at, c in enumerate(text))


REWRITES: Final[Mapping[str, Callable[[str], str]]] = {
    "left": lambda text: text.partition("=")[0],
    "right": lambda text: text.partition("=")[2],
    "upper": str.upper,
    "alternating_case": _alternating_case,
    "zero_width": _zero_width,
    "full_width": _full_width,
    "accents": _accents,
    "wide_spacing": lambda text: "  \t ".join(text.split()),
    "look_alike_digits": lambda text: text.translate(_LOOK_ALIKE_DIGITS),
    "base64": lambda text: base64.b64encode(text.encode()).decode("ascii"),
    "hex": lambda text: text.encode().hex(),
    "rot13": lambda text: codecs.encode(text, "rot13"),
    "reversed": lambda text: text[::-1],
}
