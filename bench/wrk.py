"""Capacity: `wrk` with as many connections as asked, closed loop, requests from files.

Invariants
- The rate is that of chats sent in the measured part; in a closed loop as many were answered.
- When wrk hangs up nothing is on its way, so that what was sent can be compared with what was
  answered and recorded.
"""

from __future__ import annotations

import math
import shutil
import subprocess
from pathlib import Path

import msgspec

from bench.machine import pinned
from bench.messages import EVERY, NUMBER, chat_body, raw_request

__all__ = ["Target", "WrkResult", "WrkRun", "run_wrk", "write_requests"]

_SCRIPT = Path(__file__).with_name("load.lua")


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
    """What one run did: `measured` chats in `measured_s`."""

    sent: int
    blocked: int
    capped: int
    measured: int
    measured_s: float
    status_errors: int
    socket_errors: int

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


class WrkRun:
    """A wrk that runs. `finish` waits for its end."""

    def __init__(
        self,
        target: Target,
        folder: Path,
        *,
        core: int,
        connections: int,
        warm_s: float,
        measure_s: float,
    ) -> None:
        wrk = shutil.which("wrk")
        if wrk is None:
            raise FileNotFoundError("wrk is not installed: apt-get install wrk")
        write_requests(folder, target)
        self._lasts_s = math.ceil(warm_s + measure_s + target.drain_s)
        words = [wrk, "-t1", f"-c{connections}", f"-d{self._lasts_s}s", "--timeout", "60s"]
        words += ["-s", str(_SCRIPT), f"http://127.0.0.1:{target.port}/", "--", str(folder)]
        words += [str(warm_s), str(measure_s), str(EVERY), str(len(target.api_keys)), NUMBER]
        self._process = subprocess.Popen(
            pinned(core, words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def finish(self) -> WrkResult:
        """Return what was done; raises `RuntimeError` with wrk's own words."""
        said, _ = self._process.communicate(timeout=self._lasts_s + 90)
        for line in said.splitlines():
            if line.startswith("RESULT "):
                return msgspec.json.decode(line[7:], type=WrkResult)
        raise RuntimeError(f"wrk said nothing: {said[-500:]}")


def run_wrk(
    target: Target, folder: Path, *, core: int, connections: int, warm_s: float, measure_s: float
) -> WrkResult:
    """Load a target to the end and return what was done."""
    run = WrkRun(
        target,
        folder,
        core=core,
        connections=connections,
        warm_s=warm_s,
        measure_s=measure_s,
    )
    return run.finish()
