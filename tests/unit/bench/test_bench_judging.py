"""How a benchmark's figures are judged: ratios, counts, budgets, profiles."""

from __future__ import annotations

import msgspec
import pytest

from bench.budgets import BUDGETS, judge
from bench.capacity import RunFigures, find_faults, ratios, typical
from bench.house import told
from bench.latency import Timed, added, percentile
from bench.messages import chat_body
from bench.profile import summarise
from bench.run import SUMMARY_KEYS
from bench.settings import read_settings

CONNECTIONS = 128
OURS = RunFigures(
    contender="gatelift",
    round=1,
    rps=300.0,
    sent=2000,
    blocked=2,
    capped=2,
    status_errors=4,
    socket_errors=0,
    answered_upstream=1996,
    recorded=2000,
    recorded_upstream=1996,
    cpu_us={"worker": 30.0},
    gateway_core_busy=1.0,
    load_core_busy=0.9,
    backlog_batches=3,
    rss_mb=60.0,
    faults=(),
)
PEER = msgspec.structs.replace(
    OURS,
    contender="nginx",
    rps=1000.0,
    status_errors=0,
    answered_upstream=2000,
    recorded=None,
    recorded_upstream=None,
)


def of(run: RunFigures, **changed: object) -> RunFigures:
    return msgspec.structs.replace(run, **changed)


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"recorded": 1999}, "finish records"),
        ({"recorded_upstream": 1995}, "records with upstream"),
        ({"answered_upstream": 1997, "recorded_upstream": 1997}, "the mock's count"),
        ({"status_errors": 5}, "answers other than 2xx"),
        ({"socket_errors": 1}, "socket errors"),
    ],
)
def test_one_count_that_is_off_by_one_is_a_fault(changed: dict[str, object], what: str) -> None:
    assert not find_faults(OURS, CONNECTIONS)
    assert any(what in fault for fault in find_faults(of(OURS, **changed), CONNECTIONS))


def test_a_peer_may_have_requests_on_their_way_but_no_errors() -> None:
    assert not find_faults(of(PEER, answered_upstream=2000 - CONNECTIONS), CONNECTIONS)
    assert find_faults(of(PEER, answered_upstream=2000 - CONNECTIONS - 1), CONNECTIONS)
    assert find_faults(of(PEER, status_errors=1), CONNECTIONS)


def test_a_ratio_is_taken_within_each_round_and_then_the_median() -> None:
    rates = [(300.0, 1000.0), (100.0, 200.0), (90.0, 100.0)]
    runs = []
    for number, (ours, theirs) in enumerate(rates, 1):
        runs += [of(OURS, round=number, rps=ours), of(PEER, round=number, rps=theirs)]
    assert ratios(runs, "gatelift", "nginx") == 0.5
    assert typical(runs, "gatelift") == 100.0
    assert ratios(runs, "gatelift", "envoy") is None


def test_a_round_whose_answers_were_errors_gives_no_ratio() -> None:
    runs = [OURS, of(PEER, faults=("answers other than 2xx",))]
    assert ratios(runs, "gatelift", "nginx") is None
    assert typical(runs, "nginx") is None


def test_added_latency_is_taken_within_each_round() -> None:
    def timed(target: str, number: int, p50_ms: float) -> Timed:
        return Timed(target=target, round=number, p50_ms=p50_ms, p99_ms=0.0, answers=1, failed=0)

    runs = [timed("direct", 1, 1.0), timed("gatelift", 1, 3.0)]
    runs += [timed("direct", 2, 10.0), timed("gatelift", 2, 11.0)]
    assert added(runs, "gatelift", "p50_ms") == 1.5


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0), (0.001, 1.0)]
)
def test_a_percentile_is_a_value_that_was_measured(share: float, expected: float) -> None:
    assert percentile([float(n) for n in range(100, 0, -1)], share) == expected


def test_every_budget_is_judged_and_a_missing_figure_is_no_pass() -> None:
    nothing = dict.fromkeys(SUMMARY_KEYS)
    assert {verdict.word for verdict in judge(nothing)} == {"not measured"}
    best = dict.fromkeys(SUMMARY_KEYS, 0.0)
    best |= {"ratio_nginx": 9.0, "ratio_envoy": 9.0, "ratio_litellm": 900.0}
    assert {verdict.word for verdict in judge(best)} == {"goal"}
    worst = dict.fromkeys(SUMMARY_KEYS, 1e6)
    worst |= {"ratio_nginx": 0.29, "ratio_envoy": 1.9, "ratio_litellm": 199.0, "fdatasync_ms": 0.0}
    assert {verdict.word for verdict in judge(worst)} == {"missed"}
    assert len(judge(nothing)) == len(BUDGETS)


def test_added_latency_is_judged_above_the_disks_own_time() -> None:
    summary = dict.fromkeys(SUMMARY_KEYS) | {"added_p50_ms": 3.2, "fdatasync_ms": 2.5}
    found = [v for v in judge(summary) if v.value is not None]
    assert [(verdict.value, verdict.word) for verdict in found] == [(0.7, "must")]


def test_a_chat_of_the_load_has_1024_bytes_whatever_it_asks() -> None:
    bodies = [chat_body(), chat_body(blocked=True), chat_body(stream=True, max_tokens=65)]
    assert {len(body) for body in bodies} == {1024}


def test_a_profile_charges_a_thread_with_the_time_the_kernel_counted() -> None:
    raw = (
        "thread (7): Main;run (x/a.py:1);inner (x/b.py:2) 3\n"
        "thread (7): Main;run (x/a.py:1) 1\n"
        "thread (8): commit;wait (x/c.py:9) 96\n"
    )
    text = summarise(raw, {7: 80.0, 8: 20.0})
    assert text.startswith("100.0 us")
    own = text.partition("own time by function")[2].partition("with what it calls")[0]
    rows = {line.split()[0]: float(line.split()[-2]) for line in own.splitlines()[1:] if line}
    assert rows == {"inner": 60.0, "run": 20.0, "wait": 20.0}


def test_a_smoke_run_is_told_from_a_run_and_single_numbers_can_be_set() -> None:
    assert not read_settings({}).quick
    assert read_settings({"BENCH_QUICK": "1"}).quick
    changed = read_settings({"BENCH_STREAMS": "50", "BENCH_STOPS": "3"})
    assert (changed.streams.scenes[0].count, changed.stops.stops) == (50, 3)


def test_a_kept_reason_names_no_path_of_this_machine() -> None:
    text = told(RuntimeError("it ended: /home/x/build/log says 'no /usr/lib/y.so', http://a/b"))
    assert text == "RuntimeError: it ended: log says 'no y.so', http://a/b"
