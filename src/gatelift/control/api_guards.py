"""Which role a route of the admin API takes."""

from __future__ import annotations

from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.types import Guard

from gatelift.control.tokens import OVERSEER, AdminTokens, TokenError

__all__ = ["may_see_people", "need"]

_HEADER = "authorization"


def need(tokens: AdminTokens, role: str) -> Guard:
    """Return a guard that lets through who holds a token of `role`."""

    def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        tokens.verify(connection.headers.get(_HEADER), role)

    return guard


def may_see_people(tokens: AdminTokens, request: Request[Any, Any, Any]) -> bool:
    """Say whether a request that was let in may read what names people: an overseer's, a submitter's."""
    try:
        tokens.verify(request.headers.get(_HEADER), OVERSEER)
    except TokenError:
        return False
    return True
