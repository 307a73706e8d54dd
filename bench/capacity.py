"""Capacity: rounds of all contenders in turn, ratios within a round, medians over rounds.

Invariants
- A, B, C, A, B, C: a slow minute of the machine hits all, and ratios are taken round by round.
- Each run is checked against the mock's own count; Gatelift's also against its records.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from bench.contenders import Contender, EverythingOn
from bench.machine import core_busy_seconds
from bench.nginx import Mock
from bench.wrk import WrkRun

__all__ = ["CapacitySettings", "RunFigures", "ratios", "run_rounds", "to_builtins", "typical"]


_EDGE_S = 0.2


class CapacitySettings(msgspec.Struct, frozen=True, kw_only=True):
    """How long and how often."""

    rounds: int
    connections: int
    warm_s: float
    measure_s: float
    gateway_core: int
    load_core: int


class RunFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One contender's run in one round. `faults` is empty when every count agrees.

    `answered_upstream` is the mock's count, `recorded` Gatelift's finish records (null for others),
    `cpu_us` the CPU microseconds a chat by part, `*_core_busy` the share of time in which a core was
    not idle, `backlog_batches` how many batches the keeper had yet to log when the load ended.
    """

    contender: str
    round: int
    rps: float
    sent: int
    blocked: int
    capped: int
    status_errors: int
    socket_errors: int
    answered_upstream: int
    recorded: int | None
    recorded_upstream: int | None
    cpu_us: dict[str, float]
    gateway_core_busy: float
    load_core_busy: float
    backlog_batches: int | None
    rss_mb: float
    faults: tuple[str, ...]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def measure(
    contender: Contender, mock: Mock, folder: Path, settings: CapacitySettings, number: int
) -> RunFigures:
    """Load one contender once."""
    ours = contender if isinstance(contender, EverythingOn) else None
    contender.settle()
    mock_before = mock.count()
    finishes, upstream = (ours.tally.finishes, ours.tally.upstream) if ours else (0, 0)
    run = WrkRun(
        contender.target(),
        folder / f"requests-{contender.name}",
        core=settings.load_core,
        connections=settings.connections,
        warm_s=settings.warm_s,
        measure_s=settings.measure_s,
    )
    # CPU is taken well inside the measured part: what comes after it asks the health route only.
    time.sleep(settings.warm_s + _EDGE_S)
    cores = (settings.gateway_core, settings.load_core)
    cpu_before, busy_before = contender.cpu(), [core_busy_seconds(core) for core in cores]
    began = time.monotonic()
    time.sleep(settings.measure_s - 2 * _EDGE_S)
    cpu_after, busy_after = contender.cpu(), [core_busy_seconds(core) for core in cores]
    window_s = time.monotonic() - began
    done = run.finish()
    logged = ours.deployment.logged_batches() if ours else 0
    contender.settle()
    answered = mock.count() - mock_before
    figures = RunFigures(
        contender=contender.name,
        round=number,
        rps=round(done.rps, 1),
        sent=done.sent,
        blocked=done.blocked,
        capped=done.capped,
        status_errors=done.status_errors,
        socket_errors=done.socket_errors,
        answered_upstream=answered,
        recorded=ours.tally.finishes - finishes if ours else None,
        recorded_upstream=ours.tally.upstream - upstream if ours else None,
        cpu_us={
            part: round((cpu_after[part] - cpu_before[part]) * 1e6 / (window_s * done.rps), 2)
            for part in cpu_after
        },
        gateway_core_busy=round((busy_after[0] - busy_before[0]) / window_s, 3),
        load_core_busy=round((busy_after[1] - busy_before[1]) / window_s, 3),
        backlog_batches=ours.tally.batches - logged if ours else None,
        rss_mb=round(contender.rss_mb(), 1),
        faults=(),
    )
    return msgspec.structs.replace(figures, faults=find_faults(figures, settings.connections))


def find_faults(run: RunFigures, connections: int) -> tuple[str, ...]:
    """Return where the counts of a run do not agree.

    Ours must agree to the last one. A peer may have up to one request of each connection on its way
    when wrk hangs up: slow ones do.
    """
    if run.recorded is None:
        missing = run.sent - run.answered_upstream
        checks = [
            ("socket errors", run.socket_errors, 0),
            ("answers other than 2xx", run.status_errors, 0),
            ("missing in the mock's count", missing if not 0 <= missing <= connections else 0, 0),
        ]
    else:
        turned_away = run.blocked + run.capped
        checks = [
            ("socket errors", run.socket_errors, 0),
            ("answers other than 2xx", run.status_errors, turned_away),
            ("the mock's count", run.answered_upstream, run.sent - turned_away),
            ("finish records", run.recorded, run.sent),
            ("records with upstream", run.recorded_upstream or 0, run.answered_upstream),
        ]
    return tuple(
        f"{what}: expected {wanted}, got {found}"
        for what, found, wanted in checks
        if found != wanted
    )


def run_rounds(
    contenders: list[Contender], mock: Mock, folder: Path, settings: CapacitySettings
) -> list[RunFigures]:
    """Measure all contenders in turn, round by round. They come frozen and are left frozen."""
    runs = []
    for number in range(1, settings.rounds + 1):
        for contender in contenders:
            contender.thaw()
            try:
                run = measure(contender, mock, folder, settings, number)
            finally:
                contender.freeze()
            runs.append(run)
            _say(
                f"  round {number}  {run.contender:<16} {run.rps:>10,.0f} req/s  "
                f"{'; '.join(run.faults)}"
            )
    return runs


def typical(runs: list[RunFigures], contender: str) -> float | None:
    """Return the median rate of a contender over its sound rounds, null if there is none."""
    rates = [run.rps for run in runs if run.contender == contender and not run.faults]
    return statistics.median(rates) if rates else None


def ratios(runs: list[RunFigures], ours: str, other: str) -> float | None:
    """Return the median over rounds of our rate divided by another's in the same round.

    A round counts where both are sound: errors are quicker than answers.
    """
    sound = {(run.contender, run.round): run.rps for run in runs if not run.faults}
    found = [
        rate / sound[other, number]
        for (name, number), rate in sound.items()
        if name == ours and sound.get((other, number))
    ]
    return statistics.median(found) if found else None


def to_builtins(runs: list[RunFigures]) -> Any:
    """Return runs as what JSON knows."""
    return msgspec.to_builtins(runs)
