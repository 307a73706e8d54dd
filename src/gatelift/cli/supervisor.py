"""Running a deployment's processes: start, watch, restart with back-off, stop in order.

    started --died--> waiting (0.5 s, doubled up to 30 s) --> started
    a process that lived for 30 s starts its back-off anew

Invariants
- Children are started from argument lists with this interpreter, without a shell, and inherit only
  the variables of `_KEPT`: whatever keys stand in the environment stay here.
- Each child writes to its own file in `run/`; a child dies with its supervisor (its parent's death
  signal), so that nothing is left over.
- Stopping goes workers, keeper, control, witness: who serves stops before who permits, so that the
  last records are counted. A child that ignores SIGTERM for its grace is killed.

Does not judge health beyond "the process lives": `doctor` looks inside.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from gatelift.cli.errors import InputError
from gatelift.errors import PeerError

__all__ = ["Child", "ChildDiedError", "Supervisor"]

_FIRST_BACKOFF_S = 0.5
_MAX_BACKOFF_S = 30.0
_LIVED_S = 30.0
_GRACE_S = 15.0
_PR_SET_PDEATHSIG = 1
_KEPT = frozenset(
    {
        "HOME",
        "LANG",
        "LC_ALL",
        "PATH",
        "PYTHONPATH",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        "TMPDIR",
        "TZ",
    }
)


class ChildDiedError(PeerError):
    """A process ended before it was ready."""

    code = "process_died"


def _die_with_parent() -> None:
    # Between fork and exec: the kernel sends SIGTERM to the child when this process dies.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Child:
    """One supervised process: a name, and the arguments after `python -m gatelift`."""

    def __init__(self, name: str, arguments: Sequence[str], log: Path) -> None:
        self.name = name
        self._arguments = [sys.executable, "-m", "gatelift", *arguments]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._started_s = 0.0
        self._backoff_s = _FIRST_BACKOFF_S
        self._again_s: float | None = None

    @property
    def pid(self) -> int | None:
        """The process id, null when it is not running."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start the process; its output is appended to its log."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={name: value for name, value in os.environ.items() if name in _KEPT},
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 (no threads are running here)
            )
        self._started_s = time.monotonic()
        self._again_s = None

    def poll(self) -> int | None:
        """Return the exit code of a process that ended, null while it runs or waits."""
        return self._process.poll() if self._process is not None else None

    def tend(self, say: Callable[[str], None]) -> None:
        """Restart the process if it died and its back-off is over."""
        now = time.monotonic()
        code = self.poll()
        if self._process is not None and code is not None:
            if now - self._started_s >= _LIVED_S:
                self._backoff_s = _FIRST_BACKOFF_S
            self._process, self._again_s = None, now + self._backoff_s
            say(
                f"{self.name} ended with {code}; again in {self._backoff_s:g} s. "
                f"Its log: {self._log}"
            )
            self._backoff_s = min(_MAX_BACKOFF_S, self._backoff_s * 2)
        elif self._again_s is not None and now >= self._again_s:
            self.start()

    def stop(self) -> None:
        """Ask the process to end, wait for its grace, then kill it."""
        process, self._process, self._again_s = self._process, None, None
        if process is None:
            return
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()

    def last_words(self) -> str:
        """Return the end of the process's log, for an error message."""
        try:
            lines = self._log.read_text("utf-8", "replace").strip().splitlines()
        except OSError:
            return ""
        return " / ".join(line.strip()[:300] for line in lines[-3:])


class Supervisor:
    """All processes of one deployment, stopped in the reverse of the order they were added."""

    def __init__(self, run_folder: Path) -> None:
        self._folder = run_folder
        self._children: list[Child] = []
        self._stopping = False
        self._pid_file = run_folder / "up.pid"

    def take_over(self) -> None:
        """Claim the deployment and have SIGTERM and SIGINT stop it; refuses a second supervisor."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            other = int(self._pid_file.read_text("ascii"))
            if other != os.getpid() and _lives(other):
                raise InputError(
                    f"process {other} runs this deployment already: stop it first",
                    code="already_running",
                )
        self._pid_file.write_text(f"{os.getpid()}\n", "ascii")
        for which in (signal.SIGTERM, signal.SIGINT):
            signal.signal(which, self._asked_to_stop)

    def _asked_to_stop(self, _signal: int, _frame: object) -> None:
        self._stopping = True

    def was_stopped(self) -> bool:
        """Return whether a signal asked to stop."""
        return self._stopping

    def add(self, name: str, arguments: Sequence[str]) -> Child:
        """Start a process and watch it from now on."""
        child = Child(name, arguments, self._folder / f"{name}.log")
        self._children.append(child)
        child.start()
        return child

    def wait_until(self, ready: Callable[[], bool], what: str, timeout_s: float) -> bool:
        """Return true once `ready`, false when asked to stop; raises `ChildDiedError`.

        Nothing is restarted while waiting: what dies before it was ever ready would die again.
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
            for child in self._children:
                child.tend(say)
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop all processes, last added first."""
        while self._children:
            self._children.pop().stop()
        with contextlib.suppress(FileNotFoundError):
            self._pid_file.unlink()


def _lives(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"gatelift" in command
