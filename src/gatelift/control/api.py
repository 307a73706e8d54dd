"""The admin API: `/admin/v1` on P+1, with OpenAPI, for the CLI, the web and people's own tools.

Invariants
- A token admits to the API and to nothing else: what may be logged is decided by signatures and the
  log. `POST /orders` takes no token at all, because an order acts by its signature alone.
- Every refusal is JSON `{code, message}` with a 4xx; a failure of ours is a 503. Neither holds a
  token, a key or a stack trace.
- Every body and every page has a bound, every client a rate.

Routes are in `api_reads` and `api_writes`; the words are those of DESIGN.md section 2.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import Litestar, Request, Response
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException
from litestar.handlers import BaseRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.types import ControllerRouterHandler

from gatelift.control.api_reads import read_routes
from gatelift.control.api_schema import StructSchemas
from gatelift.control.api_writes import write_routes
from gatelift.control.control import Control
from gatelift.control.errors import ControlError, SizeMovedError
from gatelift.control.rate import RateBound
from gatelift.control.tokens import TokenError
from gatelift.decide import AdmitError
from gatelift.errors import CallerError, GateliftError
from gatelift.messages import Reason

__all__ = ["MAX_BODY_BYTES", "Problem", "make_app"]

MAX_BODY_BYTES = 8 * 1024 * 1024
REQUESTS_PER_S = 200.0
REQUESTS_BURST = 400
_ORDERS = "/admin/v1/orders"
_LOG = logging.getLogger(__name__)
_STATUS = {"not_found": 404, "too_many_requests": 429, "busy": 429, "not_cosigned": 409}


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request was refused. `reasons` are the gate's, where it is shut."""

    code: str
    message: str
    reasons: tuple[Reason, ...] = ()


def make_app(control: Control, extra_routes: Sequence[ControllerRouterHandler] = ()) -> Litestar:
    """Return the application over a running control; `extra_routes` are the web's pages."""
    # Orders have a bucket of their own: busy pages must not keep out a stop from the same host.
    bounds = {
        of_orders: RateBound(per_s=REQUESTS_PER_S, burst=REQUESTS_BURST)
        for of_orders in (False, True)
    }

    def guard_rate(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        client = connection.client.host if connection.client else ""
        wait_s = bounds[connection.url.path == _ORDERS].take(client, time.monotonic())
        if wait_s:
            raise ControlError(
                f"too many requests: the next one may come in {wait_s:.2f} s",
                code="too_many_requests",
            )

    return Litestar(
        route_handlers=[*read_routes(control), *write_routes(control), *extra_routes],
        guards=[guard_rate],
        request_max_body_size=MAX_BODY_BYTES,
        exception_handlers={
            GateliftError: answer_error,
            HTTPException: answer_http_error,
            Exception: answer_failure,
        },
        openapi_config=OpenAPIConfig(
            title="Gatelift admin API",
            version="1",
            path="/admin/v1/openapi",
            render_plugins=[JsonRenderPlugin()],
        ),
        plugins=[StructSchemas()],
        logging_config=None,
    )


def answer_error(_: Request[Any, Any, Any], error: GateliftError) -> Response[Problem]:
    """Answer an error raised on purpose, with its own code."""
    match error:
        case TokenError():
            status = 401 if error.code == "token_missing" else 403
        case SizeMovedError():
            status = 409
        case CallerError():
            status = _STATUS.get(error.code, 400)
        case _:
            status = 503
    if status == 503:
        _LOG.error("a request failed: %s: %s", error.code, error)
    headers = {"www-authenticate": "Bearer"} if status == 401 else {}
    reasons = error.reasons if isinstance(error, AdmitError) else ()
    return _problem(status, error.code, str(error), headers, reasons)


def answer_http_error(_: Request[Any, Any, Any], error: HTTPException) -> Response[Problem]:
    """Answer what the framework refused: a path, a method, a shape, a size."""
    codes = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}
    code = codes.get(error.status_code, "bad_request" if error.status_code < 500 else "failed")
    extra = error.extra if isinstance(error.extra, list) else []
    fields = [f"{each.get('key', 'body')}: {each.get('message')}" for each in extra[:10]]
    message = "; ".join([error.detail, *fields])
    return _problem(error.status_code, code, message, dict(error.headers or {}))


def answer_failure(_: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """Answer a fault of ours; what it was goes to our log, not to the caller."""
    _LOG.error("a request failed", exc_info=error)
    return _problem(500, "failed", "control failed on this request: see its log", {})


def _problem(
    status: int,
    code: str,
    message: str,
    headers: dict[str, str],
    reasons: tuple[Reason, ...] = (),
) -> Response[Problem]:
    return Response(
        content=Problem(code=code, message=message, reasons=reasons),
        status_code=status,
        headers={**headers, "cache-control": "no-store"},
    )
