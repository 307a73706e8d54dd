"""Syncing what was acknowledged already, on a thread of its own.

Under `relaxed` nobody waits for the disk, the commit thread included: it hands over each group that it
wrote, and goes on. One sync covers all that was handed over since the last began.

Invariants
- Groups are settled, or failed, in the order in which they were handed over.
- Once `drain` returns nothing is handed over, and nothing is being synced: the file may be closed, or
  synced by somebody else, who would otherwise be told nothing of an error that came here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from gatelift.journal.groups import Group

__all__ = ["LaterSync"]


class LaterSync:
    """`settled(groups)` or `failed(error, groups)` is called on its thread for all that was added."""

    def __init__(
        self,
        sync: Callable[[int], None],
        settled: Callable[[list[Group]], None],
        failed: Callable[[Exception, list[Group]], None],
    ) -> None:
        self._sync = sync
        self._settled = settled
        self._failed = failed
        self._changed = threading.Condition()
        self._added: list[Group] = []
        self._fd = -1
        self._is_syncing = False
        self._thread: threading.Thread | None = None

    @property
    def is_busy(self) -> bool:
        """Whether something is handed over, or being synced."""
        return bool(self._added) or self._is_syncing

    def add(self, group: Group, fd: int) -> None:
        """Have `fd` synced, to which the group was written. Call `drain` before another `fd`."""
        with self._changed:
            self._added.append(group)
            self._fd = fd
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="later-sync", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def drain(self) -> None:
        """Wait until all that was handed over is settled or failed."""
        with self._changed:
            self._changed.wait_for(lambda: not self.is_busy)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._added))
                groups, self._added = self._added, []
                fd, self._is_syncing = self._fd, True
            try:
                self._sync(fd)
            except Exception as error:  # noqa: BLE001  a dead thread would leave `drain` waiting for ever
                self._failed(error, groups)
            else:
                self._settled(groups)
            with self._changed:
                self._is_syncing = False
                self._changed.notify_all()
