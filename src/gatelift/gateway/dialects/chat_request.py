"""Chat completions, the request: what is read, what is inspected, what is sent.

Invariants
- As `request`; `EDITS` is the closed list of what differs between what came and what is sent.
- The candidate is what we send: its system prompt comes first, its sampling always.

Follows the OpenAI API reference, "Create chat completion", as of 2026-10.
"""

from __future__ import annotations

import re
from typing import Any, Final

from gatelift.encoding import encode_json
from gatelift.gateway.dialects.request import (
    MAX_END_USER_CHARS,
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

__all__ = ["EDITS", "MAX_CHOICES", "ChatRequest", "parse_chat", "read_end_user", "upstream_chat"]

EDITS: Final = (
    "model_set",
    "system_prompt_prepended",
    "sampling_set",
    "max_tokens_set",
    "usage_requested",
    "metadata_dropped",
)

MAX_CHOICES: Final = 8
_MAX_MESSAGES = 256
_MAX_STOPS = 4
_CALL_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
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


def _content_text(value: object, param: str) -> str:
    if isinstance(value, str):
        return value
    texts = []
    for number, item in enumerate(expect(value, list, param)):
        here = f"{param}[{number}]"
        expect_only(expect(item, dict, here), frozenset({"type", "text"}), here)
        if item.get("type") != "text":
            raise DialectError(f"expected {here}.type to be 'text'", param=f"{here}.type")
        texts.append(expect(item.get("text"), str, f"{here}.text"))
    return "".join(texts)


def _call_id(value: object, param: str) -> str:
    # Some chat templates show it to the model, so it may hold no words of its own.
    text = expect(value, str, param)
    if not _CALL_ID.fullmatch(text):
        raise DialectError(f"expected {param} of 1 to 64 of A-Z a-z 0-9 _ -", param=param)
    return text


def _tool_call(value: object, param: str) -> tuple[dict[str, Any], list[Part]]:
    call = expect(value, dict, param)
    expect_only(call, frozenset({"id", "type", "function"}), param)
    function = expect(call.get("function"), dict, f"{param}.function")
    expect_only(function, frozenset({"name", "arguments"}), f"{param}.function")
    name = expect(function.get("name"), str, f"{param}.function.name")
    arguments = expect(function.get("arguments"), str, f"{param}.function.arguments")
    sent = {
        "id": _call_id(call.get("id"), f"{param}.id"),
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }
    parts = [
        Part(kind=PartKind.TOOL_CALL_NAME, text=name),
        Part(kind=PartKind.TOOL_CALL_ARGUMENTS, text=arguments),
    ]
    return sent, parts


def _message(value: object, param: str) -> tuple[dict[str, Any], list[Part]]:
    message = expect(value, dict, param)
    expect_only(message, frozenset({"role", "content", "tool_calls", "tool_call_id"}), param)
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLE_KINDS:
        raise DialectError(
            f"expected {param}.role to be one of {sorted(_ROLE_KINDS)}", param=f"{param}.role"
        )
    sent: dict[str, Any] = {"role": "system" if role == "developer" else role}
    parts: list[Part] = []
    content = message.get("content")
    if content is not None or role != "assistant":
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
        sent["tool_call_id"] = _call_id(message.get("tool_call_id"), f"{param}.tool_call_id")
    return sent, parts


def _tool(value: object, param: str) -> tuple[dict[str, Any], list[Part]]:
    tool = expect(value, dict, param)
    expect_only(tool, frozenset({"type", "function"}), param)
    function = expect(tool.get("function"), dict, f"{param}.function")
    expect_only(
        function, frozenset({"name", "description", "parameters", "strict"}), f"{param}.function"
    )
    name = expect(function.get("name"), str, f"{param}.function.name")
    parts = [Part(kind=PartKind.TOOL_DECLARATION, text=name)]
    if "strict" in function:
        expect(function["strict"], bool, f"{param}.function.strict")
    if "description" in function:
        text = expect(function["description"], str, f"{param}.function.description")
        parts.append(Part(kind=PartKind.SYSTEM, text=text))
    if "parameters" in function:
        # A schema's texts reach the model too: they are inspected as one text.
        schema = expect(function["parameters"], dict, f"{param}.function.parameters")
        parts.append(Part(kind=PartKind.SYSTEM, text=encode_json(schema).decode("utf-8")))
    return {"type": "function", "function": function}, parts


def _limit(body: dict[str, Any]) -> int | None:
    named = [name for name in ("max_tokens", "max_completion_tokens") if body.get(name) is not None]
    if len(named) > 1:
        raise DialectError("write max_tokens or max_completion_tokens, not both", param=named[1])
    return expect_positive(body[named[0]], named[0]) if named else None


def _stops(body: dict[str, Any]) -> tuple[str, ...]:
    value = body.get("stop")
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else expect(value, list, "stop")
    if len(stops) > _MAX_STOPS:
        raise DialectError(f"expected at most {_MAX_STOPS} stop texts", param="stop")
    return tuple(expect(stop, str, "stop") for stop in stops)


def _choices(body: dict[str, Any]) -> int:
    value = body.get("n")
    choices = 1 if value is None else expect_positive(value, "n")
    if choices > MAX_CHOICES:
        raise DialectError(f"expected n of at most {MAX_CHOICES}, got {choices}", param="n")
    return choices


def read_end_user(body: dict[str, Any]) -> str:
    """Return who the caller says is behind the request, empty where it does not."""
    for name in ("safety_identifier", "user"):
        if body.get(name) is not None:
            value = expect(body[name], str, name)
            if len(value) > MAX_END_USER_CHARS:
                raise DialectError(
                    f"expected {name} of at most {MAX_END_USER_CHARS} characters", param=name
                )
            return value
    return ""


def _tool_choice(body: dict[str, Any], declared: frozenset[str]) -> str | dict[str, Any] | None:
    value = body.get("tool_choice")
    if value is None or value in ("none", "auto", "required"):
        return value if isinstance(value, str) else None
    choice = value if isinstance(value, dict) else {}
    function = choice.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    if choice != {"type": "function", "function": {"name": name}} or name not in declared:
        raise DialectError(
            "expected tool_choice none, auto, required or a function that `tools` declares",
            param="tool_choice",
        )
    return choice


def parse_chat(data: bytes) -> ChatRequest:
    """Return the request in a body; raises `DialectError` that names the field."""
    body = parse_body(data)
    check_fields(body, _KNOWN, _FIXED)
    listed = expect(body.get("messages"), list, "messages")
    if not 1 <= len(listed) <= _MAX_MESSAGES:
        raise DialectError(
            f"expected 1 to {_MAX_MESSAGES} messages, got {len(listed)}", param="messages"
        )
    messages = [_message(item, f"messages[{number}]") for number, item in enumerate(listed)]
    declared = body.get("tools")
    tools = [
        _tool(item, f"tools[{number}]")
        for number, item in enumerate([] if declared is None else expect(declared, list, "tools"))
    ]
    options = body.get("stream_options")
    if options is not None:
        expect_only(
            expect(options, dict, "stream_options"), frozenset({"include_usage"}), "stream_options"
        )
    parallel = body.get("parallel_tool_calls")
    return ChatRequest(
        model=expect(body.get("model"), str, "model"),
        conversation=tuple(sent for sent, _ in messages),
        messages=len(messages),
        parts=tuple(part for _, more in (*tools, *messages) for part in more),
        stream=read_bool(body, "stream"),
        wants_usage=bool(options and options.get("include_usage")),
        max_tokens=_limit(body),
        choices=_choices(body),
        stop=_stops(body),
        tools=tuple(sent for sent, _ in tools),
        tool_choice=_tool_choice(body, frozenset(sent["function"]["name"] for sent, _ in tools)),
        parallel_tool_calls=(
            None if parallel is None else expect(parallel, bool, "parallel_tool_calls")
        ),
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
    if chat.tools:
        body["tools"] = list(chat.tools)
        if chat.tool_choice is not None:
            body["tool_choice"] = chat.tool_choice
        if chat.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = chat.parallel_tool_calls
    return encode_json(body)
