"""One message of a chat: its texts as parts, and what is sent of it.

Invariants
- As `request`; every text of a message is a `Part`, in the order in which it is sent.
- A message is written anew: its role first, then its content, its calls and the id it answers.

Follows the OpenAI API reference, "Create chat completion", `messages`, as of 2026-10.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

import msgspec

from gatelift.gateway.dialects.fields import arguments_parts, read_call_id
from gatelift.gateway.dialects.images import read_detail, read_image
from gatelift.gateway.dialects.request import DialectError, expect, expect_only
from gatelift.safeguards import Part, PartKind

__all__ = ["ChatMessage", "PlainMessage", "plain_part", "read_message"]

ChatMessage: TypeAlias = tuple[dict[str, Any], list[Part], int]
"""A message as it is sent, its texts, and how many images it holds."""

_MESSAGE: Final = frozenset({"role", "content", "tool_calls", "tool_call_id"})
_ROLE_KINDS: Final = {
    "system": PartKind.SYSTEM,
    "developer": PartKind.SYSTEM,
    "user": PartKind.USER,
    "assistant": PartKind.ASSISTANT_TEXT,
    "tool": PartKind.TOOL_RESULT,
}


def _content_text(value: object, param: str) -> str:
    if isinstance(value, str):
        return value
    listed = expect(value, list, param)
    return "".join(_text(item, f"{param}[{number}]") for number, item in enumerate(listed))


def _text(value: object, param: str) -> str:
    item = expect(value, dict, param)
    expect_only(item, frozenset({"type", "text"}), param)
    if item.get("type") != "text":
        raise DialectError(f"expected {param}.type to be 'text'", param=f"{param}.type")
    return expect(item.get("text"), str, f"{param}.text")


def _user_content(value: object, param: str) -> tuple[str | list[dict[str, Any]], list[Part], int]:
    """Return what is sent of a user's content, its texts, and how many images it holds."""
    if isinstance(value, str) or not any(
        isinstance(item, dict) and item.get("type") == "image_url"
        for item in expect(value, list, param)
    ):
        text = _content_text(value, param)
        return text, [Part(kind=PartKind.USER, text=text)], 0
    sent: list[dict[str, Any]] = []
    parts: list[Part] = []
    for number, item in enumerate(expect(value, list, param)):
        here = f"{param}[{number}]"
        if isinstance(item, dict) and item.get("type") == "image_url":
            sent.append(_image(item, here))
            continue
        text = _text(item, here)
        sent.append({"type": "text", "text": text})
        parts.append(Part(kind=PartKind.USER, text=text))
    return sent, parts, len(sent) - len(parts)


def _image(item: dict[str, Any], param: str) -> dict[str, Any]:
    expect_only(item, frozenset({"type", "image_url"}), param)
    image = expect(item.get("image_url"), dict, f"{param}.image_url")
    expect_only(image, frozenset({"url", "detail"}), f"{param}.image_url")
    made = {"url": read_image(image.get("url"), f"{param}.image_url.url")}
    detail = read_detail(image.get("detail"), f"{param}.image_url.detail")
    if detail is not None:
        made["detail"] = detail
    return {"type": "image_url", "image_url": made}


def _tool_call(value: object, param: str) -> tuple[dict[str, Any], list[Part]]:
    call = expect(value, dict, param)
    expect_only(call, frozenset({"id", "type", "function"}), param)
    function = expect(call.get("function"), dict, f"{param}.function")
    expect_only(function, frozenset({"name", "arguments"}), f"{param}.function")
    name = expect(function.get("name"), str, f"{param}.function.name")
    arguments = expect(function.get("arguments"), str, f"{param}.function.arguments")
    sent = {
        "id": read_call_id(call.get("id"), f"{param}.id"),
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }
    parts = [
        Part(kind=PartKind.TOOL_CALL_NAME, text=name),
        *arguments_parts(arguments),
    ]
    return sent, parts


class PlainMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A message that is a role and a text and nothing else, as nearly all are.

    It is read straight from the bytes, and written as any other message is.
    """

    role: Literal["system", "developer", "user", "assistant"]
    content: str


def plain_part(message: PlainMessage) -> Part:
    """Return the one text of a plain message."""
    return Part(kind=_ROLE_KINDS[message.role], text=message.content)


def read_message(value: object, param: str) -> ChatMessage:
    """Return a message in its parsed form; raises `DialectError` that names the field."""
    message = expect(value, dict, param)
    expect_only(message, _MESSAGE, param)
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLE_KINDS:
        raise DialectError(
            f"expected {param}.role to be one of {sorted(_ROLE_KINDS)}", param=f"{param}.role"
        )
    sent: dict[str, Any] = {"role": "system" if role == "developer" else role}
    parts: list[Part] = []
    images = 0
    content = message.get("content")
    if role == "user":
        sent["content"], parts, images = _user_content(content, f"{param}.content")
    elif content is not None or role != "assistant":
        text = _content_text(content, f"{param}.content")
        sent["content"] = text
        parts.append(Part(kind=_ROLE_KINDS[role], text=text))
    if "tool_calls" in message:
        if role != "assistant":
            raise DialectError(f"{param}.tool_calls belongs to an assistant", param=param)
        calls = [
            _tool_call(call, f"{param}.tool_calls[{number}]")
            for number, call in enumerate(expect(message["tool_calls"], list, param))
        ]
        sent["tool_calls"] = [call for call, _ in calls]
        for _, more in calls:
            parts.extend(more)
    if role == "tool":
        sent["tool_call_id"] = read_call_id(message.get("tool_call_id"), f"{param}.tool_call_id")
    return sent, parts, images
