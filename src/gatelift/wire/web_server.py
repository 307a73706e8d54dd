"""Serving an ASGI application on a socket of ours, until it is told to stop.

Invariants
- The address is bound before anything else is served; one that is taken is refused with a sentence.
- SIGTERM and SIGINT end it gracefully: requests under way are answered, then the caller goes on.
- Small answers do not wait for a delayed acknowledgement (TCP_NODELAY).

Not here: TLS. Put a reverse proxy before it on anything but loopback.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn

from gatelift.errors import PeerError

__all__ = ["AddressError", "listen", "server_config", "stop_signals"]

_SHUTDOWN_TIMEOUT_S = 5
_KEEP_ALIVE_S = 30
_MAX_CONNECTIONS = 256
_BACKLOG = 128


class AddressError(PeerError):
    """The address cannot be had."""

    code = "address_in_use"


def server_config(app: Any) -> uvicorn.Config:
    """Return how every server of ours is run: quiet, bounded, no proxy headers believed."""
    return uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_SHUTDOWN_TIMEOUT_S,
    )


@contextmanager
def listen(host: str, port: int) -> Iterator[socket.socket]:
    """Hold a listening socket; raises `AddressError`. With `port` 0 the system picks one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named, because asyncio sets TCP_NODELAY only then; without it small answers
    # wait 40 ms for the client's delayed acknowledgement.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(_BACKLOG)
        except OSError as error:
            raise AddressError(
                f"cannot listen on {host} port {port}: {error.strerror}. Choose another port"
            ) from error
        yield listener


@contextmanager
def stop_signals(server: uvicorn.Server) -> Iterator[None]:
    """Let SIGTERM and SIGINT end `server`, and return afterwards instead of dying of them."""
    # Uvicorn raises a stop signal again after it has shut down, for whoever handled it before. This
    # handler takes it; it also covers the moments before uvicorn listens.
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_signal: int, _frame: FrameType | None) -> None:
        server.should_exit = True

    before = {which: signal.signal(which, stop) for which in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
