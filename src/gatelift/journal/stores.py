"""Where a journal's frames go: the segment that is open on this disk, and the copy beside it.

Invariants
- Frames stand in the file in the order in which they were given, those given `lazily` too: they are
  written with the next one.
- A segment that was given up is never written again. It is closed by `close_given_up` alone, which
  the thread that syncs calls: it may be about to sync the file, whose number must not come to mean
  another file before.
- `sync` returns once both copies are on disk.

It decides neither when to sync nor what an error means (`writer`). The caller's lock guards all but
`sync`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from gatelift.journal.groups import Group, frames_of
from gatelift.journal.replica import Replica
from gatelift.journal.segment_files import SegmentFiles

__all__ = ["SEGMENT_BYTES", "Stores"]

SEGMENT_BYTES: Final = 64 * 1024 * 1024


class Stores:
    """The stores of one run. `replica` is the folder on the second one, null if there is none.

    Raises `OSError`, here and in each method that writes.
    """

    def __init__(
        self,
        directory: Path,
        run: str,
        *,
        segment_bytes: int,
        replica: Path | None,
        replica_timeout_s: float,
        write: Callable[[int, bytes], int],
        sync: Callable[[int], None],
    ) -> None:
        self._segments = SegmentFiles(directory, run, write)
        self._segment_bytes = segment_bytes
        self._replica: Replica | None = None
        if replica is not None:
            self._replica = Replica(
                replica,
                run,
                segment_bytes=segment_bytes,
                write=write,
                sync=sync,
                timeout_s=replica_timeout_s,
            )
        self._sync = sync
        self._unwritten: list[bytes] = []
        self._given_up: list[int] = []
        self.fd = self._segments.open_next()
        """The file of the open segment, -1 once it was given up."""

    @property
    def is_replicated(self) -> bool:
        """Whether there is a second store."""
        return self._replica is not None

    @property
    def is_full(self) -> bool:
        """Whether it is time for the next segment."""
        return self._segments.size >= self._segment_bytes

    def write(self, *frame: bytes) -> None:
        """Append a frame, given in parts, to the open segment, after all that waits to be written."""
        self._unwritten += frame
        waiting = b"".join(self._unwritten)
        self._unwritten.clear()
        self._segments.write(self.fd, waiting)

    def write_lazily(self, *frame: bytes) -> None:
        """Append a frame, given in parts, when the next one is written."""
        self._unwritten += frame

    def copy(self, groups: Iterable[Group], *, anew: bool = False) -> None:
        """Begin the second store's copy of these groups, in a new segment of its if `anew`."""
        if self._replica is not None:
            self._replica.begin(b"".join(map(frames_of, groups)), anew=anew)

    def sync(self, fd: int) -> None:
        """Return once `fd` and the copy that was begun are on disk."""
        try:
            self._sync(fd)
        finally:
            # Waited for in any case: what was begun must not run on into the next attempt.
            if self._replica is not None:
                self._replica.finish()

    def switch(self) -> int:
        """Open the next segment; return the file of the last one, to be synced and closed."""
        old, self.fd = self.fd, self._segments.open_next()
        return old

    def begin_anew(self, groups: list[Group]) -> None:
        """Open a segment that begins with these groups, once it is on disk."""
        fd = self._segments.open_next()
        try:
            self.copy(groups, anew=True)
            for group in groups:
                self._segments.write(fd, frames_of(group))
            self.sync(fd)
        except OSError:
            os.close(fd)
            self._segments.discard()
            raise
        self.fd = fd

    def give_up(self) -> None:
        """Never write to the open segment again, nor what waits to be written."""
        self._unwritten.clear()
        if self.fd >= 0:
            self._given_up.append(self.fd)
            self.fd = -1

    def close_given_up(self) -> None:
        """Close the files of segments that were given up."""
        given_up, self._given_up = self._given_up, []
        for fd in given_up:
            # What close() could still report is known: this file was given up.
            with contextlib.suppress(OSError):
                os.close(fd)

    def close(self) -> None:
        """Close everything; what was not synced is not."""
        if self._replica is not None:
            self._replica.close()
        self.give_up()
        self.close_given_up()
