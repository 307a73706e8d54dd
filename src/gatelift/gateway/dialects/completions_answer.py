"""Completions, the answer: read strictly, written anew.

Invariants
- As `dialect`: only named fields are read, everything else is dropped.
- Choices are those that were asked for, by index; anything else ends the exchange.
- A refusal has no form here: it is always an error.

Follows the OpenAI API reference, "The completion object" (legacy).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from gatelift.encoding import encode_json
from gatelift.gateway.dialects.completions_request import CompletionsRequest
from gatelift.gateway.dialects.dialect import (
    Answer,
    AnswerEnd,
    FinishReason,
    Piece,
    UpstreamAnswerError,
)
from gatelift.safeguards import PartKind
from gatelift.wire.sse import SseEvent

__all__ = ["CompletionsAnswer"]

_DONE: Final = b"data: [DONE]\n\n"
_FINISHES: Final = {reason.value: reason for reason in FinishReason}
_ENDED: Final = Answer(ended=True)
_NOTHING: Final = Answer()


class _Choice(msgspec.Struct, frozen=True):
    index: int = 0
    text: str | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Body(msgspec.Struct, frozen=True):
    choices: list[_Choice]
    usage: _Usage | None = None


_DECODER: Final = msgspec.json.Decoder(_Body)


class CompletionsAnswer:
    """One exchange's completion."""

    def __init__(self, request: CompletionsRequest, *, request_id: str, created_s: int) -> None:
        self._request = request
        self._head = {
            "id": f"cmpl-{request_id}",
            "object": "text_completion",
            "created": created_s,
            "model": request.model,
        }
        self._text: dict[int, list[str]] = {}

    @property
    def choices(self) -> int:
        """How many choices were asked for."""
        return self._request.choices

    def _read(self, data: bytes) -> _Body:
        try:
            body = _DECODER.decode(data)
        except msgspec.DecodeError as error:
            raise UpstreamAnswerError(f"not a completion: {error}") from error
        choices = self._request.choices
        if len(body.choices) > choices or any(not 0 <= c.index < choices for c in body.choices):
            raise UpstreamAnswerError(f"expected {choices} choices, got others")
        usage = body.usage
        if usage is not None and (usage.prompt_tokens < 0 or usage.completion_tokens < 0):
            raise UpstreamAnswerError("usage below zero")
        return body

    def parse_whole(self, data: bytes) -> Answer:
        """Return what a whole answer says; raises `UpstreamAnswerError`."""
        body = self._read(data)
        told = {choice.index for choice in body.choices if choice.text is not None}
        if len(told) != self._request.choices:
            raise UpstreamAnswerError(
                f"expected {self._request.choices} choices with a text, got {len(told)}"
            )
        return _answer(body)

    def parse_event(self, event: SseEvent) -> Answer:
        """Return what an event of a stream says; raises `UpstreamAnswerError`."""
        if event.data == b"[DONE]":
            return _ENDED
        return _answer(self._read(event.data)) if event.data else _NOTHING

    def release(self, piece: Piece, text: str) -> bytes:
        """Note that `text` may leave as a part of `piece`; return the event that carries it."""
        if not self._request.stream:
            self._text.setdefault(piece.choice, []).append(text)
            return b""
        return self._chunk(_choice(piece.choice, text, None))

    def _chunk(self, choice: dict[str, Any], **more: Any) -> bytes:
        return b"data: %b\n\n" % encode_json({**self._head, "choices": [choice], **more})

    def last(self, end: AnswerEnd) -> bytes:
        """Return the last events of a stream."""
        events = [
            self._chunk(_choice(number, "", end.finishes[number]), **(end.note or {}))
            for number in range(self._request.choices)
        ]
        if self._request.wants_usage:
            body = {**self._head, "choices": [], "usage": _usage(end)}
            events.append(b"data: %b\n\n" % encode_json(body))
        return b"".join((*events, _DONE))

    def whole(self, end: AnswerEnd) -> bytes:
        """Return the whole answer as one body."""
        choices = [
            _choice(number, "".join(self._text.get(number, ())), end.finishes[number])
            for number in range(self._request.choices)
        ]
        body = {**self._head, "choices": choices, "usage": _usage(end)}
        return encode_json(body | (end.note or {}))

    def refusal(self, text: str, end: AnswerEnd) -> None:
        """Return null: a completion is nothing but the model's text."""


def _choice(index: int, text: str, finish: FinishReason | None) -> dict[str, Any]:
    reason = None if finish is None else finish.value
    return {"text": text, "index": index, "logprobs": None, "finish_reason": reason}


def _answer(body: _Body) -> Answer:
    return Answer(
        pieces=tuple(
            Piece(PartKind.ASSISTANT_TEXT, choice.text, 0, choice.index)
            for choice in body.choices
            if choice.text
        ),
        finishes=tuple(
            (choice.index, _FINISHES.get(choice.finish_reason, FinishReason.STOP))
            for choice in body.choices
            if choice.finish_reason is not None
        ),
        input_tokens=body.usage.prompt_tokens if body.usage else None,
        output_tokens=body.usage.completion_tokens if body.usage else None,
    )


def _usage(end: AnswerEnd) -> dict[str, int]:
    return {
        "prompt_tokens": end.input_tokens,
        "completion_tokens": end.output_tokens,
        "total_tokens": end.input_tokens + end.output_tokens,
    }
