"""Responses as a dialect."""

from __future__ import annotations

from gatelift.gateway.dialects.dialect import AnswerCodec, Dialect, ErrorShape
from gatelift.gateway.dialects.request import ModelRequest, narrowed
from gatelift.gateway.dialects.responses_answer import ResponsesAnswer
from gatelift.gateway.dialects.responses_request import (
    ResponsesRequest,
    parse_responses,
    upstream_responses,
)
from gatelift.plan import Candidate
from gatelift.terms import Endpoint

__all__ = ["ResponsesDialect"]


class ResponsesDialect:
    """`POST /v1/responses`."""

    endpoint = Endpoint.RESPONSES
    path = "/v1/responses"
    errors = ErrorShape.OPENAI

    def parse(self, data: bytes) -> ModelRequest:
        """Return the request in a body; raises `DialectError` that names the field."""
        return parse_responses(data)

    def upstream_body(
        self, request: ModelRequest, candidate: Candidate, *, model: str, max_tokens: int
    ) -> bytes:
        """Return what goes upstream."""
        asked = narrowed(request, ResponsesRequest)
        return upstream_responses(asked, candidate, model=model, max_tokens=max_tokens)

    def open_answer(self, request: ModelRequest, *, request_id: str, created_s: int) -> AnswerCodec:
        """Return the codec of one exchange's answer."""
        asked = narrowed(request, ResponsesRequest)
        return ResponsesAnswer(asked, request_id=request_id, created_s=created_s)


_: Dialect = ResponsesDialect()
