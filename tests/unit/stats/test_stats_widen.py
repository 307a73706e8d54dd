"""The widening e-process: identities, order, and the rate of false certificates."""

from __future__ import annotations

import math
import random
from decimal import Decimal, localcontext

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatelift.stats import StatsError, cleared, gate_alpha, log_e_widen, units_to_clear
from gatelift.stats.arithmetic import PINNED
from gatelift.stats.widen import e_widen

D = Decimal


def float_e(limit: float, n: int, s: int) -> float:
    ratios = [0.002, *(0.05 * 16 ** (i / 7) for i in range(8))]
    total = 0.0
    for ratio, share in zip(ratios, [1 / 2, *[1 / 16] * 8], strict=True):
        odds = ratio * limit / (1 - limit)
        q = odds / (1 + odds)
        total += share * (q / limit) ** s * ((1 - q) / (1 - limit)) ** (n - s)
    return total


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(0, 500),
    s=st.integers(0, 30),
    limit=st.sampled_from([D("0.0001"), D("0.001"), D("0.1"), D("0.7")]),
)
def test_e_is_a_martingale_at_the_limit_and_harm_never_helps(
    n: int, s: int, limit: Decimal
) -> None:
    s = min(n, s)
    now, good, bad = (
        e_widen(limit, n, s),
        e_widen(limit, n + 1, s),
        e_widen(limit, n + 1, s + 1),
    )
    with localcontext(PINNED):
        assert abs(limit * bad + (1 - limit) * good - now) <= D("1e-25") * now
    assert bad < now < good
    assert float(log_e_widen(limit, n, s)) == pytest.approx(
        math.log(float_e(float(limit), n, s)), abs=2e-6
    )


def test_no_units_are_no_evidence() -> None:
    assert str(log_e_widen(D("0.1"), 0, 0)) == "0.000000"


@pytest.mark.parametrize(
    ("limit", "alpha"), [("0.1", "0.0166666666"), ("0.1", "0.05"), ("0.001", "0.05")]
)
def test_clean_units_to_clear_match_an_independent_count(limit: str, alpha: str) -> None:
    n = 0
    while float_e(float(limit), n, 0) < 1 / float(alpha):
        n += 1
    assert units_to_clear(D(limit), D(alpha)) == n
    # No test at this level can do with fewer than log(alpha) / log(1 - limit) clean units.
    assert n >= math.log(float(alpha)) / math.log(1 - float(limit))


def test_clean_units_to_clear_known_figures() -> None:
    assert units_to_clear(D("0.1"), gate_alpha(D("0.05"), 3)) == 43
    # The mean in reference/statistics.md 4b is 3,314 at a limit of 0.001; the floor is 2,995.
    units = units_to_clear(D("0.001"), D("0.05"))
    assert units is not None
    assert 2995 < units <= 3314


def test_what_clears_is_cleared_and_one_less_is_not() -> None:
    alpha = gate_alpha(D("0.05"), 3)
    for harmful in range(4):
        units = units_to_clear(D("0.1"), alpha, harmful)
        assert units is not None
        assert cleared(log_e_widen(D("0.1"), units, harmful), alpha)
        assert not cleared(log_e_widen(D("0.1"), units - 1, harmful), alpha)


@pytest.fixture(scope="module")
def boundary() -> list[int]:
    """Smallest n that clears the limit 0.1 at 0.05, by harmful units, up to 500 units."""
    found: list[int] = []
    while not found or found[-1] <= 500:
        units = units_to_clear(D("0.1"), D("0.05"), len(found))
        assert units is not None
        found.append(units)
    return found


def test_false_certificates_at_the_limit_stay_below_alpha_exactly(boundary: list[int]) -> None:
    # Forward recursion over (n, s): the exact probability of ever clearing within 500 units.
    alive, certified = {0: 1.0}, 0.0
    for n in range(1, 501):
        moved: dict[int, float] = {}
        for s, mass in alive.items():
            moved[s] = moved.get(s, 0.0) + 0.9 * mass
            moved[s + 1] = moved.get(s + 1, 0.0) + 0.1 * mass
        alive = {}
        for s, mass in moved.items():
            if s < len(boundary) and n >= boundary[s]:
                certified += mass
            elif mass > 1e-18:
                alive[s] = mass
    assert 0.02 < certified <= 0.05


def test_false_certificates_at_the_limit_by_simulation(boundary: list[int]) -> None:
    rng = random.Random(777)
    certified = 0
    for _ in range(4000):
        n = 0
        for s, enough in enumerate(boundary):
            clean = int(math.log(1 - rng.random()) / math.log(0.9))
            if max(enough, n) <= min(n + clean, 500):
                certified += 1
                break
            n += clean + 1
            if n >= 500:
                break
            assert s < len(boundary)
    assert 0.02 < certified / 4000 < 0.05


@pytest.mark.parametrize("gates", [0, -1])
def test_assurance_cannot_be_divided_among_no_gates(gates: int) -> None:
    with pytest.raises(StatsError):
        gate_alpha(D("0.05"), gates)
