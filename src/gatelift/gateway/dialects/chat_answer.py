"""Chat completions, the answer: read strictly, written anew.

Invariants
- As `dialect`: only named fields are read, everything else is dropped.
- As `choices`: of those that were asked for, each ends with a reason of the upstream's.
- Ids are ours: the upstream's are text that no safeguard reads.

Follows the OpenAI API reference, "Chat completion object" and "Chat completion chunk object".
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from gatelift.encoding import encode_json
from gatelift.gateway.dialects.chat_request import ChatRequest
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

__all__ = ["ChatAnswer"]

_FIELDS: Final = {
    PartKind.ASSISTANT_TEXT: b"content",
    PartKind.REASONING: b"reasoning_content",
    PartKind.REFUSAL: b"refusal",
}
_CHUNK: Final = b'"chat.completion.chunk"'
# Asked of every piece: a name of the module is found sooner than one of the enumeration.
_TEXT: Final = PartKind.ASSISTANT_TEXT
_TEXT_TAIL: Final = b'},"finish_reason":null}]}\n\n'
_BESIDE_CONTENT: Final = (
    (b"reasoning_content", PartKind.REASONING),
    (b"refusal", PartKind.REFUSAL),
)
# A number that goes on to callers: what is beyond it is no call of a model's.
_CallIndex = Annotated[int, msgspec.Meta(ge=0, lt=128)]


class _Function(msgspec.Struct, frozen=True, gc=False):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct, frozen=True, gc=False):
    index: _CallIndex | None = None
    function: _Function = _Function()


class _Message(msgspec.Struct, frozen=True, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(Choice, frozen=True, gc=False):
    message: _Message | None = None
    delta: _Message | None = None


class _Body(msgspec.Struct, frozen=True, gc=False):
    choices: list[_Choice]
    usage: ChoicesUsage | None = None


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


def _only_text(choice: _Choice, expected: int) -> Piece | None:
    """Return the one text that one of `expected` choices says, null if it says more, or nothing.

    So are nearly all events of a stream: what is left out are the questions that all of it answers.
    """
    delta = choice.delta
    if delta is None or choice.finish_reason is not None or not 0 <= choice.index < expected:
        return None
    if delta.tool_calls or delta.reasoning_content or delta.refusal or not delta.content:
        return None
    return Piece(_TEXT, delta.content, 0, choice.index)


class ChatAnswer:
    """One chat exchange's answer. Keeps the released text by choice and kind if it goes out whole."""

    __slots__ = (
        "_calls",
        "_chunk_head",
        "_head",
        "_request",
        "_request_id",
        "_text",
        "_text_heads",
    )

    def __init__(self, request: ChatRequest, *, request_id: str, created_s: int) -> None:
        self._request = request
        self._request_id = request_id
        # How every body begins, before its `object`: joined, not built anew.
        self._head = b'{"id":"chatcmpl-%b","created":%d,"model":%b,"object":' % (
            request_id.encode(),
            created_s,
            encode_json(request.model),
        )
        # One choice's chunk is this, its index, its delta and the tail.
        self._chunk_head = b""
        if request.stream:
            self._chunk_head = b'data: %b%b,"choices":[{"index":' % (self._head, _CHUNK)
        self._text: dict[tuple[int, PartKind], list[str]] = {}
        self._calls: dict[tuple[int, int], dict[str, Any]] = {}
        # Of each choice that has begun, what stands before a text of its own: so are nearly all events.
        self._text_heads: dict[int, bytes] = {}

    @property
    def choices(self) -> int:
        """How many choices were asked for."""
        return self._request.choices

    # Reading.

    def _read(self, data: bytes) -> _Body:
        body = decode_answer(_DECODER, data, "an answer")
        check_choices(body.choices, self.choices)
        return body

    def parse_whole(self, data: bytes) -> Answer:
        """Return what a whole answer says; raises `UpstreamAnswerError`."""
        body = self._read(data)
        if len(body.choices) == self._request.choices == 1:
            message = body.choices[0].message
            if message is not None:
                check_ended(body.choices)
                return answer_of(body.choices, body.usage, _pieces(message, 0))
        messages = {choice.index: choice.message for choice in body.choices}
        if len(messages) != self._request.choices or None in messages.values():
            raise UpstreamAnswerError(
                f"expected {self._request.choices} choices with a message, got {len(messages)}"
            )
        check_ended(body.choices)
        pieces: list[Piece] = []
        for index, message in messages.items():
            if message is not None:
                pieces += _pieces(message, index)
        return answer_of(body.choices, body.usage, pieces)

    def parse_event(self, event: SseEvent) -> Answer:
        """Return what an event of a stream says; raises `UpstreamAnswerError`."""
        told = ended_or_empty(event)
        if told is not None:
            return told
        body = decode_answer(_DECODER, event.data, "an answer")
        choices = body.choices
        if len(choices) == 1 and body.usage is None:
            text = _only_text(choices[0], self._request.choices)
            if text is not None:
                return Answer(pieces=(text,))
        check_choices(choices, self._request.choices)
        pieces = []
        for choice in choices:
            if choice.delta is not None:
                pieces += _pieces(choice.delta, choice.index)
        return answer_of(choices, body.usage, pieces)

    # Writing.

    def release(self, piece: Piece, text: str) -> bytes:
        """Note that `text` may leave as a part of `piece`; return the event that carries it."""
        head = self._text_heads.get(piece.choice) if piece.kind is _TEXT else None
        if head is not None:
            return head + encode_json(text) + _TEXT_TAIL
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
        if choice not in self._text_heads:
            self._text_heads[choice] = b'%b%d,"delta":{"content":' % (self._chunk_head, choice)
            delta = b'"role":"assistant",' + delta if delta else b'"role":"assistant"'
        reason = b"null" if finish is None else REASONS[finish]
        tail = b'},"finish_reason":%b}]%b}\n\n' % (reason, more)
        return self._chunk_head + b'%d,"delta":{' % choice + delta + tail

    def last(self, end: AnswerEnd) -> bytes:
        """Return the last events of a stream."""
        more = note_of(end)
        events = [
            self._chunk(choice, b"", end.finishes[choice], more)
            for choice in range(self._request.choices)
        ]
        if self._request.wants_usage:
            told = (self._head, _CHUNK, usage_of(end))
            events.append(b'data: %b%b,"choices":[],"usage":%b}\n\n' % told)
        return b"".join((*events, DONE))

    def whole(self, end: AnswerEnd) -> bytes:
        """Return the whole answer as one body."""
        messages = [(self._message(choice), end.finishes[choice]) for choice in range(self.choices)]
        return self._body(messages, end)

    def refusal(self, text: str, end: AnswerEnd) -> bytes:
        """Return a completion that holds our refusal and nothing of an answer."""
        filtered = dict.fromkeys(range(self._request.choices), FinishReason.CONTENT_FILTER)
        if self._request.stream:
            delta = b'"content":null,"refusal":' + encode_json(text)
            events = [self._chunk(choice, delta) for choice in filtered]
            return b"".join(events) + self.last(msgspec.structs.replace(end, finishes=filtered))
        message = b'{"role":"assistant","content":null,"refusal":%b}' % encode_json(text)
        return self._body([(message, reason) for reason in filtered.values()], end)

    def _body(self, messages: list[tuple[bytes, FinishReason]], end: AnswerEnd) -> bytes:
        choices = [
            b'{"index":%d,"message":%b,"finish_reason":%b}' % (index, message, REASONS[reason])
            for index, (message, reason) in enumerate(messages)
        ]
        more = note_of(end)
        return b'%b"chat.completion","choices":[%b],"usage":%b%b}' % (
            self._head,
            b",".join(choices),
            usage_of(end),
            more,
        )

    def _message(self, choice: int) -> bytes:
        texts = self._text
        content = "".join(texts.get((choice, _TEXT), ()))
        more = b""
        if len(texts) > 1 or not content:
            for name, kind in _BESIDE_CONTENT:
                found = texts.get((choice, kind))
                if found is not None:
                    more += b',"%b":%b' % (name, encode_json("".join(found)))
        if self._calls:
            calls = [self._calls[key] for key in sorted(self._calls) if key[0] == choice]
            if calls:
                more += b',"tool_calls":%b' % encode_json(calls)
        return b'{"role":"assistant","content":%b%b}' % (encode_json(content), more)
