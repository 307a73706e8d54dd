"""Responses, the output: what was released, as items, and the events that carry it.

Invariants
- Ids and numbers are ours. One item holds all reasoning, one all that is said; each call is one of
  its own: how the upstream cut its answer into items is not passed on.
- Events come in the order that the API gives them: added, deltas, done; numbered from 0.

Follows the OpenAI API reference, "Responses: streaming events".
"""

from __future__ import annotations

from typing import Any

from gatelift.encoding import encode_json
from gatelift.gateway.dialects.dialect import Piece
from gatelift.safeguards import PartKind

__all__ = ["ResponsesOutput"]

_COMPLETED = "completed"
_ONGOING = "in_progress"


class _Part:
    """One part of the message: what is said, or a refusal."""

    def __init__(self, kind: PartKind, index: int) -> None:
        said = kind is PartKind.ASSISTANT_TEXT
        self.index = index
        self.type, self.field = ("output_text", "text") if said else ("refusal", "refusal")
        self.texts: list[str] = []

    def json(self) -> dict[str, Any]:
        made: dict[str, Any] = {"type": self.type, self.field: "".join(self.texts)}
        return made | {"annotations": [], "logprobs": []} if self.type == "output_text" else made


class _Item:
    """One item of the output: `message`, `reasoning` or `function_call`."""

    def __init__(self, kind: str, index: int, ids: dict[str, str]) -> None:
        self.kind = kind
        self.index = index
        self.ids = ids
        self.parts: dict[PartKind, _Part] = {}
        self.name = ""
        self.texts: list[str] = []

    def json(self, status: str) -> dict[str, Any]:
        made: dict[str, Any] = {"type": self.kind, **self.ids, "status": status}
        match self.kind:
            case "message":
                parts = [part.json() for part in self.parts.values()]
                return made | {"role": "assistant", "content": parts}
            case "reasoning":
                summary = [{"type": "summary_text", "text": "".join(self.texts)}]
                return made | {"summary": summary if self.texts else []}
            case _:
                return made | {"name": self.name, "arguments": "".join(self.texts)}


class ResponsesOutput:
    """The items of one response. Each method returns the events that say what it did."""

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._items: dict[str, _Item] = {}
        self._sequence = 0

    def event(self, kind: str, **fields: Any) -> bytes:
        """Return one event, numbered."""
        body = encode_json({"type": kind, "sequence_number": self._sequence, **fields})
        self._sequence += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), body)

    def items(self, status: str = _COMPLETED) -> list[dict[str, Any]]:
        """Return the items as they stand."""
        return [item.json(status) for item in self._items.values()]

    def add(self, piece: Piece, text: str) -> bytes:
        """Return the events that carry `text` as a part of `piece`."""
        match piece.kind:
            case PartKind.REASONING:
                return self._reason(text)
            case PartKind.TOOL_CALL_NAME | PartKind.TOOL_CALL_ARGUMENTS:
                return self._call(piece, text)
            case _:
                return self._say(piece.kind, text)

    def _open(self, key: str, kind: str, ids: dict[str, str], name: str = "") -> bytes:
        item = self._items[key] = _Item(kind, len(self._items), ids)
        item.name = name
        return self.event(
            "response.output_item.added", output_index=item.index, item=item.json(_ONGOING)
        )

    def _reason(self, text: str) -> bytes:
        out = b""
        if "reasoning" not in self._items:
            out = self._open("reasoning", "reasoning", {"id": f"rs_{self._request_id}"})
            out += self.event(
                "response.reasoning_summary_part.added",
                **self._at(self._items["reasoning"]),
                summary_index=0,
                part={"type": "summary_text", "text": ""},
            )
        item = self._items["reasoning"]
        item.texts.append(text)
        return out + self.event(
            "response.reasoning_summary_text.delta", **self._at(item), summary_index=0, delta=text
        )

    def _say(self, kind: PartKind, text: str) -> bytes:
        out = b""
        if "message" not in self._items:
            out = self._open("message", "message", {"id": f"msg_{self._request_id}"})
        item = self._items["message"]
        part = item.parts.get(kind)
        if part is None:
            part = _Part(kind, len(item.parts))
            out += self.event(
                "response.content_part.added",
                **self._at(item),
                content_index=part.index,
                part=part.json(),
            )
            item.parts[kind] = part
        part.texts.append(text)
        more: dict[str, Any] = {"logprobs": []} if part.type == "output_text" else {}
        return out + self.event(
            f"response.{part.type}.delta",
            **self._at(item),
            content_index=part.index,
            delta=text,
            **more,
        )

    def _call(self, piece: Piece, text: str) -> bytes:
        key, named = f"call {piece.channel}", piece.kind is PartKind.TOOL_CALL_NAME
        out = b""
        if key not in self._items:
            number = f"{self._request_id}_{piece.channel}"
            ids = {"id": f"fc_{number}", "call_id": f"call_{number}"}
            out = self._open(key, "function_call", ids, text if named else "")
        if named:
            return out
        item = self._items[key]
        item.texts.append(text)
        return out + self.event(
            "response.function_call_arguments.delta", **self._at(item), delta=text
        )

    @staticmethod
    def _at(item: _Item) -> dict[str, Any]:
        return {"item_id": item.ids["id"], "output_index": item.index}

    def close(self, status: str = _COMPLETED) -> bytes:
        """Return the events that end every item."""
        return b"".join(self._done(item, status) for item in self._items.values())

    def _done(self, item: _Item, status: str) -> bytes:
        at, text = self._at(item), "".join(item.texts)
        out = b""
        match item.kind:
            case "reasoning":
                part = {"type": "summary_text", "text": text}
                out += self.event(
                    "response.reasoning_summary_text.done", **at, summary_index=0, text=text
                )
                out += self.event(
                    "response.reasoning_summary_part.done", **at, summary_index=0, part=part
                )
            case "message":
                for said in item.parts.values():
                    whole = said.json()
                    more = {said.field: whole[said.field], "content_index": said.index}
                    if said.type == "output_text":
                        more["logprobs"] = []
                    out += self.event(f"response.{said.type}.done", **at, **more)
                    out += self.event(
                        "response.content_part.done", **at, content_index=said.index, part=whole
                    )
            case _:
                out += self.event(
                    "response.function_call_arguments.done", **at, name=item.name, arguments=text
                )
        return out + self.event(
            "response.output_item.done", output_index=item.index, item=item.json(status)
        )
