"""Embeddings as a dialect."""

from __future__ import annotations

from gatelift.gateway.dialects.dialect import AnswerCodec, Dialect, ErrorShape
from gatelift.gateway.dialects.embeddings_answer import EmbeddingsAnswer
from gatelift.gateway.dialects.embeddings_request import (
    EmbeddingsRequest,
    parse_embeddings,
    upstream_embeddings,
)
from gatelift.gateway.dialects.request import ModelRequest, narrowed
from gatelift.plan import Candidate
from gatelift.terms import Endpoint

__all__ = ["EmbeddingsDialect"]


class EmbeddingsDialect:
    """`POST /v1/embeddings`."""

    endpoint = Endpoint.EMBEDDINGS
    path = "/v1/embeddings"
    errors = ErrorShape.OPENAI

    def parse(self, data: bytes) -> ModelRequest:
        """Return the request in a body; raises `DialectError` that names the field."""
        return parse_embeddings(data)

    def upstream_body(
        self,
        request: ModelRequest,
        candidate: Candidate,  # noqa: ARG002  the port's: nothing of it goes with an embedding
        *,
        model: str,
        max_tokens: int,  # noqa: ARG002  the port's: no token is made
    ) -> bytes:
        """Return what goes upstream."""
        return upstream_embeddings(narrowed(request, EmbeddingsRequest), model=model)

    def open_answer(
        self,
        request: ModelRequest,
        *,
        request_id: str,  # noqa: ARG002  the port's: vectors carry no id
        created_s: int,  # noqa: ARG002  the port's: nor a time
    ) -> AnswerCodec:
        """Return the codec of one exchange's answer."""
        return EmbeddingsAnswer(narrowed(request, EmbeddingsRequest))


_: Dialect = EmbeddingsDialect()
