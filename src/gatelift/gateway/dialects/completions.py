"""Completions (legacy) as a dialect."""

from __future__ import annotations

from gatelift.gateway.dialects.completions_answer import CompletionsAnswer
from gatelift.gateway.dialects.completions_request import (
    CompletionsRequest,
    parse_completions,
    upstream_completions,
)
from gatelift.gateway.dialects.dialect import AnswerCodec, Dialect, ErrorShape
from gatelift.gateway.dialects.request import ModelRequest, narrowed
from gatelift.plan import Candidate
from gatelift.terms import Endpoint

__all__ = ["CompletionsDialect"]


class CompletionsDialect:
    """`POST /v1/completions`."""

    endpoint = Endpoint.COMPLETIONS
    path = "/v1/completions"
    errors = ErrorShape.OPENAI

    def parse(self, data: bytes) -> ModelRequest:
        """Return the request in a body; raises `DialectError` that names the field."""
        return parse_completions(data)

    def upstream_body(
        self, request: ModelRequest, candidate: Candidate, *, model: str, max_tokens: int
    ) -> bytes:
        """Return what goes upstream."""
        asked = narrowed(request, CompletionsRequest)
        return upstream_completions(asked, candidate, model=model, max_tokens=max_tokens)

    def open_answer(self, request: ModelRequest, *, request_id: str, created_s: int) -> AnswerCodec:
        """Return the codec of one exchange's answer."""
        asked = narrowed(request, CompletionsRequest)
        return CompletionsAnswer(asked, request_id=request_id, created_s=created_s)


_: Dialect = CompletionsDialect()
