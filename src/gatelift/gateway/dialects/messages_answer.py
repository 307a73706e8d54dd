"""Anthropic messages, the answer to the caller: written anew from what was released.

Invariants
- Blocks are ours: numbered from 0 in the order in which they are released, one open at a time.
- Ids are ours, and no signature is passed on: thinking carries an empty one.
- `message_start` counts nothing yet; `message_delta` says the tokens that the exchange is charged.
- A call whose input was cut off is left out of a whole answer, which then ends as a refusal; in a
  stream its input stays incomplete, and the stream says what cut it.
- A refusal of the gateway's begins with `MARK`: it can't be taken for words of the model.

Follows the Anthropic API reference, "Create a Message" and "Streaming messages".
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from gatelift.encoding import encode_json
from gatelift.gateway.dialects.dialect import Answer, AnswerEnd, FinishReason, Piece
from gatelift.gateway.dialects.messages_read import MessagesReader
from gatelift.gateway.dialects.messages_request import MessagesRequest
from gatelift.safeguards import PartKind
from gatelift.wire.sse import SseEvent

__all__ = ["MARK", "MessagesAnswer"]

MARK: Final = "[From the gateway, not from the model] "
_REASONS: Final = {
    FinishReason.STOP: "end_turn",
    FinishReason.LENGTH: "max_tokens",
    FinishReason.TOOL_CALLS: "tool_use",
    FinishReason.CONTENT_FILTER: "refusal",
}
_STOP: Final = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_PING: Final = b'event: ping\ndata: {"type":"ping"}\n\n'
_DELTA: Final = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
    b'"delta":{"type":"%b","%b":%b}}\n\n'
)
_DELTAS: Final = {
    PartKind.ASSISTANT_TEXT: (b"text_delta", b"text"),
    PartKind.REASONING: (b"thinking_delta", b"thinking"),
    PartKind.TOOL_CALL_ARGUMENTS: (b"input_json_delta", b"partial_json"),
}


class _Block:
    """A block of the caller's answer: what it says so far."""

    __slots__ = ("channel", "head", "is_call", "kind", "texts")

    def __init__(self, kind: PartKind, channel: int, head: dict[str, Any]) -> None:
        self.kind = kind
        self.channel = channel
        self.head = head
        self.is_call = kind is PartKind.TOOL_CALL_NAME
        self.texts: list[str] = []

    def takes(self, piece: Piece) -> bool:
        """Say whether a piece goes on with this block."""
        same = self.is_call if piece.kind is PartKind.TOOL_CALL_ARGUMENTS else False
        return piece.channel == self.channel and (same or piece.kind is self.kind)


def _event(name: str, fields: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), encode_json({"type": name, **fields}))


def _object(text: str) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None


class MessagesAnswer:
    """One messages exchange's answer."""

    choices = 1

    __slots__ = (
        "_begun",
        "_block",
        "_blocks",
        "_count",
        "_reader",
        "_request",
        "_request_id",
        "_unfinished",
    )

    def __init__(self, request: MessagesRequest, *, request_id: str) -> None:
        self._request = request
        self._request_id = request_id
        self._reader = MessagesReader(request.stop)
        self._begun = False
        self._count = 0
        self._block: _Block | None = None
        self._blocks: list[_Block] = []
        self._unfinished = False

    def parse_whole(self, data: bytes) -> Answer:
        """Return what a whole answer says; raises `UpstreamAnswerError`."""
        return self._reader.whole(data)

    def parse_event(self, event: SseEvent) -> Answer:
        """Return what an event of a stream says; raises `UpstreamAnswerError`."""
        return self._reader.event(event)

    def release(self, piece: Piece, text: str) -> bytes:
        """Note that `text` may leave as a part of `piece`; return the events that carry it."""
        block, begin = self._block, b""
        if block is None or not block.takes(piece):
            block, begin = self._start(piece, text)
        if not self._request.stream:
            if piece.kind is not PartKind.TOOL_CALL_NAME:
                block.texts.append(text)
            return b""
        if piece.kind is PartKind.TOOL_CALL_NAME:
            return begin
        kind, field = _DELTAS[piece.kind]
        return begin + _DELTA % (self._count - 1, kind, field, encode_json(text))

    def _start(self, piece: Piece, text: str) -> tuple[_Block, bytes]:
        head: dict[str, Any]
        match piece.kind:
            case PartKind.REASONING:
                head = {"type": "thinking", "thinking": "", "signature": ""}
            case PartKind.TOOL_CALL_NAME:
                call_id = f"toolu_{self._request_id}_{piece.channel}"
                head = {"type": "tool_use", "id": call_id, "name": text, "input": {}}
            case _:
                head = {"type": "text", "text": ""}
        begin = b""
        if self._request.stream:
            start = {"index": self._count, "content_block": head}
            begin = self._begin() + self._close() + _event("content_block_start", start)
        self._block = _Block(piece.kind, piece.channel, head)
        self._blocks.append(self._block)
        self._count += 1
        return self._block, begin

    def _begin(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        usage = {"input_tokens": 0, "output_tokens": 0}
        return _event("message_start", {"message": self._message([], None, usage)}) + _PING

    def _close(self) -> bytes:
        if self._block is None:
            return b""
        self._block = None
        return _event("content_block_stop", {"index": self._count - 1})

    def _message(
        self, content: list[dict[str, Any]], reason: str | None, usage: dict[str, int]
    ) -> dict[str, Any]:
        return {
            "id": f"msg_{self._request_id}",
            "type": "message",
            "role": "assistant",
            "model": self._request.model,
            "content": content,
            "stop_reason": reason,
            "stop_sequence": None,
            "usage": usage,
        }

    def _stopped(self, finish: FinishReason, said: str | None = None) -> dict[str, Any]:
        sequence = self._reader.stop_sequence if finish is FinishReason.STOP else None
        reason = _REASONS[finish] if sequence is None else "stop_sequence"
        fields: dict[str, Any] = {"stop_reason": reason, "stop_sequence": sequence}
        if finish is FinishReason.CONTENT_FILTER:
            details = {"type": "refusal", "category": None, "explanation": said}
            fields["stop_details"] = details
        return fields

    def last(self, end: AnswerEnd) -> bytes:
        """Return the last events of a stream."""
        finish = end.finishes[0]
        return self._begin() + self._close() + self._end(self._stopped(finish), end)

    def _end(self, stopped: dict[str, Any], end: AnswerEnd) -> bytes:
        fields = {"delta": stopped, "usage": _usage(end), **(end.note or {})}
        return _event("message_delta", fields) + _STOP

    def whole(self, end: AnswerEnd) -> bytes:
        """Return the whole answer as one body."""
        content = [said for said in map(self._said, self._blocks) if said is not None]
        finish = end.finishes[0]
        if self._unfinished and finish is FinishReason.TOOL_CALLS:
            finish = FinishReason.CONTENT_FILTER
        return self._body(content, self._stopped(finish), end)

    def _said(self, block: _Block) -> dict[str, Any] | None:
        text = "".join(block.texts)
        match block.kind:
            case PartKind.TOOL_CALL_NAME:
                given = _object(text)
                self._unfinished = self._unfinished or given is None
                return None if given is None else {**block.head, "input": given}
            case PartKind.REASONING:
                return {**block.head, "thinking": text}
            case _:
                return {**block.head, "text": text}

    def refusal(self, text: str, end: AnswerEnd) -> bytes:
        """Return a message that holds our refusal, marked as ours, and nothing of an answer."""
        stopped = self._stopped(FinishReason.CONTENT_FILTER, text)
        if not self._request.stream:
            return self._body([{"type": "text", "text": MARK + text}], stopped, end)
        said = self.release(Piece(PartKind.ASSISTANT_TEXT, text), MARK + text)
        return said + self._close() + self._end(stopped, end)

    def _body(
        self, content: list[dict[str, Any]], stopped: dict[str, Any], end: AnswerEnd
    ) -> bytes:
        message = self._message(content, None, _usage(end))
        return encode_json(message | stopped | (end.note or {}))


def _usage(end: AnswerEnd) -> dict[str, int]:
    return {"input_tokens": end.input_tokens, "output_tokens": end.output_tokens}
