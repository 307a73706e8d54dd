"""How long each part of `make bench-gateway` takes: in full, and as a smoke run of two minutes.

A smoke run (`BENCH_QUICK=1`) shows that the harness works. Its figures are no figures: it is kept in
`build/bench`, never in `bench/results`. Single numbers are set by environment, for a try:
BENCH_ROUNDS, BENCH_SECONDS, BENCH_REQUESTS, BENCH_STREAMS, BENCH_STOPS, BENCH_GATEWAY_CORE,
BENCH_LOAD_CORE.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec

from bench.stopping import StopSettings
from bench.streaming import Scene, StreamSettings

__all__ = ["CONTENDERS", "RunSettings", "read_settings"]

CONTENDERS = ("nginx", "envoy", "litellm", "portkey", "gatelift_nothing_on", "gatelift")
LATENCY_OF = ("nginx", "envoy", "gatelift_nothing_on", "gatelift")


class RunSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One run. Cores are numbers as `taskset` counts them."""

    quick: bool
    gateway_core: int
    load_core: int
    callers: int
    connections: int
    rounds: int
    warm_s: float
    measure_s: float
    latency_rounds: int
    latency_s: float
    latency_rate: float
    requests: int
    starts: int
    syncs: int
    streams: StreamSettings
    stops: StopSettings


def _full() -> RunSettings:
    return RunSettings(
        quick=False,
        gateway_core=0,
        load_core=1,
        callers=16,
        connections=128,
        rounds=5,
        warm_s=2.0,
        measure_s=10.0,
        latency_rounds=5,
        latency_s=10.0,
        latency_rate=200.0,
        requests=1_000_000,
        starts=5,
        syncs=200,
        streams=StreamSettings(
            scenes=(
                Scene(count=9000, rate=1.0, pace=300.0, hold_s=30.0),
                Scene(count=500, rate=20.0, pace=200.0, hold_s=20.0),
            ),
            first_token_rounds=5,
            first_token_s=10.0,
            first_token_rate=50.0,
            callers=16,
        ),
        stops=StopSettings(stops=20, workers=4, streams=64, rate=20.0, callers=4),
    )


def _quick() -> RunSettings:
    full = _full()
    streams = msgspec.structs.replace(
        full.streams,
        scenes=(
            Scene(count=300, rate=1.0, pace=150.0, hold_s=3.0),
            Scene(count=40, rate=20.0, pace=100.0, hold_s=2.0),
        ),
        first_token_rounds=1,
        first_token_s=2.0,
        callers=2,
    )
    return msgspec.structs.replace(
        full,
        quick=True,
        callers=3,
        rounds=1,
        warm_s=0.5,
        measure_s=2.0,
        latency_rounds=1,
        latency_s=2.0,
        requests=5_000,
        starts=2,
        syncs=30,
        streams=streams,
        stops=msgspec.structs.replace(full.stops, stops=2, streams=16, callers=2),
    )


def read_settings(environment: Mapping[str, str] = os.environ) -> RunSettings:
    """Return the settings that the environment asks for; raises `ValueError` for what is no number."""
    chosen = _quick() if environment.get("BENCH_QUICK") == "1" else _full()

    def number(name: str, usual: float) -> float:
        return float(environment.get(name) or usual)

    first, *others = chosen.streams.scenes
    count = int(number("BENCH_STREAMS", first.count))
    scenes = (msgspec.structs.replace(first, count=count), *others)
    return msgspec.structs.replace(
        chosen,
        gateway_core=int(number("BENCH_GATEWAY_CORE", chosen.gateway_core)),
        load_core=int(number("BENCH_LOAD_CORE", chosen.load_core)),
        rounds=int(number("BENCH_ROUNDS", chosen.rounds)),
        measure_s=number("BENCH_SECONDS", chosen.measure_s),
        requests=int(number("BENCH_REQUESTS", chosen.requests)),
        streams=msgspec.structs.replace(chosen.streams, scenes=scenes),
        stops=msgspec.structs.replace(
            chosen.stops, stops=int(number("BENCH_STOPS", chosen.stops.stops))
        ),
    )
