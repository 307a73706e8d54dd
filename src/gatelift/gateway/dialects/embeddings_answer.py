"""Embeddings, the answer: numbers only, read strictly, written anew.

Invariants
- One vector for each text, in the order of the texts, all of one length, within what was set aside.
- Nothing but finite numbers leaves; no text of the upstream does.
- A refusal has no form here: it is always an error. There is no stream.

Follows the OpenAI API reference, "The embedding object"; base64 is of little-endian float32.
"""

from __future__ import annotations

import math
import struct
from typing import Any, Final

import msgspec

from gatelift.encoding import encode_base64, encode_json
from gatelift.gateway.dialects.dialect import (
    Answer,
    AnswerEnd,
    Piece,
    TokenCount,
    UpstreamAnswerError,
    decode_answer,
)
from gatelift.gateway.dialects.embeddings_request import MAX_DIMENSIONS, EmbeddingsRequest
from gatelift.wire.sse import SseEvent

__all__ = ["EmbeddingsAnswer"]


class _Vector(msgspec.Struct, frozen=True):
    index: int
    embedding: list[float]


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: TokenCount = 0


class _Body(msgspec.Struct, frozen=True):
    data: list[_Vector]
    usage: _Usage | None = None


_DECODER: Final = msgspec.json.Decoder(_Body)


class EmbeddingsAnswer:
    """One exchange's vectors."""

    choices = 1

    def __init__(self, request: EmbeddingsRequest) -> None:
        self._request = request
        self._vectors: list[bytes] = []

    def parse_whole(self, data: bytes) -> Answer:
        """Return what a whole answer says; raises `UpstreamAnswerError`."""
        body = decode_answer(_DECODER, data, "embeddings")
        vectors = {vector.index: vector.embedding for vector in body.data}
        texts = len(self._request.texts)
        if len(body.data) != texts or set(vectors) != set(range(texts)):
            raise UpstreamAnswerError(f"expected one vector for each of {texts} texts")
        self._check_lengths({len(vector) for vector in vectors.values()})
        self._vectors = [self._written(vectors[index]) for index in range(texts)]
        return Answer(
            input_tokens=body.usage.prompt_tokens if body.usage else None,
            data_bytes=sum(map(len, self._vectors)),
        )

    def _check_lengths(self, lengths: set[int]) -> None:
        wanted = self._request.dimensions
        length = max(lengths)
        if len(lengths) != 1 or not 1 <= length <= MAX_DIMENSIONS or wanted not in (None, length):
            raise UpstreamAnswerError(
                f"expected vectors of one length of at most {wanted or MAX_DIMENSIONS}"
            )

    def _written(self, vector: list[float]) -> bytes:
        if not all(map(math.isfinite, vector)):
            raise UpstreamAnswerError("a vector holds what is no finite number")
        if not self._request.base64:
            return encode_json(vector)
        try:
            packed = struct.pack(f"<{len(vector)}f", *vector)
        except OverflowError as error:
            raise UpstreamAnswerError("a vector holds a number beyond float32") from error
        return b'"%b"' % encode_base64(packed).encode()

    def parse_event(self, event: SseEvent) -> Answer:  # noqa: ARG002  the port's
        """Raise `UpstreamAnswerError`: no stream was asked for."""
        raise UpstreamAnswerError("embeddings come whole")

    def release(self, piece: Piece, text: str) -> bytes:  # noqa: ARG002  the port's
        """Raise `UpstreamAnswerError`: vectors hold no text."""
        raise UpstreamAnswerError("embeddings hold no text")

    def last(self, end: AnswerEnd) -> bytes:  # noqa: ARG002  the port's
        """Raise `UpstreamAnswerError`: no stream was asked for."""
        raise UpstreamAnswerError("embeddings come whole")

    def whole(self, end: AnswerEnd) -> bytes:
        """Return the whole answer as one body."""
        body: dict[str, Any] = {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": msgspec.Raw(vector)}
                for index, vector in enumerate(self._vectors)
            ],
            "model": self._request.model,
            "usage": {"prompt_tokens": end.input_tokens, "total_tokens": end.input_tokens},
        }
        return encode_json(body | (end.note or {}))

    def refusal(self, text: str, end: AnswerEnd) -> None:
        """Return null: vectors can't say anything."""
