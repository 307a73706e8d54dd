"""Answers of the upstream, read strictly and written anew.

Invariants
- Upstream bytes are hostile: only named fields are read, everything else is dropped, and what the
  caller gets is written by us from what the safeguards released.
- Text reaches the caller only as a typed piece that went through the safeguards.
- One choice, index 0. Anything else ends the exchange with `UpstreamAnswerError`.

Follows the OpenAI API reference, "Chat completion object" and "Chat completion chunk object".
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from gatelift.encoding import encode_json
from gatelift.errors import PeerError
from gatelift.safeguards import PartKind
from gatelift.wire.sse import sse_event

__all__ = [
    "Answer",
    "AnswerWriter",
    "Piece",
    "UpstreamAnswerError",
    "parse_answer",
    "parse_chunk",
]

_FINISHES = frozenset({"stop", "length", "tool_calls", "content_filter"})
# How common servers say in good form that they broke off: the caller must not read it as an end.
_BROKEN_OFF = frozenset({"abort", "aborted", "cancelled", "error"})


# Numbers that go on to callers and records: what is beyond these is no count of a model's.
_CallIndex = Annotated[int, msgspec.Meta(ge=0, lt=128)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**31)]


class UpstreamAnswerError(PeerError):
    """The upstream sent something that is not an answer of this dialect."""

    code = "bad_upstream_answer"


class _Function(msgspec.Struct, frozen=True):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct, frozen=True):
    index: _CallIndex | None = None
    function: _Function = _Function()


class _Message(msgspec.Struct, frozen=True):
    content: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(msgspec.Struct, frozen=True):
    index: int = 0
    message: _Message | None = None
    delta: _Message | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: _Count = 0
    completion_tokens: _Count = 0


class _Body(msgspec.Struct, frozen=True):
    choices: list[_Choice]
    usage: _Usage | None = None


_DECODER = msgspec.json.Decoder(_Body)


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """One typed stretch of an answer."""

    kind: PartKind
    text: str
    channel: int = 0


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer or one chunk of it. Token counts are the upstream's word, null if silent."""

    pieces: tuple[Piece, ...]
    finish_reason: str | None
    input_tokens: int | None
    output_tokens: int | None


def _pieces(message: _Message) -> list[Piece]:
    found = []
    if message.reasoning_content:
        found.append(Piece(kind=PartKind.REASONING, text=message.reasoning_content))
    if message.content:
        found.append(Piece(kind=PartKind.ASSISTANT_TEXT, text=message.content))
    if message.refusal:
        found.append(Piece(kind=PartKind.REFUSAL, text=message.refusal))
    for number, call in enumerate(message.tool_calls or ()):
        channel = number if call.index is None else call.index
        if call.function.name:
            found.append(
                Piece(
                    kind=PartKind.TOOL_CALL_NAME,
                    text=call.function.name,
                    channel=channel,
                )
            )
        if call.function.arguments:
            found.append(
                Piece(
                    kind=PartKind.TOOL_CALL_ARGUMENTS, text=call.function.arguments, channel=channel
                )
            )
    return found


def _read(data: bytes) -> tuple[_Body, _Choice | None]:
    try:
        body = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UpstreamAnswerError(f"not an answer: {error}") from error
    if len(body.choices) > 1 or any(choice.index != 0 for choice in body.choices):
        raise UpstreamAnswerError(f"expected one choice, got {len(body.choices)}")
    return body, body.choices[0] if body.choices else None


def _answer(body: _Body, choice: _Choice | None, message: _Message | None) -> Answer:
    finish = choice.finish_reason if choice else None
    if finish in _BROKEN_OFF:
        raise UpstreamAnswerError(f"the answer was broken off: {finish}", code="upstream_died")
    if finish is not None and finish not in _FINISHES:
        finish = "stop"
    return Answer(
        pieces=tuple(_pieces(message)) if message else (),
        finish_reason=finish,
        input_tokens=body.usage.prompt_tokens if body.usage else None,
        output_tokens=body.usage.completion_tokens if body.usage else None,
    )


def parse_answer(data: bytes) -> Answer:
    """Return a whole answer; raises `UpstreamAnswerError`."""
    body, choice = _read(data)
    if choice is None or choice.message is None:
        raise UpstreamAnswerError("expected one choice with a message, got none")
    return _answer(body, choice, choice.message)


def parse_chunk(data: bytes) -> Answer:
    """Return one chunk of a streamed answer; raises `UpstreamAnswerError`."""
    body, choice = _read(data)
    return _answer(body, choice, choice.delta if choice else None)


class AnswerWriter:
    """Writes what the caller reads. One for each exchange; keeps the released text by kind."""

    def __init__(self, *, request_id: str, model: str, created_s: int) -> None:
        # Ids are ours: the upstream's are text that no safeguard reads.
        self._request_id = request_id
        self._head = {"id": f"chatcmpl-{request_id}", "created": created_s, "model": model}
        self._text: dict[PartKind, list[str]] = {}
        self._calls: dict[int, dict[str, Any]] = {}
        self._role_sent = False

    def take(self, piece: Piece, release: str) -> dict[str, Any] | None:
        """Note `release` of a piece; return the delta that carries it, null for an empty one."""
        if not release:
            return None
        delta: dict[str, Any] = {}
        match piece.kind:
            case PartKind.TOOL_CALL_NAME | PartKind.TOOL_CALL_ARGUMENTS:
                delta["tool_calls"] = [self._call_delta(piece, release)]
            case PartKind.REASONING:
                delta["reasoning_content"] = release
            case PartKind.REFUSAL:
                delta["refusal"] = release
            case _:
                delta["content"] = release
        self._text.setdefault(piece.kind, []).append(release)
        return delta

    def _call_delta(self, piece: Piece, release: str) -> dict[str, Any]:
        call = self._calls.setdefault(
            piece.channel,
            {
                "id": f"call_{self._request_id}_{piece.channel}",
                "type": "function",
                "function": {"name": "", "arguments": ""},
            },
        )
        field = "name" if piece.kind is PartKind.TOOL_CALL_NAME else "arguments"
        call["function"][field] += release
        delta: dict[str, Any] = {"index": piece.channel, "function": {field: release}}
        if field == "name":
            delta |= {"id": call["id"], "type": "function"}
        return delta

    def chunk(
        self,
        delta: dict[str, Any],
        *,
        finish_reason: str | None = None,
        extra: dict[str, Any] | None = None,
    ) -> bytes:
        """Return one streamed event."""
        if not self._role_sent:
            delta = {"role": "assistant", **delta}
            self._role_sent = True
        body: dict[str, Any] = {
            **self._head,
            "object": "chat.completion.chunk",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
        }
        return sse_event(encode_json(body | (extra or {})))

    def usage_chunk(self, input_tokens: int, output_tokens: int) -> bytes:
        """Return the last event with usage, as `include_usage` asks."""
        body = {
            **self._head,
            "object": "chat.completion.chunk",
            "choices": [],
            "usage": _usage(input_tokens, output_tokens),
        }
        return sse_event(encode_json(body))

    def whole(
        self,
        *,
        finish_reason: str,
        input_tokens: int,
        output_tokens: int,
        extra: dict[str, Any] | None = None,
    ) -> bytes:
        """Return the whole answer as one body."""
        message: dict[str, Any] = {
            "role": "assistant",
            "content": self._joined(PartKind.ASSISTANT_TEXT),
        }
        if PartKind.REASONING in self._text:
            message["reasoning_content"] = self._joined(PartKind.REASONING)
        if PartKind.REFUSAL in self._text:
            message["refusal"] = self._joined(PartKind.REFUSAL)
        if self._calls:
            message["tool_calls"] = [self._calls[number] for number in sorted(self._calls)]
        body: dict[str, Any] = {
            **self._head,
            "object": "chat.completion",
            "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
            "usage": _usage(input_tokens, output_tokens),
        }
        return encode_json(body | (extra or {}))

    def _joined(self, kind: PartKind) -> str:
        return "".join(self._text.get(kind, ()))


def _usage(input_tokens: int, output_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    }
