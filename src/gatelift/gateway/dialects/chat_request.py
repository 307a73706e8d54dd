"""Chat completions, the request: what is read, what is inspected, what is sent.

Invariants
- As `request`; `EDITS` is the closed list of what differs between what came and what is sent.
- The candidate is what we send: its system prompt comes first, its sampling always.

Follows the OpenAI API reference, "Create chat completion", as of 2026-10.
"""

from __future__ import annotations

from typing import Any, Final

from gatelift.encoding import encode_json
from gatelift.gateway.dialects.fields import (
    MAX_CHOICES,
    arguments_parts,
    read_call_id,
    read_choices,
    read_end_user,
    read_function,
    read_schema_format,
    read_stops,
    read_usage_wanted,
    told_apart,
)
from gatelift.gateway.dialects.images import MAX_IMAGES, read_detail, read_image
from gatelift.gateway.dialects.request import (
    DialectError,
    ModelRequest,
    check_fields,
    expect,
    expect_only,
    expect_positive,
    parse_body,
    read_bool,
)
from gatelift.plan import Candidate
from gatelift.safeguards import Part, PartKind

__all__ = ["EDITS", "MAX_CHOICES", "ChatRequest", "parse_chat", "upstream_chat"]

EDITS: Final = (
    "model_set",
    "system_prompt_prepended",
    "sampling_set",
    "max_tokens_set",
    "usage_requested",
    "metadata_dropped",
    "texts_joined",
)

_MAX_MESSAGES = 256
_FIXED: Final = frozenset({"temperature", "top_p", "seed", "presence_penalty", "frequency_penalty"})
_KNOWN: Final = frozenset(
    {
        "model",
        "messages",
        "max_tokens",
        "max_completion_tokens",
        "stream",
        "stream_options",
        "stop",
        "n",
        "user",
        "safety_identifier",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "metadata",
        "response_format",
    }
)
_ROLE_KINDS: Final = {
    "system": PartKind.SYSTEM,
    "developer": PartKind.SYSTEM,
    "user": PartKind.USER,
    "assistant": PartKind.ASSISTANT_TEXT,
    "tool": PartKind.TOOL_RESULT,
}


class ChatRequest(ModelRequest, frozen=True, kw_only=True):
    """A chat request. `conversation` is its messages as they are sent on."""

    conversation: tuple[dict[str, Any], ...]
    wants_usage: bool
    stop: tuple[str, ...]
    tools: tuple[dict[str, Any], ...]
    tool_choice: str | dict[str, Any] | None
    parallel_tool_calls: bool | None
    response_format: dict[str, Any] | None


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


def _message(value: object, param: str) -> tuple[dict[str, Any], list[Part], int]:
    message = expect(value, dict, param)
    expect_only(message, frozenset({"role", "content", "tool_calls", "tool_call_id"}), param)
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


def _tool(value: object, param: str) -> tuple[dict[str, Any], list[Part]]:
    tool = expect(value, dict, param)
    expect_only(tool, frozenset({"type", "function"}), param)
    if tool.get("type", "function") != "function":
        raise DialectError(f"expected {param}.type to be 'function'", param=f"{param}.type")
    function = expect(tool.get("function"), dict, f"{param}.function")
    return {"type": "function", "function": function}, read_function(function, f"{param}.function")


def _response_format(body: dict[str, Any]) -> tuple[dict[str, Any] | None, list[Part]]:
    value = body.get("response_format")
    if value is None:
        return None, []
    form = expect(value, dict, "response_format")
    if form in ({"type": "text"}, {"type": "json_object"}):
        return form, []
    expect_only(form, frozenset({"type", "json_schema"}), "response_format")
    if form.get("type") != "json_schema":
        raise DialectError(
            "expected response_format.type text, json_object or json_schema",
            param="response_format.type",
        )
    spec = expect(form.get("json_schema"), dict, "response_format.json_schema")
    return form, read_schema_format(spec, "response_format.json_schema")


def _limit(body: dict[str, Any]) -> int | None:
    named = [name for name in ("max_tokens", "max_completion_tokens") if body.get(name) is not None]
    if len(named) > 1:
        raise DialectError("write max_tokens or max_completion_tokens, not both", param=named[1])
    return expect_positive(body[named[0]], named[0]) if named else None


def _tool_choice(body: dict[str, Any], declared: frozenset[str]) -> str | dict[str, Any] | None:
    value = body.get("tool_choice")
    if value is None or value in ("none", "auto", "required"):
        return value if isinstance(value, str) else None
    choice = value if isinstance(value, dict) else {}
    function = choice.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    wanted = {"type": "function", "function": {"name": name}}
    if not isinstance(name, str) or choice != wanted or name not in declared:
        raise DialectError(
            "expected tool_choice none, auto, required or a function that `tools` declares",
            param="tool_choice",
        )
    return choice


def _listed(body: dict[str, Any]) -> list[Any]:
    listed = expect(body.get("messages"), list, "messages")
    if not 1 <= len(listed) <= _MAX_MESSAGES:
        raise DialectError(
            f"expected 1 to {_MAX_MESSAGES} messages, got {len(listed)}", param="messages"
        )
    return listed


def parse_chat(data: bytes) -> ChatRequest:
    """Return the request in a body; raises `DialectError` that names the field."""
    body = parse_body(data)
    check_fields(body, _KNOWN, _FIXED)
    messages = [_message(item, f"messages[{n}]") for n, item in enumerate(_listed(body))]
    images = sum(count for _, _, count in messages)
    if images > MAX_IMAGES:
        raise DialectError(f"expected at most {MAX_IMAGES} images, got {images}", param="messages")
    declared = body.get("tools")
    tools = [
        _tool(item, f"tools[{number}]")
        for number, item in enumerate([] if declared is None else expect(declared, list, "tools"))
    ]
    form, form_parts = _response_format(body)
    said = [part for _, more in tools for part in more] + form_parts
    parts, readings = told_apart([*said, *(part for _, more, _ in messages for part in more)])
    parallel = body.get("parallel_tool_calls")
    return ChatRequest(
        model=expect(body.get("model"), str, "model"),
        conversation=tuple(sent for sent, _, _ in messages),
        messages=len(messages),
        parts=parts,
        readings=readings,
        stream=read_bool(body, "stream"),
        wants_usage=read_usage_wanted(body),
        max_tokens=_limit(body),
        choices=read_choices(body),
        stop=read_stops(body),
        tools=tuple(sent for sent, _ in tools),
        tool_choice=_tool_choice(body, frozenset(sent["function"]["name"] for sent, _ in tools)),
        parallel_tool_calls=(
            None if parallel is None else expect(parallel, bool, "parallel_tool_calls")
        ),
        response_format=form,
        images=images,
        end_user=read_end_user(body),
    )


def upstream_chat(chat: ChatRequest, candidate: Candidate, *, model: str, max_tokens: int) -> bytes:
    """Return the body that goes upstream, written from the parsed form and the candidate."""
    messages: list[dict[str, Any]] = []
    if candidate.model_part.system_prompt is not None:
        messages.append({"role": "system", "content": candidate.model_part.system_prompt})
    messages.extend(chat.conversation)
    sampling = candidate.serving_part.sampling
    body: dict[str, Any] = {
        "model": model,
        "messages": messages,
        "max_tokens": max_tokens,
        "temperature": float(sampling.temperature),
        "top_p": float(sampling.top_p),
        "n": chat.choices,
        "stream": chat.stream,
    }
    if chat.stream:
        body["stream_options"] = {"include_usage": True}
    if chat.stop:
        body["stop"] = list(chat.stop)
    if chat.response_format is not None:
        body["response_format"] = chat.response_format
    if chat.tools:
        body["tools"] = list(chat.tools)
        if chat.tool_choice is not None:
            body["tool_choice"] = chat.tool_choice
        if chat.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = chat.parallel_tool_calls
    return encode_json(body)
