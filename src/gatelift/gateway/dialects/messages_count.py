"""The count of a prompt's tokens: one number, checked and written anew.

Invariants
- It is the model server's own count, candidate's system prompt included, between 0 and `MAX_COUNT`.
- No text passes, and no token is charged: no model has run.

Follows the Anthropic API reference, "Count tokens in a Message".
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from gatelift.encoding import encode_json
from gatelift.gateway.dialects.dialect import (
    Answer,
    AnswerEnd,
    Piece,
    UpstreamAnswerError,
    decode_answer,
)
from gatelift.wire.sse import SseEvent

__all__ = ["MAX_COUNT", "CountAnswer"]

MAX_COUNT: Final = 2**31 - 1


class _Count(msgspec.Struct, frozen=True):
    input_tokens: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


_DECODER: Final = msgspec.json.Decoder(_Count)


class CountAnswer:
    """The answer to one count."""

    choices = 1

    def __init__(self) -> None:
        self._body = b""

    def parse_whole(self, data: bytes) -> Answer:
        """Return what a whole answer says; raises `UpstreamAnswerError`."""
        count = decode_answer(_DECODER, data, "a count")
        self._body = encode_json({"input_tokens": count.input_tokens})
        return Answer(input_tokens=0, output_tokens=0, data_bytes=len(self._body))

    def parse_event(self, event: SseEvent) -> Answer:  # noqa: ARG002  there is no stream
        """Raise `UpstreamAnswerError`: a count is no stream."""
        raise UpstreamAnswerError("a count is no stream")

    def release(self, piece: Piece, text: str) -> bytes:  # noqa: ARG002  there is no text
        """Return nothing: a count has no text."""
        return b""

    def whole(self, end: AnswerEnd) -> bytes:  # noqa: ARG002  the number is all
        """Return the answer as one body."""
        return self._body

    def last(self, end: AnswerEnd) -> bytes:  # noqa: ARG002  there is no stream
        """Return nothing: a count is no stream."""
        return b""

    def refusal(self, text: str, end: AnswerEnd) -> bytes | None:  # noqa: ARG002
        """Return null: a refused count is an error."""
        return None
