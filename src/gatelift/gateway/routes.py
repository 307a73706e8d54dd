"""Every route of the gateway, in one table.

Invariants
- What is not in `ROUTES` does not exist: 404, or 405 for a known path with another method. Where
  callers of other servers would look, the 404 says what to use instead (`refused_routes`).
- A private endpoint is the same routes under `/e/<segment>`: the segment is taken off here, and
  `identify` refuses every key whose grant does not name it (and such a grant's keys elsewhere).
- A key without what it is bound to gets a 401 on every route that takes a key.
- What would begin an exchange is shed before anything is looked at when the worker is overloaded.
- A handler's fault ends in a reply of ours, never in a clean answer.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Coroutine
from typing import Any, Final

import msgspec

from gatelift.encoding import ID_ENTROPY_BYTES, make_id
from gatelift.gateway.admission import WrongDoorError, identify
from gatelift.gateway.context import Context, now_ms
from gatelift.gateway.dialects import (
    DIALECTS,
    Dialect,
    DialectError,
    ErrorShape,
    check_headers,
)
from gatelift.gateway.honey_touch import touch_honey
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
from gatelift.gateway.refused_routes import refused_route
from gatelift.gateway.replies import Reply, error_reply, request_id_headers
from gatelift.trust import BindingError, is_segment

__all__ = ["ROUTES", "Router"]

_LOG = logging.getLogger(__name__)
_RECEIPTS: Final = "/v1/receipts/"
_PRIVATE: Final = "/e/"
_JSON: Final = b"application/json"
_MODELS: Final = "/v1/models/"
_MESSAGES: Final = "/v1/messages"
_ANTHROPIC: Final = ErrorShape.ANTHROPIC
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
        inner = _at_endpoint(request) if request.path.startswith(_PRIVATE) else request
        path = inner.path
        try:
            # Not every route waits for something, and what does not is over by now.
            work = self._route(inner, responder)
            if work is not None:
                await work
        except WrongDoorError as error:
            self._context.refused[error.code] += 1
            send_reply(responder, _fault("not_found", _no_route(request.path), path))
        except BindingError as error:
            # From `identify`, before anything of the caller is recorded: counted by reason.
            self._context.refused[error.code] += 1
            challenge = ((b"www-authenticate", b'DPoP algs="ES256 EdDSA"'),)
            reply = _fault(error.code, str(error), path)
            send_reply(responder, msgspec.structs.replace(reply, headers=reply.headers + challenge))
        except Exception as error:  # noqa: BLE001  a fault of ours must still end closed
            _LOG.error("an exchange failed: %s", type(error).__name__)
            if responder.state is ResponseState.AWAITED:
                message = "the exchange was closed by a fault"
                send_reply(responder, _fault("internal_error", message, path))
            else:
                responder.abort()

    def _route(self, request: Request, responder: Responder) -> Coroutine[Any, Any, None] | None:
        """Answer a request, or return what will."""
        path = request.path
        dialect = DIALECTS.get(path)
        if dialect is not None:
            return self._to_model(dialect, request, responder)
        named = path.startswith(_RECEIPTS) or _names_model(path)
        method = "GET" if named else ROUTES.get(path)
        if method is None:
            if path in self._context.honey.paths:
                self._touch_path(request)
            elsewhere = refused_route(path)
            message = elsewhere.message if elsewhere else _no_route(path)
            self._away(responder, "not_found", message, path)
            return None
        if request.method != method:
            self._away(responder, "method_not_allowed", f"{path[:80]} takes {method}", path)
            return None
        match path:
            case "/v1/models":
                if self._shed(responder):
                    return None
                return ModelsExchange(self._context, responder).run(request)
            case "/v1/access":
                return serve_access(self._context, request, responder)
            case "/healthz":
                serve_health(self._context, responder)
                return None
            case _ if path.startswith(_MODELS):
                if self._shed(responder):
                    return None
                name = path.removeprefix(_MODELS)
                return ModelsExchange(self._context, responder).run(request, name)
            case _:
                hexes = path.removeprefix(_RECEIPTS)
                return serve_receipt(self._context, request, responder, hexes)

    def _to_model(
        self, dialect: Dialect, request: Request, responder: Responder
    ) -> Coroutine[Any, Any, None] | None:
        path, method = request.path, ROUTES[request.path]
        if request.method != method:
            self._away(responder, "method_not_allowed", f"{path[:80]} takes {method}", path)
            return None
        if not _is_json(request):
            self._away(responder, "unsupported_media_type", "expected application/json", path)
            return None
        if dialect.errors is _ANTHROPIC:
            try:
                check_headers(request)
            except DialectError as error:
                self._away(responder, "invalid_request", str(error), path, error.param)
                return None
        if self._shed(responder, dialect.errors):
            return None
        return ModelExchange(self._context, dialect, request, responder).run()

    def _shed(self, responder: Responder, shape: ErrorShape = ErrorShape.OPENAI) -> bool:
        """Turn an exchange away if this worker has too much; return whether it did."""
        context = self._context
        reason = context.overloaded()
        if reason is None:
            return False
        context.refused["overloaded"] += 1
        reply = error_reply(
            "overloaded",
            f"{reason}: nothing was spent, come again",
            retry_after_s=context.overload.terms.retry_after_s,
            shape=shape,
        )
        send_reply(responder, reply)
        return True

    def _touch_path(self, request: Request) -> None:
        try:
            who = identify(self._context, request)
        except (WrongDoorError, BindingError):
            who = None
        touch_honey(self._context, "path", who, request)

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


def _no_route(path: str) -> str:
    return f"no route {path[:80]!r} here"


def _at_endpoint(request: Request) -> Request:
    """Return the request without the segment of a private endpoint, if it has one."""
    segment, _, rest = request.path.removeprefix(_PRIVATE).partition("/")
    if not is_segment(segment) or not rest.startswith("v1/"):
        return request
    return msgspec.structs.replace(request, path=f"/{rest}", segment=segment)


def _names_model(path: str) -> bool:
    # One segment that is a name: nothing that another server would fold into another path.
    name = path.removeprefix(_MODELS)
    return path.startswith(_MODELS) and "/" not in name and name.strip(".") != ""


def _is_json(request: Request) -> bool:
    try:
        value = request.header(b"content-type")
    except DuplicateHeaderError:
        return False
    if value == _JSON:
        return True
    return value is not None and value.split(b";")[0].strip().lower() == _JSON
