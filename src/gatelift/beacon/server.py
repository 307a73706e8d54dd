"""The beacon over HTTP, until it is told to stop.

    POST /sign     a status signed by control in, one more signature of it out; else why not
    GET  /         who this is, whether it speaks, and what it signed last

Invariants
- Whoever asks: a status counts by its signatures alone. A body is at most `MAX_BODY_BYTES` and must
  arrive within `BODY_TIMEOUT_S`.
- SIGTERM and SIGINT end it gracefully.

Not here: TLS and rate limits. Put a reverse proxy before it on the open internet.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from litestar import Litestar, MediaType, Request, Response, get, post
from litestar.exceptions import ClientException

from gatelift.beacon.beacon import Beacon
from gatelift.errors import CallerError, GateliftError
from gatelift.trust import Root
from gatelift.wire.keyfiles import load_signing_key
from gatelift.wire.web_server import listen, server_config, stop_signals

__all__ = ["BODY_TIMEOUT_S", "MAX_BODY_BYTES", "make_app", "serve"]

MAX_BODY_BYTES = 1_048_576
BODY_TIMEOUT_S = 5.0
_LOG = logging.getLogger(__name__)


class About(msgspec.Struct, frozen=True, kw_only=True):
    """Who a beacon is and how it stands; `signed_at` in ms UTC, as the status says."""

    key: str
    organisation: str
    paused: bool
    epoch: int | None
    number: int | None
    signed_at: int | None


def make_app(beacon: Beacon) -> Litestar:
    """Return the application that answers for `beacon`."""

    @post("/sign", status_code=200)
    async def sign(request: Request[Any, Any, Any]) -> Response[bytes]:
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                body = await request.body()
        except TimeoutError as error:
            raise ClientException(
                f"expected the whole body within {BODY_TIMEOUT_S:g} s", status_code=408
            ) from error
        now_ms = time.time_ns() // 1_000_000
        try:
            data = await asyncio.to_thread(beacon.sign, body, now_ms)
        except (GateliftError, OSError) as error:
            code = error.code if isinstance(error, GateliftError) else "system_error"
            _LOG.warning("not signed: %s: %s", code, error)
            refused = 403 if isinstance(error, CallerError) else 503
            return Response(
                f"{code}: {error}\n".encode(), status_code=refused, media_type=MediaType.TEXT
            )
        return Response(data, media_type=MediaType.JSON)

    @get("/", sync_to_thread=False)
    def about() -> About:
        last = beacon.last
        return About(
            key=beacon.key_id,
            organisation=beacon.organisation,
            paused=beacon.is_paused,
            epoch=last.epoch if last else None,
            number=last.number if last else None,
            signed_at=last.signed_at if last else None,
        )

    return Litestar(
        route_handlers=[sign, about],
        request_max_body_size=MAX_BODY_BYTES,
        openapi_config=None,
        logging_config=None,
    )


def serve(
    folder: Path, *, root: Root, key_path: Path, url: str, token: str, host: str, port: int
) -> None:
    """Run a beacon with its memory in `folder` until SIGTERM or SIGINT.

    `url` is the admin API whose log it follows, `token` an overseer's. Raises before listening if key,
    memory or address cannot be used.
    """
    beacon = Beacon(folder, root=root, key=load_signing_key(key_path), url=url, token=token)
    try:
        with listen(host, port) as listener:
            server = uvicorn.Server(server_config(make_app(beacon)))
            with stop_signals(server):
                where = listener.getsockname()[1]
                _LOG.info("beacon of %s on %s port %d", beacon.organisation, host, where)
                server.run(sockets=[listener])
    finally:
        beacon.close()
