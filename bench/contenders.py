"""Who is measured: one interface, and Gatelift with everything on behind it.

Invariants
- A contender that is not at its turn is frozen, so that nobody pays for another's idle work.
- A contender that can't be installed or run is told with the reason, never with a figure.
"""

from __future__ import annotations

import subprocess
from typing import Any, Protocol

import httpx

from bench.deployment import Deployment, Tally
from bench.machine import cpu_seconds, descendants, end, freeze, rss_kb, thaw, wait_for
from bench.messages import ANSWER, chat_body
from bench.nginx import BareProxy, Mock
from bench.wrk import Target

__all__ = [
    "BareNginx",
    "Contender",
    "EverythingOn",
    "ProcessContender",
    "check_answers",
    "wait_answering",
]


class Contender(Protocol):
    """One gateway under test, started."""

    name: str

    def target(self) -> Target:
        """Return whom to load."""

    def cpu(self) -> dict[str, float]:
        """Return the CPU seconds used so far, by part."""

    def rss_mb(self) -> float:
        """Return the resident memory in MB."""

    def freeze(self) -> None:
        """Stop where it is."""

    def thaw(self) -> None:
        """Go on, and be ready to serve."""

    def settle(self) -> None:
        """Finish what is left to do after a load."""

    def stop(self) -> None:
        """End."""


def check_answers(target: Target, *, timeout_s: float = 30.0) -> None:
    """Ask once and see that the mock's answer comes through; raises `RuntimeError`."""
    response = httpx.post(
        f"http://127.0.0.1:{target.port}{target.path}",
        content=chat_body(),
        headers={
            "authorization": f"Bearer {target.api_keys[0]}",
            "content-type": "application/json",
            **target.headers,
        },
        timeout=timeout_s,
    )
    told = httpx.Response(200, text=ANSWER).json()["choices"][0]["message"]["content"]
    if response.status_code != 200:
        raise RuntimeError(f"answered with {response.status_code}: {response.text[:300]}")
    if response.json()["choices"][0]["message"]["content"] != told:
        raise RuntimeError("the mock's answer did not come through")


class ProcessContender:
    """A contender that is one process with its children and passes its caller's key on."""

    def __init__(self, name: str, process: subprocess.Popen[Any], target: Target) -> None:
        self.name = name
        self._process = process
        self._target = target

    def target(self) -> Target:
        """Return whom to load."""
        return self._target

    def pids(self) -> list[int]:
        """Return its processes."""
        return descendants(self._process.pid)

    def cpu(self) -> dict[str, float]:
        """Return the CPU seconds used so far."""
        return {self.name: cpu_seconds(self.pids())}

    def rss_mb(self) -> float:
        """Return the resident memory in MB."""
        return rss_kb(self.pids()) * 1024 / 1e6

    def freeze(self) -> None:
        """Stop where it is."""
        freeze(self.pids())

    def thaw(self) -> None:
        """Go on, and answer."""
        thaw(reversed(self.pids()))
        wait_answering(self._target, self._process)

    def settle(self) -> None:
        """Nothing is left to do."""

    def stop(self) -> None:
        """End it, frozen or not."""
        thaw(reversed(self.pids()))
        end(self._process)


def wait_answering(target: Target, process: subprocess.Popen[Any], seconds: float = 120.0) -> None:
    """Wait until the health route answers 200; raises if the process ended."""

    def answers() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"it ended with {process.returncode}")
        try:
            url = f"http://127.0.0.1:{target.port}{target.health_path}"
            return httpx.get(url, timeout=10).status_code == 200
        except httpx.TransportError:
            return False

    wait_for(answers, "its health route", seconds=seconds, every_s=0.1)


class BareNginx(ProcessContender):
    """nginx's `proxy_pass` with kept connections."""

    def __init__(self, proxy: BareProxy, mock: Mock) -> None:
        target = Target(port=proxy.port, api_keys=(mock.key,), capped_key=mock.key)
        super().__init__("nginx", proxy.process, target)


class EverythingOn:
    """Gatelift with everything on; it counts what it recorded."""

    name = "gatelift"

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.tally = Tally()

    def target(self) -> Target:
        """Return whom to load."""
        return self.deployment.target()

    def cpu(self) -> dict[str, float]:
        """Return the CPU seconds used so far, by kind of process."""
        return self.deployment.cpu_by_kind()

    def rss_mb(self) -> float:
        """Return the worker's resident memory in MB."""
        return self.deployment.rss_mb()

    def freeze(self) -> None:
        """Stop all processes where they are."""
        self.deployment.freeze()

    def thaw(self) -> None:
        """Go on, and wait until callers are served."""
        self.deployment.thaw()

    def settle(self) -> None:
        """Count its records, and let the keeper bring all of them into the log."""
        self.deployment.settle(self.tally)

    def stop(self) -> None:
        """End it."""
        self.deployment.stop()
