"""Control alone with its witness, started and killed many times; nothing here imports the package.

A nursery is one process that has loaded the command line and forks whatever command it is told, so
that a start takes a tenth of a second and not one. It can hold a command at its first breath, for
`strace` to be attached before it touches a file.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.promises.hands import digest_of, load_key, new_id, now_ms, statement
from tests.promises.outside import PYTHON, wait_for

NURSERY = """
import contextlib, ctypes, gc, importlib, json, os, signal, sys
for name in ("cli.app", "cli.processes", "cli.fsck", "control", "web", "witness"):
    importlib.import_module("gatelift." + name)
# What these would load at their first use, in each fork anew.
for name in ("sqlalchemy.dialects.sqlite", "litestar.plugins.pydantic", "typer._adapters"):
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
gc.freeze()
from gatelift.cli.app import main
for line in iter(sys.stdin.buffer.raw.readline, b""):
    told = json.loads(line)
    if "wait" in told:
        print(os.waitstatus_to_exitcode(os.waitpid(told["wait"], 0)[1]), flush=True)
        continue
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        out = os.open(told["out"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.close(out)
        if told["held"]:
            ctypes.CDLL(None).prctl(0x59616D61, -1, 0, 0, 0)  # whoever likes may trace
            os.kill(os.getpid(), signal.SIGSTOP)
        main(told["words"])
    print(pid, flush=True)
"""
PEER_FAILED = 4
"""The exit code of a command that a store, a peer or a lock kept from its work."""
STRACE_MISSING = "strace is missing: install it (on Debian: apt-get install strace)"


class Nursery:
    """Forks commands of `gatelift`; `close` it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [PYTHON, "-c", NURSERY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
        self._lock = threading.Lock()

    def start(self, out: Path, *words: object, held: bool = False) -> int:
        """Start a command and return its pid; its output is added to `out`."""
        told = {"words": [str(word) for word in words], "out": str(out), "held": held}
        return self._tell(told)

    def wait(self, pid: int) -> int:
        """Return the exit code of a command that ends; a signal's number below zero."""
        return self._tell({"wait": pid})

    def run(self, out: Path, *words: object) -> tuple[int, str]:
        """Run a command to its end; return its exit code and what it said."""
        out.unlink(missing_ok=True)
        code = self.wait(self.start(out, *words))
        return code, out.read_text()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def _tell(self, told: dict[str, Any]) -> int:
        with self._lock:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(told) + "\n")
            self._process.stdin.flush()
            return int(self._process.stdout.readline())


def quiet_ports() -> int:
    """Return P such that P, P+1 and P+2 are free, and that no connection is given by the system."""
    first_given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for _ in range(100):
        port = random.randrange(10_000, first_given - 3)
        with contextlib.ExitStack() as held:
            try:
                for each in range(port, port + 3):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", each))
            except OSError:
                continue
        return port
    raise RuntimeError("no three free ports in a row")


class Head:
    """What a checkpoint's note says, unverified."""

    def __init__(self, note: bytes) -> None:
        self.origin, size, root = note.decode().split("\n")[:3]
        self.size, self.root = int(size), base64.b64decode(root)


class Leader:
    """A deployment of which only control and the witness run."""

    def __init__(self, folder: Path, nursery: Nursery) -> None:
        self.folder = folder
        self.nursery = nursery
        self.out = folder.parent / f"{folder.name}.log"
        # Another organisation's: no copy of the deployment holds it.
        self.witness_folder = folder.parent / f"{folder.name}-witness"
        self.port = quiet_ports()
        words: list[object] = ["init", folder, "--yes", "--release", "ember", "--model", "m"]
        words += ["--upstream", "http://127.0.0.1:1", "--operator", "op@acme"]
        words += ["--overseer", "ov@elsewhere", "--port", self.port, "--json"]
        code, said = nursery.run(self.out, *words)
        assert code == 0, said
        self.fingerprint = digest_of((folder / "candidate.json").read_bytes())
        self.acknowledged: dict[int, str] = {}
        self.seen: dict[int, bytes] = {}
        self._kept = dict(self.acknowledged), dict(self.seen)
        self.control = 0
        self.witness = 0
        self._lock = threading.Lock()
        self._client = httpx.Client(timeout=10, trust_env=False)

    @property
    def admin(self) -> str:
        return f"http://127.0.0.1:{self.port + 1}"

    @property
    def store(self) -> Path:
        return self.folder / "store" / "control.sqlite"

    def start_witness(self) -> None:
        policy = (self.folder / "tlog-policy").read_text().split()
        words: list[object] = ["witness", "serve", "--folder", self.witness_folder]
        words += ["--name", "witness.example/w1", "--key", self.folder / "keys" / "witness.key"]
        words += ["--port", self.port + 2, "--log-vkey", policy[policy.index("log") + 1]]
        self.witness = self.nursery.start(self.out, *words)
        wait_for(
            lambda: self._answers(f"http://127.0.0.1:{self.port + 2}/"), seconds=30, every=0.01
        )

    def stop_witness(self) -> None:
        self.witness = self._kill(self.witness)

    def start(self, *, held: bool = False) -> int:
        """Start control and return its pid; it is not waited for."""
        self.control = self.nursery.start(self.out, "control", "--dir", self.folder, held=held)
        return self.control

    def refused(self) -> str:
        """Start control, beside another or alone, and wait until it ends; return what it said."""
        out = self.folder.parent / "refused.log"
        out.unlink(missing_ok=True)
        words = ["control", "--dir", self.folder, "--port", quiet_ports()]
        pid = self.nursery.start(out, *words)
        try:
            wait_for(lambda: not _lives(pid), seconds=30, every=0.02)
        finally:
            code = self._end(pid, signal.SIGKILL)
        said = out.read_text()
        assert code == PEER_FAILED, said
        return " ".join(said.split())

    def keep(self, name: str) -> None:
        """Keep a copy of everything, with control and witness down, for `go_back`."""
        for folder in (self.folder, self.witness_folder):
            # Sockets in `run` are made anew.
            ignore = shutil.ignore_patterns("run")
            shutil.copytree(folder, folder.parent / f"{folder.name}-{name}", ignore=ignore)
        self._kept = dict(self.acknowledged), dict(self.seen)

    def go_back(self, name: str) -> None:
        """Lay the copies over everything; the witness forgets too, so it is another history."""
        for folder in (self.folder, self.witness_folder):
            shutil.rmtree(folder)
            shutil.copytree(folder.parent / f"{folder.name}-{name}", folder)
        (self.folder / "run").mkdir(mode=0o700)
        self.acknowledged, self.seen = (dict(each) for each in self._kept)

    def lead(self) -> None:
        """Start control and wait until it answers."""
        _ = self.start()
        wait_for(self.is_up, seconds=30, every=0.01)

    def is_up(self) -> bool:
        assert self.is_alive(), f"control ended: {self.out.read_text()[-3000:]}"
        return self.answers()

    def answers(self) -> bool:
        return self._answers(f"{self.admin}/healthz")

    def is_alive(self) -> bool:
        return _lives(self.control)

    def kill(self) -> int:
        """Kill control with -9; return how it ended, which may have been before."""
        pid, self.control = self.control, 0
        return self._end(pid, signal.SIGKILL)

    def stop(self) -> int:
        """Ask control to end and wait for it."""
        pid, self.control = self.control, 0
        return self._end(pid, signal.SIGTERM)

    def ended(self) -> int:
        """Wait until control ends by itself; return its exit code."""
        wait_for(lambda: not self.is_alive(), seconds=30, every=0.02)
        return self.kill()

    def close(self) -> None:
        if self.control:
            _ = self.kill()
        self.witness = self._kill(self.witness)
        self._client.close()

    def adopt(self) -> None:
        """Put the release under its plan, so that commits are accepted."""
        plan, candidate = (self.folder / name for name in ("plan.yaml", "candidate.json"))
        value = {
            "release": "ember",
            "plan": digest_of(plan.read_bytes()),
            "candidate": self.fingerprint,
        }
        files = [base64.b64encode(path.read_bytes()).decode() for path in (plan, candidate)]
        answer = self._submit("plan", value, "operator", attachments=files, cosigned=True)
        assert answer is not None

    def append(self) -> int | None:
        """Have one commit logged; return its index if it was acknowledged."""
        value = {
            "id": new_id("commit"),
            "fingerprint": self.fingerprint,
            "assessment": "a",
            "metric": "m",
            "comparator": "below",
            "limit": "0.1",
            "margin": "0.02",
            "confidence": "0.95",
            "attempts": 10,
            "data_set": self.fingerprint,
            "deadline": now_ms() + 36_000_000,
        }
        return self._submit("commit", value, "evaluator")

    def wait_acknowledged(self, more: int) -> None:
        """Wait until so many more entries were acknowledged than now."""
        enough = len(self.acknowledged) + more
        wait_for(lambda: len(self.acknowledged) >= enough, seconds=60, every=0.005)

    def wait_published(self, size: int) -> None:
        """Wait until a head of so many entries, cosigned, is published."""
        path = self.folder / "logs" / "releases" / "checkpoint"
        wait_for(lambda: path.exists() and Head(path.read_bytes()).size >= size, seconds=60)

    def fsck(self, *more: str) -> tuple[int, dict[str, Any]]:
        """Check the logs; return the exit code and what it said."""
        out = self.folder.parent / "fsck.json"
        code, said = self.nursery.run(out, "ledger", "fsck", "--dir", self.folder, "--json", *more)
        # An error is said on standard error too, after the object.
        return code, json.loads(said.splitlines()[0])

    def check(self) -> None:
        """Check with control down: all that was acknowledged is there, and no size has two roots."""
        code, said = self.fsck()
        assert code == 0, said
        assert said["faults"] == []
        self.check_entries()
        self.take_heads()

    def check_entries(self) -> None:
        """Every acknowledged entry is in the store, at its index, with its body."""
        with closing(self.database()) as store:
            rows = dict(store.execute("SELECT position, body FROM entries"))
        for index, digest in self.acknowledged.items():
            assert rows.get(index) == digest, f"entry {index} was acknowledged and is lost"
            name = digest.removeprefix("sha256:")
            data = (self.folder / "files" / "sha256" / name).read_bytes()
            assert hashlib.sha256(data).hexdigest() == name

    def take_heads(self) -> None:
        """Collect every head that was ever signed, as far as it lies anywhere."""
        with closing(self.database()) as store:
            notes = [bytes(note) for (note,) in store.execute("SELECT note FROM checkpoints")]
        paths = (
            self.folder / "heads" / "releases",
            self.folder / "logs" / "releases" / "checkpoint",
            *(self.witness_folder / "checkpoints").iterdir(),
            *(self.witness_folder / "forks").rglob("*.note"),
        )
        notes += [p.read_bytes() for p in paths if p.is_file() and p.suffix != ".part"]
        for note in notes:
            self.take_head(note)
        forks = list((self.witness_folder / "forks").rglob("split_view*"))
        assert forks == [], "the witness holds a proof of two histories"

    def take_head(self, note: bytes) -> None:
        head = Head(note)
        with self._lock:
            held = self.seen.setdefault(head.size, head.root)
        assert held == head.root, f"two roots were signed at size {head.size}"

    def database(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self.store}?mode=ro", uri=True)

    def _submit(self, kind: str, value: dict[str, Any], role: str, **more: Any) -> int | None:
        key = load_key(self.folder / "keys" / f"{role}.key")
        envelope = statement(kind, value, self.fingerprint, key)
        token = (self.folder / "keys" / "submitter.token").read_text().strip()
        try:
            answer = self._client.post(
                f"{self.admin}/admin/v1/entries",
                json={"kind": kind, "envelope": envelope.decode(), **more},
                headers={"authorization": f"Bearer {token}"},
            )
        except httpx.TransportError:
            return None
        if answer.status_code != 201:
            assert answer.status_code >= 500, answer.text
            return None
        index: int = answer.json()["index"]
        with self._lock:
            assert index not in self.acknowledged, "an index was given twice"
            self.acknowledged[index] = digest_of(envelope)
        return index

    def _answers(self, url: str) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return self._client.get(url).status_code == 200
        return False

    def _kill(self, pid: int) -> int:
        if pid:
            _ = self._end(pid, signal.SIGKILL)
        return 0

    def _end(self, pid: int, how: int) -> int:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, how)
        return self.nursery.wait(pid)


class Load:
    """Appends from several threads, and looks at the published head all the while."""

    def __init__(self, leader: Leader, threads: int = 3) -> None:
        self._leader = leader
        self._over = threading.Event()
        self._wrong: list[Exception] = []
        work: list[Callable[[], object]] = [leader.append] * threads
        work.append(self._look)
        self._threads = [threading.Thread(target=self._go, args=(each,)) for each in work]
        for thread in self._threads:
            thread.start()

    def _go(self, work: Callable[[], object]) -> None:
        while not self._over.is_set():
            try:
                done = work()
            except (AssertionError, OSError, ValueError) as error:
                self._wrong.append(error)
                return
            self._over.wait(0.001 if done is not None else 0.02)

    def _look(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._leader.take_head(
                (self._leader.folder / "logs" / "releases" / "checkpoint").read_bytes()
            )

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)
        if self._wrong:
            raise self._wrong[0]


@contextlib.contextmanager
def traced(pid: int, syscalls: Sequence[str], when: str, out: Path, error: str) -> Iterator[None]:
    """Have the `when`th call of each thread of a held process to each of `syscalls` fail."""
    names = ",".join(syscalls)
    words = ["strace", "-f", "-qq", "-p", str(pid), "-o", str(out), "-e", f"trace={names}"]
    words += ["-e", f"inject={names}:error={error}:when={when}"]
    tracer = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: _tracer_of(pid) or tracer.poll() is not None, seconds=20, every=0.005)
        assert tracer.poll() is None, tracer.stderr.read() if tracer.stderr else ""
        os.kill(pid, signal.SIGCONT)
        yield
    finally:
        # It ends with the process that it traces.
        try:
            tracer.wait(20)
        except subprocess.TimeoutExpired:
            tracer.kill()
            tracer.wait()
        if tracer.stderr is not None:
            tracer.stderr.close()


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state not in {"Z", "X"}


def _tracer_of(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return int(next(line.split()[1] for line in lines if line.startswith("TracerPid")))


def need_strace() -> None:
    """Skip the test where there is no strace, saying how to get it."""
    if shutil.which("strace") is None:
        pytest.skip(STRACE_MISSING)
