"""Verdicts on an assessment of committed size: exact bounds for one look at a fixed n.

Clopper and Pearson (1934), one-sided, at level a = 1 - confidence: the upper bound is the p with
P(X <= s) = a for X ~ Binomial(n, p), the lower bound the p with P(X >= s) = a. Found by bisection
on the exact distribution, on a grid of `BOUND_PLACES` places, outwards. With s = 0 the upper bound
is 1 - a**(1/n), the rule of three.

Invariants
- Valid only where n was committed before the run and is looked at once; live traffic is judged by
  `stop` and `widen` (peeking at these bounds certifies falsely in 29.5% of rollouts,
  reference/statistics.md 4b).
- Undetermined and errored attempts count against ruling out, never for reaching; attempts that were
  promised and never made count the same way: the caller passes them as errors.
- No attempts, a margin that leaves no room, or anything in between: `cannot_rule_out`.
- Only "must be below" exists: a rate that must be high is written as its complement.

Does not: combine assessments, or say what the limit ought to be.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

import msgspec

from gatelift.stats.arithmetic import (
    BOUND_PLACES,
    MAX_UNITS,
    ONE,
    ZERO,
    StatsError,
    check_count,
    check_open_unit,
    first_true,
    grid_rate,
    pinned,
)

__all__ = [
    "Outcome",
    "Requirement",
    "Verdict",
    "attempts_to_rule_out",
    "lower_bound",
    "requirement_met",
    "upper_bound",
    "verdict",
]

_STEPS = 10**BOUND_PLACES


class Outcome(StrEnum):
    """The three verdicts on a threshold; the last counts as reached."""

    REACHED = "reached"
    RULED_OUT = "ruled_out"
    CANNOT_RULE_OUT = "cannot_rule_out"


class Verdict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An outcome with its figures, and how many clean attempts would rule the threshold out."""

    outcome: Outcome
    attempts: int
    counted: int
    """Successes, undetermined and errored: the numerator of `upper`."""
    lower: Decimal
    upper: Decimal
    margin: Decimal
    limit: Decimal
    clean_attempts_needed: int | None
    """None where the margin leaves no room below the limit, or that many are beyond counting."""


class Requirement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether `below: b, min_attempts: m` holds, and what is missing."""

    met: bool
    upper: Decimal
    below: Decimal
    missing_attempts: int


def _at_most(n: int, s: int, p: Decimal) -> Decimal:
    # P(X <= s). All terms are positive, so rounding stays near n * 1e-34 of the sum.
    with pinned():
        odds = p / (ONE - p)
        term = (n * (ONE - p).ln()).exp()
        total = term
        for i in range(s):
            term = term * odds * (n - i) / (i + 1)
            total += term
        return total


def upper_bound(n: int, s: int, confidence: Decimal) -> Decimal:
    """Return the one-sided upper bound of the rate for s of n, rounded up; 1 if nothing is known."""
    check_count("attempts", n, at_most=MAX_UNITS)
    check_count("successes", s, at_most=n)
    check_open_unit("confidence", confidence)
    if s == n:
        return ONE
    with pinned():
        level = ONE - confidence
    step = first_true(1, _STEPS - 1, lambda m: _at_most(n, s, grid_rate(m)) <= level)
    return ONE if step is None else grid_rate(step)


def lower_bound(n: int, s: int, confidence: Decimal) -> Decimal:
    """Return the one-sided lower bound of the rate for s of n, rounded down; 0 if s is 0."""
    check_count("attempts", n, at_most=MAX_UNITS)
    check_count("successes", s, at_most=n)
    # P(X >= s | p) = P(n - X <= n - s | 1 - p): the mirror of the upper bound.
    mirrored = upper_bound(n, n - s, confidence)
    with pinned():
        return ZERO if mirrored == ONE else ONE - mirrored


def attempts_to_rule_out(limit: Decimal, margin: Decimal, confidence: Decimal) -> int | None:
    """Return the smallest n that rules `limit` out with no success at all, or None."""
    check_open_unit("limit", limit)
    check_open_unit("margin", margin, zero=True)
    check_open_unit("confidence", confidence)
    with pinned():
        room = limit - margin
        if room <= ZERO:
            return None
        guess = int((ONE - confidence).ln() / (ONE - room).ln())
    # The closed form ignores that bounds are rounded up: search its neighbourhood with the bound.
    high = max(1, guess)
    while high < MAX_UNITS and upper_bound(high, 0, confidence) >= room:
        high += max(1, high // 1000)
    return first_true(1, min(high, MAX_UNITS), lambda n: upper_bound(n, 0, confidence) < room)


def _counted(n: int, s: int, undetermined: int, errors: int) -> int:
    check_count("attempts", n)
    check_count("successes", s)
    check_count("undetermined", undetermined)
    check_count("errors", errors)
    counted = s + undetermined + errors
    if counted > n:
        raise StatsError(
            f"successes, undetermined and errors are {counted} of {n} attempts: attempts must "
            "include all three"
        )
    return counted


def verdict(
    n: int,
    s: int,
    *,
    limit: Decimal,
    margin: Decimal,
    confidence: Decimal,
    undetermined: int = 0,
    errors: int = 0,
) -> Verdict:
    """Return the verdict on a threshold that is ruled out only below `limit` by `margin`.

    `n` is the committed number of attempts, undetermined and errored ones included; `s` of them
    succeeded. `confidence` is one-sided, for each of the two bounds.
    """
    counted = _counted(n, s, undetermined, errors)
    check_open_unit("limit", limit)
    check_open_unit("margin", margin, zero=True)
    upper = upper_bound(n, counted, confidence)
    lower = lower_bound(n, s, confidence)
    with pinned():
        ruled_out = n > 0 and upper + margin < limit
    if ruled_out:
        outcome = Outcome.RULED_OUT
    elif n > 0 and lower >= limit:
        outcome = Outcome.REACHED
    else:
        outcome = Outcome.CANNOT_RULE_OUT
    return Verdict(
        outcome=outcome,
        attempts=n,
        counted=counted,
        lower=lower,
        upper=upper,
        margin=margin,
        limit=limit,
        clean_attempts_needed=attempts_to_rule_out(limit, margin, confidence),
    )


def requirement_met(
    n: int,
    s: int,
    *,
    below: Decimal,
    min_attempts: int,
    confidence: Decimal,
    undetermined: int = 0,
    errors: int = 0,
) -> Requirement:
    """Return whether the upper bound of s of n lies under `below` after at least `min_attempts`."""
    counted = _counted(n, s, undetermined, errors)
    check_open_unit("below", below)
    check_count("min_attempts", min_attempts)
    upper = upper_bound(n, counted, confidence)
    missing = max(0, min_attempts - n)
    return Requirement(
        met=n > 0 and missing == 0 and upper < below,
        upper=upper,
        below=below,
        missing_attempts=missing,
    )
