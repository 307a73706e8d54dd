"""The keeper's end of its socket to control.

Invariants
- One connection; when it breaks the link dials again, at most `REDIAL_S` later.
- On each new connection `NodeHello` comes first, then what `welcome` says.
- Nonces that workers asked are gathered and sent together; what is asked while control is away is
  dropped, because its answer would come too late to be worth anything.
- Without control everything else goes on: orders, leases, journals. Statuses lapse by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from gatelift.messages.frames import Ask, ControlToKeeper, KeeperToControl, NodeHello
from gatelift.wire.frames import FrameCodec, FrameConnection, FrameError, dial_frames

__all__ = ["Uplink"]

REDIAL_S: Final = 0.25
_DIAL_TIMEOUT_S: Final = 2.0
_GATHER_S: Final = 0.02
_MAX_NONCES: Final = 1024
_LOG = logging.getLogger(__name__)
_Connection = FrameConnection[Any]


class Uplink:
    """Keeps a connection to control at `path`. `on_frame` is called for each of its frames.

    `replicated` is what control is told of the node's own records.
    """

    def __init__(
        self,
        path: Path,
        node: str,
        *,
        replicated: bool,
        welcome: Callable[[], Iterable[KeeperToControl]],
        on_frame: Callable[[ControlToKeeper], None],
    ) -> None:
        self._path = path
        self._hello = NodeHello(node=node, replicated=replicated)
        self._welcome = welcome
        self._on_frame = on_frame
        self._connection: _Connection | None = None
        self._lost = asyncio.Event()
        self._nonces: dict[str, None] = {}
        self._gathering: asyncio.TimerHandle | None = None

    @property
    def is_connected(self) -> bool:
        """Whether control can be told anything now."""
        return self._connection is not None and self._connection.is_open

    async def run(self) -> None:
        """Keep the connection until cancelled."""
        try:
            while True:
                self._lost.clear()
                with contextlib.suppress(OSError, TimeoutError):
                    await dial_frames(self._make, str(self._path), _DIAL_TIMEOUT_S)
                    await self._lost.wait()
                await asyncio.sleep(REDIAL_S)
        finally:
            if self._connection is not None:
                self._connection.close()

    def send(self, frame: KeeperToControl) -> bool:
        """Send a frame; return whether there was anybody to send it to."""
        if self._connection is None:
            return False
        try:
            self._connection.send(frame)
        except FrameError as error:
            _LOG.warning("control could not be told: %s", error)
            return False
        return True

    def ask(self, nonces: Iterable[str]) -> None:
        """Have control answer these nonces with its next status."""
        self._nonces.update(dict.fromkeys(nonces))
        while len(self._nonces) > _MAX_NONCES:
            del self._nonces[next(iter(self._nonces))]
        if self._gathering is None and self._nonces:
            loop = asyncio.get_running_loop()
            self._gathering = loop.call_later(_GATHER_S, self._send_nonces)

    def _send_nonces(self) -> None:
        self._gathering = None
        nonces, self._nonces = tuple(self._nonces), {}
        self.send(Ask(nonces=nonces))

    def _make(self) -> _Connection:
        codec: FrameCodec[Any] = FrameCodec(ControlToKeeper)
        return FrameConnection(
            codec,
            on_frame=lambda _, frame: self._on_frame(frame),
            on_lost=self._on_lost,
            on_made=self._on_made,
        )

    def _on_made(self, connection: _Connection) -> None:
        self._connection = connection
        self.send(self._hello)
        for frame in self._welcome():
            self.send(frame)

    def _on_lost(self, connection: _Connection, error: Exception | None) -> None:
        if self._connection is connection:
            self._connection = None
            _LOG.warning("control is away: %s", error or "closed")
        self._lost.set()
