"""Running a deployment's processes: start, watch, restart with back-off, renew, stop in order.

    started --died--> waiting (0.5 s, doubled up to 30 s) --> started
    a process that lived for 30 s starts its back-off anew
    SIGHUP: each worker in turn, its successor serves on the same socket before it is told to end

Invariants
- No connection is lost to a renewal: the queue of a listening socket outlives each of its processes.
- A successor that does not come to serve changes nothing: its predecessor goes on.
- Stopping goes workers, keeper, control, witness: who serves stops before who permits, so that the
  last records are counted. A child that ignores SIGTERM for its grace is killed.

Does not judge health beyond "the process lives": `doctor` looks inside. `child` is one process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from gatelift.cli.child import Address, Child, ChildDiedError
from gatelift.cli.errors import InputError
from gatelift.encoding import encode_json

__all__ = ["RESTARTED", "Child", "ChildDiedError", "RestartResult", "Supervisor", "supervisor_of"]

RESTARTED = "restarted.json"
"""In `run/`: what became of the last restart of the workers."""
_READY_S = 20.0
_NODE_CLOSED = "CRITICAL gatelift.keeper.pump: node closed ("
"""How a keeper's log says that it has closed its node (`keeper.pump`)."""


class RestartResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a restart of the workers ended."""

    ok: bool
    workers: int = 0
    took_ms: int = 0
    problem: str = ""


class Supervisor:
    """All processes of one deployment, stopped in the reverse of the order they were added."""

    def __init__(self, run_folder: Path) -> None:
        self._folder = run_folder
        self._children: list[Child] = []
        self._stopping = False
        self._renewing = False
        self._worker_words: Callable[[str], list[str]] | None = None
        self._pid_file = run_folder / "up.pid"

    def take_over(self) -> None:
        """Claim the deployment and have SIGTERM and SIGINT stop it; refuses a second supervisor."""
        other = supervisor_of(self._folder)
        if other is not None and other != os.getpid():
            raise InputError(
                f"process {other} runs this deployment already: stop it first",
                code="already_running",
            )
        self._pid_file.write_text(f"{os.getpid()}\n", "ascii")
        for which in (signal.SIGTERM, signal.SIGINT):
            signal.signal(which, self._asked_to_stop)
        signal.signal(signal.SIGHUP, self._asked_to_renew)

    def _asked_to_stop(self, _signal: int, _frame: object) -> None:
        self._stopping = True

    def _asked_to_renew(self, _signal: int, _frame: object) -> None:
        self._renewing = True

    def was_stopped(self) -> bool:
        """Return whether a signal asked to stop."""
        return self._stopping

    def add(self, name: str, arguments: Sequence[str]) -> Child:
        """Start a process and watch it from now on."""
        child = Child(name, arguments, self._folder / f"{name}.log")
        self._children.append(child)
        child.start()
        return child

    def add_workers(self, number: int, words: Callable[[str], list[str]], address: Address) -> None:
        """Start workers `w0`, `w1`, ... that listen on one port; `words` are their arguments."""
        self._worker_words = words
        for each in range(number):
            child = self._worker(each, address)
            self._children.append(child)
            child.start()

    def _worker(self, number: int, address: Address) -> Child:
        if self._worker_words is None:
            raise InputError("there are no workers here")
        name = f"worker-{number}"
        words = self._worker_words(f"w{number}")
        return Child(name, words, self._folder / f"{name}.log", address)

    def wait_until(self, ready: Callable[[], bool], what: str, timeout_s: float) -> bool:
        """Return true once `ready`, false when asked to stop; raises `ChildDiedError`.

        Nothing is restarted while waiting: what dies before it was ever ready would die again, and a
        node that has closed itself is closed for good.
        """
        until = time.monotonic() + timeout_s
        while not self._stopping:
            if ready():
                return True
            for child in self._children:
                if child.poll() is not None:
                    raise ChildDiedError(
                        f"{child.name} ended with {child.poll()} while waiting for {what}: "
                        f"{child.last_words()}"
                    )
                if (closed := child.find_said(_NODE_CLOSED)) is not None:
                    raise ChildDiedError(
                        f"the node has closed itself while waiting for {what}: {closed}",
                        code="node_closed",
                    )
            if time.monotonic() >= until:
                raise ChildDiedError(
                    f"{what}: not ready within {timeout_s:g} s; look into {self._folder}/*.log",
                    code="not_ready",
                )
            time.sleep(0.05)
        return False

    def watch(self, say: Callable[[str], None]) -> None:
        """Keep all processes running until a signal asks to stop."""
        while not self._stopping:
            self._tend(say)
            time.sleep(0.1)
            if self._renewing:
                self._renewing = False
                self._renew(say)

    def _tend(self, say: Callable[[str], None]) -> None:
        for child in self._children:
            child.tend(say)

    def _renew(self, say: Callable[[str], None]) -> None:
        """Put a new process in the place of each worker, one after the other.

        One name more than there are workers is in use, as a journal has one writer: the new process
        takes the free name, and its predecessor leaves its own to the next.
        """
        began_s = time.monotonic()
        workers = [child for child in self._children if child.address is not None]
        taken = {child.name for child in workers}
        for old in workers:
            free = next(n for n in range(len(workers) + 1) if f"worker-{n}" not in taken)
            problem = self._replace(old, free, say)
            if problem is not None or self._stopping:
                self._tell(RestartResult(ok=False, problem=problem or "stopped meanwhile"), say)
                return
            taken = taken - {old.name} | {f"worker-{free}"}
        took = round((time.monotonic() - began_s) * 1000)
        self._tell(RestartResult(ok=True, workers=len(workers), took_ms=took), say)

    def _replace(self, old: Child, number: int, say: Callable[[str], None]) -> str | None:
        """Start a worker on the socket of `old`, then stop `old`; return why not, else null."""
        if old.address is None or old.pid is None or old.poll() is not None:
            return f"{old.name} does not run: see its log"
        new = self._worker(number, old.address)
        new.start(instead_of=old)
        until = time.monotonic() + _READY_S
        while not new.is_ready(0.05):
            self._tend(say)
            if new.poll() is not None or self._stopping or time.monotonic() >= until:
                problem = f"{new.name} was not ready in {_READY_S:g} s; {old.name} serves on: "
                words = new.last_words()
                new.stop()
                return problem + words
        self._children[self._children.index(old)] = new
        old.stop(lambda: self._tend(say))
        return None

    def _tell(self, result: RestartResult, say: Callable[[str], None]) -> None:
        path = self._folder / RESTARTED
        fresh = path.with_suffix(".new")
        fresh.write_bytes(encode_json(result))
        fresh.replace(path)
        say("all workers were restarted" if result.ok else f"restart ended: {result.problem}")

    def stop(self) -> None:
        """Stop all processes, last added first."""
        while self._children:
            self._children.pop().stop()
        with contextlib.suppress(FileNotFoundError):
            self._pid_file.unlink()


def supervisor_of(run_folder: Path) -> int | None:
    """Return the process that runs a deployment, null when none does."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        pid = int((run_folder / "up.pid").read_text("ascii"))
        return pid if _lives(pid) else None
    return None


def _lives(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"gatelift" in command
