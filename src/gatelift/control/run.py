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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import uvicorn
from litestar.types import ControllerRouterHandler

from gatelift.control.api import make_app
from gatelift.control.control import Control
from gatelift.errors import GateliftError
from gatelift.wire.memory import settle_collector
from gatelift.wire.web_server import listen, server_config, stop_signals

__all__ = ["ExtraRoutes", "run"]

_LOG = logging.getLogger(__name__)

ExtraRoutes = Callable[[Control], Sequence[ControllerRouterHandler]]
"""Makes the routes of the web over a control."""


def run(
    directory: Path,
    *,
    host: str,
    port: int,
    witness_url: str | None = None,
    named_witness_urls: Mapping[str, str] | None = None,
    extra_routes: ExtraRoutes | None = None,
) -> None:
    """Lead the deployment in `directory` until SIGTERM or SIGINT; `port` 0 lets the system pick.

    `witness_panel.witness_urls` says what the URLs of witnesses are for.
    Raises before listening when the folder, its keys or the address cannot be used (`StoreError`
    with code `store_locked` for a second control), and `ControlFailedError` when it had to stop.
    """
    control = Control(directory, witness_url=witness_url, named_witness_urls=named_witness_urls)
    asyncio.run(_serve(control, host, port, extra_routes))


async def _serve(control: Control, host: str, port: int, extra_routes: ExtraRoutes | None) -> None:
    try:
        async with control.running():
            app = make_app(control, extra_routes(control) if extra_routes else ())
            settle_collector()
            with listen(host, port) as listener:
                server = uvicorn.Server(server_config(app))
                with stop_signals(server):
                    _LOG.info("admin API on %s port %d", host, listener.getsockname()[1])
                    await server.serve(sockets=[listener])
    except* GateliftError as group:
        # One cause; the others follow from it.
        raise group.exceptions[0] from None
