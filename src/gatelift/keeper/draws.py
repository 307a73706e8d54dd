"""Answering draws: at once where the counters can, after a recall where they can't.

Before a draw is denied, every worker that holds some of its counters is asked for what is idle
(also the one that draws: what it was granted since may be more than it needs now), and has `RECALL_S`
to answer with a `Release`; an empty one says that nothing is. Draws of the same counters wait for
the same answers. Whatever came back may have gone to somebody else by then, who may hold more than
it needs; so a draw asks again until it is granted or nothing came back. While any draw waits, no
slices are given.

After a start the counters are not whole until every living worker has said what it holds; draws
wait for that (`open_gate`), they are not denied for it. The worker's own deadline ends its waiting.

Invariants
- Only the keeper denies, and only after what is idle was recalled or nobody could be asked.
- At most `MAX_WAITING` draws wait; the next one's connection is closed, and so is its lease:
  a keeper that can't keep up grants nothing.

Fails closed: a node that was closed grants nothing more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
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

RECALL_S: Final = 0.2
MAX_WAITING: Final = 4096
_ASKING_S: Final = 1.0


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
        self._closed = False
        self._waiting: set[asyncio.Task[None]] = set()
        self._recalls: dict[tuple[str, ...], asyncio.Task[bool]] = {}
        self._asked: dict[WorkerRun, set[asyncio.Future[bool]]] = {}

    def open_gate(self) -> None:
        """Answer draws from now on: every living worker has said what it holds."""
        self._gate.set()

    def close_node(self) -> None:
        """Grant nothing more, for good."""
        self._closed = True

    def draw(self, worker: WorkerRun, frame: Draw) -> None:
        """Answer a draw now or later; raises `KeeperError` (`bad_lease`) for one that is none."""
        if not frame.wants:
            raise KeeperError("expected a draw of at least one counter", code="bad_lease")
        if self._closed:
            self._deny(worker, frame, window_over(frame.wants[0]))
        elif self._gate.is_set():
            exact = bool(self._waiting)
            answer = self._counters.draw(worker, frame.wants, self._now_ms(), exact=exact)
            if isinstance(answer, RecallNeeded):
                self._later(self._recall_and_draw(worker, frame, answer))
            else:
                self._answer(worker, frame, answer)
        else:
            self._later(self._wait_and_draw(worker, frame))

    def released(self, worker: WorkerRun, frame: Release) -> None:
        """Take back leases, and the answer to a recall; raises `KeeperError` (`bad_lease`)."""
        self._counters.release(worker, frame.leases)
        self._heard(worker, came_back=any(lease.amount for lease in frame.leases))

    def gone(self, worker: WorkerRun) -> None:
        """Take that a worker is not connected any more: it answers no recall."""
        self._heard(worker, came_back=False)

    async def aclose(self) -> None:
        """Drop all that wait."""
        tasks: list[asyncio.Task[Any]] = [*self._waiting, *self._recalls.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _later(self, work: Coroutine[None, None, None]) -> None:
        if len(self._waiting) >= MAX_WAITING:
            work.close()
            raise KeeperError(f"{MAX_WAITING} draws wait already", code="too_many_draws")
        task = asyncio.get_running_loop().create_task(work)
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _wait_and_draw(self, worker: WorkerRun, frame: Draw) -> None:
        await self._gate.wait()
        if worker in self._counters.workers:
            self.draw(worker, frame)

    async def _recall_and_draw(self, worker: WorkerRun, frame: Draw, needed: RecallNeeded) -> None:
        answer: tuple[Lease, ...] | Shortage | RecallNeeded = needed
        until = asyncio.get_running_loop().time() + _ASKING_S
        while isinstance(answer, RecallNeeded):
            came_back = await self._recalled(answer)
            if worker not in self._counters.workers:
                return  # it died while others were asked; nothing may be granted to it
            last = not came_back or asyncio.get_running_loop().time() > until
            answer = self._counters.draw(
                worker, frame.wants, self._now_ms(), recalled=last, exact=True
            )
        self._answer(worker, frame, answer)

    async def _recalled(self, needed: RecallNeeded) -> bool:
        running = self._recalls.get(needed.counters)
        if running is None:
            running = asyncio.get_running_loop().create_task(self._recall(needed))
            self._recalls[needed.counters] = running
            running.add_done_callback(lambda _: self._recalls.pop(needed.counters, None))
        return await asyncio.shield(running)

    async def _recall(self, needed: RecallNeeded) -> bool:
        loop = asyncio.get_running_loop()
        answers: list[asyncio.Future[bool]] = []
        for name in needed.workers:
            future: asyncio.Future[bool] = loop.create_future()
            self._asked.setdefault(name, set()).add(future)
            answers.append(future)
            if not self._send(name, Recall(counters=needed.counters)):
                future.set_result(False)
        done, _ = await asyncio.wait(answers, timeout=RECALL_S)
        for name in needed.workers:
            self._asked.get(name, set()).difference_update(answers)
        return any(future.result() for future in done)

    def _heard(self, worker: WorkerRun, *, came_back: bool) -> None:
        for future in self._asked.pop(worker, set()):
            if not future.done():
                future.set_result(came_back)

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
