"""Chat completions as a dialect."""

from __future__ import annotations

from gatelift.gateway.dialects.chat_answer import ChatAnswer
from gatelift.gateway.dialects.chat_request import ChatRequest, parse_chat, upstream_chat
from gatelift.gateway.dialects.dialect import AnswerCodec, Dialect, ErrorShape
from gatelift.gateway.dialects.request import ModelRequest, narrowed
from gatelift.plan import Candidate
from gatelift.terms import Endpoint

__all__ = ["ChatDialect"]


class ChatDialect:
    """`POST /v1/chat/completions`."""

    endpoint = Endpoint.CHAT
    path = "/v1/chat/completions"
    errors = ErrorShape.OPENAI

    def parse(self, data: bytes) -> ModelRequest:
        """Return the request in a body; raises `DialectError` that names the field."""
        return parse_chat(data)

    def upstream_body(
        self, request: ModelRequest, candidate: Candidate, *, model: str, max_tokens: int
    ) -> bytes:
        """Return what goes upstream."""
        chat = narrowed(request, ChatRequest)
        return upstream_chat(chat, candidate, model=model, max_tokens=max_tokens)

    def open_answer(self, request: ModelRequest, *, request_id: str, created_s: int) -> AnswerCodec:
        """Return the codec of one exchange's answer."""
        chat = narrowed(request, ChatRequest)
        return ChatAnswer(chat, request_id=request_id, created_s=created_s)


_: Dialect = ChatDialect()
