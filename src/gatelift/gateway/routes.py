"""Every route of the gateway, in one table.

Invariants
- What is not in `ROUTES` does not exist: 404, or 405 for a known path with another method.
- A handler's fault ends in a reply of ours, never in a clean answer.
"""

from __future__ import annotations

import logging
from typing import Final

from gatelift.gateway.context import Context
from gatelift.gateway.dialects import DIALECTS, ErrorShape
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
from gatelift.gateway.replies import error_reply

__all__ = ["ROUTES", "Router"]

_LOG = logging.getLogger(__name__)
_RECEIPTS: Final = "/v1/receipts/"
_MODELS: Final = "/v1/models/"
ROUTES: Final[dict[str, str]] = {
    **dict.fromkeys(DIALECTS, "POST"),
    "/v1/models": "GET",
    "/v1/models/{model}": "GET",
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
                send_reply(
                    responder, error_reply("internal_error", "the exchange was closed by a fault")
                )
            else:
                responder.abort()

    async def _route(self, request: Request, responder: Responder) -> None:
        path = request.path
        named = path.startswith(_RECEIPTS) or _names_model(path)
        method = "GET" if named else ROUTES.get(path)
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
            await ModelExchange(self._context, dialect, request, responder).run()
            return
        match path:
            case "/v1/models":
                await ModelsExchange(self._context, responder).run(request)
            case "/v1/access":
                await serve_access(self._context, request, responder)
            case "/healthz":
                serve_health(self._context, responder)
            case _ if path.startswith(_MODELS):
                name = path.removeprefix(_MODELS)
                await ModelsExchange(self._context, responder).run(request, name)
            case _:
                hexes = path.removeprefix(_RECEIPTS)
                await serve_receipt(self._context, request, responder, hexes)

    def _away(self, responder: Responder, code: str, message: str, path: str) -> None:
        self._context.refused[code] += 1
        dialect = DIALECTS.get(path)
        shape = dialect.errors if dialect else ErrorShape.OPENAI
        send_reply(responder, error_reply(code, message, shape=shape))


def _names_model(path: str) -> bool:
    # One segment that is a name: nothing that another server would fold into another path.
    name = path.removeprefix(_MODELS)
    return path.startswith(_MODELS) and "/" not in name and name.strip(".") != ""


def _is_json(request: Request) -> bool:
    try:
        value = request.header(b"content-type")
    except DuplicateHeaderError:
        return False
    return value is not None and value.split(b";")[0].strip().lower() == b"application/json"
