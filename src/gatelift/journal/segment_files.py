"""The files that a journal's writer has open: creating, filling and discarding segments.

Invariants
- A segment is created exclusively and its name is durable before its first record.
- `write` puts the whole frame or raises; a frame is never left out in silence.
- A new folder's name is durable before anything is put into it.

It does not decide when to sync or to begin a new segment (`writer`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from gatelift.journal.segments import segment_path

__all__ = ["SegmentFiles", "make_directory", "sync_directory"]


class SegmentFiles:
    """The segments of one run, in order; `size` is that of the newest, in bytes."""

    __slots__ = ("_directory", "_number", "_run", "_write", "size")

    def __init__(self, directory: Path, run: str, write: Callable[[int, bytes], int]) -> None:
        self._directory = directory
        self._run = run
        self._write = write
        self._number = 0
        self.size = 0

    def open_next(self) -> int:
        """Return the file of a new segment, open for appending; raises `OSError`."""
        self._number += 1
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        fd = os.open(segment_path(self._directory, self._run, self._number), flags, 0o600)
        try:
            sync_directory(self._directory)
        except OSError:
            os.close(fd)
            self.discard()
            raise
        self.size = 0
        return fd

    def discard(self) -> None:
        """Remove the newest segment, of which nothing was ever acknowledged.

        A full or failing disk must not gather such files; one that cannot be removed is harmless.
        """
        with contextlib.suppress(OSError):
            segment_path(self._directory, self._run, self._number).unlink()

    def write(self, fd: int, frame: bytes) -> None:
        """Append all of `frame` to the file; raises `OSError`, part of it may then stand there."""
        left, written = frame, self._write(fd, frame)
        # Nearly always that was all of it.
        while written != len(left):
            if written <= 0:
                raise OSError(f"wrote {written} of {len(left)} bytes")
            left = left[written:]
            written = self._write(fd, left)
        self.size += len(frame)


def make_directory(directory: Path) -> None:
    """Create `directory` and its parents, durably."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in `directory` durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
