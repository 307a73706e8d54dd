"""The socket to keepers: what control pushes to a node, and what a node reports.

Invariants
- A connection says `NodeHello` first, with the name of a node that the root enrols; anything else
  closes it. In this version control serves one node: a second name is refused.
- A node that says hello gets everything that narrows before anything that permits: orders, then
  clears, bundle and roster. So does one that connects again; its older connection is cut.
- `push` never waits. A keeper that does not read is cut off by the connection itself; it comes
  back and gets everything again, so nothing is missed for good.
- Frames are passed on as they came: what they say is verified by whoever acts on it.

The socket is in a folder that only the deployment's user can open (mode 0600): who can connect may
report counts, but not sign them into anything wider, because counts only ever narrow or delay.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from gatelift.errors import CallerError
from gatelift.messages.frames import ControlToKeeper, KeeperToControl, NodeHello
from gatelift.trust import Root
from gatelift.wire.frames import FrameCodec, FrameConnection, FrameError

__all__ = ["KeeperSocket", "NodeSeen"]

_LOG = logging.getLogger(__name__)
_Connection = FrameConnection[ControlToKeeper | KeeperToControl]


class NodeSeen(NamedTuple):
    """The node that control serves, null before one said hello, and how it stands now.

    `is_replicated` is its own word that it keeps its records on two stores; false while it is away.
    """

    name: str | None
    is_connected: bool
    is_replicated: bool


class KeeperSocket:
    """Listens for keepers and remembers which node is connected.

    `root` returns the root in force, `welcome` all frames that a fresh connection needs, in order;
    `on_report(node, frame)` is called for each frame after the hello.
    """

    def __init__(
        self,
        path: Path,
        *,
        root: Callable[[], Root],
        welcome: Callable[[], Iterable[ControlToKeeper]],
        on_report: Callable[[str, KeeperToControl], None],
    ) -> None:
        self._path = path
        self._root = root
        self._welcome = welcome
        self._on_report = on_report
        self._open: set[_Connection] = set()
        self._node: str | None = None
        self._replicated = False
        self._current: _Connection | None = None
        self._server: asyncio.Server | None = None

    @property
    def node(self) -> NodeSeen:
        """The node that control serves."""
        connected = self._current is not None and self._current.is_open
        return NodeSeen(self._node, connected, connected and self._replicated)

    async def start(self) -> None:
        """Listen; a socket left over by a dead control is replaced (the store's lock guards it)."""
        self._path.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(self._make, str(self._path))
        self._path.chmod(0o600)

    async def close(self) -> None:
        """Close all connections and the socket."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._open):
            connection.close()
        if self._server is not None:
            await self._server.wait_closed()
            self._path.unlink(missing_ok=True)

    def push(self, frame: ControlToKeeper) -> None:
        """Send a frame to the connected node, if there is one."""
        connection = self._current
        if connection is None or not connection.is_open:
            return
        try:
            connection.send(frame)
        except FrameError as error:
            _LOG.warning("keeper %s was cut off: %s", self._node, error)

    def _make(self) -> _Connection:
        # One codec reads and writes: it decodes reports and encodes any struct.
        codec: FrameCodec[ControlToKeeper | KeeperToControl] = FrameCodec(KeeperToControl)
        return FrameConnection(
            codec, on_frame=self._on_frame, on_lost=self._on_lost, on_made=self._open.add
        )

    def _on_frame(self, connection: _Connection, frame: ControlToKeeper | KeeperToControl) -> None:
        match frame:
            case NodeHello():
                self._hello(connection, frame)
            case _ if connection is not self._current or self._node is None:
                _LOG.warning("a keeper connection spoke before its hello: closed")
                connection.abort()
            case _:
                self._on_report(self._node, frame)  # type: ignore[arg-type]

    def _hello(self, connection: _Connection, frame: NodeHello) -> None:
        try:
            self._root().node(frame.node)
        except CallerError as error:
            _LOG.error("keeper refused: %s", error)
            connection.abort()
            return
        if self._node is not None and frame.node != self._node:
            _LOG.error(
                "keeper refused: expected node %r, got %r; this version serves one node, "
                "restart control to move to another",
                self._node,
                frame.node,
            )
            connection.abort()
            return
        older, self._current, self._node = self._current, connection, frame.node
        self._replicated = frame.replicated
        if older is not None and older is not connection:
            older.abort()
        for each in self._welcome():
            self.push(each)

    def _on_lost(self, connection: _Connection, error: Exception | None) -> None:
        self._open.discard(connection)
        if connection is self._current:
            self._current = None
            _LOG.warning("keeper %s disconnected: %s", self._node, error or "closed")
