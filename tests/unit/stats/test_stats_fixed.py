"""Exact bounds and the three verdicts, against published figures."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import comb

import pytest

from gatelift.stats import (
    Outcome,
    StatsError,
    attempts_to_rule_out,
    lower_bound,
    requirement_met,
    upper_bound,
    verdict,
)

D = Decimal
C95 = D("0.95")
STEP = Fraction(1, 10**12)


@pytest.mark.parametrize(
    ("n", "s", "confidence", "low", "high"),
    [
        (10, 0, "0.95", "0", "0.2589"),
        (300, 0, "0.95", "0", "0.0099"),
        (100, 0, "0.95", "0", "0.0295"),  # rule of three: 0.03
        # Two-sided 95% tables of Clopper and Pearson: 0.975 a side.
        (10, 0, "0.975", "0", "0.3085"),
        (10, 1, "0.975", "0.0025", "0.4450"),
        (10, 5, "0.975", "0.1871", "0.8129"),
        (100, 10, "0.975", "0.0490", "0.1762"),
    ],
)
def test_published_bounds(n: int, s: int, confidence: str, low: str, high: str) -> None:
    assert abs(lower_bound(n, s, D(confidence)) - D(low)) <= D("0.00005")
    assert abs(upper_bound(n, s, D(confidence)) - D(high)) <= D("0.00005")


@pytest.mark.parametrize(("n", "s"), [(7, 2), (40, 39), (60, 30), (300, 4)])
def test_bounds_sit_on_the_exact_distribution_rounded_outwards(n: int, s: int) -> None:
    def at_most(k: int, p: Fraction) -> Fraction:
        return sum((comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1)), Fraction(0))

    level = Fraction(1, 20)
    upper = Fraction(upper_bound(n, s, C95))
    assert at_most(s, upper) <= level < at_most(s, upper - STEP)
    lower = Fraction(lower_bound(n, s, C95))
    assert 1 - at_most(s - 1, lower) <= level < 1 - at_most(s - 1, lower + STEP)


def test_nothing_tried_bounds_nothing() -> None:
    assert lower_bound(0, 0, C95) == 0
    assert upper_bound(0, 0, C95) == 1
    assert upper_bound(5, 5, C95) == 1


def test_five_thousand_attempts_are_within_reach() -> None:
    # Normal approximation 0.5 + 1.645 * sqrt(0.25 / 5000) = 0.51163, plus the half-unit correction.
    assert abs(upper_bound(5000, 2500, C95) - D("0.5117")) < D("0.0001")


@pytest.mark.parametrize(
    ("n", "s", "undetermined", "errors", "outcome"),
    [
        pytest.param(99, 0, 0, 0, "ruled_out", id="99 clean ones leave less than 0.03"),
        pytest.param(98, 0, 0, 0, "cannot_rule_out", id="one attempt too few"),
        pytest.param(99, 0, 1, 0, "cannot_rule_out", id="an undetermined one counts against"),
        pytest.param(99, 0, 0, 1, "cannot_rule_out", id="an error counts against"),
        pytest.param(0, 0, 0, 0, "cannot_rule_out", id="nothing tried"),
        pytest.param(100, 10, 0, 0, "reached", id="lower bound 0.055 above the limit"),
        pytest.param(100, 9, 0, 0, "cannot_rule_out", id="lower bound 0.048 below the limit"),
        pytest.param(100, 0, 60, 40, "cannot_rule_out", id="only failures of the run"),
    ],
)
def test_three_verdicts(n: int, s: int, undetermined: int, errors: int, outcome: str) -> None:
    found = verdict(
        n,
        s,
        limit=D("0.05"),
        margin=D("0.02"),
        confidence=C95,
        undetermined=undetermined,
        errors=errors,
    )
    assert found.outcome == Outcome(outcome)
    assert found.counted == s + undetermined + errors
    # ln 0.05 / ln 0.97 = 98.4
    assert found.clean_attempts_needed == 99


def test_a_margin_without_room_never_rules_out() -> None:
    found = verdict(10**6, 0, limit=D("0.02"), margin=D("0.02"), confidence=C95)
    assert found.outcome is Outcome.CANNOT_RULE_OUT
    assert found.clean_attempts_needed is None


@pytest.mark.parametrize(("limit", "attempts"), [("0.001", 2995), ("0.0001", 29956)])
def test_clean_attempts_needed_follow_the_rule_of_three(limit: str, attempts: int) -> None:
    # reference/statistics.md section 1, M10
    assert attempts_to_rule_out(D(limit), D(0), C95) == attempts


def test_more_results_than_attempts_are_refused() -> None:
    with pytest.raises(StatsError):
        verdict(10, 5, limit=D("0.1"), margin=D(0), confidence=C95, undetermined=3, errors=3)


@pytest.mark.parametrize(
    ("n", "s", "errors", "met", "missing"),
    [
        pytest.param(300, 0, 0, True, 0, id="300 clean: 0.0099 below 0.02"),
        pytest.param(300, 1, 0, True, 0, id="one of 300: 0.0157"),
        pytest.param(300, 2, 0, False, 0, id="two of 300: 0.0208"),
        pytest.param(300, 1, 1, False, 0, id="an error is a success until shown otherwise"),
        pytest.param(299, 0, 0, False, 1, id="one attempt missing"),
        pytest.param(0, 0, 0, False, 300, id="nothing tried"),
    ],
)
def test_requirements(n: int, s: int, errors: int, met: bool, missing: int) -> None:
    found = requirement_met(n, s, below=D("0.02"), min_attempts=300, confidence=C95, errors=errors)
    assert (found.met, found.missing_attempts) == (met, missing)
