"""Whom the evidence names: e-BH over organisations.

With e_(1) >= ... >= e_(K), reject the k* largest, k* = max{k : k e_(k) / K >= 1/level}. The expected
share of wrongly named among the named is at most `level` under any dependence (Wang and Ramdas,
JRSSB 2022; reference/statistics.md section 1, multiplicity).

Invariants
- K counts every organisation that could have been named, also those without a single harmful unit
  (their E is about 1 or less): leaving them out would name too many.
- Equal e-values are named together.

What the caller must keep: current e-values of one moment, each a process in the history of all
organisations together. Running maxima break the guarantee.

Does not: act. A named organisation is suspended first; where none is named, the stage is.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from gatelift.stats.arithmetic import check_log_e, check_open_unit, pinned

__all__ = ["attribute"]


def attribute(log_e: Mapping[str, Decimal], level: Decimal) -> frozenset[str]:
    """Return the organisations that e-BH names at `level`, from each one's log-e-value."""
    check_open_unit("level", level)
    for name, value in log_e.items():
        check_log_e(f"log_e of {name}", value)
    ranked = sorted(log_e, key=lambda name: (-log_e[name], name))
    named = 0
    with pinned():
        for k, name in enumerate(ranked, start=1):
            if log_e[name] >= (len(ranked) / (k * level)).ln():
                named = k
    return frozenset(ranked[:named])
