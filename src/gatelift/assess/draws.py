r"""Draws from a seed: the same seed gives the same items on every machine and in every language.

Number i of a label is the first eight bytes, big-endian, of
SHA-256("gatelift/draw/v1\n" || seed || "\n" || label || "\n" || i in decimal). A number below n is
the first one under the largest multiple of n, modulo n (no bias). A shuffle is Fisher and Yates
from the end: position k swaps with a draw below k + 1.

Invariants
- Pure: nothing here asks the machine for chance or time.
- Labels separate the draws: what one field draws never moves another.
"""

from __future__ import annotations

import hashlib

__all__ = ["Draws", "permutation"]

_RANGE = 2**64


class Draws:
    """The numbers of one label."""

    __slots__ = ("_label", "_next", "_seed")

    def __init__(self, seed: str, label: str) -> None:
        self._seed = seed
        self._label = label
        self._next = 0

    def below(self, bound: int) -> int:
        """Return the next number from 0 to `bound` - 1."""
        ceiling = _RANGE - _RANGE % bound
        while True:
            text = f"gatelift/draw/v1\n{self._seed}\n{self._label}\n{self._next}"
            self._next += 1
            number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
            if number < ceiling:
                return number % bound


def permutation(seed: str, label: str, size: int) -> tuple[int, ...]:
    """Return the numbers from 0 to `size` - 1 in the order that seed and label give."""
    draws = Draws(seed, label)
    order = list(range(size))
    for at in range(size - 1, 0, -1):
        other = draws.below(at + 1)
        order[at], order[other] = order[other], order[at]
    return tuple(order)
