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
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from bench.machine import cpu_seconds, descendants, end, freeze, pinned, rss_kb, thaw, wait_for
from bench.messages import MODEL, chat_body
from bench.ports import free_ports
from bench.wrk import Target
from gatelift.journal import RunFollower, list_runs
from gatelift.messages import Finish

__all__ = ["Deployment", "Tally", "data_disk"]

_HERE = Path(__file__).parent
_STAGE, _TIGHT_STAGE = "assess", "spent"
_ORGANISATIONS = 4
_CLI_AT_ONCE = 4


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
        self.ask(
            *("order", "--reason", "benchmark: a cap that is spent"),
            *("--ceiling-stage", _TIGHT_STAGE, "--principal", "caller-capped"),
            signers=("operator",),
        )
        everybody = (*self.api_keys, self.capped_key) * (
            4 * self.workers if self.workers > 1 else 1
        )
        wait_for(lambda: all(map(self._serves, everybody)), "the callers' grants")
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
        said = self.ask(*words, "--stage", _STAGE, signers=("admissions",))
        key: str = said["api_key"]
        return key

    @property
    def admin_url(self) -> str:
        """The admin API's base URL."""
        return f"http://127.0.0.1:{self.port + 1}"

    def ask(self, *words: str, signers: tuple[str, ...]) -> dict[str, Any]:
        """Run a person's command against control; raises `RuntimeError` with its words."""
        token = str(self.folder / "keys/submitter.token")
        return self._cli(*words, "--admin", self.admin_url, "--token-file", token, signers=signers)

    def sign(self, *words: str, signer: str) -> dict[str, Any]:
        """Run a person's command that needs nothing but a key."""
        return self._cli(*words, signers=(signer,))

    def _cli(self, *words: str, signers: tuple[str, ...]) -> dict[str, Any]:
        more = ["--json"]
        for signer in signers:
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

    def wait_serving(self) -> None:
        """Wait until callers are served by every worker: connections meet them by chance."""
        rounds = 4 * self.workers

        def serves() -> bool:
            return all(self._serves(self.developer_key) for _ in range(rounds))

        wait_for(serves, "serving", seconds=60)

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
        self.wait_serving()

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
