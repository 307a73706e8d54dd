"""Gatelift with everything on: a real deployment, made and asked through the public CLI.

`gatelift up` (control, keeper, witness, workers) under bench/plan.yaml, callers admitted with
`gatelift grant`, one of them narrowed by an order whose cap it spends at once.

Invariants
- Every process of it runs on the gateway's core. Nothing of its work is done on another.
- Counting reads journals with the package's own reader, which recomputes every batch's root.
- It is ended by its supervisor's id.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from bench.machine import cpu_seconds, descendants, end, freeze, pinned, rss_kb, thaw, wait_for
from bench.messages import MODEL, chat_body
from bench.wrk import Target
from gatelift.journal import RunFollower, list_runs
from gatelift.messages import Finish

__all__ = ["Deployment", "Tally", "free_ports"]

_HERE = Path(__file__).parent
_STAGE, _TIGHT_STAGE = "assess", "spent"
_ORGANISATIONS = 4
_CLI_AT_ONCE = 4


def free_ports(count: int) -> int:
    """Return a port such that it and the next ones are free now."""
    for _ in range(100):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            first: int = probe.getsockname()[1]
        held = []
        try:
            for number in range(first, first + count):
                sock = socket.socket()
                held.append(sock)
                sock.bind(("127.0.0.1", number))
        except OSError:
            continue
        finally:
            for sock in held:
                sock.close()
        return first
    raise RuntimeError(f"no {count} free ports in a row")


class Tally:
    """What the journals of a deployment's workers say: starts and finishes, counted once each."""

    def __init__(self) -> None:
        self.finishes = 0
        self.upstream = 0
        self.batches = 0
        self.outcomes: Counter[str] = Counter()
        self._followers: dict[tuple[str, str], RunFollower] = {}

    def read(self, journals: Path) -> None:
        """Read what has been committed since the last call; the keeper's own journal too."""
        for directory in sorted(journals.iterdir()):
            for run in list_runs(directory):
                key = (directory.name, run)
                follower = self._followers.setdefault(key, RunFollower(directory, run))
                while batches := follower.poll():
                    self.batches += len(batches)
                    for batch in batches:
                        self._take([stored.record for stored in batch.records])

    def _take(self, records: list[Any]) -> None:
        for record in records:
            if isinstance(record, Finish):
                self.finishes += 1
                self.upstream += record.upstream
                self.outcomes[record.outcome.value] += 1


class Deployment:
    """One deployment in a folder, up or down."""

    def __init__(
        self, folder: Path, *, core: int, upstream: str, upstream_key: str, workers: int = 1
    ) -> None:
        self.folder = folder
        self.port = free_ports(3)
        self.workers = workers
        self._core = core
        self._key_file = folder.parent / f"{folder.name}-upstream.key"
        folder.parent.mkdir(parents=True, exist_ok=True)
        self._key_file.unlink(missing_ok=True)
        self._key_file.touch(mode=0o600)
        self._key_file.write_text(upstream_key + "\n")
        self._upstream = upstream
        self.process: subprocess.Popen[str] | None = None
        self.api_keys: tuple[str, ...] = ()
        self.capped_key = ""
        self.asked_besides = 0

    @property
    def url(self) -> str:
        """The gateway's base URL."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it serves stage zero."""
        words = [sys.executable, "-m", "gatelift", "up", "--dir", str(self.folder), "--json"]
        words += ["--upstream", self._upstream, "--model", MODEL, "--port", str(self.port)]
        words += ["--upstream-key-file", str(self._key_file), "--workers", str(self.workers)]
        words += ["--plan", str(_HERE / "plan.yaml")]
        log = self.folder.parent / f"{self.folder.name}-up.log"
        self.process = subprocess.Popen(
            pinned(self._core, words), stdout=subprocess.PIPE, stderr=log.open("ab"), text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line or "base_url" not in line:
            raise RuntimeError(
                f"gatelift up did not become ready: {line} {log.read_text()[-1500:]}"
            )
        self.developer_key: str = json.loads(line)["api_key"]

    def admit_callers(self, count: int) -> None:
        """Admit callers of several organisations, and one whose cap is spent."""

        def admit(number: int) -> str:
            organisation = f"organisation-{number % _ORGANISATIONS}"
            return self._grant(f"caller-{number}", organisation)

        with ThreadPoolExecutor(_CLI_AT_ONCE) as pool:
            self.api_keys = tuple(pool.map(admit, range(count)))
        self.capped_key = self._grant("caller-capped", "organisation-0")
        self._cli(
            *("order", "--reason", "benchmark: a cap that is spent"),
            *("--ceiling-stage", _TIGHT_STAGE, "--principal", "caller-capped"),
            signer="operator",
        )
        wait_for(lambda: all(map(self._serves, self.api_keys)), "the callers' grants")
        wait_for(lambda: self._serves(self.capped_key), "the capped caller's grant")
        # Its one request of the day is spent here; from now on it is turned away.
        wait_for(self._is_capped, "the capped caller's cap", every_s=0.2)

    def _is_capped(self) -> bool:
        self.asked_besides += 1
        return self.chat(self.capped_key).status_code == 429

    def chat(self, api_key: str, *, blocked: bool = False) -> httpx.Response:
        """Ask once."""
        return httpx.post(
            f"{self.url}/v1/chat/completions",
            content=chat_body(blocked=blocked),
            headers={"authorization": f"Bearer {api_key}", "content-type": "application/json"},
            timeout=30,
        )

    def _serves(self, api_key: str) -> bool:
        header = {"authorization": f"Bearer {api_key}"}
        try:
            found = httpx.get(f"{self.url}/v1/access", headers=header, timeout=5)
        except httpx.TransportError:
            return False
        return found.status_code == 200 and bool(found.json()["may"])

    def _grant(self, principal: str, organisation: str) -> str:
        words = ["grant", "--principal", principal, "--organisation", organisation]
        said = self._cli(*words, "--stage", _STAGE, signer="admissions")
        key: str = said["api_key"]
        return key

    def _cli(self, *words: str, signer: str) -> dict[str, Any]:
        more = ["--admin", f"http://127.0.0.1:{self.port + 1}", "--json"]
        more += ["--token-file", str(self.folder / "keys/submitter.token")]
        more += ["--key", str(self.folder / f"keys/{signer}.key")]
        done = subprocess.run(
            [sys.executable, "-m", "gatelift", *words, *more],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"gatelift {words[0]}: {done.stdout} {done.stderr}")
        said: dict[str, Any] = json.loads(done.stdout)
        return said

    def target(self) -> Target:
        """Return whom wrk is to load."""
        return Target(port=self.port, api_keys=self.api_keys, capped_key=self.capped_key)

    def pids(self, kind: str | None = None) -> list[int]:
        """Return the ids of its processes, of one kind (`worker`, `keeper`...) or all."""
        assert self.process is not None
        found = descendants(self.process.pid)
        return found if kind is None else [pid for pid in found if kind in _words(pid)]

    def cpu_by_kind(self) -> dict[str, float]:
        """Return the CPU seconds used so far, by kind of process."""
        kinds = ("worker", "keeper", "control", "witness")
        return {kind: cpu_seconds(self.pids(kind)) for kind in kinds}

    def rss_mb(self, kind: str = "worker") -> float:
        """Return the resident memory of its processes of a kind in MB (10**6 bytes)."""
        return rss_kb(self.pids(kind)) * 1024 / 1e6

    def logged_batches(self) -> int:
        """Return how many batches the node's requests logs hold, by their newest checkpoints."""
        total = 0
        for checkpoint in (self.folder / "logs" / "requests").glob("*/checkpoint"):
            total += int(checkpoint.read_text().split("\n")[1])
        return total

    def settle(self, tally: Tally) -> None:
        """Count, and wait until the keeper has put every batch so far into the requests log."""
        tally.read(self.folder / "journal")
        wanted = tally.batches
        wait_for(lambda: self.logged_batches() >= wanted, "the requests log", seconds=300)

    def freeze(self) -> None:
        """Stop every process where it is; the supervisor first, so that it restarts nothing."""
        freeze(self.pids())

    def thaw(self) -> None:
        """Let all go on, and wait until callers are served again."""
        thaw(reversed(self.pids()))
        keys = (*self.api_keys[:1], self.developer_key)
        wait_for(lambda: all(map(self._serves, keys)), "serving again", seconds=60)

    def stop(self) -> None:
        """End it in order."""
        if self.process is not None:
            thaw(reversed(self.pids()))
            end(self.process, grace_s=60)
            if self.process.stdout is not None:
                self.process.stdout.close()
            self.process = None


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[1:5]
    except (OSError, UnicodeDecodeError):
        return []


def data_disk(path: Path) -> str:
    """Return the kind of file system that a folder lies on."""
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, name, *_ = line.split()
        if os.path.commonpath([where, path.resolve()]) == where and len(where) > len(best):
            best, kind = where, name
    return kind
