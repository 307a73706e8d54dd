"""The halting e-process: evidence that the rate of harmful units is above its limit.

H0: given the past, each unit is harmful with a rate of at most `limit`. Units are taken in order
of opening and fall into stretches. With M(.) the `UPWARD` mixture of likelihood ratios,

    E = 1/2 M(all units) + 1/2 [ sum_{j<=J} w_j M(units of stretches j..J) + sum_{j>J} w_j ],
    w_j = 20 / ((j+19)(j+20)),   sum_{j>J} w_j = 20 / (J+20).

Each restart j is a martingale that stays at 1 until stretch j starts. The last sum is the stake of
the restarts that have not started: it counts as 1 times its mass, so E is a fixed average of
supermartingales that begin at 1, E_0 = 1, and opening an empty stretch changes nothing. By Ville
P(E ever >= 1/a) <= a, for any subset of looks, in particular when only the latest cumulative counts
of a stretch are seen. (reference/statistics.md sections 0.1, 1 M8, 4; DESIGN section 8.)

Why both halves: from the first unit alone, good history makes a late turn 2.5 to 6 times too slow
to see; restarts alone are slow from the start. Restarting the first half would double the false
stops, so nothing here is ever reset.

Invariants
- A pure function of (limit, [(n_j, s_j)]). More harmful units never lower E.
- Where stages run side by side, stretches are numbered by their start; a unit counts for restart j
  iff its own stretch is j or later, which is known when it opens, so E stays an e-process.
- E rounds down when recorded.

What the caller must keep: all stretches are counted up to one and the same point in the order of
opening (leaving harmless units out would inflate E), and open or unlabelled units are in n and not
in s (then E is at most what it will be).

Does not: latch (accounts do), or say which metric or whom to blame beyond w E.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from gatelift.stats.arithmetic import (
    LOG_PLACES,
    MAX_UNITS,
    ONE,
    ZERO,
    StatsError,
    check_count,
    check_log_e,
    check_open_unit,
    first_true,
    pinned,
    round_log_e,
)
from gatelift.stats.counts import Counts
from gatelift.stats.mixture import UPWARD, blend, likelihood_ratios, log_steps

__all__ = [
    "StopState",
    "crossed",
    "e_stop",
    "e_stop_expected",
    "log_e_overall",
    "log_e_stop",
    "observe",
    "restart_weight",
    "stop_threshold",
    "units_to_stop",
    "unstarted_weight",
]

_NO_EVIDENCE = ZERO.quantize(Decimal(1).scaleb(-LOG_PLACES))


class StopState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that the process remembers: the limit and the latest counts of each stretch, in order."""

    limit: Decimal
    stretches: tuple[Counts, ...] = ()

    def __post_init__(self) -> None:
        check_open_unit("limit", self.limit)


def observe(state: StopState, stretch: int, counts: Counts) -> StopState:
    """Return `state` with the counts of stretch number `stretch` (from 0) superseded or begun.

    Raises `StatsError` if a stretch is skipped or the number of its units went down. The number of
    harmful units may go down: a label can be overturned; a breach stays latched in the account.
    """
    have = state.stretches
    check_count("stretch", stretch)
    if stretch > len(have):
        raise StatsError(f"stretch {stretch} came before stretch {len(have)}: begin them in order")
    if stretch < len(have) and counts.n < have[stretch].n:
        raise StatsError(
            f"stretch {stretch} had {have[stretch].n} units and now has {counts.n}: counts are "
            "cumulative, send all units of the stretch"
        )
    return StopState(limit=state.limit, stretches=(*have[:stretch], counts, *have[stretch + 1 :]))


def restart_weight(j: int) -> Decimal:
    """Return w_j of the restart at the j-th stage or stretch start, j = 1, 2, ..."""
    with pinned():
        return Decimal(20) / ((j + 19) * (j + 20))


def unstarted_weight(started: int) -> Decimal:
    """Return the stake of all restarts after the first `started`: the telescoped sum of w_j."""
    with pinned():
        return Decimal(20) / (started + 20)


def e_stop_expected(limit: Decimal, stretches: Sequence[tuple[int, Decimal]]) -> Decimal:
    """Return E for stretches of (n, s), s possibly a fraction as on an expected path."""
    check_open_unit("limit", limit)
    check_count("units of all stretches", sum(n for n, _ in stretches))
    points = len(UPWARD.ratios)
    whole, restarts = [ONE] * points, [ZERO] * points
    with pinned():
        for j, (n, s) in enumerate(stretches, start=1):
            stake = restart_weight(j)
            ratios = likelihood_ratios(UPWARD, limit, n, s)
            whole = [a * f for a, f in zip(whole, ratios, strict=True)]
            restarts = [(a + stake) * f for a, f in zip(restarts, ratios, strict=True)]
        unstarted = unstarted_weight(len(stretches))
        return (blend(UPWARD, whole) + blend(UPWARD, restarts) + unstarted) / 2


def e_stop(limit: Decimal, stretches: Sequence[Counts]) -> Decimal:
    """Return E itself, unrounded. Record `log_e_stop` instead."""
    return e_stop_expected(limit, [(c.n, Decimal(c.s)) for c in stretches])


def log_e_stop(limit: Decimal, stretches: Sequence[Counts]) -> Decimal:
    """Return ln E of the halting process, rounded down to six places; exactly 0 before any unit."""
    check_open_unit("limit", limit)
    if not any(c.n for c in stretches):
        return _NO_EVIDENCE
    return round_log_e(e_stop(limit, stretches))


def stop_threshold(weight: Decimal, false_alarm: Decimal) -> Decimal:
    """Return ln(1 / (weight * false_alarm)): where a process of this share is crossed."""
    check_open_unit("weight", weight, one=True)
    check_open_unit("false_alarm", false_alarm)
    with pinned():
        return -(weight * false_alarm).ln()


def crossed(log_e: Decimal, weight: Decimal, false_alarm: Decimal) -> bool:
    """Say whether weight * E >= 1 / false_alarm (weight 1 for the overall value)."""
    return check_log_e("log_e", log_e) >= stop_threshold(weight, false_alarm)


def log_e_overall(metrics: Sequence[tuple[Decimal, Decimal]]) -> Decimal:
    """Return ln of sum(weight * E) over (weight, log_e) pairs, rounded down.

    Weights are positive and sum to at most 1. Valid whatever the dependence between the metrics;
    it says "stop", not which metric: for blame ask `crossed` of each.
    """
    if not metrics:
        raise StatsError("expected at least one metric: nothing watched is not evidence of calm")
    with pinned():
        weights = [check_open_unit("weight", w, one=True) for w, _ in metrics]
        if sum(weights) > ONE:
            raise StatsError(f"expected weights with a sum of at most 1, got {sum(weights)}")
        total = sum((w * check_log_e("log_e", x).exp() for w, x in metrics), ZERO)
    return round_log_e(total)


def units_to_stop(
    *,
    limit: Decimal,
    false_alarm: Decimal,
    weight: Decimal,
    history: Sequence[Counts],
    rate: Decimal,
) -> int | None:
    """Return after how many more units at a steady `rate` weight * E crosses 1 / false_alarm.

    Follows the expected path (s = rate * n), so it is a figure for previews, near the middle of the
    delays and not a promise. The last stretch of `history` is the one under way; append
    `Counts(n=0, s=0)` if the units come in a new one. Later restarts are ignored (slow side).
    0 if crossed already, None if this rate is never seen.
    """
    check_open_unit("rate", rate, zero=True, one=True)
    threshold = stop_threshold(weight, false_alarm)
    past = [(c.n, Decimal(c.s)) for c in history] or [(0, ZERO)]
    last_n, last_s = past[-1]

    def crosses(units: int) -> bool:
        with pinned():
            path = [*past[:-1], (last_n + units, last_s + rate * units)]
            return e_stop_expected(limit, path).ln() >= threshold

    if crosses(0):
        return 0
    with pinned():
        grows = any(rate * up > down for up, down in log_steps(UPWARD, limit))
    if not grows:
        return None
    # Along the path E is a sum of exponentials, hence convex: from below it crosses only once.
    room = MAX_UNITS - sum(n for n, _ in past)
    high = 1
    while high < room and not crosses(high):
        high *= 2
    return first_true(high // 2 + 1, min(high, room), crosses)
