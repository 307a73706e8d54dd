"""Memory after many requests, and how long a worker takes from its start to its first answer."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import Any

import httpx

from bench.contenders import EverythingOn
from bench.house import House, say
from bench.machine import end, pinned
from bench.messages import chat_body
from bench.ports import free_ports
from bench.wrk import run_wrk

__all__ = ["measure_memory", "measure_starts"]

_SLICE_S = 20.0
_START_S = 30.0
_CONNECTIONS = 128


def measure_memory(house: House, ours: EverythingOn, requests: int, already: int) -> dict[str, Any]:
    """Load until a worker has answered so many requests; return its memory on the way."""
    say(f"memory: until {requests} requests, {already} are done")
    points = [(already, round(ours.rss_mb(), 2))]
    sent, faults = 0, []
    ours.settle()
    finishes = ours.tally.finishes
    while already + sent < requests:
        done = run_wrk(
            ours.target(),
            house.folder / "requests-memory",
            core=house.load_core,
            connections=_CONNECTIONS,
            warm_s=0.0,
            measure_s=min(_SLICE_S, 2.0 if requests < 100_000 else _SLICE_S),
        )
        sent += done.sent
        if done.socket_errors or done.status_errors != done.blocked + done.capped:
            faults.append(f"{done.socket_errors} socket and {done.status_errors} status errors")
        points.append((already + sent, round(ours.rss_mb(), 2)))
    ours.settle()
    if ours.tally.finishes - finishes != sent:
        faults.append(f"{ours.tally.finishes - finishes} finish records of {sent}")
    return {"requests": already + sent, "rss_mb": points[-1][1], "points": points, "faults": faults}


def measure_starts(house: House, ours: EverythingOn, times: int) -> dict[str, Any]:
    """Start one more worker on a port of its own, and ask until the first answer; many times."""
    taken = []
    deployment = ours.deployment
    for number in range(times):
        port = free_ports(1)
        words = [sys.executable, "-m", "gatelift", "worker", "--dir", str(deployment.folder)]
        words += ["--name", f"start-{number}", "--port", str(port)]
        log = (house.folder / f"start-{number}.log").open("ab")
        began = time.perf_counter()
        process = subprocess.Popen(pinned(house.gateway_core, words), stdout=log, stderr=log)
        try:
            _ask_until_answered(port, deployment.api_keys[0], began + _START_S)
            taken.append(time.perf_counter() - began)
        finally:
            end(process, grace_s=30)
            log.close()
    ours.settle()
    return {
        "seconds": [round(each, 3) for each in taken],
        "median_s": round(statistics.median(taken), 3),
    }


def _ask_until_answered(port: int, api_key: str, until: float) -> None:
    headers = {"authorization": f"Bearer {api_key}", "content-type": "application/json"}
    statuses: list[int] = []
    with httpx.Client(headers=headers, timeout=10) as client:
        while time.perf_counter() < until:
            try:
                url = f"http://127.0.0.1:{port}/v1/chat/completions"
                statuses.append(client.post(url, content=chat_body()).status_code)
            except httpx.TransportError:
                time.sleep(0.005)
                continue
            if statuses[-1] == 200:
                return
            time.sleep(0.005)
    raise TimeoutError(f"a worker gave no answer within {_START_S:g} s: {statuses[-3:]}")
