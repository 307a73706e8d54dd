"""How many units opened, and how many of them were harmful.

Invariants
- 0 <= s <= n <= `MAX_UNITS`.
- Counts are cumulative inside their stretch: a later observation supersedes an earlier one.

Does not know which units they were; observations name the ranges of records.
"""

from __future__ import annotations

import msgspec

from gatelift.stats.arithmetic import MAX_UNITS, check_count

__all__ = ["Counts"]


class Counts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`n` units in order of opening, `s` of them harmful."""

    n: int
    s: int

    def __post_init__(self) -> None:
        check_count("n", self.n, at_most=MAX_UNITS)
        check_count("s (harmful among n)", self.s, at_most=self.n)
