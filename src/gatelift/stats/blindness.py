"""What could go unseen: said beside every certificate, in figures that may be looked at daily.

Three honest numbers for one metric:

- `unseen_bound`: the rate that the units so far still allow. Not the rule of three, which holds for
  one look at a fixed n, but the anytime-valid upper bound: the rates that the `widen` process has
  not yet rejected (a confidence sequence, reference/statistics.md section 1, M5). It costs about a
  tenth more units and may be printed after every unit.
- `blind_rate`: the rate above the limit up to which the halting process never grows on average:
  ln(1 + p0 (r-1)) / ln r at the smallest r of its grid, about 1.12 times the limit. Nothing between
  the limit and this rate is found by waiting.
- `detectable_rate` and `Delay`: what would be stopped within so many units, or how many units (and
  how many harmful ones among them) pass first. Both follow the expected path: about half of the
  cases take longer.

Invariants
- More clean units never raise `unseen_bound`; more room never raises `detectable_rate`.
- Bounds round up: blindness is overstated.

Does not: know of harm that no label sees, of units that are never counted, or of bursts inside a
unit. Those are limits of the metric and stand beside these figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_CEILING, Decimal

import msgspec

from gatelift.stats.arithmetic import (
    BOUND_PLACES,
    ONE,
    StatsError,
    check_count,
    check_open_unit,
    first_true,
    grid_rate,
    pinned,
)
from gatelift.stats.counts import Counts
from gatelift.stats.mixture import UPWARD
from gatelift.stats.stop import e_stop_expected, stop_threshold, units_to_stop
from gatelift.stats.widen import e_widen

__all__ = ["Delay", "blind_rate", "delays", "detectable_rate", "unseen_bound"]

_STEPS = 10**BOUND_PLACES
_STEP = Decimal(1).scaleb(-BOUND_PLACES)
_MS_A_DAY = 86_400_000


class Delay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What passes before a steady rate is stopped, on the expected path; None means never."""

    rate: Decimal
    units: int | None
    harmful_units: int | None
    duration_ms: int | None


def unseen_bound(n: int, s: int, confidence: Decimal) -> Decimal:
    """Return the anytime-valid upper bound of the rate after n units with s harmful; 1 if none."""
    check_count("n", n)
    check_count("s (harmful among n)", s, at_most=n)
    check_open_unit("confidence", confidence)
    with pinned():
        threshold = ONE / (ONE - confidence)
    if s == n:
        return ONE
    # E grows with the rate it is tested against, because every ratio of the grid is below 1.
    step = first_true(1, _STEPS - 1, lambda m: e_widen(grid_rate(m), n, s) >= threshold)
    return ONE if step is None else grid_rate(step)


def blind_rate(limit: Decimal) -> Decimal:
    """Return the rate up to which waiting does not help, rounded up."""
    check_open_unit("limit", limit)
    with pinned():
        rates = [(ONE + limit * (r - ONE)).ln() / r.ln() for r in UPWARD.ratios]
        return min(rates).quantize(_STEP, rounding=ROUND_CEILING)


def detectable_rate(
    *,
    limit: Decimal,
    false_alarm: Decimal,
    units: int,
    weight: Decimal = ONE,
    history: Sequence[Counts] = (),
) -> Decimal | None:
    """Return the smallest steady rate that crosses within `units` more units, on the expected path.

    `history` as in `units_to_stop`: the last stretch is the one under way. None if not even a rate
    of 1 would.
    """
    check_count("units", units)
    threshold = stop_threshold(weight, false_alarm)
    past = [(c.n, Decimal(c.s)) for c in history] or [(0, Decimal(0))]
    last_n, last_s = past[-1]

    def crosses(step: int) -> bool:
        with pinned():
            path = [*past[:-1], (last_n + units, last_s + grid_rate(step) * units)]
            return e_stop_expected(limit, path).ln() >= threshold

    step = first_true(0, _STEPS, crosses)
    return None if step is None else grid_rate(step)


def delays(
    rates: Sequence[Decimal],
    *,
    limit: Decimal,
    false_alarm: Decimal,
    units_per_day: int,
    weight: Decimal = ONE,
    history: Sequence[Counts] = (),
) -> tuple[Delay, ...]:
    """Return what passes at each of `rates` before the stop, at this traffic."""
    if check_count("units_per_day", units_per_day) == 0:
        raise StatsError("expected at least one unit a day: without traffic nothing is ever seen")
    found = []
    for rate in rates:
        units = units_to_stop(
            limit=limit, false_alarm=false_alarm, weight=weight, history=history, rate=rate
        )
        harmful = duration_ms = None
        if units is not None:
            with pinned():
                harmful = int((rate * units).to_integral_value(rounding=ROUND_CEILING))
            duration_ms = -(-units * _MS_A_DAY // units_per_day)
        found.append(Delay(rate=rate, units=units, harmful_units=harmful, duration_ms=duration_ms))
    return tuple(found)
