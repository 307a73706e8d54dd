"""The lock that makes a journal one process's own, for as long as that process lives.

Invariants
- The lock is `flock` on the file `lock`, which is never removed; the kernel frees it when the
  process dies, however it dies. So "lock free" means "nobody writes this journal any more".
- Whoever holds it has written its run into the file before it writes anything else. Clocks go back,
  so the order of runs does not tell which one lives.
- `is_locked` and `holder` ask by taking a shared lock for an instant; `JournalLock` waits that out.

It does not work between machines: a journal lies on its node's own disk.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gatelift.journal.errors import JournalError

__all__ = ["JournalLock", "holder", "is_locked", "keep_still"]

_NAME: Final = "lock"
_TRIES: Final = 25
_PAUSE_S: Final = 0.01
_MAX_RUN_BYTES: Final = 256


class JournalLock:
    """Holds a journal's lock from construction to `release` or death."""

    __slots__ = ("_fd",)

    def __init__(self, directory: Path, run: str) -> None:
        """Take the lock of the journal in `directory`.

        Raises `JournalError` (`journal_locked`), `OSError`.
        """
        path = directory / _NAME
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for left in range(_TRIES, -1, -1):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if not left:
                    os.close(fd)
                    raise JournalError(
                        f"another process writes the journal {directory.name!r}: "
                        "stop it, or give this one another worker name",
                        code="journal_locked",
                    ) from error
                time.sleep(_PAUSE_S)
            else:
                break
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, run.encode("utf-8"), 0)
        except OSError:
            os.close(fd)
            raise
        self._fd = fd

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def is_locked(directory: Path) -> bool:
    """Say whether a living process holds the journal in `directory`."""
    return holder(directory) is not None


def holder(directory: Path) -> str | None:
    """Return the run that holds the journal in `directory`, null when nobody does.

    For an instant after the lock has changed hands it is the run before, or empty.
    """
    try:
        fd = os.open(directory / _NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(fd, _MAX_RUN_BYTES, 0).decode("utf-8", "replace")
    finally:
        os.close(fd)
    return None


@contextmanager
def keep_still(directory: Path) -> Iterator[None]:
    """Keep everybody from writing the journal in `directory` while the block runs.

    Raises `JournalError` (`journal_locked`) when somebody writes it. One that is not there is still.
    """
    try:
        fd = os.open(directory / _NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise JournalError(
                f"another process writes the journal {directory.name!r}: stop it first",
                code="journal_locked",
            ) from error
        yield
    finally:
        os.close(fd)
