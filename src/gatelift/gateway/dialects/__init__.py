"""Dialects: the languages that callers and model servers speak, one module pair for each.

Every dialect passes untranslated: what came as chat completions goes upstream as chat completions.
`DIALECTS` is the table of routes that reach the model; nothing else does.
"""

from types import MappingProxyType

from gatelift.gateway.dialects.chat import ChatDialect
from gatelift.gateway.dialects.completions import CompletionsDialect
from gatelift.gateway.dialects.dialect import (
    Answer,
    AnswerCodec,
    AnswerEnd,
    Dialect,
    ErrorShape,
    FinishReason,
    Piece,
    UpstreamAnswerError,
)
from gatelift.gateway.dialects.embeddings import EmbeddingsDialect
from gatelift.gateway.dialects.images import IMAGE_TOKENS_BOUND
from gatelift.gateway.dialects.messages import UPSTREAM_HEADERS as _MESSAGES_HEADERS
from gatelift.gateway.dialects.messages import (
    CountTokensDialect,
    MessagesDialect,
    check_headers,
)
from gatelift.gateway.dialects.request import DialectError, ModelRequest
from gatelift.gateway.dialects.responses import ResponsesDialect

__all__ = [
    "DIALECTS",
    "IMAGE_TOKENS_BOUND",
    "UPSTREAM_HEADERS",
    "Answer",
    "AnswerCodec",
    "AnswerEnd",
    "Dialect",
    "DialectError",
    "ErrorShape",
    "FinishReason",
    "ModelRequest",
    "Piece",
    "UpstreamAnswerError",
    "check_headers",
]

_ALL: tuple[Dialect, ...] = (
    ChatDialect(),
    ResponsesDialect(),
    CompletionsDialect(),
    EmbeddingsDialect(),
    MessagesDialect(),
    CountTokensDialect(),
)
DIALECTS = MappingProxyType({dialect.path: dialect for dialect in _ALL})
UPSTREAM_HEADERS = MappingProxyType({ErrorShape.ANTHROPIC: _MESSAGES_HEADERS})
"""What a family of dialects sends upstream beside the headers of every request."""
