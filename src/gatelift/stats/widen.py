"""The widening e-process: evidence that the rate of harmful units is below its limit.

H0: given the past, each unit is harmful with a rate of at least `limit`. E is the `DOWNWARD`
mixture of likelihood ratios over (n, s), a test supermartingale under H0, so
P(E ever >= 1/a) <= a, however often anybody looks. A gate k is cleared at E >= 1/alpha_k with
alpha_k = false_assurance / number_of_gates, so that the probability that any gate of a plan is
ever cleared while the rate is at its limit or above stays below `false_assurance`. Every metric
must clear (an intersection-union test: no correction across metrics).
(reference/statistics.md sections 0.2, 4b; DESIGN section 8.)

Invariants
- More harmful units never raise E; no units, E = 1.
- E rounds down when recorded.

What the caller must keep: open and unlabelled units are counted as harmful (in s), so that E is at
most what it will be; n is a prefix in order of opening.

Does not: use asymptotics (no events, no variance: a normal bound would certify a model at the
limit in 38% of rollouts, same reference), or pool probes with live traffic.
"""

from __future__ import annotations

from decimal import Decimal

from gatelift.stats.arithmetic import (
    MAX_UNITS,
    StatsError,
    check_count,
    check_log_e,
    check_open_unit,
    first_true,
    pinned,
    round_log_e,
)
from gatelift.stats.mixture import DOWNWARD, blend, log_steps

__all__ = ["cleared", "e_widen", "gate_alpha", "log_e_widen", "units_to_clear"]


def gate_alpha(false_assurance: Decimal, gates: int) -> Decimal:
    """Return each gate's equal part of a plan's `false_assurance`."""
    check_open_unit("false_assurance", false_assurance)
    if check_count("gates", gates) == 0:
        raise StatsError("expected at least one gate, got 0")
    with pinned():
        return false_assurance / gates


def e_widen(limit: Decimal, n: int, s: int) -> Decimal:
    """Return E itself, unrounded. Record `log_e_widen` instead."""
    check_open_unit("limit", limit)
    check_count("n", n)
    check_count("s (harmful among n)", s, at_most=n)
    with pinned():
        ratios = [(s * up - n * down).exp() for up, down in log_steps(DOWNWARD, limit)]
    return blend(DOWNWARD, ratios)


def log_e_widen(limit: Decimal, n: int, s: int) -> Decimal:
    """Return ln E of the widening process for n units, s harmful or not yet known; rounded down."""
    return round_log_e(e_widen(limit, n, s))


def cleared(log_e: Decimal, alpha: Decimal) -> bool:
    """Say whether E >= 1 / alpha."""
    check_open_unit("alpha", alpha)
    with pinned():
        return check_log_e("log_e", log_e) >= -alpha.ln()


def units_to_clear(limit: Decimal, alpha: Decimal, harmful: int = 0) -> int | None:
    """Return the smallest n that clears with `harmful` harmful units, None if beyond counting."""
    check_count("harmful", harmful)
    check_open_unit("alpha", alpha)

    def clears(n: int) -> bool:
        return cleared(log_e_widen(limit, n, harmful), alpha)

    high = max(harmful, 1)
    while high < MAX_UNITS and not clears(high):
        high *= 2
    return first_true(harmful, min(high, MAX_UNITS), clears)
