"""Capacity: `wrk` with as many connections as asked, closed loop, requests from files.

Invariants
- The rate is that of chats sent in the measured part; in a closed loop as many were answered.
- When wrk hangs up nothing is on its way, so that what was sent can be compared with what was
  answered and recorded.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from pathlib import Path

import msgspec

from bench.machine import pinned
from bench.messages import EVERY, chat_body, raw_request

__all__ = ["Target", "WrkResult", "run_wrk", "write_requests"]

_SCRIPT = Path(__file__).with_name("load.lua")
_SETTLE_S = 1.0


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to load, and as whom. One API key for each caller; `drain_s` ends a run quietly."""

    port: int
    api_keys: tuple[str, ...]
    capped_key: str
    path: str = "/v1/chat/completions"
    health_path: str = "/healthz"
    headers: dict[str, str] = {}
    drain_s: float = 1.0


class WrkResult(msgspec.Struct, frozen=True, kw_only=True):
    """What one run did. `measured` chats in `measured_s`; percentiles are wrk's, whole run."""

    sent: int
    blocked: int
    capped: int
    measured: int
    measured_s: float
    status_errors: int
    socket_errors: int
    p50_ms: float
    p99_ms: float

    @property
    def rps(self) -> float:
        """Chats a second."""
        return self.measured / self.measured_s if self.measured_s else 0.0


def write_requests(folder: Path, target: Target) -> None:
    """Write the requests that wrk will send to a target, one file each."""
    folder.mkdir(parents=True, exist_ok=True)
    host = f"127.0.0.1:{target.port}"

    def chat(key: str, *, blocked: bool = False) -> bytes:
        headers = {"Authorization": f"Bearer {key}", **target.headers}
        return raw_request(host, target.path, headers, chat_body(blocked=blocked))

    for number, key in enumerate(target.api_keys, 1):
        (folder / f"ordinary-{number}").write_bytes(chat(key))
    (folder / "blocked").write_bytes(chat(target.api_keys[0], blocked=True))
    (folder / "capped").write_bytes(chat(target.capped_key))
    (folder / "health").write_bytes(raw_request(host, target.health_path, {}, None, method="GET"))


def run_wrk(
    target: Target, folder: Path, *, core: int, connections: int, warm_s: float, measure_s: float
) -> WrkResult:
    """Load a target and return what was done; raises `RuntimeError` with wrk's own words."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise FileNotFoundError("wrk is not installed: apt-get install wrk")
    write_requests(folder, target)
    lasts_s = math.ceil(warm_s + measure_s + target.drain_s)
    words = [wrk, "-t1", f"-c{connections}", f"-d{lasts_s}s", "--timeout", "60s"]
    words += ["-s", str(_SCRIPT), f"http://127.0.0.1:{target.port}/", "--", str(folder)]
    words += [str(warm_s), str(measure_s), str(EVERY), str(len(target.api_keys))]
    done = subprocess.run(
        pinned(core, words), capture_output=True, text=True, timeout=lasts_s + 90, check=False
    )
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            return msgspec.json.decode(json.dumps(json.loads(line[7:])), type=WrkResult)
    raise RuntimeError(f"wrk said nothing: {done.stdout[-500:]} {done.stderr[-500:]}")
