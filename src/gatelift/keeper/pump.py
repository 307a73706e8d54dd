"""The second thread: journals are read, settled, logged and counted, without holding up a worker.

Each round: find who is dead, read all journals (the dead ones to their end), settle the dead,
publish what was appended, tell control what changed.

A round costs about as much as the records of fifty exchanges, so rounds are apart: the first batch
after a quiet time is read at once, under load what gathers in `_BUSY_S`. (On one core at 1,500 chats
a second there had been a hundred rounds a second, and they cost 25 us a chat.) Who waits for a
round hurries it, and is not kept waiting for that long.

Invariants
- One round at a time; the journals are touched by one thread only.
- Counts are told after their entries are published, never before.
- Our own journal is mended as soon as the disk is well: what it holds back closes an exchange.
- An error of the disk is tried again: the journals are the source and nothing is lost. Anything
  that does not follow from signed records closes the node, for good.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from gatelift.encoding import Digest
from gatelift.errors import GateliftError
from gatelift.journal import JournalError, Writer
from gatelift.keeper.counters import WorkerRun
from gatelift.keeper.errors import KeeperError
from gatelift.keeper.journals import Journals
from gatelift.keeper.reports import fit_counts
from gatelift.keeper.settling import Settling
from gatelift.messages.frames import Counted, HeadFrame, KeeperToControl
from gatelift.plan import Plan

__all__ = ["JournalPump"]

_LOG = logging.getLogger(__name__)
_BUSY_S: Final = 0.1
_ALERT_APART_S: Final = 0.05
_IDLE_S: Final = 0.2
_ALERT_S: Final = 2.0
_GATHER_S: Final = 0.005
_PUBLISH_S: Final = 0.4
_HEAD_S: Final = 1.0
_RETRY_S: Final = 0.5

T = TypeVar("T")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class JournalPump:
    """Drives `Journals` and `Settling`.

    `plans` returns the digest of the plan in force and all plans to count under, `plan_of` each
    certificate's plan, `tell` sends to control; `on_gone(worker)` is called for each dead worker,
    `on_closed()` once if the node is closed, `before_reading()` before any journal is read.
    """

    def __init__(
        self,
        *,
        node: str,
        journals: Journals,
        settling: Settling,
        own: Writer,
        plans: Callable[[], tuple[Digest | None, Mapping[Digest, Plan]]],
        plan_of: Callable[[], Mapping[Digest, Digest]],
        tell: Callable[[KeeperToControl], bool],
        on_gone: Callable[[WorkerRun], None],
        on_closed: Callable[[], None],
        before_reading: Callable[[], None],
    ) -> None:
        self._node = node
        self._journals = journals
        self._settling = settling
        self._own = own
        self._plans = plans
        self._plan_of = plan_of
        self._tell = tell
        self._on_gone = on_gone
        self._on_closed = on_closed
        self._before_reading = before_reading
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journals")
        self._news = asyncio.Event()
        self._urgent = asyncio.Event()
        self._rounded = asyncio.Event()
        self._alert_until_s = time.monotonic() + _ALERT_S
        self._published_s = 0.0
        self._mended_s = 0.0
        self._counted: Counted | None = None
        self._head: HeadFrame | None = None
        self.closed_by: GateliftError | None = None
        """Why the node was closed; null while it is well."""

    def grew(self) -> None:
        """Take that a journal grew: the next round reads it."""
        self._news.set()

    def hurry(self) -> None:
        """Begin the next round at once: a worker left, or somebody waits."""
        # Its journal's lock may be free only a moment later.
        self._alert_until_s = time.monotonic() + _ALERT_S
        self._news.set()
        self._urgent.set()

    def frames(self) -> tuple[KeeperToControl, ...]:
        """Return what control is told when it connects."""
        return tuple(frame for frame in (self._head, self._counted) if frame is not None)

    async def open(self) -> set[WorkerRun]:
        """Fold what is logged, read what is not, settle who died while nobody kept.

        Returns whoever is not settled, dead or alive: one that died since the round began is settled
        in the next, and until then nothing may be granted past what it spent.
        """
        try:
            await self._blocking(self._before_reading)
            _, plans = self._plans()
            await self._blocking(lambda: self._journals.open(plans, _now_ms()))
            # To their ends, whoever lives: what a worker forgets at a window's end is known here alone.
            everybody = self._journals.runs()
            await self._blocking(lambda: self._journals.step(_now_ms(), everybody))
            await self._round()
        except (GateliftError, OSError) as error:
            self._close_node(error)
        return self._settling.unsettled()

    async def run(self) -> None:
        """Go round until cancelled or closed."""
        while self.closed_by is None:
            began_s, busy = time.monotonic(), False
            try:
                await self._mend()
                busy = await self._round()
                await self._publish()
            except JournalError as error:
                await self._on_journal_error(error)
            except GateliftError as error:
                self._close_node(error)
            except OSError as error:
                _LOG.error("journals or requests log: %s", error)
                await asyncio.sleep(_RETRY_S)
            await self._rest(began_s, busy=busy)

    async def _rest(self, began_s: float, *, busy: bool) -> None:
        """Wait until the next round is due."""
        awaited = self._urgent if busy else self._news
        is_alert = time.monotonic() < self._alert_until_s
        calm_s = _BUSY_S if busy else _IDLE_S
        apart_s = _ALERT_APART_S if is_alert else calm_s
        # Not wait_for: on 3.11 that swallows a cancel which comes as the event is set.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(began_s + apart_s - time.monotonic()):
                await awaited.wait()
        await asyncio.sleep(_GATHER_S)  # what is committed at the same time comes along
        self._urgent.clear()
        self._news.clear()

    async def run_heads(self) -> None:
        """Tell control of a grown log, at most once a second, until cancelled."""
        while True:
            await asyncio.sleep(_HEAD_S)
            head = await self._blocking(lambda: self._journals.head)
            if head is None:
                continue
            frame = HeadFrame(origin=head[0], checkpoint=head[1].decode("utf-8"))
            if frame != self._head:
                self._head = frame
                self._tell(frame)

    async def receipt(self, batch: Digest) -> tuple[bool, bytes | None]:
        """Return whether a batch is known, and its proof once a published head covers it."""
        found = await self._blocking(lambda: self._journals.receipt(batch))
        if found[0] or self.closed_by is not None:
            return found
        # Perhaps it was committed a moment ago: it is looked for again when a round has read it.
        rounded = self._rounded
        self.hurry()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_IDLE_S):
                await rounded.wait()
        return await self._blocking(lambda: self._journals.receipt(batch))

    async def exclusively(self, work: Callable[[], None]) -> None:
        """Run `work` while no journal is read or folded."""
        await self._blocking(work)

    async def close(self) -> None:
        """Give our own journal back, publish what was read, end the thread."""
        await self._blocking(self._own.close)
        if self.closed_by is None:
            await self._blocking(lambda: self._journals.step(_now_ms()))
            await self._blocking(self._journals.publish)
            await self._blocking(lambda: self._journals.save(now=True))
        await self._blocking(self._journals.close)
        self._thread.shutdown()

    async def _mend(self) -> None:
        # Nobody waits for what closes an orphan: that it was not written shows here alone.
        if self._own.broken is None or time.monotonic() - self._mended_s < _RETRY_S:
            return
        self._mended_s = time.monotonic()
        await self._blocking(self._own.try_recover)

    async def _round(self) -> bool:
        """Go round once; return whether there was anything to do."""
        _, plans = self._plans()
        dead = self._settling.dead()

        def read() -> int:
            self._journals.add_plans(plans)
            return self._journals.step(_now_ms(), dead)

        taken = await self._blocking(read)
        self._settling.settle(dead)
        for worker in dead:
            self._on_gone(worker)
        self._rounded.set()
        self._rounded = asyncio.Event()
        return bool(taken or dead)

    async def _publish(self) -> None:
        if time.monotonic() - self._published_s < _PUBLISH_S:
            return
        self._published_s = time.monotonic()
        current, _ = self._plans()
        plan_of = dict(self._plan_of())

        def publish() -> Counted | None:
            is_new = self._journals.publish() is not None
            self._journals.save()
            if not is_new or current is None:
                return None
            return fit_counts(self._node, *self._journals.counted(plan_of, current))

        counted = await self._blocking(publish)
        if counted is not None and counted != self._counted:
            self._counted = counted
            self._tell(counted)

    async def _on_journal_error(self, error: JournalError) -> None:
        if error.code == "journal_corrupt":
            self._close_node(error)
            return
        _LOG.error("the keeper's own journal: %s", error)
        await self._blocking(self._own.try_recover)
        await asyncio.sleep(_RETRY_S)

    def _close_node(self, error: GateliftError | OSError) -> None:
        failed = error if isinstance(error, GateliftError) else KeeperError(str(error))
        # Whoever started this process waits for these words, so as not to wait for a node that is closed.
        _LOG.critical("node closed (%s): %s", failed.code, failed)
        self.closed_by = failed
        self._on_closed()

    async def _blocking(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
