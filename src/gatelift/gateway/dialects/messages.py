"""Anthropic messages and the counting of their tokens, as dialects.

The protocol's own headers are read here, since every request of the dialect carries them.

Invariants
- `anthropic-version` is absent or one of `VERSIONS`. They differ in three things of a request
  (sampling, citations of a user, documents of an assistant), and all three are refused in either.
- `anthropic-beta` names nothing, because a beta changes what fields mean.
- Upstream it is always `UPSTREAM_VERSION`, as the candidate's sampling is always sent: a server that
  holds to 2026-10-21 refuses every sampling parameter.

Follows the Anthropic API reference, "Versions" and "Migrating to API version 2026-10-21".
"""

from __future__ import annotations

from typing import Final

from gatelift.gateway.dialects.dialect import AnswerCodec, Dialect, ErrorShape
from gatelift.gateway.dialects.messages_answer import MessagesAnswer
from gatelift.gateway.dialects.messages_count import CountAnswer
from gatelift.gateway.dialects.messages_request import (
    MessagesRequest,
    parse_count,
    parse_messages,
    upstream_count,
    upstream_messages,
)
from gatelift.gateway.dialects.request import DialectError, ModelRequest, narrowed
from gatelift.gateway.http_messages import Request
from gatelift.plan import Candidate
from gatelift.terms import Endpoint

__all__ = ["UPSTREAM_HEADERS", "CountTokensDialect", "MessagesDialect", "check_headers"]

UPSTREAM_VERSION: Final = b"2023-06-01"
VERSIONS: Final = frozenset({UPSTREAM_VERSION, b"2026-10-21"})
UPSTREAM_HEADERS: Final = ((b"anthropic-version", UPSTREAM_VERSION),)


def check_headers(request: Request) -> None:
    """Return if the dialect's headers are those of a request that is served here.

    Raises `DialectError`.
    """
    versions = request.header_values(b"anthropic-version")
    if len(versions) > 1 or not VERSIONS.issuperset(versions):
        known = " or ".join(sorted(version.decode() for version in VERSIONS))
        raise DialectError(f"expected anthropic-version {known}, once", param="anthropic-version")
    if any(value.strip(b" \t,") for value in request.header_values(b"anthropic-beta")):
        raise DialectError(
            "anthropic-beta names a beta, and none is served here: leave it out",
            param="anthropic-beta",
        )


class MessagesDialect:
    """`POST /v1/messages`."""

    endpoint = Endpoint.MESSAGES
    path = "/v1/messages"
    errors = ErrorShape.ANTHROPIC

    def parse(self, data: bytes) -> ModelRequest:
        """Return the request in a body; raises `DialectError` that names the field."""
        return parse_messages(data)

    def upstream_body(
        self, request: ModelRequest, candidate: Candidate, *, model: str, max_tokens: int
    ) -> bytes:
        """Return what goes upstream."""
        asked = narrowed(request, MessagesRequest)
        return upstream_messages(asked, candidate, model=model, max_tokens=max_tokens)

    def open_answer(
        self,
        request: ModelRequest,
        *,
        request_id: str,
        created_s: int,  # noqa: ARG002  a message says no time
    ) -> AnswerCodec:
        """Return the codec of one exchange's answer."""
        return MessagesAnswer(narrowed(request, MessagesRequest), request_id=request_id)


class CountTokensDialect:
    """`POST /v1/messages/count_tokens`: asks the model server, runs no model."""

    endpoint = Endpoint.COUNT_TOKENS
    path = "/v1/messages/count_tokens"
    errors = ErrorShape.ANTHROPIC

    def parse(self, data: bytes) -> ModelRequest:
        """Return the request in a body; raises `DialectError` that names the field."""
        return parse_count(data)

    def upstream_body(
        self,
        request: ModelRequest,
        candidate: Candidate,
        *,
        model: str,
        max_tokens: int,  # noqa: ARG002  nothing is made
    ) -> bytes:
        """Return what goes upstream."""
        return upstream_count(narrowed(request, MessagesRequest), candidate, model=model)

    def open_answer(
        self,
        request: ModelRequest,  # noqa: ARG002  one number, whatever was asked
        *,
        request_id: str,  # noqa: ARG002
        created_s: int,  # noqa: ARG002
    ) -> AnswerCodec:
        """Return the codec of one exchange's answer."""
        return CountAnswer()


_MESSAGES: Dialect = MessagesDialect()
_COUNT: Dialect = CountTokensDialect()
