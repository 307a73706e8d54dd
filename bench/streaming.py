"""Streams: time to the first token, CPU a chunk, gaps and memory with thousands open.

Invariants
- Each scene runs straight to the mock and through the gateway; both are reported.
- CPU and memory are taken between the moments when all streams were open and when the first may end.
- A scene is whole only when every stream opened, ended cleanly, and every count agrees.
"""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec

from bench.deployment import Deployment, Tally
from bench.house import House, say
from bench.latency import OpenLoop, Timed, added, drive
from bench.machine import end, pinned, wait_for
from bench.messages import chat_body, raw_request
from bench.ports import free_ports

__all__ = ["Scene", "StreamMock", "StreamSettings", "measure_streams"]

_SPARE_FILES = 400
_MARGIN_S = 5.0
_MAX_TOKENS = 2048


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """So many streams, so many tokens a second each, opened at a pace, held for a time."""

    count: int
    rate: float
    pace: float
    hold_s: float

    @property
    def max_tokens(self) -> int:
        """How many tokens each stream is to have, so that none ends too early."""
        lasts_s = self.count / self.pace + self.hold_s + _MARGIN_S
        return min(_MAX_TOKENS, math.ceil(lasts_s * self.rate))


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is measured."""

    scenes: tuple[Scene, ...]
    first_token_rounds: int
    first_token_s: float
    first_token_rate: float
    callers: int


class StreamMock:
    """The upstream of streams, as a process on the load's core."""

    def __init__(self, key: str, core: int, folder: Path) -> None:
        self.key = key
        self.port = free_ports(1)
        key_file = folder / "stream-mock.key"
        key_file.touch(mode=0o600)
        key_file.write_text(key)
        words = [sys.executable, "-m", "bench.stream_mock", "--port", str(self.port)]
        words += ["--key-file", str(key_file)]
        self._process = subprocess.Popen(pinned(core, words))
        wait_for(self._up, "the mock of streams")

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"

    def _up(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def count(self) -> int:
        """Return how many requests of load it answered."""
        return int(httpx.get(f"{self.url}/count", timeout=30).text)

    def set_rate(self, rate: float) -> None:
        """Set the tokens a second of streams that begin from now on."""
        httpx.get(f"{self.url}/interval/{max(1, round(1000 / rate))}", timeout=30)

    def stop(self) -> None:
        """End it."""
        end(self._process)


class Readers:
    """The process that reads a scene's streams."""

    def __init__(
        self, port: int, keys: tuple[str, ...], scene: Scene, folder: Path, core: int, *more: str
    ) -> None:
        body = chat_body(stream=True, max_tokens=scene.max_tokens)
        paths = []
        for number, key in enumerate(keys):
            path = folder / f"stream-{port}-{number}"
            headers = {"Authorization": f"Bearer {key}"}
            path.write_bytes(
                raw_request(f"127.0.0.1:{port}", "/v1/chat/completions", headers, body)
            )
            paths.append(str(path))
        words = [sys.executable, "-m", "bench.stream_readers", "--port", str(port)]
        words += ["--requests", *paths, "--count", str(scene.count)]
        words += ["--pace", str(scene.pace), "--hold", str(scene.hold_s), *more]
        self._process = subprocess.Popen(pinned(core, words), stdout=subprocess.PIPE, text=True)

    def wait(self, word: str) -> None:
        """Wait until the process says a word; raises `RuntimeError` if it ends before."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith(word):
            end(self._process)
            raise RuntimeError(f"the stream readers ended before {word}: {line[:200]}")

    def finish(self) -> dict[str, Any]:
        """Return what they saw."""
        assert self._process.stdout is not None
        # Not `communicate`: it would pass over what was read ahead with the last line.
        said = self._process.stdout.read()
        self._process.stdout.close()
        if self._process.wait(30):
            raise RuntimeError(f"the stream readers ended with {self._process.returncode}")
        found: dict[str, Any] = json.loads(said)
        return found


def _fitted(scene: Scene) -> tuple[Scene, str]:
    """Return the scene that this machine's limit on open files allows, and why it is smaller."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A stream takes two of the gateway's files: the caller's connection and the upstream's.
    most = (hard - _SPARE_FILES) // 2
    if scene.count <= most:
        return scene, ""
    reason = (
        f"{scene.count} streams need more open files than the limit of {hard}: {most} were opened"
    )
    return msgspec.structs.replace(scene, count=most), reason


def _run_scene(
    scene: Scene,
    port: int,
    keys: tuple[str, ...],
    house: House,
    sample: Callable[[], tuple[dict[str, float], float]] | None,
) -> dict[str, Any]:
    before = sample()[1] if sample else 0.0
    readers = Readers(port, keys, scene, house.folder, house.load_core)
    readers.wait("OPEN")
    opened = sample() if sample else None
    readers.wait("HELD")
    held = sample() if sample else None
    found = readers.finish()
    if opened is not None and held is not None:
        chunks = max(1, found["held_tokens"])
        found["chunk_us"] = {
            kind: round((held[0][kind] - opened[0][kind]) * 1e6 / chunks, 2) for kind in held[0]
        }
        found["rss_before_mb"], found["rss_mb"] = round(before, 2), round(held[1], 2)
        found["stream_kib"] = round((held[1] - before) * 1e6 / 1024 / max(1, found["opened"]), 2)
    found["whole"] = found["opened"] == found["clean"] == scene.count
    return found


def _first_tokens(
    house: House, mock: StreamMock, deployment: Deployment, settings: StreamSettings
) -> list[Timed]:
    mock.set_rate(1000)
    load = OpenLoop(
        rate=settings.first_token_rate,
        seconds=settings.first_token_s,
        load_core=house.load_core,
        stream=True,
    )
    runs = []
    for number in range(1, settings.first_token_rounds + 1):
        for name, port, key in (
            ("direct", mock.port, mock.key),
            ("gatelift", deployment.port, deployment.api_keys[0]),
        ):
            headers = {"Authorization": f"Bearer {key}"}
            runs.append(
                drive(name, number, port=port, headers=headers, folder=house.folder, load=load)
            )
    return runs


def measure_streams(house: House, settings: StreamSettings) -> dict[str, Any]:
    """Measure everything about streams on a deployment of its own."""
    say("streams: starting a deployment")
    mock = StreamMock(house.key, house.load_core, house.folder)
    deployment = None
    try:
        deployment = house.deploy("streams", settings.callers, upstream=mock.url)
        tally = Tally()
        deployment.settle(tally)
        finishes, upstream, answered = tally.finishes, tally.upstream, mock.count()
        firsts = _first_tokens(house, mock, deployment, settings)
        say(f"  first token: {added(firsts, 'gatelift', 'p50_ms')} ms added")
        scenes = [_measure_scene(scene, house, mock, deployment) for scene in settings.scenes]
        deployment.settle(tally)
        direct = sum(run.answers + run.failed for run in firsts if run.target == "direct")
        direct += sum(each["direct"]["opened"] for each in scenes)
        asked = sum(run.answers + run.failed for run in firsts if run.target == "gatelift")
        asked += sum(each["scene"]["count"] for each in scenes)
        counts = {
            "asked": asked,
            "recorded": tally.finishes - finishes,
            "recorded_upstream": tally.upstream - upstream,
            "answered_upstream": mock.count() - answered - direct,
        }
        return {
            "first_token": msgspec.to_builtins(firsts),
            "ttft_added_ms": added(firsts, "gatelift", "p50_ms"),
            "scenes": scenes,
            "counts": counts,
            "agrees": len(set(counts.values())) == 1,
        }
    finally:
        if deployment is not None:
            deployment.stop()
        mock.stop()


def _measure_scene(
    scene: Scene, house: House, mock: StreamMock, deployment: Deployment
) -> dict[str, Any]:
    fitted, reason = _fitted(scene)
    mock.set_rate(fitted.rate)
    say(f"  {fitted.count} streams at {fitted.rate:g} tokens/s: straight to the mock, then through")
    direct = _run_scene(fitted, mock.port, (mock.key,), house, None)

    def sample() -> tuple[dict[str, float], float]:
        return deployment.cpu_by_kind(), deployment.rss_mb()

    through = _run_scene(fitted, deployment.port, deployment.api_keys, house, sample)
    say(
        f"    p99 added gap {through['gap_p99_ms']} ms (direct {direct['gap_p99_ms']}), "
        f"{through['chunk_us']['worker']} us a chunk, {through['stream_kib']} KiB a stream, "
        f"{through['clean']} of {fitted.count} whole"
    )
    told = {"count": fitted.count, "rate": fitted.rate, "asked_for": scene.count, "reason": reason}
    return {"scene": told, "direct": direct, "through": through}
