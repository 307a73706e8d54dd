"""Completions, the answer: read strictly, written anew.

Invariants
- As `dialect`: only named fields are read, everything else is dropped.
- As `choices`: of those that were asked for, each ends with a reason of the upstream's.
- A refusal has no form here: it is always an error.

Follows the OpenAI API reference, "The completion object" (legacy).
"""

from __future__ import annotations

from typing import Final

import msgspec

from gatelift.encoding import encode_json
from gatelift.gateway.dialects.choices import (
    DONE,
    REASONS,
    Choice,
    ChoicesUsage,
    answer_of,
    check_choices,
    check_ended,
    ended_or_empty,
    note_of,
    usage_of,
)
from gatelift.gateway.dialects.completions_request import CompletionsRequest
from gatelift.gateway.dialects.dialect import (
    Answer,
    AnswerEnd,
    FinishReason,
    Piece,
    UpstreamAnswerError,
    decode_answer,
)
from gatelift.safeguards import PartKind
from gatelift.wire.sse import SseEvent

__all__ = ["CompletionsAnswer"]


class _Choice(Choice, frozen=True, gc=False):
    text: str | None = None


class _Body(msgspec.Struct, frozen=True, gc=False):
    choices: list[_Choice]
    usage: ChoicesUsage | None = None


_DECODER: Final = msgspec.json.Decoder(_Body)


class CompletionsAnswer:
    """One exchange's completion."""

    __slots__ = (
        "_head",
        "_request",
        "_text",
    )

    def __init__(self, request: CompletionsRequest, *, request_id: str, created_s: int) -> None:
        self._request = request
        # How every body begins: joined, not built anew.
        self._head = b'{"id":"cmpl-%b","object":"text_completion","created":%d,"model":%b,' % (
            request_id.encode(),
            created_s,
            encode_json(request.model),
        )
        self._text: dict[int, list[str]] = {}

    @property
    def choices(self) -> int:
        """How many choices were asked for."""
        return self._request.choices

    def _read(self, data: bytes) -> _Body:
        body = decode_answer(_DECODER, data, "a completion")
        check_choices(body.choices, self.choices)
        return body

    def parse_whole(self, data: bytes) -> Answer:
        """Return what a whole answer says; raises `UpstreamAnswerError`."""
        body = self._read(data)
        told = {choice.index for choice in body.choices if choice.text is not None}
        if len(told) != self._request.choices:
            raise UpstreamAnswerError(
                f"expected {self._request.choices} choices with a text, got {len(told)}"
            )
        check_ended(body.choices)
        return _answer(body)

    def parse_event(self, event: SseEvent) -> Answer:
        """Return what an event of a stream says; raises `UpstreamAnswerError`."""
        told = ended_or_empty(event)
        return _answer(self._read(event.data)) if told is None else told

    def release(self, piece: Piece, text: str) -> bytes:
        """Note that `text` may leave as a part of `piece`; return the event that carries it."""
        if not self._request.stream:
            self._text.setdefault(piece.choice, []).append(text)
            return b""
        return self._chunk(_choice(piece.choice, text, None))

    def _chunk(self, choice: bytes, more: bytes = b"") -> bytes:
        return b'data: %b"choices":[%b]%b}\n\n' % (self._head, choice, more)

    def last(self, end: AnswerEnd) -> bytes:
        """Return the last events of a stream."""
        note = note_of(end)
        events = [
            self._chunk(_choice(number, "", end.finishes[number]), note)
            for number in range(self._request.choices)
        ]
        if self._request.wants_usage:
            events.append(self._chunk(b"", b',"usage":' + usage_of(end)))
        return b"".join((*events, DONE))

    def whole(self, end: AnswerEnd) -> bytes:
        """Return the whole answer as one body."""
        choices = [
            _choice(number, "".join(self._text.get(number, ())), end.finishes[number])
            for number in range(self._request.choices)
        ]
        told = (self._head, b",".join(choices), usage_of(end), note_of(end))
        return b'%b"choices":[%b],"usage":%b%b}' % told

    def refusal(self, text: str, end: AnswerEnd) -> None:
        """Return null: a completion is nothing but the model's text."""


def _choice(index: int, text: str, finish: FinishReason | None) -> bytes:
    reason = b"null" if finish is None else REASONS[finish]
    return b'{"text":%b,"index":%d,"logprobs":null,"finish_reason":%b}' % (
        encode_json(text),
        index,
        reason,
    )


def _answer(body: _Body) -> Answer:
    pieces = [
        Piece(PartKind.ASSISTANT_TEXT, choice.text, 0, choice.index)
        for choice in body.choices
        if choice.text
    ]
    return answer_of(body.choices, body.usage, pieces)
