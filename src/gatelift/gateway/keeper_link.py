"""The worker's end of its socket to the keeper.

Invariants
- One connection; when it breaks, every waiting draw fails closed and the link dials again.
- On each new connection the worker says what leases it holds before it asks for anything; one that
  cannot say it (`hello` returns null) is not connected.
- Every wait has a deadline. A draw that is not answered in time counts as denied service, and its
  late answer is handed back to the keeper.
- Signed bytes are passed on to `on_frame` untouched; nothing is believed here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gatelift.encoding import Digest
from gatelift.errors import PeerError
from gatelift.messages.frames import (
    Ask,
    Committed,
    Denied,
    Draw,
    Granted,
    Hello,
    KeeperToWorker,
    Lease,
    ReceiptAsk,
    ReceiptFrame,
    Release,
    Want,
)
from gatelift.wire.frames import FrameCodec, FrameConnection, FrameError, dial_frames

__all__ = ["KeeperLink", "KeeperUnavailableError"]

_ANSWER_TIMEOUT_S = 2.0
_REDIAL_S = 0.2
_TELL_S = 0.025


class KeeperUnavailableError(PeerError):
    """The keeper did not answer in time; nothing may be served without it."""

    code = "keeper_unavailable"


class KeeperLink:
    """Dials the keeper, keeps dialling, and matches answers to questions."""

    def __init__(
        self,
        path: Path,
        hello: Callable[[], Hello | None],
        on_frame: Callable[[KeeperToWorker], None],
    ) -> None:
        self._path = path
        self._hello = hello
        self._on_frame = on_frame
        self._connection: FrameConnection[Any] | None = None
        self._lost = asyncio.Event()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._next_id = 0
        self._quiet: asyncio.TimerHandle | None = None
        self._grew = False

    async def run(self) -> None:
        """Keep the connection until cancelled."""
        while True:
            self._lost.clear()
            with contextlib.suppress(OSError):
                await dial_frames(self._make, str(self._path), _ANSWER_TIMEOUT_S)
                await self._lost.wait()
            await asyncio.sleep(_REDIAL_S)

    def _make(self) -> FrameConnection[Any]:
        return FrameConnection(
            FrameCodec(KeeperToWorker),
            on_frame=lambda _, frame: self._take(frame),
            on_lost=lambda _, __: self._drop(),
            on_made=self._made,
        )

    def _made(self, connection: FrameConnection[Any]) -> None:
        hello = self._hello()
        if hello is None:
            connection.close()
            return
        self._connection = connection
        connection.send(hello)

    def _drop(self) -> None:
        self._connection = None
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(KeeperUnavailableError("the keeper went away"))
        self._lost.set()

    def _take(self, frame: KeeperToWorker) -> None:
        if isinstance(frame, Granted | Denied | ReceiptFrame):
            future = self._waiting.pop(frame.id, None)
            if future is not None and not future.done():
                future.set_result(frame)
            elif isinstance(frame, Granted):
                self.send(Release(leases=frame.leases))
            return
        self._on_frame(frame)

    def send(self, frame: object) -> bool:
        """Send a frame that has no answer; return whether there was anybody to send it to."""
        if self._connection is None:
            return False
        try:
            self._connection.send(frame)
        except FrameError:
            return False
        return True

    async def _question(self, make: Callable[[int], object]) -> Any:
        self._next_id += 1
        number = self._next_id
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        if not self.send(make(number)):
            self._waiting.pop(number, None)
            raise KeeperUnavailableError("the keeper is not connected")
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                return await future
        except (TimeoutError, asyncio.CancelledError) as error:
            # Answered in the same turn of the loop: nobody will book it, so it goes back.
            if future.done() and not future.cancelled() and future.exception() is None:
                self._hand_back(future.result())
            if isinstance(error, TimeoutError):
                raise KeeperUnavailableError("the keeper did not answer in time") from error
            raise
        finally:
            self._waiting.pop(number, None)

    def _hand_back(self, frame: object) -> None:
        if isinstance(frame, Granted):
            self.send(Release(leases=frame.leases))

    async def draw(self, wants: tuple[Want, ...]) -> Granted | Denied:
        """Draw leases; raises `KeeperUnavailableError`."""
        answer: Granted | Denied = await self._question(lambda n: Draw(id=n, wants=wants))
        return answer

    async def receipt(self, batch: Digest) -> ReceiptFrame:
        """Return what the keeper knows of a batch; raises `KeeperUnavailableError`."""
        answer: ReceiptFrame = await self._question(lambda n: ReceiptAsk(id=n, batch=batch))
        return answer

    def ask_status(self, nonce: str) -> bool:
        """Ask for a status that answers `nonce`."""
        return self.send(Ask(nonces=(nonce,)))

    def give_back(self, leases: tuple[Lease, ...], recall: int = 0) -> None:
        """Return idle leases; an empty return answers a recall just as well, and at once."""
        self.send(Release(leases=leases, recall=recall))

    def committed(self, worker: str, run: str) -> None:
        """Tell the keeper that the journal grew: at once, then no more than every 25 ms.

        Each frame wakes the keeper; under load, on a core that it shares, ten batches are one news.
        """
        if self._quiet is not None:
            self._grew = True
            return
        self._grew = False
        self.send(Committed(worker=worker, run=run))
        loop = asyncio.get_running_loop()
        self._quiet = loop.call_later(_TELL_S, self._tell_again, worker, run)

    def _tell_again(self, worker: str, run: str) -> None:
        self._quiet = None
        if self._grew:
            self.committed(worker, run)
