"""Anthropic messages, the content of a request: blocks, system, tools, and what they say as parts.

Invariants
- A block's fields are allow-listed by name; a block that no safeguard can read (a document, a
  server tool's) is refused, and the error names it. Images stand in a user's turn and in a tool's
  result, by the rules of `images`.
- Neighbouring text blocks become one text, as one part: what is split over blocks is inspected as
  the model reads it. Between them stands `JOIN`, in an assistant's turn nothing. Text before and
  after an image is two texts.
- A turn or a result that holds images alone is an empty part: it still divides an agent's steps.
- Opaque content never goes upstream: thinking blocks and their signatures, `cache_control`.
- An object (a call's input, a schema) is sent as it was parsed. It is inspected as JSON, and where
  that has escapes also as the texts in it.

Follows the Anthropic API reference, "Create a Message" (2023-06-01 and 2026-10-21).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from gatelift.encoding import encode_json
from gatelift.gateway.dialects.fields import arguments_parts, check_keys, schema_parts
from gatelift.gateway.dialects.images import read_source
from gatelift.gateway.dialects.request import DialectError, expect, expect_only
from gatelift.safeguards import Part, PartKind

__all__ = [
    "JOIN",
    "drop_cache_control",
    "images_in",
    "read_message",
    "read_system",
    "read_tool",
]

JOIN: Final = "\n\n"
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TEXT: Final = frozenset({"type", "text", "cache_control", "citations"})
_TOOL_USE: Final = frozenset({"type", "id", "name", "input", "cache_control"})
_TOOL_RESULT: Final = frozenset({"type", "tool_use_id", "content", "is_error", "cache_control"})
_TOOL: Final = frozenset({"type", "name", "description", "input_schema", "strict", "cache_control"})
_OPAQUE: Final = {
    "thinking": frozenset({"type", "thinking", "signature"}),
    "redacted_thinking": frozenset({"type", "data"}),
}
_IMAGE: Final = frozenset({"type", "source", "cache_control"})
_UNREADABLE: Final = frozenset({"document", "container_upload", "search_result"})
_BLOCKS: Final = {
    "user": frozenset({"text", "image", "tool_result"}),
    "result": frozenset({"text", "image"}),
    "assistant": frozenset({"text", "tool_use", *_OPAQUE}),
}
_ROLES: Final = frozenset({"user", "assistant"})
_KINDS: Final = {
    "user": PartKind.USER,
    "result": PartKind.TOOL_RESULT,
    "assistant": PartKind.ASSISTANT_TEXT,
}


def drop_cache_control(value: dict[str, Any], param: str) -> None:
    """Return if there is none or it is an object: it is never sent on."""
    if value.get("cache_control") is not None:
        expect(value["cache_control"], dict, f"{param}.cache_control".removeprefix("."))


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield key
            yield from _strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)


def _id(value: object, param: str) -> str:
    # Some chat templates show it to the model, so it may hold no words of its own.
    text = expect(value, str, param)
    if not _ID.fullmatch(text):
        raise DialectError(f"expected {param} of 1 to 64 of A-Z a-z 0-9 _ -", param=param)
    return text


def _block(value: object, param: str, kinds: frozenset[str]) -> dict[str, Any]:
    block = expect(value, dict, param)
    kind, here = block.get("type"), f"{param}.type"
    if isinstance(kind, str) and kind in _UNREADABLE:
        raise DialectError(
            f"{param} is of type {kind}, which no safeguard reads: send its text",
            param=here,
        )
    if not isinstance(kind, str) or kind not in kinds:
        raise DialectError(f"expected {here} to be one of {sorted(kinds)}", param=here)
    drop_cache_control(block, param)
    return block


def _text(block: dict[str, Any], param: str) -> str:
    expect_only(block, _TEXT, param)
    if block.get("citations"):
        raise DialectError(
            f"{param}.citations is not accepted here: leave it out", param=f"{param}.citations"
        )
    return expect(block.get("text"), str, f"{param}.text")


def _joined(value: object, param: str) -> str:
    if isinstance(value, str):
        return value
    only_text = frozenset({"text"})
    return JOIN.join(
        _text(_block(item, f"{param}[{number}]", only_text), f"{param}[{number}]")
        for number, item in enumerate(expect(value, list, param))
    )


def read_system(value: object) -> str:
    """Return the text of `system`, empty where it is null; raises `DialectError`."""
    return "" if value is None else _joined(value, "system")


def _tool_use(block: dict[str, Any], param: str) -> tuple[dict[str, Any], list[Part]]:
    expect_only(block, _TOOL_USE, param)
    name = expect(block.get("name"), str, f"{param}.name")
    given = expect(block.get("input"), dict, f"{param}.input")
    sent = {
        "type": "tool_use",
        "id": _id(block.get("id"), f"{param}.id"),
        "name": name,
        "input": given,
    }
    named = Part(kind=PartKind.TOOL_CALL_NAME, text=name)
    check_keys(given, f"{param}.input")
    return sent, [named, *arguments_parts(encode_json(given).decode("utf-8"))]


def _tool_result(block: dict[str, Any], param: str) -> tuple[dict[str, Any], list[Part]]:
    expect_only(block, _TOOL_RESULT, param)
    said, parts = _result_content(block.get("content"), f"{param}.content")
    sent: dict[str, Any] = {
        "type": "tool_result",
        "tool_use_id": _id(block.get("tool_use_id"), f"{param}.tool_use_id"),
        "content": said,
    }
    if block.get("is_error") is not None:
        sent["is_error"] = expect(block["is_error"], bool, f"{param}.is_error")
    return sent, parts


def _result_content(value: object, param: str) -> tuple[str | list[dict[str, Any]], list[Part]]:
    if isinstance(value, list) and any(_is_image(item) for item in value):
        sent, parts = _blocks(value, param, "result")
        return sent, parts or [Part(kind=PartKind.TOOL_RESULT, text="")]
    text = "" if value is None else _joined(value, param)
    return text, [Part(kind=PartKind.TOOL_RESULT, text=text)]


def _is_image(value: object) -> bool:
    return isinstance(value, dict) and value.get("type") == "image"


def _image(block: dict[str, Any], param: str) -> tuple[dict[str, Any], list[Part]]:
    expect_only(block, _IMAGE, param)
    return {"type": "image", "source": read_source(block.get("source"), f"{param}.source")}, []


def images_in(message: dict[str, Any]) -> int:
    """Return how many images a message holds, as it is sent."""
    content = message.get("content")
    blocks = content if isinstance(content, list) else []
    return sum(1 if block["type"] == "image" else images_in(block) for block in blocks)


def _blocks(items: list[Any], param: str, role: str) -> tuple[list[dict[str, Any]], list[Part]]:
    sent: list[dict[str, Any]] = []
    parts: list[Part] = []
    texts: list[str] = []

    def end_text() -> None:
        if texts:
            text = ("" if role == "assistant" else JOIN).join(texts)
            sent.append({"type": "text", "text": text})
            parts.append(Part(kind=_KINDS[role], text=text))
            texts.clear()

    for number, item in enumerate(items):
        here = f"{param}[{number}]"
        block = _block(item, here, _BLOCKS[role])
        kind = block["type"]
        if kind == "text":
            texts.append(_text(block, here))
            continue
        if kind in _OPAQUE:
            expect_only(block, _OPAQUE[kind], here)
            continue
        end_text()
        one, more = _READERS[kind](block, here)
        sent.append(one)
        parts.extend(more)
    end_text()
    return sent, parts


_READERS: Final = {"tool_use": _tool_use, "tool_result": _tool_result, "image": _image}


def read_message(value: object, param: str) -> tuple[dict[str, Any], list[Part]]:
    """Return a message as it is sent on, and its parts; raises `DialectError`."""
    message = expect(value, dict, param)
    expect_only(message, frozenset({"role", "content"}), param)
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise DialectError(
            f"expected {param}.role to be user or assistant; a system prompt goes in `system`",
            param=f"{param}.role",
        )
    content = message.get("content")
    if isinstance(content, str):
        return {"role": role, "content": content}, [Part(kind=_KINDS[role], text=content)]
    here = f"{param}.content"
    sent, parts = _blocks(expect(content, list, here), here, role)
    if not sent:
        raise DialectError(f"expected {here} to hold more than thinking", param=here)
    return {"role": role, "content": sent}, parts or [Part(kind=_KINDS[role], text="")]


def read_tool(value: object, param: str) -> tuple[dict[str, Any], list[Part]]:
    """Return a tool's declaration as it is sent on, and its parts; raises `DialectError`."""
    tool = expect(value, dict, param)
    if tool.get("type") not in (None, "custom"):
        raise DialectError(
            f"{param}.type names a tool that a server would run: only your own tools are accepted",
            param=f"{param}.type",
        )
    expect_only(tool, _TOOL, param)
    drop_cache_control(tool, param)
    name = expect(tool.get("name"), str, f"{param}.name")
    schema = expect(tool.get("input_schema"), dict, f"{param}.input_schema")
    sent: dict[str, Any] = {"name": name}
    parts = [Part(kind=PartKind.TOOL_DECLARATION, text=name)]
    if tool.get("description") is not None:
        sent["description"] = expect(tool["description"], str, f"{param}.description")
        parts.append(Part(kind=PartKind.SYSTEM, text=sent["description"]))
    sent["input_schema"] = schema
    if tool.get("strict") is not None:
        sent["strict"] = expect(tool["strict"], bool, f"{param}.strict")
    return sent, [*parts, *schema_parts(schema, f"{param}.input_schema")]
