"""Every route of the gateway, in one table.

Invariants
- What is not in `ROUTES` does not exist: 404, or 405 for a known path with another method.
- A handler's fault ends in a reply of ours, never in a clean answer.
"""

from __future__ import annotations

import logging
import os
from typing import Final

from gatelift.encoding import ID_ENTROPY_BYTES, make_id
from gatelift.gateway.context import Context, now_ms
from gatelift.gateway.dialects import DIALECTS, DialectError, ErrorShape, check_headers
from gatelift.gateway.http_messages import DuplicateHeaderError, Request
from gatelift.gateway.http_responder import Responder, ResponseState
from gatelift.gateway.metadata import (
    ModelsExchange,
    serve_access,
    serve_health,
    serve_receipt,
)
from gatelift.gateway.model_exchange import ModelExchange
from gatelift.gateway.recorded import send_reply
from gatelift.gateway.replies import Reply, error_reply, request_id_headers

__all__ = ["ROUTES", "Router"]

_LOG = logging.getLogger(__name__)
_RECEIPTS: Final = "/v1/receipts/"
_MESSAGES: Final = "/v1/messages"
ROUTES: Final[dict[str, str]] = {
    **dict.fromkeys(DIALECTS, "POST"),
    "/v1/models": "GET",
    "/v1/access": "GET",
    "/v1/receipts/{sha256 of a batch entry}": "GET",
    "/healthz": "GET",
}


class Router:
    """Takes requests from the server to their handler."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def handle(self, request: Request, responder: Responder) -> None:
        """Answer one request."""
        try:
            await self._route(request, responder)
        except Exception as error:  # noqa: BLE001  a fault of ours must still end closed
            _LOG.error("an exchange failed: %s", type(error).__name__)
            if responder.state is ResponseState.AWAITED:
                message = "the exchange was closed by a fault"
                send_reply(responder, _fault("internal_error", message, request.path))
            else:
                responder.abort()

    async def _route(self, request: Request, responder: Responder) -> None:
        path = request.path
        known = _RECEIPTS if path.startswith(_RECEIPTS) else path
        method = "GET" if known == _RECEIPTS else ROUTES.get(path)
        if method is None:
            self._away(responder, "not_found", f"no route {path[:80]!r} here", path)
            return
        if request.method != method:
            self._away(responder, "method_not_allowed", f"{path[:80]} takes {method}", path)
            return
        dialect = DIALECTS.get(path)
        if dialect is not None:
            if not _is_json(request):
                self._away(responder, "unsupported_media_type", "expected application/json", path)
                return
            if dialect.errors is ErrorShape.ANTHROPIC:
                try:
                    check_headers(request)
                except DialectError as error:
                    self._away(responder, "invalid_request", str(error), path, error.param)
                    return
            await ModelExchange(self._context, dialect, request, responder).run()
            return
        match known:
            case "/v1/models":
                await ModelsExchange(self._context, responder).run(request)
            case "/v1/access":
                await serve_access(self._context, request, responder)
            case "/healthz":
                serve_health(self._context, responder)
            case _:
                hexes = path.removeprefix(_RECEIPTS)
                await serve_receipt(self._context, request, responder, hexes)

    def _away(
        self, responder: Responder, code: str, message: str, path: str, param: str | None = None
    ) -> None:
        self._context.refused[code] += 1
        send_reply(responder, _fault(code, message, path, param))


def _fault(code: str, message: str, path: str, param: str | None = None) -> Reply:
    """Return an error outside every exchange, as the clients of a path read it."""
    theirs = path == _MESSAGES or path.startswith(_MESSAGES + "/")
    shape = ErrorShape.ANTHROPIC if theirs else ErrorShape.OPENAI
    request_id = make_id("req", now_ms(), os.urandom(ID_ENTROPY_BYTES))
    headers = request_id_headers(request_id, shape)
    return error_reply(code, message, headers=headers, param=param, shape=shape)


def _is_json(request: Request) -> bool:
    try:
        value = request.header(b"content-type")
    except DuplicateHeaderError:
        return False
    return value is not None and value.split(b";")[0].strip().lower() == b"application/json"
