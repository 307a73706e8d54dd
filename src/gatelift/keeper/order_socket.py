"""Orders by the host's own socket: who is on the gateway's host hands one over and hears at once.

    connect to run/orders.sock ── order frame ──► kept and passed on ── answer frame ──► closed

Invariants
- One order a connection, in one frame of at most `MAX_ORDER_BYTES`, within `DEADLINE_S`; at most
  `MAX_CONNECTIONS` at a time. Whatever else comes ends the connection.
- The answer `accepted` is sent after the order was kept and sent to every worker, never before.
- The socket has mode 0600 in a folder of mode 0700: who can connect is who runs the node. That
  admits nobody to anything: the order's signature alone decides.

Fails closed: an order that is not taken changes nothing, and its bearer is told why.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from gatelift.encoding import Digest
from gatelift.errors import CallerError, GateliftError
from gatelift.messages.frames import OrderAnswer, OrderFrame
from gatelift.wire.frames import FrameCodec, FrameConnection, FrameError

__all__ = ["OrderSocket"]

MAX_ORDER_BYTES: Final = 256 * 1024
DEADLINE_S: Final = 2.0
MAX_CONNECTIONS: Final = 32
# The frame around an order: its tag and its field's name.
_FRAME_BYTES: Final = 64
_LOG = logging.getLogger(__name__)
_Connection = FrameConnection[Any]


class OrderSocket:
    """Listens at `path`. `adopt` keeps an order, passes it on and returns its digest, or raises."""

    def __init__(self, path: Path, adopt: Callable[[bytes], Digest]) -> None:
        self._path = path
        self._adopt = adopt
        self._open: dict[_Connection, asyncio.TimerHandle] = {}
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; a socket left by a dead keeper is replaced (its journal's lock guards that)."""
        self._path.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(self._make, str(self._path))
        self._path.chmod(0o600)

    async def close(self) -> None:
        """Close the socket and every connection."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._open):
            connection.abort()
        self._path.unlink(missing_ok=True)
        await asyncio.sleep(0)

    def _make(self) -> _Connection:
        codec: FrameCodec[Any] = FrameCodec(
            OrderFrame, max_frame_bytes=MAX_ORDER_BYTES + _FRAME_BYTES
        )
        return FrameConnection(
            codec, on_frame=self._on_frame, on_lost=self._on_lost, on_made=self._on_made
        )

    def _on_made(self, connection: _Connection) -> None:
        if len(self._open) >= MAX_CONNECTIONS:
            _LOG.warning("%d hold the order socket: one more was closed", MAX_CONNECTIONS)
            connection.abort()
            return
        loop = asyncio.get_running_loop()
        self._open[connection] = loop.call_later(DEADLINE_S, connection.abort)

    def _on_frame(self, connection: _Connection, frame: OrderFrame) -> None:
        connection.send(self._judge(frame.envelope))
        # Closed to what follows: one order a connection.
        connection.close()

    def _on_lost(self, connection: _Connection, error: Exception | None) -> None:
        timer = self._open.pop(connection, None)
        if timer is not None:
            timer.cancel()
        if isinstance(error, FrameError):
            _LOG.warning("no order frame on the order socket: %s", error)

    def _judge(self, envelope: bytes) -> OrderAnswer:
        try:
            digest = self._adopt(envelope)
        except CallerError as error:
            _LOG.error("an order by the host's socket was refused: %s: %s", error.code, error)
            return OrderAnswer(accepted=False, code=error.code, message=str(error))
        except (GateliftError, OSError) as error:
            # Ours or the disk's fault, not the order's.
            _LOG.error("an order by the host's socket could not be taken: %s", error)
            return OrderAnswer(accepted=False, code="not_kept", message="not kept: try again")
        return OrderAnswer(accepted=True, digest=digest)
