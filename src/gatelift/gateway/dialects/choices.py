"""The choices of an answer, where there may be several: chat completions and completions alike.

Invariants
- Choices are those that were asked for, by index; anything else ends the exchange.
- A choice ends only with a reason of the upstream's. Without one in a whole answer, or with one that
  says it broke off, the answer is none: what the caller reads is never a clean end that was not given.
- A reason that the API does not know is still an end that was given, and is told as `stop`.

Follows the OpenAI API reference, "Chat completion object" and "The completion object" (legacy).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from gatelift.encoding import encode_json
from gatelift.gateway.dialects.dialect import (
    Answer,
    AnswerEnd,
    FinishReason,
    Piece,
    TokenCount,
    UpstreamAnswerError,
    refuse_broken_off,
)
from gatelift.wire.sse import SseEvent

__all__ = [
    "DONE",
    "REASONS",
    "Choice",
    "ChoicesUsage",
    "answer_of",
    "check_choices",
    "check_ended",
    "ended_or_empty",
    "note_of",
    "usage_of",
]

DONE: Final = b"data: [DONE]\n\n"
REASONS: Final = {reason: b'"%b"' % reason.encode() for reason in FinishReason}
"""Finish reasons in JSON."""
_FINISHES: Final = {reason.value: reason for reason in FinishReason}
_ENDED: Final = Answer(ended=True)
_NOTHING: Final = Answer()


class Choice(msgspec.Struct, frozen=True, gc=False):
    """What is read of any choice."""

    index: int = 0
    finish_reason: str | None = None


class ChoicesUsage(msgspec.Struct, frozen=True, gc=False):
    """The upstream's word on its tokens."""

    prompt_tokens: TokenCount = 0
    completion_tokens: TokenCount = 0


def check_choices(found: Sequence[Choice], expected: int) -> None:
    """Return if these are some of `expected` choices, none broken off; raises `UpstreamAnswerError`."""
    if len(found) > expected:
        raise UpstreamAnswerError(f"expected {expected} choices, got others")
    for choice in found:
        if not 0 <= choice.index < expected:
            raise UpstreamAnswerError(f"expected {expected} choices, got others")
        if choice.finish_reason is not None:
            refuse_broken_off(choice.finish_reason)


def check_ended(found: Sequence[Choice]) -> None:
    """Return if every choice of a whole answer says why it ended; raises `UpstreamAnswerError`."""
    for choice in found:
        if not choice.finish_reason:
            raise UpstreamAnswerError(
                f"expected a finish_reason of choice {choice.index} in a whole answer, got none"
            )


def ended_or_empty(event: SseEvent) -> Answer | None:
    """Return what an event without a body says, null if it has one to be read."""
    if event.data == b"[DONE]":
        return _ENDED
    return None if event.data else _NOTHING


def answer_of(
    found: Sequence[Choice], usage: ChoicesUsage | None, pieces: Sequence[Piece]
) -> Answer:
    """Return what choices say, with their pieces. An empty finish reason is none."""
    return Answer(
        pieces=tuple(pieces),
        finishes=tuple(
            [
                (choice.index, _FINISHES.get(choice.finish_reason, FinishReason.STOP))
                for choice in found
                if choice.finish_reason
            ]
        ),
        input_tokens=usage.prompt_tokens if usage else None,
        output_tokens=usage.completion_tokens if usage else None,
    )


def note_of(end: AnswerEnd) -> bytes:
    """Return the note of an answer's end, in JSON, as fields that follow others."""
    return b"," + encode_json(end.note)[1:-1] if end.note else b""


def usage_of(end: AnswerEnd) -> bytes:
    """Return the tokens of an answer as the caller reads them, in JSON."""
    into, out = end.input_tokens, end.output_tokens
    return b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}' % (
        into,
        out,
        into + out,
    )
