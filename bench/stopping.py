"""A stop: from the order to the last byte that any caller of a stream gets, again and again.

Four workers share the gateway's core and are kept busy by closed-loop chats and by streams. The
order halts the whole release, signed beforehand; the clock runs from before it is posted to control.
After each stop the quorum certifies stage zero anew, which lifts the order.

Invariant: times are of one monotonic clock, read by this process and by the readers.
"""

from __future__ import annotations

import statistics
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec

from bench.deployment import Deployment
from bench.house import House, say
from bench.machine import core_busy_seconds, wait_for
from bench.streaming import Readers, Scene, StreamMock
from bench.wrk import WrkRun

__all__ = ["StopSettings", "measure_stops"]

_CONNECTIONS = 64
_BEFORE_S = 1.0
_LOAD_S = 5.0


class StopSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How many stops, of how many workers, with how many streams open."""

    stops: int
    workers: int
    streams: int
    rate: float
    callers: int


def _sign_halt(deployment: Deployment, path: Path) -> bytes:
    words = ["halt", "--release", "bench", "--reason", "benchmark: a stop", "--out", str(path)]
    deployment.sign(*words, signer="stop")
    return path.read_bytes()


def _post(deployment: Deployment, envelope: bytes) -> None:
    url = f"{deployment.admin_url}/admin/v1/orders"
    response = httpx.post(url, json={"envelope": envelope.decode()}, timeout=30)
    if response.status_code != 201:
        raise RuntimeError(f"the order was not taken: {response.status_code} {response.text[:200]}")


def _stop_once(
    house: House, deployment: Deployment, settings: StopSettings, number: int
) -> dict[str, Any]:
    scene = Scene(count=settings.streams, rate=settings.rate, pace=200.0, hold_s=_LOAD_S)
    envelope = _sign_halt(deployment, house.folder / f"halt-{number}.json")
    load = WrkRun(
        deployment.target(),
        house.folder / "requests-stops",
        core=house.load_core,
        connections=_CONNECTIONS,
        warm_s=0.0,
        measure_s=_LOAD_S + settings.streams / scene.pace,
    )
    readers = Readers(
        *(deployment.port, deployment.api_keys, scene, house.folder, house.load_core),
        "--abort-times",
    )
    try:
        readers.wait("OPEN")
        busy_before = core_busy_seconds(house.gateway_core)
        time.sleep(_BEFORE_S)
        busy = (core_busy_seconds(house.gateway_core) - busy_before) / _BEFORE_S
        began = time.monotonic()
        poster = threading.Thread(target=_post, args=(deployment, envelope))
        poster.start()
        readers.wait("HELD")
        found = readers.finish()
        poster.join()
    finally:
        load.finish()
    ends = sorted(found["last_s"])
    if not ends:
        raise RuntimeError("no stream was open when the order was posted")
    took_ms = (ends[-1] - began) * 1000
    reached = found["opened"] == settings.streams and found["clean"] == 0
    return {
        "took_ms": round(took_ms, 2),
        "streams": len(ends),
        "all_cut": reached,
        "gateway_core_busy": round(busy, 3),
    }


def measure_stops(house: House, settings: StopSettings) -> dict[str, Any]:
    """Stop a deployment of four busy workers, many times."""
    say("stops: starting a deployment of four workers")
    mock = StreamMock(house.key, house.load_core, house.folder)
    deployment = None
    try:
        mock.set_rate(settings.rate)
        deployment = house.deploy(
            "stops", settings.callers, upstream=mock.url, workers=settings.workers
        )
        stops = []
        for number in range(settings.stops):
            stops.append(_stop_once(house, deployment, settings, number))
            say(f"  stop {number + 1}: last byte after {stops[-1]['took_ms']} ms")
            _reopen(deployment)
        taken = [each["took_ms"] for each in stops]
        return {
            "stops": stops,
            "p50_ms": round(statistics.median(taken), 2),
            "max_ms": max(taken),
            "whole": all(each["all_cut"] for each in stops),
        }
    finally:
        if deployment is not None:
            deployment.stop()
        mock.stop()


def _reopen(deployment: Deployment) -> None:
    def certified() -> bool:
        try:
            deployment.ask("certify", "--stage", "assess", "--yes", signers=("operator", "safety"))
        except RuntimeError:
            return False
        return True

    wait_for(certified, "a new certificate", seconds=60, every_s=0.2)
    deployment.wait_serving()
