"""Responses, the answer: read strictly, written anew.

Invariants
- As `dialect`: only named fields are read, everything else is dropped.
- A stream ends in order with `response.completed` or `response.incomplete` only. What the upstream
  calls failed, or just stops, is broken and never read as an end.
- Text that comes only at the end of a part, without a delta, is read there.

Follows the OpenAI API reference, "The response object" and "Responses: streaming events".
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from gatelift.encoding import encode_json
from gatelift.gateway.dialects.dialect import (
    Answer,
    AnswerEnd,
    FinishReason,
    Piece,
    TokenCount,
    UpstreamAnswerError,
    decode_answer,
)
from gatelift.gateway.dialects.responses_output import ResponsesOutput
from gatelift.gateway.dialects.responses_request import ResponsesRequest
from gatelift.safeguards import PartKind
from gatelift.wire.sse import SseEvent

__all__ = ["ResponsesAnswer"]

_NOTHING: Final = Answer()
_REASONS: Final = {
    "max_output_tokens": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
}
_INCOMPLETE: Final = {reason: name for name, reason in _REASONS.items()}
_DELTAS: Final = {
    "response.output_text.delta": PartKind.ASSISTANT_TEXT,
    "response.refusal.delta": PartKind.REFUSAL,
    "response.reasoning_summary_text.delta": PartKind.REASONING,
    "response.reasoning_text.delta": PartKind.REASONING,
}
_DONES: Final = {name.removesuffix("delta") + "done": kind for name, kind in _DELTAS.items()}
_CONTENTS: Final = {
    "output_text": PartKind.ASSISTANT_TEXT,
    "refusal": PartKind.REFUSAL,
    "summary_text": PartKind.REASONING,
    "reasoning_text": PartKind.REASONING,
}


class _Content(msgspec.Struct, frozen=True, gc=False):
    type: str
    text: str | None = None
    refusal: str | None = None


class _Item(msgspec.Struct, frozen=True, gc=False):
    type: str
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    content: list[_Content] | None = None
    summary: list[_Content] | None = None


class _Usage(msgspec.Struct, frozen=True, gc=False):
    input_tokens: TokenCount = 0
    output_tokens: TokenCount = 0


class _Details(msgspec.Struct, frozen=True, gc=False):
    reason: str | None = None


class _Response(msgspec.Struct, frozen=True, gc=False):
    status: str
    output: list[_Item] | None = None
    usage: _Usage | None = None
    incomplete_details: _Details | None = None


class _Event(msgspec.Struct, frozen=True, gc=False):
    type: str
    delta: str | None = None
    text: str | None = None
    refusal: str | None = None
    arguments: str | None = None
    item: _Item | None = None
    item_id: str | None = None
    output_index: int | None = None
    response: msgspec.Raw = msgspec.Raw()


_RESPONSE: Final = msgspec.json.Decoder(_Response)
_EVENT: Final = msgspec.json.Decoder(_Event)


class ResponsesAnswer:
    """One exchange's response."""

    choices = 1

    __slots__ = (
        "_begun",
        "_calls",
        "_count",
        "_head",
        "_output",
        "_parts_read",
        "_request",
        "_with_arguments",
    )

    def __init__(self, request: ResponsesRequest, *, request_id: str, created_s: int) -> None:
        self._request = request
        self._head = {
            "id": f"resp_{request_id}",
            "object": "response",
            "created_at": created_s,
            "model": request.model,
        }
        self._output = ResponsesOutput(request_id)
        self._begun = False
        self._calls: dict[str | int, int] = {}
        self._with_arguments: set[int] = set()
        self._parts_read: set[tuple[PartKind, str | None]] = set()
        self._count = 0

    # Reading.

    def parse_whole(self, data: bytes) -> Answer:
        """Return what a whole answer says; raises `UpstreamAnswerError`."""
        response = decode_answer(_RESPONSE, data, "a response")
        pieces = [piece for item in response.output or () for piece in self._item_pieces(item)]
        return self._ended(response, pieces)

    def _item_pieces(self, item: _Item) -> list[Piece]:
        if item.type == "function_call":
            return [*self._open_call(item, None), *self._arguments(self._count - 1, item.arguments)]
        if item.type not in ("message", "reasoning"):
            return []
        found = []
        for content in (*(item.summary or ()), *(item.content or ())):
            kind = _CONTENTS.get(content.type)
            text = content.refusal if kind is PartKind.REFUSAL else content.text
            if kind is not None and text:
                found.append(Piece(kind, text))
        return found

    def _ended(self, response: _Response, pieces: list[Piece]) -> Answer:
        usage = response.usage
        if response.status not in ("completed", "incomplete"):
            raise UpstreamAnswerError(f"a response of status {response.status[:20]!r}")
        finish = FinishReason.STOP
        if response.status == "incomplete":
            reason = response.incomplete_details.reason if response.incomplete_details else None
            finish = _REASONS.get(reason or "", FinishReason.LENGTH)
        return Answer(
            pieces=tuple(pieces),
            finishes=((0, finish),),
            input_tokens=usage.input_tokens if usage else None,
            output_tokens=usage.output_tokens if usage else None,
            ended=True,
        )

    def parse_event(self, event: SseEvent) -> Answer:
        """Return what an event of a stream says; raises `UpstreamAnswerError`."""
        if not event.data or event.data == b"[DONE]":
            return _NOTHING
        told = decode_answer(_EVENT, event.data, "an event of a response")
        if told.type in ("response.completed", "response.incomplete"):
            return self._ended(decode_answer(_RESPONSE, told.response, "a response"), [])
        if told.type in ("response.failed", "error"):
            raise UpstreamAnswerError("the model server says that the response failed")
        pieces = self._told(told)
        return Answer(pieces=tuple(pieces)) if pieces else _NOTHING

    def _told(self, told: _Event) -> list[Piece]:
        kind = _DELTAS.get(told.type)
        if kind is not None:
            self._parts_read.add((kind, told.item_id))
            return [Piece(kind, told.delta)] if told.delta else []
        kind = _DONES.get(told.type)
        if kind is not None:
            text = told.refusal if kind is PartKind.REFUSAL else told.text
            seen = (kind, told.item_id) in self._parts_read
            return [Piece(kind, text)] if text and not seen else []
        if told.type == "response.function_call_arguments.delta":
            return self._arguments(self._call_of(told), told.delta)
        if told.type == "response.function_call_arguments.done":
            return self._late_arguments(self._call_of(told), told.arguments)
        item = told.item
        if item is None or item.type != "function_call":
            return []
        if told.type == "response.output_item.added":
            return self._open_call(item, told.output_index)
        if told.type == "response.output_item.done":
            known = self._known(item.id, item.call_id, told.output_index)
            opened = self._open_call(item, told.output_index) if known is None else []
            channel = self._count - 1 if known is None else known
            return [*opened, *self._late_arguments(channel, item.arguments)]
        return []

    def _open_call(self, item: _Item, output_index: int | None) -> list[Piece]:
        channel = self._count
        self._count += 1
        for key in (item.id, item.call_id, output_index):
            if key is not None:
                self._calls[key] = channel
        return [Piece(PartKind.TOOL_CALL_NAME, item.name or "", channel)]

    def _known(self, *keys: str | int | None) -> int | None:
        return next((self._calls[key] for key in keys if key in self._calls), None)

    def _call_of(self, told: _Event) -> int:
        found = self._known(told.item_id, told.output_index)
        if found is None:
            raise UpstreamAnswerError("arguments of a call that was never named")
        return found

    def _arguments(self, channel: int, text: str | None) -> list[Piece]:
        if not text:
            return []
        self._with_arguments.add(channel)
        return [Piece(PartKind.TOOL_CALL_ARGUMENTS, text, channel)]

    def _late_arguments(self, channel: int, text: str | None) -> list[Piece]:
        return [] if channel in self._with_arguments else self._arguments(channel, text)

    # Writing.

    def release(self, piece: Piece, text: str) -> bytes:
        """Note that `text` may leave as a part of `piece`; return the events that carry it."""
        if not self._request.stream:
            self._output.add(piece, text)
            return b""
        return self._begin() + self._output.add(piece, text)

    def _begin(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        response = self._response("in_progress", [])
        return b"".join(
            self._output.event(kind, response=response)
            for kind in ("response.created", "response.in_progress")
        )

    def last(self, end: AnswerEnd) -> bytes:
        """Return the last events of a stream."""
        status = _status(end)
        begin, closed = self._begin(), self._output.close(status)
        final = self._output.event(f"response.{status}", response=self._final(end))
        return begin + closed + final

    def whole(self, end: AnswerEnd) -> bytes:
        """Return the whole answer as one body."""
        return encode_json(self._final(end))

    def refusal(self, text: str, end: AnswerEnd) -> bytes:
        """Return a response that holds our refusal and nothing of an answer."""
        filtered = msgspec.structs.replace(end, finishes={0: FinishReason.CONTENT_FILTER})
        said = self.release(Piece(PartKind.REFUSAL, text), text)
        return said + self.last(filtered) if self._request.stream else self.whole(filtered)

    def _final(self, end: AnswerEnd) -> dict[str, Any]:
        status = _status(end)
        reason = _INCOMPLETE.get(end.finishes[0])
        made = self._response(status, self._output.items(status))
        made["incomplete_details"] = None if reason is None else {"reason": reason}
        made["usage"] = {
            "input_tokens": end.input_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": end.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": end.input_tokens + end.output_tokens,
        }
        return made | (end.note or {})

    def _response(self, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
        asked = self._request
        return {
            **self._head,
            "status": status,
            "output": output,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "parallel_tool_calls": asked.parallel_tool_calls is not False,
            "previous_response_id": None,
            "store": False,
            "tool_choice": "auto" if asked.tool_choice is None else asked.tool_choice,
            "tools": list(asked.tools),
            "truncation": "disabled",
            "usage": None,
        }


def _status(end: AnswerEnd) -> str:
    return "incomplete" if end.finishes[0] in _INCOMPLETE else "completed"
