"""What may be spent on false alarms, whom the evidence names, what goes unseen."""

from __future__ import annotations

import math
from decimal import Decimal

import msgspec
import pytest

from gatelift.stats import (
    Account,
    Counts,
    StatsError,
    attribute,
    blind_rate,
    delays,
    detectable_rate,
    judge,
    open_account,
    reopen,
    units_to_stop,
    unseen_bound,
    upper_bound,
)
from gatelift.stats.widen import e_widen

D = Decimal
ALARM = D("0.05")


def opened(*metrics: str) -> Account:
    return open_account(
        release="aurora-2", weights="sha256:1", metrics=metrics, false_alarm=ALARM, opened_at=3
    )


def test_shares_are_equal_and_never_more_than_the_whole() -> None:
    assert list(opened("a", "b").shares.values()) == [D("0.5"), D("0.5")]
    for count in range(1, 12):
        assert sum(opened(*map(str, range(count))).shares.values()) <= 1


def test_a_metric_breaches_at_its_share_and_takes_the_whole_with_it() -> None:
    account = judge(opened("a", "b"), {"a": D("3.688879"), "b": D("-20")}, at=7)
    assert account.breaches == ()
    account = judge(account, {"a": D("3.688880"), "b": D("-20")}, at=8)
    assert [(b.metric, b.at) for b in account.breaches] == [("a", 8), (None, 8)]


def test_two_metrics_may_breach_together_though_neither_does_alone() -> None:
    account = judge(opened("a", "b"), {"a": D("3.2"), "b": D("3.2")}, at=8)
    assert [b.metric for b in account.breaches] == [None]


def test_a_breach_latches() -> None:
    breached = judge(opened("a", "b"), {"a": D(9), "b": D(0)}, at=8)
    later = judge(breached, {"a": D(-9), "b": D(-9)}, at=9)
    assert later.breaches == breached.breaches
    assert [b.metric for b in judge(later, {"a": D(9), "b": D(9)}, at=10).breaches] == [
        "a",
        None,
        "b",
    ]


@pytest.mark.parametrize("values", [{"a": D(0)}, {}, {"a": D(0), "b": D(0), "c": D(0)}])
def test_a_missing_or_foreign_metric_is_never_taken_for_calm(values: dict[str, Decimal]) -> None:
    with pytest.raises(StatsError):
        judge(opened("a", "b"), values, at=8)


def test_only_a_breached_account_is_followed_by_another() -> None:
    account = opened("a")
    with pytest.raises(StatsError):
        reopen(account, 9)
    breached = judge(account, {"a": D(4)}, at=8)
    with pytest.raises(StatsError):
        reopen(breached, 8)
    again = reopen(breached, 12)
    assert (again.number, again.opened_at, again.breaches) == (2, 12, ())
    assert again.false_alarm == ALARM


@pytest.mark.parametrize("metrics", [(), ("a", "a")])
def test_an_account_needs_distinct_metrics(metrics: tuple[str, ...]) -> None:
    with pytest.raises(StatsError):
        opened(*metrics)


def test_an_account_survives_being_written_and_read() -> None:
    account = judge(opened("a", "b", "c"), {"a": D("9.000001"), "b": D(0), "c": D(0)}, at=8)
    assert msgspec.json.decode(msgspec.json.encode(account), type=Account) == account


@pytest.mark.parametrize(
    ("e_values", "named"),
    [
        pytest.param({"a": 59, "b": 1, "c": 0.5}, "", id="3 organisations ask for 60"),
        pytest.param({"a": 61, "b": 1, "c": 0.5}, "a", id="one is enough above 60"),
        pytest.param({"a": 31, "b": 31, "c": 0.5}, "ab", id="two at 30 each, none at 60"),
        pytest.param({"a": 90, "b": 29, "c": 21}, "abc", id="three at 20 each: all"),
        pytest.param({"a": 90, "b": 29, "c": 19}, "a", id="the first only"),
        pytest.param({}, "", id="nobody"),
    ],
)
def test_e_bh_names(e_values: dict[str, float], named: str) -> None:
    logs = {name: D(str(round(math.log(e), 6))) for name, e in e_values.items()}
    assert attribute(logs, ALARM) == frozenset(named)


def test_what_could_go_unseen_is_wider_than_one_look_would_say() -> None:
    confidence = D("0.95")
    previous = D(1)
    for n in (30, 300, 3000):
        bound = unseen_bound(n, 0, confidence)
        assert upper_bound(n, 0, confidence) < bound < previous
        assert e_widen(bound, n, 0) >= 20 > e_widen(bound - D("1e-12"), n, 0)
        previous = bound
    assert unseen_bound(300, 1, confidence) > unseen_bound(300, 0, confidence)
    assert unseen_bound(0, 0, confidence) == 1


def test_rates_up_to_the_blind_rate_are_never_stopped() -> None:
    # ln(1 + 0.1 * 0.25) / ln 1.25
    assert float(blind_rate(D("0.1"))) == pytest.approx(math.log(1.025) / math.log(1.25))
    for rate, seen in ((D("0.1106"), False), (D("0.1107"), True)):
        units = units_to_stop(limit=D("0.1"), false_alarm=ALARM, weight=D(1), history=[], rate=rate)
        assert (units is not None) == seen


def test_detectable_rate_and_delay_mirror_each_other() -> None:
    history = [Counts(n=150, s=0), Counts(n=0, s=0)]
    rate = detectable_rate(limit=D("0.1"), false_alarm=ALARM, units=20, history=history)
    assert rate is not None
    for tried, within in ((rate, True), (rate - D("0.001"), False)):
        units = units_to_stop(
            limit=D("0.1"), false_alarm=ALARM, weight=D(1), history=history, rate=tried
        )
        assert units is not None
        assert (units <= 20) == within
    assert detectable_rate(limit=D("0.1"), false_alarm=ALARM, units=1) is None


def test_delays_say_units_harm_and_time() -> None:
    args = {"limit": D("0.1"), "false_alarm": ALARM, "units_per_day": 24}
    fast, never = delays([D(1), D("0.1")], **args)  # type: ignore[arg-type]
    assert (fast.units, fast.harmful_units, fast.duration_ms) == (3, 3, 3 * 3_600_000)
    assert (never.units, never.duration_ms) == (None, None)
    with pytest.raises(StatsError):
        delays([D(1)], limit=D("0.1"), false_alarm=ALARM, units_per_day=0)
