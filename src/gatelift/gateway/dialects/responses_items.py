"""Responses, the items of an input: messages, calls and their results.

Invariants
- Every text of an item that is sent is a `Part`; an item of another kind is refused by name.
- Ids of ours that a caller hands back, annotations and reasoning are dropped, never sent. What
  nobody can read (`encrypted_content`) is refused, so that it can't be taken for passed on.

Follows the OpenAI API reference, "Create a model response", `input`.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from gatelift.gateway.dialects.fields import arguments_parts, read_call_id
from gatelift.gateway.dialects.images import read_detail, read_image
from gatelift.gateway.dialects.request import DialectError, expect, expect_only
from gatelift.safeguards import Part, PartKind

__all__ = ["ReadItem", "read_item"]

_ROLES: Final = {
    "system": PartKind.SYSTEM,
    "developer": PartKind.SYSTEM,
    "user": PartKind.USER,
    "assistant": PartKind.ASSISTANT_TEXT,
}
_MESSAGE: Final = frozenset({"type", "role", "content", "id", "status"})
_CALL: Final = frozenset({"type", "call_id", "name", "arguments", "id", "status"})
_RESULT: Final = frozenset({"type", "call_id", "output", "id", "status"})
_REASONING: Final = frozenset({"type", "id", "status", "summary", "content", "encrypted_content"})
_TEXTS: Final = {
    "input_text": frozenset({"type", "text"}),
    "output_text": frozenset({"type", "text", "annotations", "logprobs"}),
}


class ReadItem(NamedTuple):
    """An item as it is sent (null where it is dropped), its texts, and how many images it holds."""

    sent: dict[str, Any] | None
    parts: tuple[Part, ...]
    images: int = 0


def _text(value: object, param: str, *kinds: str) -> str:
    item = expect(value, dict, param)
    kind = item.get("type")
    if kind == "refusal" and "output_text" in kinds:
        expect_only(item, frozenset({"type", "refusal"}), param)
        return expect(item.get("refusal"), str, f"{param}.refusal")
    if not isinstance(kind, str) or kind not in kinds:
        raise DialectError(f"expected {param}.type {' or '.join(kinds)}", param=f"{param}.type")
    expect_only(item, _TEXTS[kind], param)
    return expect(item.get("text"), str, f"{param}.text")


def _joined(value: object, param: str, *kinds: str) -> str:
    if isinstance(value, str):
        return value
    listed = expect(value, list, param)
    return "".join(_text(item, f"{param}[{n}]", *kinds) for n, item in enumerate(listed))


def _image(item: dict[str, Any], param: str) -> dict[str, Any]:
    expect_only(item, frozenset({"type", "image_url", "detail"}), param)
    detail = read_detail(item.get("detail"), f"{param}.detail") or "auto"
    url = read_image(item.get("image_url"), f"{param}.image_url")
    return {"type": "input_image", "image_url": url, "detail": detail}


def _user_message(content: list[Any], param: str) -> ReadItem:
    sent: list[dict[str, Any]] = []
    parts: list[Part] = []
    for number, item in enumerate(content):
        here = f"{param}[{number}]"
        if isinstance(item, dict) and item.get("type") == "input_image":
            sent.append(_image(item, here))
            continue
        text = _text(item, here, "input_text")
        sent.append({"type": "input_text", "text": text})
        parts.append(Part(kind=PartKind.USER, text=text))
    message = {"type": "message", "role": "user", "content": sent}
    return ReadItem(message, tuple(parts), len(sent) - len(parts))


def _message(item: dict[str, Any], param: str) -> ReadItem:
    expect_only(item, _MESSAGE, param)
    role = item.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise DialectError(
            f"expected {param}.role to be one of {sorted(_ROLES)}", param=f"{param}.role"
        )
    content, here = item.get("content"), f"{param}.content"
    if role == "user" and isinstance(content, list):
        read = _user_message(content, here)
        if read.images:
            return read
    text = _joined(content, here, "output_text" if role == "assistant" else "input_text")
    sent = {
        "type": "message",
        "role": "system" if role == "developer" else role,
        "content": text,
    }
    return ReadItem(sent, (Part(kind=_ROLES[role], text=text),))


def _call(item: dict[str, Any], param: str) -> ReadItem:
    expect_only(item, _CALL, param)
    name = expect(item.get("name"), str, f"{param}.name")
    arguments = expect(item.get("arguments"), str, f"{param}.arguments")
    sent = {
        "type": "function_call",
        "call_id": read_call_id(item.get("call_id"), f"{param}.call_id"),
        "name": name,
        "arguments": arguments,
    }
    named = Part(kind=PartKind.TOOL_CALL_NAME, text=name)
    return ReadItem(sent, (named, *arguments_parts(arguments)))


def _result(item: dict[str, Any], param: str) -> ReadItem:
    expect_only(item, _RESULT, param)
    text = _joined(item.get("output"), f"{param}.output", "input_text")
    sent = {
        "type": "function_call_output",
        "call_id": read_call_id(item.get("call_id"), f"{param}.call_id"),
        "output": text,
    }
    return ReadItem(sent, (Part(kind=PartKind.TOOL_RESULT, text=text),))


def _reasoning(item: dict[str, Any], param: str) -> ReadItem:
    expect_only(item, _REASONING, param)
    if item.get("encrypted_content") is not None:
        raise DialectError(
            f"{param}.encrypted_content can't be inspected: leave it out",
            param=f"{param}.encrypted_content",
        )
    return ReadItem(None, ())


def read_item(value: object, param: str) -> ReadItem:
    """Return one item of an input; raises `DialectError` that names the field."""
    item = expect(value, dict, param)
    match item.get("type", "message"):
        case "message":
            return _message(item, param)
        case "function_call":
            return _call(item, param)
        case "function_call_output":
            return _result(item, param)
        case "reasoning":
            return _reasoning(item, param)
        case _:
            raise DialectError(
                f"expected {param}.type message, function_call, function_call_output or reasoning",
                param=f"{param}.type",
            )
