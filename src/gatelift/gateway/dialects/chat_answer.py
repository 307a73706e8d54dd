"""Chat completions, the answer: read strictly, written anew.

Invariants
- As `dialect`: only named fields are read, everything else is dropped.
- Choices are those that were asked for, by index; anything else ends the exchange.
- Ids are ours: the upstream's are text that no safeguard reads.

Follows the OpenAI API reference, "Chat completion object" and "Chat completion chunk object".
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from gatelift.encoding import encode_json
from gatelift.gateway.dialects.chat_request import ChatRequest
from gatelift.gateway.dialects.dialect import (
    Answer,
    AnswerEnd,
    FinishReason,
    Piece,
    UpstreamAnswerError,
)
from gatelift.safeguards import PartKind
from gatelift.wire.sse import SseEvent

__all__ = ["DONE", "ChatAnswer"]

DONE: Final = b"data: [DONE]\n\n"
_FINISHES: Final = {reason.value: reason for reason in FinishReason}
_FIELDS: Final = {
    PartKind.ASSISTANT_TEXT: b"content",
    PartKind.REASONING: b"reasoning_content",
    PartKind.REFUSAL: b"refusal",
}
_BESIDE_CONTENT: Final = (
    ("reasoning_content", PartKind.REASONING),
    ("refusal", PartKind.REFUSAL),
)
_ENDED: Final = Answer(ended=True)
_NOTHING: Final = Answer()


# How common servers say in good form that they broke off: the caller must not read it as an end.
_BROKEN_OFF: Final = frozenset({"abort", "aborted", "cancelled", "error"})

# Numbers that go on to callers and records: what is beyond these is no count of a model's.
_CallIndex = Annotated[int, msgspec.Meta(ge=0, lt=128)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**31)]


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


_DECODER: Final = msgspec.json.Decoder(_Body)


def _pieces(message: _Message, choice: int) -> list[Piece]:
    found = []
    if message.reasoning_content:
        found.append(Piece(PartKind.REASONING, message.reasoning_content, 0, choice))
    if message.content:
        found.append(Piece(PartKind.ASSISTANT_TEXT, message.content, 0, choice))
    if message.refusal:
        found.append(Piece(PartKind.REFUSAL, message.refusal, 0, choice))
    for number, call in enumerate(message.tool_calls or ()):
        channel = number if call.index is None else call.index
        if call.function.name:
            found.append(Piece(PartKind.TOOL_CALL_NAME, call.function.name, channel, choice))
        if call.function.arguments:
            found.append(
                Piece(PartKind.TOOL_CALL_ARGUMENTS, call.function.arguments, channel, choice)
            )
    return found


class ChatAnswer:
    """One chat exchange's answer. Keeps the released text by choice and kind if it goes out whole."""

    def __init__(self, request: ChatRequest, *, request_id: str, created_s: int) -> None:
        self._request = request
        self._request_id = request_id
        self._head = {
            "id": f"chatcmpl-{request_id}",
            "created": created_s,
            "model": request.model,
        }
        # One choice's chunk is this, its index, its delta and the tail: joined, not built anew.
        self._chunk_head = b""
        if request.stream:
            head = encode_json({**self._head, "object": "chat.completion.chunk"}).removesuffix(b"}")
            self._chunk_head = b"data: " + head + b',"choices":[{"index":'
        self._text: dict[tuple[int, PartKind], list[str]] = {}
        self._calls: dict[tuple[int, int], dict[str, Any]] = {}
        self._begun: set[int] = set()

    # Reading.

    def _read(self, data: bytes) -> _Body:
        try:
            body = _DECODER.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UpstreamAnswerError(f"not an answer: {error}") from error
        choices = self._request.choices
        if len(body.choices) > choices:
            raise UpstreamAnswerError(f"expected {choices} choices, got others")
        for choice in body.choices:
            if not 0 <= choice.index < choices:
                raise UpstreamAnswerError(f"expected {choices} choices, got others")
        for choice in body.choices:
            if choice.finish_reason in _BROKEN_OFF:
                raise UpstreamAnswerError(
                    f"the answer was broken off: {choice.finish_reason}", code="upstream_died"
                )
        return body

    def parse_whole(self, data: bytes) -> Answer:
        """Return what a whole answer says; raises `UpstreamAnswerError`."""
        body = self._read(data)
        messages = {choice.index: choice.message for choice in body.choices}
        if len(messages) != self._request.choices or None in messages.values():
            raise UpstreamAnswerError(
                f"expected {self._request.choices} choices with a message, got {len(messages)}"
            )
        pieces: list[Piece] = []
        for index, message in messages.items():
            if message is not None:
                pieces += _pieces(message, index)
        return _answer(body, pieces)

    def parse_event(self, event: SseEvent) -> Answer:
        """Return what an event of a stream says; raises `UpstreamAnswerError`."""
        if event.data == b"[DONE]":
            return _ENDED
        if not event.data:
            return _NOTHING
        body = self._read(event.data)
        pieces = []
        for choice in body.choices:
            if choice.delta is not None:
                pieces += _pieces(choice.delta, choice.index)
        return _answer(body, pieces)

    # Writing.

    def release(self, piece: Piece, text: str) -> bytes:
        """Note that `text` may leave as a part of `piece`; return the event that carries it."""
        if piece.kind in (PartKind.TOOL_CALL_NAME, PartKind.TOOL_CALL_ARGUMENTS):
            call = self._call_delta(piece, text)
            if not self._request.stream:
                return b""
            return self._chunk(piece.choice, b'"tool_calls":[%b]' % encode_json(call))
        if not self._request.stream:
            self._text.setdefault((piece.choice, piece.kind), []).append(text)
            return b""
        field = _FIELDS[piece.kind]
        return self._chunk(piece.choice, b'"%b":%b' % (field, encode_json(text)))

    def _call_delta(self, piece: Piece, text: str) -> dict[str, Any]:
        call = self._calls.setdefault(
            (piece.choice, piece.channel),
            {
                "id": f"call_{self._request_id}_{piece.choice}_{piece.channel}",
                "type": "function",
                "function": {"name": "", "arguments": ""},
            },
        )
        field = "name" if piece.kind is PartKind.TOOL_CALL_NAME else "arguments"
        call["function"][field] += text
        delta: dict[str, Any] = {"index": piece.channel, "function": {field: text}}
        if field == "name":
            delta |= {"id": call["id"], "type": "function"}
        return delta

    def _chunk(
        self, choice: int, delta: bytes, finish: FinishReason | None = None, more: bytes = b""
    ) -> bytes:
        if choice not in self._begun:
            self._begun.add(choice)
            delta = b'"role":"assistant",' + delta if delta else b'"role":"assistant"'
        reason = b"null" if finish is None else b'"%b"' % finish.value.encode()
        tail = b'},"finish_reason":%b}]%b}\n\n' % (reason, more)
        return self._chunk_head + b'%d,"delta":{' % choice + delta + tail

    def last(self, end: AnswerEnd) -> bytes:
        """Return the last events of a stream."""
        more = b"" if end.note is None else b"," + encode_json(end.note)[1:-1]
        events = [
            self._chunk(choice, b"", end.finishes.get(choice, FinishReason.STOP), more)
            for choice in range(self._request.choices)
        ]
        if self._request.wants_usage:
            body = {**self._head, "object": "chat.completion.chunk", "choices": []}
            events.append(b"data: %b\n\n" % encode_json(body | {"usage": _usage(end)}))
        return b"".join((*events, DONE))

    def whole(self, end: AnswerEnd) -> bytes:
        """Return the whole answer as one body."""
        choices = [
            {
                "index": choice,
                "message": self._message(choice),
                "finish_reason": end.finishes.get(choice, FinishReason.STOP).value,
            }
            for choice in range(self._request.choices)
        ]
        return self._body(choices, end)

    def refusal(self, text: str, end: AnswerEnd) -> bytes:
        """Return a completion that holds our refusal and nothing of an answer."""
        filtered = dict.fromkeys(range(self._request.choices), FinishReason.CONTENT_FILTER)
        if self._request.stream:
            delta = b'"content":null,"refusal":' + encode_json(text)
            events = [self._chunk(choice, delta) for choice in filtered]
            return b"".join(events) + self.last(msgspec.structs.replace(end, finishes=filtered))
        message = {"role": "assistant", "content": None, "refusal": text}
        choices = [
            {"index": choice, "message": message, "finish_reason": reason.value}
            for choice, reason in filtered.items()
        ]
        return self._body(choices, end)

    def _body(self, choices: list[dict[str, Any]], end: AnswerEnd) -> bytes:
        body: dict[str, Any] = {
            **self._head,
            "object": "chat.completion",
            "choices": choices,
            "usage": _usage(end),
        }
        return encode_json(body if end.note is None else body | end.note)

    def _message(self, choice: int) -> dict[str, Any]:
        texts = self._text
        content = "".join(texts.get((choice, PartKind.ASSISTANT_TEXT), ()))
        message: dict[str, Any] = {"role": "assistant", "content": content}
        for name, kind in _BESIDE_CONTENT:
            found = texts.get((choice, kind))
            if found is not None:
                message[name] = "".join(found)
        if self._calls:
            calls = [self._calls[key] for key in sorted(self._calls) if key[0] == choice]
            if calls:
                message["tool_calls"] = calls
        return message


def _answer(body: _Body, pieces: list[Piece]) -> Answer:
    return Answer(
        pieces=tuple(pieces),
        finishes=tuple(
            [
                (choice.index, _FINISHES.get(choice.finish_reason, FinishReason.STOP))
                for choice in body.choices
                if choice.finish_reason is not None
            ]
        ),
        input_tokens=None if body.usage is None else body.usage.prompt_tokens,
        output_tokens=None if body.usage is None else body.usage.completion_tokens,
    )


def _usage(end: AnswerEnd) -> dict[str, int]:
    return {
        "prompt_tokens": end.input_tokens,
        "completion_tokens": end.output_tokens,
        "total_tokens": end.input_tokens + end.output_tokens,
    }
