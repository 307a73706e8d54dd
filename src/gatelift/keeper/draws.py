"""Answering draws: at once where the counters can, after a recall where they can't.

Before a draw is denied, every worker that holds some of its counters is asked for what is idle (also
the one that draws: what it was granted since may be more than it needs now), and has `RECALL_S` to
answer with a `Release` that names the recall; an empty one says that nothing is. A worker that was
asked also gives back, for a second or two, what becomes idle later, without being asked again.

Draws that wait are served in the order in which they came, as amounts come back. One is denied after
two rounds in a row that began after it came and brought nothing of its counters. One round is not
enough: what one worker freed after its answer may have let another use what it held before its own.
After the first no worker keeps anything idle, and what was on its way before the second is here.

While any draw waits no slices are given, and a new draw of the same counters waits behind it. A
worker that left a recall unanswered is not waited for again until it speaks.

After a start the counters are not whole until every run that was not settled has said what it holds
or was settled since; draws wait for that, they are not denied for it. The worker's own deadline ends
its waiting.

Invariants
- Only the keeper denies, and only after what is idle was recalled or nobody could be asked.
- No draw is answered before it is known whose hello is awaited (`wait_for`), and before each of
  them was `heard`: who is heard of sooner opens nothing.
- At most `MAX_WAITING` draws wait; the next one's connection is closed, and so is its lease:
  a keeper that can't keep up grants nothing.

Fails closed: a node that was closed grants nothing more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final

from gatelift.keeper.counters import (
    Counters,
    PoolKey,
    RecallNeeded,
    Shortage,
    WorkerRun,
    window_over,
)
from gatelift.keeper.errors import KeeperError
from gatelift.messages.frames import Denied, Draw, Granted, Lease, Recall, Release

__all__ = ["MAX_WAITING", "RECALL_S", "Draws"]

RECALL_S: Final = 0.4
MAX_WAITING: Final = 4096
_ASKING_S: Final = 1.5
_BETWEEN_ROUNDS_S: Final = 0.001
_FRUITLESS_ROUNDS: Final = 2


class _Waiting:
    """A draw that waits for what others hold. `rounds` counts those that brought it nothing."""

    __slots__ = ("came_after", "counters", "frame", "holders", "rounds", "until_s", "worker")

    def __init__(self, worker: WorkerRun, frame: Draw, *, came_after: int, until_s: float) -> None:
        self.worker = worker
        self.frame = frame
        self.came_after = came_after
        self.until_s = until_s
        self.rounds = 0
        self.counters = frozenset(want.counter for want in frame.wants if want.need)
        self.holders: tuple[WorkerRun, ...] = ()


class Draws:
    """Turns draws into answers. `send(worker, frame)` returns whether the worker is connected.

    `spent(worker, key)` returns what a run's finished exchanges have spent, by its journal: it only
    tells callers how a spent cap came about, and decides nothing.
    """

    def __init__(
        self,
        counters: Counters,
        *,
        send: Callable[[WorkerRun, Granted | Denied | Recall], bool],
        spent: Callable[[WorkerRun, PoolKey], int],
        now_ms: Callable[[], int],
    ) -> None:
        self._counters = counters
        self._send = send
        self._spent = spent
        self._now_ms = now_ms
        self._gate = asyncio.Event()
        # Null until it is known: then "nobody is awaited" can't be said for want of knowing.
        self._awaited: set[WorkerRun] | None = None
        self._closed = False
        self._at_gate: set[asyncio.Task[None]] = set()
        self._queue: list[_Waiting] = []
        self._short: set[str] = set()
        self._came_back: set[str] = set()
        self._asking: asyncio.Task[None] | None = None
        self._round = 0
        self._asked: dict[WorkerRun, asyncio.Future[None]] = {}
        self._silent: set[WorkerRun] = set()

    def wait_for(self, unsettled: Iterable[WorkerRun]) -> None:
        """Answer draws once all of these were heard: they may hold what is counted nowhere yet."""
        self._awaited = set(unsettled)
        self._open_gate()

    def heard(self, worker: WorkerRun) -> None:
        """Take that the counters hold all of a run: it has said hello, or was settled."""
        if self._awaited is not None:
            self._awaited.discard(worker)
            self._open_gate()

    def close_node(self) -> None:
        """Grant nothing more, for good."""
        self._closed = True
        queue, self._queue = self._queue, []
        for waiting in queue:
            self._deny(waiting.worker, waiting.frame, window_over(waiting.frame.wants[0]))

    def draw(self, worker: WorkerRun, frame: Draw) -> None:
        """Answer a draw now or later; raises `KeeperError` (`bad_lease`) for one that is none."""
        self._silent.discard(worker)
        if not frame.wants:
            raise KeeperError("expected a draw of at least one counter", code="bad_lease")
        if self._closed:
            self._deny(worker, frame, window_over(frame.wants[0]))
        elif not self._gate.is_set():
            self._wait_at_gate(worker, frame)
        elif any(want.need and want.counter in self._short for want in frame.wants):
            self._wait(worker, frame)
        else:
            exact = bool(self._queue)
            answer = self._counters.draw(worker, frame.wants, self._now_ms(), exact=exact)
            if isinstance(answer, RecallNeeded):
                self._wait(worker, frame)
            else:
                self._answer(worker, frame, answer)

    def released(self, worker: WorkerRun, frame: Release) -> None:
        """Take back leases, and the answer to a recall; raises `KeeperError` (`bad_lease`)."""
        self._silent.discard(worker)
        self._counters.release(worker, frame.leases)
        self._came_back.update(lease.counter for lease in frame.leases if lease.amount)
        if frame.recall == self._round:
            self._heard(worker)
        if frame.leases and self._queue:
            self._serve()

    def gone(self, worker: WorkerRun) -> None:
        """Take that a worker is not connected any more: it answers no recall."""
        self._silent.discard(worker)
        self._heard(worker)

    async def aclose(self) -> None:
        """Drop all that wait."""
        tasks: list[asyncio.Task[Any]] = [*self._at_gate]
        if self._asking is not None:
            tasks.append(self._asking)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _open_gate(self) -> None:
        if not self._awaited:
            self._gate.set()

    def _check_room(self) -> None:
        if len(self._at_gate) + len(self._queue) >= MAX_WAITING:
            raise KeeperError(f"{MAX_WAITING} draws wait already", code="too_many_draws")

    def _wait_at_gate(self, worker: WorkerRun, frame: Draw) -> None:
        self._check_room()

        async def wait() -> None:
            await self._gate.wait()
            if worker in self._counters.workers:
                self.draw(worker, frame)

        task = asyncio.get_running_loop().create_task(wait())
        self._at_gate.add(task)
        task.add_done_callback(self._at_gate.discard)

    def _wait(self, worker: WorkerRun, frame: Draw) -> None:
        self._check_room()
        loop = asyncio.get_running_loop()
        until_s = loop.time() + _ASKING_S
        self._queue.append(_Waiting(worker, frame, came_after=self._round, until_s=until_s))
        self._serve()
        if self._queue and (self._asking is None or self._asking.done()):
            self._asking = loop.create_task(self._ask())

    def _serve(self) -> None:
        """Answer who can be answered, in order; nobody overtakes for what somebody waits for."""
        now_s = asyncio.get_running_loop().time()
        left: list[_Waiting] = []
        short: set[str] = set()
        for waiting in self._queue:
            if waiting.worker not in self._counters.workers:
                continue  # it died while it waited; nothing may be granted to it
            if waiting.counters & short:
                left.append(waiting)
                continue
            last = waiting.rounds >= _FRUITLESS_ROUNDS or now_s > waiting.until_s
            wants, now_ms = waiting.frame.wants, self._now_ms()
            answer = self._counters.draw(waiting.worker, wants, now_ms, recalled=last, exact=True)
            if isinstance(answer, RecallNeeded):
                waiting.holders = answer.workers
                short.update(answer.counters)
                left.append(waiting)
            else:
                self._answer(waiting.worker, waiting.frame, answer)
        self._queue, self._short = left, short

    async def _ask(self) -> None:
        """Ask whoever holds what is waited for, round after round, while any draw waits."""
        while self._queue:
            self._came_back.clear()
            await self._recall()
            for waiting in self._queue:
                if waiting.counters & self._came_back:
                    waiting.rounds = 0
                elif waiting.came_after < self._round:
                    waiting.rounds += 1
            self._serve()
            await asyncio.sleep(_BETWEEN_ROUNDS_S)

    async def _recall(self) -> None:
        self._round += 1
        loop = asyncio.get_running_loop()
        frame = Recall(counters=tuple(sorted(self._short)), id=self._round)
        holders = {name for waiting in self._queue for name in waiting.holders}
        self._asked = {name: loop.create_future() for name in sorted(holders)}
        for name, future in self._asked.items():
            if not self._send(name, frame):
                future.set_result(None)
        asked = dict(self._asked)
        awaited = [future for name, future in asked.items() if name not in self._silent]
        if awaited:
            await asyncio.wait(awaited, timeout=RECALL_S)
        self._silent.update(name for name, future in asked.items() if not future.done())

    def _heard(self, worker: WorkerRun) -> None:
        future = self._asked.get(worker)
        if future is not None and not future.done():
            future.set_result(None)

    def _answer(self, worker: WorkerRun, frame: Draw, answer: tuple[Lease, ...] | Shortage) -> None:
        if isinstance(answer, Shortage):
            self._deny(worker, frame, answer)
        else:
            # If the worker left meanwhile, its hello or its journal says what it holds.
            keys = [(each.counter, each.window) for each in answer]
            asking = not any(want.need for want in frame.wants)
            self._send(
                worker,
                Granted(
                    id=frame.id,
                    leases=answer,
                    used=tuple(self._counters.used(*key) for key in keys),
                    reserved=tuple(self._reserved(key) for key in keys) if asking else (),
                ),
            )

    def _reserved(self, key: PoolKey) -> int:
        return sum(
            max(0, self._counters.held_by(worker, *key) - self._spent(worker, key))
            for worker in self._counters.holders(*key)
        )

    def _deny(self, worker: WorkerRun, frame: Draw, shortage: Shortage) -> None:
        key = (shortage.counter, shortage.window)
        reserved = min(shortage.granted, self._reserved(key))
        self._send(
            worker,
            Denied(
                id=frame.id,
                counter=shortage.counter,
                limit=shortage.limit,
                used=shortage.spent + shortage.granted - reserved,
                reserved=reserved,
                reset=shortage.reset,
            ),
        )
