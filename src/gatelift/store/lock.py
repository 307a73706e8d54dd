"""The lock that makes a store one process's own on this machine.

Invariant: the kernel holds it as long as the process lives and frees it at its death. Leaders on
other machines are kept out by the epoch (`store`), which needs no clock and no lock.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from gatelift.store.errors import StoreError

__all__ = ["StoreLock"]


class StoreLock:
    """Holds the lock file at `path` from construction to `release` or death.

    `does` is what another process that holds it is said to do.
    """

    __slots__ = ("_fd",)

    def __init__(self, path: Path, does: str = "leads with the store") -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(fd)
            raise StoreError(
                f"another process {does} beside {path}: stop it first",
                code="store_locked",
            ) from error
        self._fd = fd

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
