"""Answering workers that ask for the receipt of a batch: each in a task, at most so many at a time.

Invariants
- A receipt that can't be found out is told as unknown; one too many is told as not there yet. Neither
  is the worker's error: its callers asked, and its draws must not suffer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from gatelift.encoding import Digest
from gatelift.errors import GateliftError
from gatelift.keeper.counters import WorkerRun
from gatelift.messages.frames import ReceiptAsk, ReceiptFrame

__all__ = ["Receipts"]

_LOG = logging.getLogger(__name__)
_MAX_AT_A_TIME: Final = 1024


class Receipts:
    """`find` returns whether a batch is known and its proof; `send` hands a frame to a worker."""

    def __init__(
        self,
        find: Callable[[Digest], Awaitable[tuple[bool, bytes | None]]],
        send: Callable[[WorkerRun, ReceiptFrame], object],
    ) -> None:
        self._find = find
        self._send = send
        self._running: set[asyncio.Task[None]] = set()

    def answer(self, worker: WorkerRun, frame: ReceiptAsk) -> None:
        """Begin to answer a worker."""
        if len(self._running) >= _MAX_AT_A_TIME:
            self._send(worker, ReceiptFrame(id=frame.id, known=True, proof=None))
            return
        task = asyncio.get_running_loop().create_task(self._answer(worker, frame))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _answer(self, worker: WorkerRun, frame: ReceiptAsk) -> None:
        try:
            known, proof = await self._find(frame.batch)
        except (GateliftError, OSError) as error:
            _LOG.warning("no receipt: %s", error)
            known, proof = False, None
        self._send(worker, ReceiptFrame(id=frame.id, known=known, proof=proof))

    async def aclose(self) -> None:
        """Wait for what was begun."""
        await asyncio.gather(*self._running, return_exceptions=True)
