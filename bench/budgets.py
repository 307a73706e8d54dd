"""What gateway and ledger must reach, and what they aim at. Data; the page judges a run by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

__all__ = ["BUDGETS", "LEDGER_BUDGETS", "Budget", "Verdict", "judge"]


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """One line: what is measured, the bound that must hold, the goal, and which way is good."""

    what: str
    unit: str
    must: float
    goal: float
    more_is_better: bool
    of: Callable[[Mapping[str, Any]], float | None]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a run reached of a budget; `word` is `goal`, `must`, `missed` or `not measured`."""

    budget: Budget
    value: float | None
    word: str


def _of(key: str) -> Callable[[Mapping[str, Any]], float | None]:
    return lambda summary: summary[key]


def _above_sync(key: str) -> Callable[[Mapping[str, Any]], float | None]:
    def found(summary: Mapping[str, Any]) -> float | None:
        took, sync = summary[key], summary["fdatasync_ms"]
        return None if took is None or sync is None else round(took - sync, 4)

    return found


def _budget(
    what: str,
    unit: str,
    must: float,
    goal: float,
    of: Callable[[Mapping[str, Any]], float | None],
    *,
    more_is_better: bool = False,
) -> Budget:
    return Budget(what=what, unit=unit, must=must, goal=goal, more_is_better=more_is_better, of=of)


BUDGETS: Final = (
    _budget(
        "throughput of one core, of nginx's bare proxy",
        "x",
        0.30,
        0.40,
        _of("ratio_nginx"),
        more_is_better=True,
    ),
    _budget(
        "throughput of one core, of Envoy's bare pass-through",
        "x",
        2,
        2.5,
        _of("ratio_envoy"),
        more_is_better=True,
    ),
    _budget(
        "throughput of one core, of LiteLLM with a master key",
        "x",
        200,
        250,
        _of("ratio_litellm"),
        more_is_better=True,
    ),
    _budget(
        "added latency at 200 req/s above fdatasync, p50", "ms", 1, 0.5, _above_sync("added_p50_ms")
    ),
    _budget(
        "added latency at 200 req/s above fdatasync, p99", "ms", 5, 2, _above_sync("added_p99_ms")
    ),
    _budget("CPU a streamed chunk", "us", 25, 15, _of("chunk_us")),
    _budget("added time to the first token, p50", "ms", 2, 1, _of("ttft_added_ms")),
    _budget("added gap between tokens, p99", "ms", 50, 20, _of("streams_gap_p99_ms")),
    _budget("memory of an open stream", "KiB", 32, 16, _of("stream_kb")),
    _budget("worker's memory after the requests", "MB", 100, 60, _of("rss_mb")),
    _budget("start of a worker to its first answer", "s", 1, 0.5, _of("start_s")),
    _budget("stop, order to last byte, median", "ms", 1000, 50, _of("stop_p50_ms")),
    _budget("stop, order to last byte, longest", "ms", 1000, 200, _of("stop_max_ms")),
)


LEDGER_BUDGETS: Final = (
    _budget("64 appenders at once, p99 of an append", "ms", 100, 100, _of("append_p99_ms")),
    _budget("receipt after its answer, under full load, p99", "s", 1, 1, _of("receipt_s")),
    _budget("records hashed", "1/s", 100_000, 100_000, _of("records_per_s"), more_is_better=True),
    _budget("a dossier of a million records verified", "s", 30, 10, _of("verify_1m_s")),
    _budget("certificate check, cached", "us", 5, 5, _of("cert_cached_us")),
    _budget("certificate check, uncached", "ms", 2, 2, _of("cert_uncached_ms")),
)


def judge(summary: Mapping[str, Any], budgets: Sequence[Budget] = BUDGETS) -> list[Verdict]:
    """Return a verdict on each budget."""
    return [
        Verdict(budget=each, value=each.of(summary), word=_word(each, each.of(summary)))
        for each in budgets
    ]


def _word(budget: Budget, value: float | None) -> str:
    if value is None:
        return "not measured"
    sign = 1 if budget.more_is_better else -1
    if sign * value >= sign * budget.goal:
        return "goal"
    return "must" if sign * value >= sign * budget.must else "missed"
