"""The socket to workers: who is connected, what everybody must hear, what each has asked.

Invariants
- A connection says `Hello` first; anything else closes it. A second hello of the same run replaces
  the older connection.
- A worker that says hello hears everything that narrows before anything that permits.
- A worker that does not read is cut off by its connection; it comes back and hears everything.
- Frames are handled in order and without waiting; what takes time is left to `Draws`.

The socket has mode 0600 in the deployment's own folder: who can connect is who runs the node.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from gatelift.keeper.counters import WorkerRun
from gatelift.messages.frames import (
    Ask,
    Committed,
    Draw,
    Hello,
    KeeperToWorker,
    ReceiptAsk,
    Release,
    WorkerToKeeper,
)
from gatelift.wire.frames import FrameCodec, FrameConnection, FrameError

__all__ = ["WorkerEvents", "WorkerServer"]

_LOG = logging.getLogger(__name__)
_Connection = FrameConnection[Any]


class WorkerEvents(Protocol):
    """What the server tells its owner. Errors of these calls close the worker's connection."""

    def on_hello(self, worker: WorkerRun, frame: Hello) -> Iterable[KeeperToWorker]:
        """Register a worker; return what it must hear first, in order."""

    def on_frame(
        self, worker: WorkerRun, frame: Draw | Release | Ask | Committed | ReceiptAsk
    ) -> None:
        """Take a frame of a registered worker."""

    def on_gone(self, worker: WorkerRun) -> None:
        """Take that a worker's connection is lost."""


class WorkerServer:
    """Listens at `path` for the workers of this node."""

    def __init__(self, path: Path, node: str, events: WorkerEvents) -> None:
        self._path = path
        self._node = node
        self._events = events
        self._workers: dict[WorkerRun, _Connection] = {}
        self._names: dict[_Connection, WorkerRun] = {}
        self._open: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    @property
    def connected(self) -> frozenset[WorkerRun]:
        """The workers that are connected now."""
        return frozenset(self._workers)

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
            connection.close()
        self._path.unlink(missing_ok=True)
        await asyncio.sleep(0)

    def send(self, worker: WorkerRun, frame: KeeperToWorker) -> bool:
        """Send a frame to one worker; return whether it is connected."""
        connection = self._workers.get(worker)
        if connection is None:
            return False
        try:
            connection.send(frame)
        except FrameError as error:
            _LOG.warning("worker %s was cut off: %s", worker.worker, error)
            return False
        return True

    def broadcast(self, frame: KeeperToWorker) -> None:
        """Send a frame to every worker."""
        for worker in list(self._workers):
            self.send(worker, frame)

    def _make(self) -> _Connection:
        codec: FrameCodec[Any] = FrameCodec(WorkerToKeeper)
        return FrameConnection(
            codec, on_frame=self._on_frame, on_lost=self._on_lost, on_made=self._open.add
        )

    def _on_frame(self, connection: _Connection, frame: WorkerToKeeper) -> None:
        worker = self._names.get(connection)
        if isinstance(frame, Hello):
            self._hello(connection, frame)
        elif worker is None:
            raise FrameError("expected a hello first", code="no_hello")
        else:
            self._events.on_frame(worker, frame)

    def _hello(self, connection: _Connection, frame: Hello) -> None:
        if frame.node != self._node or connection in self._names:
            raise FrameError(f"expected one hello of node {self._node!r}", code="bad_hello")
        worker = WorkerRun(frame.worker, frame.run)
        older = self._workers.pop(worker, None)
        if older is not None:
            del self._names[older]
            older.abort()
        first = self._events.on_hello(worker, frame)
        self._workers[worker] = connection
        self._names[connection] = worker
        for each in first:
            self.send(worker, each)

    def _on_lost(self, connection: _Connection, error: Exception | None) -> None:
        self._open.discard(connection)
        worker = self._names.pop(connection, None)
        if worker is not None and self._workers.get(worker) is connection:
            del self._workers[worker]
            _LOG.info("worker %s/%s left: %s", worker.worker, worker.run, error or "closed")
            self._events.on_gone(worker)
        elif error is not None:
            _LOG.warning("a connection was closed: %s", error)
