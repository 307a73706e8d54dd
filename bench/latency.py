"""Added latency: the same open-loop load straight to the mock and through a gateway, in turn.

Invariants
- Added is the difference of percentiles, taken round by round, then the median over rounds.
- `fdatasync_ms` is measured in the folder that holds the journals, in the same run.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from bench.machine import pinned
from bench.messages import chat_body, raw_request

__all__ = ["OpenLoop", "Timed", "added", "drive", "percentile"]


class OpenLoop(msgspec.Struct, frozen=True, kw_only=True):
    """How the load is driven."""

    rate: float
    seconds: float
    load_core: int
    stream: bool = False
    max_tokens: int = 4


class Timed(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of the driver took: milliseconds from when each request was due."""

    target: str
    round: int
    p50_ms: float
    p99_ms: float
    answers: int
    failed: int


def percentile(values: list[float], share: float) -> float:
    """Return the smallest value that at least `share` of the values do not exceed.

    Raises `ValueError` without values.
    """
    if not values:
        raise ValueError("nothing was measured")
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * int(share * 1000) // 1000) - 1)]


def drive(
    name: str, number: int, *, port: int, headers: dict[str, str], folder: Path, load: OpenLoop
) -> Timed:
    """Drive one target once; raises `RuntimeError` with the driver's words."""
    request = folder / f"open-loop-{name}"
    body = chat_body(stream=load.stream, max_tokens=load.max_tokens if load.stream else None)
    host = f"127.0.0.1:{port}"
    request.write_bytes(raw_request(host, "/v1/chat/completions", headers, body))
    words = [sys.executable, "-m", "bench.open_loop", "--port", str(port)]
    words += ["--request", str(request), "--rate", str(load.rate)]
    words += ["--seconds", str(load.seconds)]
    words += ["--stream"] if load.stream else []
    done = subprocess.run(
        pinned(load.load_core, words),
        capture_output=True,
        text=True,
        timeout=load.seconds + 60,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the open-loop driver: {done.stderr[-500:]}")
    said: dict[str, Any] = json.loads(done.stdout)
    taken: list[float] = said["taken_ms"]
    return Timed(
        target=name,
        round=number,
        p50_ms=round(percentile(taken, 0.5), 4),
        p99_ms=round(percentile(taken, 0.99), 4),
        answers=len(taken),
        failed=said["failed"],
    )


def added(runs: list[Timed], name: str, field: str, base: str = "direct") -> float | None:
    """Return the median over rounds of what a target takes longer than the base."""
    bases = {run.round: getattr(run, field) for run in runs if run.target == base}
    found = [
        getattr(run, field) - bases[run.round]
        for run in runs
        if run.target == name and run.round in bases
    ]
    return round(statistics.median(found), 4) if found else None
