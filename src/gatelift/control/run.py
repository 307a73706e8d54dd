"""Control as a process: the leader and its admin API, until it is told to stop.

Invariants
- SIGTERM and SIGINT end it gracefully: requests under way are answered, then `run` returns.
- When control cannot go on it stops serving and raises; whoever supervises it starts it again.
- A second control on the same folder is refused before it listens.

Not here: TLS. Put a reverse proxy before it on anything but loopback.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import uvicorn
from litestar import Litestar
from litestar.types import ControllerRouterHandler

from gatelift.control.api import make_app
from gatelift.control.control import Control
from gatelift.control.errors import ControlFailedError
from gatelift.errors import GateliftError

__all__ = ["ExtraRoutes", "run"]

_SHUTDOWN_TIMEOUT_S = 5
_KEEP_ALIVE_S = 30
_MAX_CONNECTIONS = 256
_LOG = logging.getLogger(__name__)

ExtraRoutes = Callable[[Control], Sequence[ControllerRouterHandler]]
"""Makes the routes of the web over a control."""


def run(
    directory: Path,
    *,
    host: str,
    port: int,
    witness_url: str | None = None,
    extra_routes: ExtraRoutes | None = None,
) -> None:
    """Lead the deployment in `directory` until SIGTERM or SIGINT; `port` 0 lets the system pick.

    Raises before listening when the folder, its keys or the address cannot be used (`StoreError`
    with code `store_locked` for a second control), and `ControlFailedError` when it had to stop.
    """
    control = Control(directory, witness_url=witness_url)
    asyncio.run(_serve(control, host, port, extra_routes))


async def _serve(control: Control, host: str, port: int, extra_routes: ExtraRoutes | None) -> None:
    try:
        async with control.running():
            app = make_app(control, extra_routes(control) if extra_routes else ())
            with _listen(host, port) as listener:
                server = uvicorn.Server(_config(app))
                with _stop_signals(server):
                    _LOG.info("admin API on %s port %d", host, listener.getsockname()[1])
                    await server.serve(sockets=[listener])
    except* GateliftError as group:
        # One cause; the others follow from it.
        raise group.exceptions[0] from None


def _config(app: Litestar) -> uvicorn.Config:
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
def _listen(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named, because asyncio sets TCP_NODELAY only then; without it small answers wait
    # 40 ms for the client's delayed acknowledgement.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(128)
        except OSError as error:
            raise ControlFailedError(
                f"cannot listen on {host} port {port}: {error.strerror}. Choose another port",
                code="address_in_use",
            ) from error
        yield listener


@contextmanager
def _stop_signals(server: uvicorn.Server) -> Iterator[None]:
    # Uvicorn raises a stop signal again after it has shut down, for whoever handled it before. This
    # handler takes it, so that `run` returns; it also covers the moments before uvicorn listens.
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
