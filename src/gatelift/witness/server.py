"""The witness over HTTP, until it is told to stop.

    POST /add-checkpoint                          a checkpoint in, a cosignature out
    GET  /<hex sha256 of origin>/checkpoint       the last note that was cosigned
    GET  /<hex sha256 of origin>/forks            the names of the notes kept against the log
    GET  /<hex sha256 of origin>/forks/<name>     one of them
    GET  /                                        who this is and which logs it follows
    GET  /.well-known/gatelift-witness.json       the same in JSON, for the organisation's own domain

Invariants
- A body is at most `MAX_BODY_BYTES` and must arrive within `BODY_TIMEOUT_S`.
- SIGTERM and SIGINT end it gracefully: requests under way are answered, then `serve` returns.
- If the disk fails the process stops, with an error.

Not here: TLS and rate limits. Put a reverse proxy before it on the open internet.

Follows C2SP tlog-witness v1.0.0; one prefix serves for submission and monitoring.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvicorn
from litestar import Litestar, MediaType, Request, Response, get, post
from litestar.exceptions import ClientException, HTTPException
from litestar.params import FromPath

from gatelift.errors import PeerError
from gatelift.tlog import CosignatureSigner
from gatelift.wire.keyfiles import load_private_key
from gatelift.wire.web_server import listen, server_config, stop_signals
from gatelift.witness.shelf import Shelf
from gatelift.witness.witness import TEXT_TYPE, Answer, Witness, parse_log_vkeys

__all__ = ["BODY_TIMEOUT_S", "MAX_BODY_BYTES", "ServeError", "make_app", "serve"]

MAX_BODY_BYTES = 131_072
BODY_TIMEOUT_S = 10.0
_LOG = logging.getLogger(__name__)


class ServeError(PeerError):
    """The witness had to stop."""

    code = "witness_stopped"


def make_app(witness: Witness) -> Litestar:
    """Return the application that answers for `witness`."""

    @post("/add-checkpoint", status_code=200)
    async def add_checkpoint(request: Request[Any, Any, Any]) -> Response[bytes]:
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                body = await request.body()
        except TimeoutError as error:
            raise ClientException(
                f"expected the whole body within {BODY_TIMEOUT_S:g} s", status_code=408
            ) from error
        # The disk is waited for in a thread; a client that hangs up does not undo what was stored.
        work = asyncio.to_thread(witness.add_checkpoint, body, now_s=int(time.time()))
        return _response(await asyncio.shield(work))

    @get("/{origin_hex:str}/checkpoint")
    async def read_checkpoint(origin_hex: FromPath[str]) -> Response[bytes]:
        return _response(witness.checkpoint(origin_hex))

    @get("/{origin_hex:str}/forks")
    async def read_forks(origin_hex: FromPath[str]) -> Response[bytes]:
        return _response(await asyncio.to_thread(witness.forks, origin_hex))

    @get("/{origin_hex:str}/forks/{name:str}")
    async def read_fork(origin_hex: FromPath[str], name: FromPath[str]) -> Response[bytes]:
        return _response(await asyncio.to_thread(witness.fork, origin_hex, name))

    @get("/.well-known/gatelift-witness.json")
    async def read_card() -> Response[bytes]:
        return _response(witness.card())

    @get("/")
    async def about() -> Response[bytes]:
        return _response(witness.about())

    return Litestar(
        route_handlers=[
            *(add_checkpoint, read_checkpoint, read_forks, read_fork),
            *(read_card, about),
        ],
        request_max_body_size=MAX_BODY_BYTES,
        exception_handlers={HTTPException: _answer_http_error},
        openapi_config=None,
        logging_config=None,
    )


def serve(
    folder: Path,
    *,
    name: str,
    signing_key_path: Path,
    log_vkeys: Sequence[str],
    host: str,
    port: int,
) -> None:
    """Run the witness `name` with its memory in `folder` until SIGTERM or SIGINT.

    `log_vkeys` are the keys of the logs that it follows; with `port` 0 the system picks one, which
    is logged. Raises before listening if key, directory, vkeys or address cannot be used, and
    `ServeError` if the disk failed while serving.
    """
    signer = CosignatureSigner(name, load_private_key(signing_key_path))
    log_keys = parse_log_vkeys(log_vkeys)
    with Shelf(folder) as shelf, listen(host, port) as listener:
        witness = Witness(signer=signer, log_keys=log_keys, shelf=shelf)
        server = _Server(witness)
        with stop_signals(server):
            _LOG.info("witness %s on %s port %d", signer.vkey, host, listener.getsockname()[1])
            server.run(sockets=[listener])
        if witness.broken:
            raise ServeError("the witness stopped because its disk failed: look at the disk first")


class _Server(uvicorn.Server):
    """Uvicorn, which also stops when the witness can no longer store."""

    def __init__(self, witness: Witness) -> None:
        super().__init__(server_config(make_app(witness)))
        self._witness = witness

    async def on_tick(self, counter: int) -> bool:
        return self._witness.broken or await super().on_tick(counter)


def _response(answer: Answer) -> Response[bytes]:
    return Response(
        content=answer.body,
        status_code=answer.status,
        media_type=MediaType.TEXT,
        # In the headers, because Litestar would add a charset to any media type text/*.
        headers={"content-type": answer.content_type, "cache-control": "no-store"},
    )


def _answer_http_error(_: Request[Any, Any, Any], error: HTTPException) -> Response[str]:
    return Response(
        content=f"{error.detail}\n",
        status_code=error.status_code,
        media_type=MediaType.TEXT,
        headers={**(error.headers or {}), "content-type": TEXT_TYPE},
    )
