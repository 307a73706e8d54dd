"""Anthropic messages, the upstream's answer: read strictly, as typed pieces.

Invariants
- As `dialect`: only named fields are read, everything else is dropped: ids, signatures, redacted
  thinking, citations, events of unknown types.
- Blocks come one after another, by index; a block of a type that is not served here, a delta of
  another type than its block, or one for a block that has ended, ends the exchange.
- Neighbouring blocks of text (or of thinking) are one stream to the safeguards, as they are to a
  reader. Text behind a tool call is a stream of its own: what is split over the call is seen in two.
- What ends says so (`Piece.ends`), so that nothing held back arrives behind a later block.

Follows the Anthropic API reference, "Create a Message" and "Streaming messages".
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from gatelift.encoding import encode_json
from gatelift.gateway.dialects.dialect import (
    Answer,
    FinishReason,
    Piece,
    TokenCount,
    UpstreamAnswerError,
    decode_answer,
    refuse_broken_off,
)
from gatelift.safeguards import PartKind
from gatelift.wire.sse import SseEvent

__all__ = ["MAX_BLOCKS", "MessagesReader"]

MAX_BLOCKS: Final = 256
_FINISHES: Final = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "tool_use": FinishReason.TOOL_CALLS,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "refusal": FinishReason.CONTENT_FILTER,
}
_TEXTS: Final = {"text": PartKind.ASSISTANT_TEXT, "thinking": PartKind.REASONING}
_DELTAS: Final = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "input_json_delta": "tool_use",
}
_DROPPED: Final = "redacted_thinking"
_DROPPED_DELTAS: Final = frozenset({"signature_delta", "citations_delta"})
_NOTHING: Final = Answer()
_ENDED: Final = Answer(ended=True)


class _Usage(msgspec.Struct, frozen=True, gc=False):
    input_tokens: TokenCount | None = None
    output_tokens: TokenCount | None = None
    cache_creation_input_tokens: TokenCount | None = None
    cache_read_input_tokens: TokenCount | None = None


class _Block(msgspec.Struct, frozen=True, gc=False):
    type: str
    text: str | None = None
    thinking: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None


class _Delta(msgspec.Struct, frozen=True, gc=False):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None


class _Message(msgspec.Struct, frozen=True, gc=False):
    content: list[_Block]
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: _Usage | None = None


class _Event(msgspec.Struct, frozen=True, gc=False):
    type: str
    index: int = -1
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None


_WHOLE: Final = msgspec.json.Decoder(_Message)
_EVENT: Final = msgspec.json.Decoder(_Event)


def _input_tokens(usage: _Usage | None) -> int | None:
    if usage is None or usage.input_tokens is None:
        return None
    # What came out of a cache was a part of the prompt, too.
    cached = (usage.cache_creation_input_tokens or 0) + (usage.cache_read_input_tokens or 0)
    return usage.input_tokens + cached


class MessagesReader:
    """Reads one answer. `stop_sequence` is what the upstream says ended it, if it was asked for."""

    __slots__ = (
        "_begun",
        "_channel",
        "_count",
        "_has_input",
        "_kind",
        "_open",
        "_stop",
        "stop_sequence",
    )

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stop = stop
        self.stop_sequence: str | None = None
        self._begun = False
        self._count = 0
        self._kind = ""
        self._channel = 0
        self._open = False
        self._has_input = False

    def whole(self, data: bytes) -> Answer:
        """Return what a whole answer says; raises `UpstreamAnswerError`."""
        message = decode_answer(_WHOLE, data, "an answer")
        if not message.stop_reason:
            raise UpstreamAnswerError("expected a stop_reason in a whole answer, got none")
        pieces: list[Piece] = []
        for block in message.content:
            pieces += self._start(block, self._count)
            self._open = False
        usage = message.usage
        return Answer(
            pieces=tuple(pieces),
            finishes=self._finish(message.stop_reason, message.stop_sequence),
            input_tokens=_input_tokens(usage),
            output_tokens=usage.output_tokens if usage else None,
        )

    def event(self, event: SseEvent) -> Answer:
        """Return what an event of a stream says; raises `UpstreamAnswerError`."""
        if not event.data:
            return _NOTHING
        said = decode_answer(_EVENT, event.data, "an event of an answer")
        match said.type:
            case "content_block_delta":
                return Answer(pieces=self._delta(said))
            case "message_start":
                return self._begin(said)
            case "error":
                raise UpstreamAnswerError("the model server said an error in its stream")
            case "content_block_start" | "content_block_stop" | "message_delta" | "message_stop":
                if not self._begun:
                    raise UpstreamAnswerError(f"{said.type} before message_start")
                return self._step(said)
            case _:
                return _NOTHING

    def _begin(self, said: _Event) -> Answer:
        if self._begun or said.message is None or said.message.content:
            raise UpstreamAnswerError("expected one message_start, without content")
        self._begun = True
        return Answer(input_tokens=_input_tokens(said.message.usage))

    def _step(self, said: _Event) -> Answer:
        match said.type:
            case "content_block_start" if said.content_block is not None:
                return Answer(pieces=tuple(self._start(said.content_block, said.index)))
            case "content_block_stop" if 0 <= said.index < self._count:
                if said.index == self._count - 1:
                    self._open = False
                return _NOTHING
            case "message_delta" if said.delta is not None:
                usage = said.usage
                return Answer(
                    finishes=self._finish(said.delta.stop_reason, said.delta.stop_sequence),
                    input_tokens=_input_tokens(usage),
                    output_tokens=usage.output_tokens if usage else None,
                )
            case "message_stop":
                return _ENDED
            case _:
                raise UpstreamAnswerError(f"{said.type} without what belongs to it")

    def _finish(
        self, reason: str | None, sequence: str | None
    ) -> tuple[tuple[int, FinishReason], ...]:
        refuse_broken_off(reason)
        if not reason:
            return ()
        if reason == "stop_sequence" and sequence in self._stop:
            self.stop_sequence = sequence
        return ((0, _FINISHES.get(reason, FinishReason.STOP)),)

    def _start(self, block: _Block, index: int) -> list[Piece]:
        if index != self._count or index >= MAX_BLOCKS:
            raise UpstreamAnswerError(f"expected block {self._count}, got {index}")
        self._count += 1
        self._open, self._has_input = True, False
        if block.type == _DROPPED:
            # It says nothing to anybody but its maker, and divides nothing.
            self._open = False
            return []
        pieces = []
        if block.type != self._kind or block.type == "tool_use":
            pieces = self._end()
            self._kind, self._channel = block.type, index
        if block.type == "tool_use":
            return pieces + self._call(block)
        kind = _TEXTS.get(block.type)
        if kind is None:
            raise UpstreamAnswerError(f"no block of type {block.type[:40]!r} was asked for")
        text = block.text if block.type == "text" else block.thinking
        return [*pieces, Piece(kind, text, self._channel)] if text else pieces

    def _call(self, block: _Block) -> list[Piece]:
        if not block.name:
            raise UpstreamAnswerError("a tool call without a name")
        pieces = [Piece(PartKind.TOOL_CALL_NAME, block.name, self._channel)]
        if block.input:
            self._has_input = True
            text = encode_json(block.input).decode("utf-8")
            pieces.append(Piece(PartKind.TOOL_CALL_ARGUMENTS, text, self._channel))
        return pieces

    def _end(self) -> list[Piece]:
        """Return the mark that the run of blocks before this one has ended."""
        if not self._kind:
            return []
        kind = _TEXTS.get(self._kind, PartKind.TOOL_CALL_ARGUMENTS)
        return [Piece(kind, "", self._channel, ends=True)]

    def _delta(self, said: _Event) -> tuple[Piece, ...]:
        delta = said.delta
        if delta is None or not 0 <= said.index < self._count:
            raise UpstreamAnswerError("a delta without a block")
        if delta.type in _DROPPED_DELTAS:
            return ()
        if _DELTAS.get(delta.type) != self._kind or said.index != self._count - 1 or not self._open:
            raise UpstreamAnswerError(f"{delta.type[:40]!r} for another block, or an ended one")
        match self._kind:
            case "text":
                kind, text = PartKind.ASSISTANT_TEXT, delta.text
            case "thinking":
                kind, text = PartKind.REASONING, delta.thinking
            case _:
                kind, text = PartKind.TOOL_CALL_ARGUMENTS, delta.partial_json
                if text and self._has_input:
                    raise UpstreamAnswerError("the input of a tool call came twice")
        return (Piece(kind, text, self._channel),) if text else ()
