"""One supervised process: started, looked at, started again after a back-off, stopped.

Invariants
- Started from an argument list with this interpreter, without a shell, with the variables of `_KEPT`
  only: whatever keys stand in the environment stay here.
- Its output goes to its own log; it dies with its parent (its parent's death signal).
- A process that listens gets its socket from here, bound and not yet listening. The socket goes on to
  its successor, with all who wait in its queue; when the process died of itself it is closed at once,
  so that the kernel sends callers to those that live. One that is started again listens once it
  would serve, or after `_LISTEN_WITHIN_S`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from gatelift.errors import PeerError

__all__ = ["Address", "Child", "ChildDiedError"]

_FIRST_BACKOFF_S = 0.5
_MAX_BACKOFF_S = 30.0
_LIVED_S = 30.0
_GRACE_S = 15.0
_LISTEN_WITHIN_S = 5.0
_LOOK_S = 0.02
_MAX_SAID = 65_536
_OPTIONS = 4
"""Where options may stand: after `python -m gatelift` and the command."""
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

Address = tuple[str, int]


class ChildDiedError(PeerError):
    """A process ended before it was ready."""

    code = "process_died"


def _die_with_parent() -> None:
    # Between fork and exec: the kernel sends SIGTERM to the child when this process dies.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _bound(address: Address) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(address)
    return made


class Child:
    """A name, the arguments after `python -m gatelift`, and where it listens, if this gives it a socket."""

    def __init__(
        self, name: str, arguments: Sequence[str], log: Path, address: Address | None = None
    ) -> None:
        self.name = name
        self.address = address
        self._arguments = [sys.executable, "-m", "gatelift", *arguments]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._ready: int | None = None
        self._started_s = 0.0
        self._said_from = 0
        self._backoff_s = _FIRST_BACKOFF_S
        self._again_s: float | None = None

    @property
    def pid(self) -> int | None:
        """The process id, null when it is not running."""
        return self._process.pid if self._process is not None else None

    def start(self, *, instead_of: Child | None = None, again: bool = False) -> None:
        """Start the process; its output is appended to its log.

        `instead_of` shares its socket; the new process then says when it serves (`is_ready`).
        `again` is after it died.
        """
        words, fds = list(self._arguments), []
        if self.address is not None:
            if self._socket is None:
                shared = None if instead_of is None else instead_of.share_socket()
                self._socket = shared or _bound(self.address)
            fds.append(self._socket.fileno())
            words[_OPTIONS:_OPTIONS] = ["--listen-fd", str(fds[-1])]
            if again:
                words[_OPTIONS:_OPTIONS] = ["--listen-within", f"{_LISTEN_WITHIN_S:g}"]
        if instead_of is not None:
            self._ready, said = os.pipe()
            fds.append(said)
            words[_OPTIONS:_OPTIONS] = ["--ready-fd", str(said)]
        try:
            with self._log.open("ab") as log:
                self._said_from = log.tell()
                self._process = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={name: value for name, value in os.environ.items() if name in _KEPT},
                    start_new_session=True,
                    pass_fds=fds,
                    preexec_fn=_die_with_parent,  # noqa: PLW1509 (no threads are running here)
                )
        finally:
            if instead_of is not None:
                os.close(fds[-1])
        self._started_s = time.monotonic()
        self._again_s = None

    def is_ready(self, wait_s: float) -> bool:
        """Return whether a process that was started instead of another serves by now."""
        if self._ready is None:
            return True
        if not select.select([self._ready], [], [], wait_s)[0]:
            return False
        said = os.read(self._ready, 16)
        if said:
            self._forget_ready()
        elif self.poll() is None:
            time.sleep(wait_s)
        return bool(said)

    def share_socket(self) -> socket.socket | None:
        """Return another handle of the socket that it listens on, null when it has none."""
        return None if self._socket is None else self._socket.dup()

    def poll(self) -> int | None:
        """Return the exit code of a process that ended, null while it runs or waits."""
        return self._process.poll() if self._process is not None else None

    def tend(self, say: Callable[[str], None]) -> None:
        """Restart the process if it died and its back-off is over."""
        now = time.monotonic()
        code = self.poll()
        if self._process is not None and code is not None:
            self._let_go()
            if now - self._started_s >= _LIVED_S:
                self._backoff_s = _FIRST_BACKOFF_S
            self._process, self._again_s = None, now + self._backoff_s
            say(
                f"{self.name} ended with {code}; again in {self._backoff_s:g} s. "
                f"Its log: {self._log}"
            )
            self._backoff_s = min(_MAX_BACKOFF_S, self._backoff_s * 2)
        elif self._again_s is not None and now >= self._again_s:
            self.start(again=True)

    def stop(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Ask the process to end, wait for its grace, doing `meanwhile`, then kill it."""
        # First, so that the process itself ends the queue of those who wait, by serving them.
        self._let_go()
        self._forget_ready()
        process, self._process, self._again_s = self._process, None, None
        if process is None:
            return
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            until = time.monotonic() + _GRACE_S
            while process.poll() is None and time.monotonic() < until:
                meanwhile()
                time.sleep(_LOOK_S)
            if process.poll() is None:
                process.kill()
        process.wait()

    def find_said(self, mark: str) -> str | None:
        """Return the line with `mark` that the process wrote since it was started, null for none."""
        try:
            with self._log.open("rb") as file:
                file.seek(self._said_from)
                said = file.read(_MAX_SAID).decode("utf-8", "replace")
        except OSError:
            return None
        return next((line.strip()[:600] for line in said.splitlines() if mark in line), None)

    def last_words(self) -> str:
        """Return the end of the process's log, for an error message."""
        try:
            lines = self._log.read_text("utf-8", "replace").strip().splitlines()
        except OSError:
            return ""
        return " / ".join(line.strip()[:300] for line in lines[-3:])

    def _let_go(self) -> None:
        held, self._socket = self._socket, None
        if held is not None:
            held.close()

    def _forget_ready(self) -> None:
        fd, self._ready = self._ready, None
        if fd is not None:
            os.close(fd)
