"""What the connections of one HTTP server share, and the states they are in.

It is a port: `http_server` implements it, `http_connection` needs no more of the server than this.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeVar

from gatelift.gateway.http_known_heads import KnownHeads
from gatelift.gateway.http_messages import Request, ServerLimits
from gatelift.gateway.http_responder import Responder

__all__ = ["ConnectionState", "Handler", "Hub"]

Handler = Callable[[Request, Responder], Awaitable[None]]
ConnectionT_contra = TypeVar("ConnectionT_contra", contravariant=True)


class ConnectionState(enum.Enum):
    """What the connection waits for; the table is in `http_connection`."""

    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    EXCHANGE = "exchange"
    FLUSHING = "flushing"
    LINGER = "linger"
    CLOSED = "closed"

    @property
    def awaits_request(self) -> bool:
        """Say whether no whole request has come yet."""
        return self in _AWAITS_REQUEST


_AWAITS_REQUEST: Final = frozenset(
    {ConnectionState.IDLE, ConnectionState.HEAD, ConnectionState.BODY}
)


class Hub(Protocol[ConnectionT_contra]):
    """What all connections of a server share."""

    handler: Handler
    limits: ServerLimits
    draining: bool
    known_heads: KnownHeads
    exchanges: set[asyncio.Task[None]]
    """Every exchange that runs: its connection adds it and takes it out."""

    def opened(self, connection: ConnectionT_contra) -> bool:
        """Count a connection in; False if there are too many."""

    def closed(self, connection: ConnectionT_contra) -> None:
        """Count a connection out."""

    def hold(self, connection: ConnectionT_contra, count: int) -> None:
        """Note how many bytes of unfinished requests a connection holds now."""

    def failed(self, error: BaseException) -> None:
        """Report what a handler raised."""
