"""A stop key on paper: 32 bytes as groups of letters that a person can type again.

The text is Crockford's base32 of the seed and four bytes of its SHA-256, 58 characters in groups of
four, so that every line fits 80 columns and no letter is taken for another.

Invariants
- What does not match its checksum is refused: one wrong, missing or swapped character is found
  before anybody relies on the key. (Four bytes let a random error pass once in 4e9.)
- Blanks, hyphens and case do not matter; O reads as 0, I and L as 1. Nothing else is guessed.
- No error quotes what was typed.

Follows Crockford's Base32 (its alphabet; not its check symbol).
"""

from __future__ import annotations

import hashlib
from typing import Final

from gatelift.cli.errors import InputError
from gatelift.tlog import SEED_BYTES

__all__ = ["PAPER_LINES", "format_paper", "parse_paper"]

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_ALIASES: Final = str.maketrans("OIL", "011", " -\t\r\n")
_PREFIX: Final = b"gatelift/paper/v1\n"
_CHECK_BYTES: Final = 4
_TOTAL_BITS: Final = 8 * (SEED_BYTES + _CHECK_BYTES)
_CHARACTERS: Final = -(-_TOTAL_BITS // 5)
_GROUP: Final = 4
_GROUPS_A_LINE: Final = 5
PAPER_LINES: Final = -(-_CHARACTERS // (_GROUP * _GROUPS_A_LINE))


def _checksum(seed: bytes) -> bytes:
    return hashlib.sha256(_PREFIX + seed).digest()[:_CHECK_BYTES]


def format_paper(seed: bytes) -> tuple[str, ...]:
    """Return the lines to write down."""
    value = int.from_bytes(seed + _checksum(seed), "big") << (_CHARACTERS * 5 - _TOTAL_BITS)
    text = "".join(_ALPHABET[value >> (5 * place) & 31] for place in range(_CHARACTERS - 1, -1, -1))
    groups = [text[at : at + _GROUP] for at in range(0, len(text), _GROUP)]
    return tuple(
        "-".join(groups[at : at + _GROUPS_A_LINE]) for at in range(0, len(groups), _GROUPS_A_LINE)
    )


def parse_paper(text: str) -> bytes:
    """Return the seed that was written down; raises `InputError`."""
    typed = text.upper().translate(_ALIASES)
    if len(typed) != _CHARACTERS or not set(typed) <= set(_ALPHABET):
        raise InputError(
            f"expected {_CHARACTERS} letters and digits (no U), got {len(typed)}: "
            "compare with the paper and type it again",
            code="bad_paper_key",
        )
    value = 0
    for character in typed:
        value = value << 5 | _ALPHABET.index(character)
    spare = _CHARACTERS * 5 - _TOTAL_BITS
    data = (value >> spare).to_bytes(SEED_BYTES + _CHECK_BYTES, "big")
    seed, shown = data[:SEED_BYTES], data[SEED_BYTES:]
    if shown != _checksum(seed) or value & ((1 << spare) - 1):
        raise InputError(
            "the checksum does not fit: a character is wrong, compare with the paper",
            code="bad_paper_key",
        )
    return seed
