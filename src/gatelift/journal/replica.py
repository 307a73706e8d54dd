"""The second copy of a journal, on another store: written and synced beside the first.

    idle --begin(frames)--> writing (a thread of its own) --finish--> idle, or an `OSError`

The copy is a journal folder like the first: for each batch its records and its batch frame, in
segments that the same reader reads. It lies where the first disk's loss does not reach it: another
disk, or a mount from another machine.

Invariants
- `finish` returns only after all that was begun is synced on the second store; it waits no longer
  than `timeout_s`, as a mount may hang. A store that did not answer is not asked again before it did.
- After an error nothing is added to a segment any more: `open_next` begins a new one.

It decides nothing: `writer` acknowledges what both copies hold. One process at a time by its run id:
segments are created exclusively.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gatelift.journal.segment_files import SegmentFiles, make_directory

__all__ = ["REPLICA_TIMEOUT_S", "Replica"]

REPLICA_TIMEOUT_S: Final = 2.0


class Replica:
    """The copy in `directory` of one run of a journal. Used by one thread at a time."""

    def __init__(
        self,
        directory: Path,
        run: str,
        *,
        segment_bytes: int,
        write: Callable[[int, bytes], int] = os.write,
        sync: Callable[[int], None] = os.fdatasync,
        timeout_s: float = REPLICA_TIMEOUT_S,
    ) -> None:
        self._segment_bytes = segment_bytes
        self._sync = sync
        self._timeout_s = timeout_s
        self._fd = -1
        self._frames = b""
        self._anew = True
        self._error: Exception | None = None
        self._closing = False
        self._go = threading.Event()
        self._done = threading.Event()
        self._done.set()
        make_directory(directory)
        self._segments = SegmentFiles(directory, run, write)
        self._thread = threading.Thread(target=self._run, name="replica", daemon=True)
        self._thread.start()

    def begin(self, frames: bytes, *, anew: bool = False) -> None:
        """Begin to write `frames` and sync them, in a new segment if `anew`; raises `OSError`."""
        if not self._done.is_set():
            raise OSError("the second store has not answered yet")
        self._frames, self._anew, self._error = frames, anew or self._anew, None
        self._done.clear()
        self._go.set()

    def finish(self) -> None:
        """Wait until what was begun is durable; raises `OSError`."""
        if not self._done.wait(self._timeout_s):
            raise OSError(f"the second store did not answer within {self._timeout_s:g} s")
        if self._error is not None:
            raise OSError(f"the second store: {self._error}") from self._error

    def close(self) -> None:
        """End the thread, unless it hangs in a store that does not answer."""
        self._closing = True
        self._go.set()
        self._thread.join(self._timeout_s)

    def _run(self) -> None:
        while True:
            self._go.wait()
            self._go.clear()
            if self._closing:
                self._give_up()
                return
            try:
                self._write()
            except Exception as error:  # noqa: BLE001  a dead thread would look like a hanging store
                self._error = error
                self._anew = True
            self._done.set()

    def _write(self) -> None:
        if self._anew or self._segments.size >= self._segment_bytes:
            self._give_up()
            self._fd = self._segments.open_next()
            self._anew = False
        self._segments.write(self._fd, self._frames)
        self._sync(self._fd)

    def _give_up(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            # Every batch in it was synced, or is written again elsewhere.
            with contextlib.suppress(OSError):
                os.close(fd)
