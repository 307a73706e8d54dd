"""The OpenAI chat dialect: what is read, what is inspected, what is sent.

Invariants
- What was inspected is what is sent: the upstream body is written from the parsed form, never from
  the caller's bytes. `EDITS` is the closed list of what differs.
- Fields are allow-listed by name. Any other field is refused by name, so that no engine-specific
  field reaches the upstream unseen.
- The candidate is what we send: its system prompt comes first, its sampling always.
- Every text that the model will read is a `Part` for the safeguards.

Follows the OpenAI API reference, "Create chat completion", as of 2026-10.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from gatelift.encoding import EncodingError, encode_json, parse_json
from gatelift.errors import CallerError
from gatelift.plan import Candidate
from gatelift.safeguards import Part, PartKind

__all__ = ["EDITS", "ChatRequest", "DialectError", "parse_chat", "upstream_body"]

EDITS: Final = (
    "model_set",
    "system_prompt_prepended",
    "sampling_set",
    "max_tokens_set",
    "usage_requested",
    "metadata_dropped",
)

_MAX_MESSAGES = 256
_MAX_STOPS = 4
_MAX_USER_CHARS = 64
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


class DialectError(CallerError):
    """The body is not a request of this dialect. `param` names the field."""

    code = "invalid_request"

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.param = param


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request in its parsed form. `max_tokens` is what the caller asked for, or null."""

    model: str
    messages: tuple[dict[str, Any], ...]
    parts: tuple[Part, ...]
    stream: bool
    wants_usage: bool
    max_tokens: int | None
    stop: tuple[str, ...]
    tools: tuple[dict[str, Any], ...]
    tool_choice: str | None
    end_user: str


def _expect(value: object, kind: type, param: str) -> Any:
    # bool is an int in Python and never one in JSON.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise DialectError(
            f"expected {param} to be of type {kind.__name__}, got {type(value).__name__}",
            param=param,
        )
    return value


def _only(value: dict[str, Any], allowed: frozenset[str], param: str) -> None:
    for name in value:
        if name not in allowed:
            raise DialectError(
                f"{param}.{name[:60]} is not accepted here: leave it out",
                param=f"{param}.{name[:60]}",
            )


def _content_text(value: object, param: str) -> str:
    if isinstance(value, str):
        return value
    texts = []
    for number, item in enumerate(_expect(value, list, param)):
        here = f"{param}[{number}]"
        _only(_expect(item, dict, here), frozenset({"type", "text"}), here)
        if item.get("type") != "text":
            raise DialectError(f"expected {here}.type to be 'text'", param=f"{here}.type")
        texts.append(_expect(item.get("text"), str, f"{here}.text"))
    return "".join(texts)


def _call_id(value: object, param: str) -> str:
    # Some chat templates show it to the model, so it may hold no words of its own.
    text = str(_expect(value, str, param))
    if not _CALL_ID.fullmatch(text):
        raise DialectError(f"expected {param} of 1 to 64 of A-Z a-z 0-9 _ -", param=param)
    return text


def _tool_call(value: object, param: str) -> tuple[dict[str, Any], list[Part]]:
    call = _expect(value, dict, param)
    _only(call, frozenset({"id", "type", "function"}), param)
    function = _expect(call.get("function"), dict, f"{param}.function")
    _only(function, frozenset({"name", "arguments"}), f"{param}.function")
    name = _expect(function.get("name"), str, f"{param}.function.name")
    arguments = _expect(function.get("arguments"), str, f"{param}.function.arguments")
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
    message = _expect(value, dict, param)
    _only(message, frozenset({"role", "content", "tool_calls", "tool_call_id"}), param)
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
            for number, call in enumerate(_expect(message["tool_calls"], list, param))
        ]
        sent["tool_calls"] = [call for call, _ in calls]
        for _, more in calls:
            parts.extend(more)
    if role == "tool":
        sent["tool_call_id"] = _call_id(message.get("tool_call_id"), f"{param}.tool_call_id")
    return sent, parts


def _tool(value: object, param: str) -> tuple[dict[str, Any], list[Part]]:
    tool = _expect(value, dict, param)
    _only(tool, frozenset({"type", "function"}), param)
    function = _expect(tool.get("function"), dict, f"{param}.function")
    _only(function, frozenset({"name", "description", "parameters", "strict"}), f"{param}.function")
    name = _expect(function.get("name"), str, f"{param}.function.name")
    parts = [Part(kind=PartKind.TOOL_DECLARATION, text=name)]
    if "strict" in function:
        _expect(function["strict"], bool, f"{param}.function.strict")
    if "description" in function:
        text = _expect(function["description"], str, f"{param}.function.description")
        parts.append(Part(kind=PartKind.SYSTEM, text=text))
    if "parameters" in function:
        # A schema's texts reach the model too: they are inspected as one text.
        schema = _expect(function["parameters"], dict, f"{param}.function.parameters")
        parts.append(Part(kind=PartKind.SYSTEM, text=encode_json(schema).decode("utf-8")))
    return {"type": "function", "function": function}, parts


def _limit(body: dict[str, Any]) -> int | None:
    named = [name for name in ("max_tokens", "max_completion_tokens") if body.get(name) is not None]
    if len(named) > 1:
        raise DialectError("write max_tokens or max_completion_tokens, not both", param=named[1])
    if not named:
        return None
    value = int(_expect(body[named[0]], int, named[0]))
    if value < 1:
        raise DialectError(f"expected {named[0]} of 1 or more, got {value}", param=named[0])
    return value


def _stops(body: dict[str, Any]) -> tuple[str, ...]:
    value = body.get("stop")
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else _expect(value, list, "stop")
    if len(stops) > _MAX_STOPS:
        raise DialectError(f"expected at most {_MAX_STOPS} stop texts", param="stop")
    return tuple(_expect(stop, str, "stop") for stop in stops)


def _check_fields(body: dict[str, Any]) -> None:
    for name in body:
        if name in _FIXED:
            raise DialectError(
                f"{name} is part of the candidate and cannot be chosen by a caller: leave it out",
                param=name,
                code="fixed_by_candidate",
            )
        if name not in _KNOWN:
            raise DialectError(
                f"{name[:60]} is not accepted by this gateway: leave it out",
                param=name[:60],
                code="unknown_field",
            )
    if body.get("n") not in (None, 1):
        raise DialectError("expected n to be 1: one choice is served", param="n")


def _end_user(body: dict[str, Any]) -> str:
    for name in ("safety_identifier", "user"):
        if body.get(name) is not None:
            value = str(_expect(body[name], str, name))
            if len(value) > _MAX_USER_CHARS:
                raise DialectError(
                    f"expected {name} of at most {_MAX_USER_CHARS} characters", param=name
                )
            return value
    return ""


def _tool_choice(body: dict[str, Any]) -> str | None:
    value = body.get("tool_choice")
    if value is not None and value not in ("none", "auto", "required"):
        raise DialectError("expected tool_choice none, auto or required", param="tool_choice")
    return None if value is None else str(value)


def parse_chat(data: bytes) -> ChatRequest:
    """Return the request in a body; raises `DialectError` that names the field."""
    try:
        body = parse_json(data)
    except EncodingError as error:
        raise DialectError(str(error), code=error.code) from error
    _expect(body, dict, "body")
    _check_fields(body)
    listed = _expect(body.get("messages"), list, "messages")
    if not 1 <= len(listed) <= _MAX_MESSAGES:
        raise DialectError(
            f"expected 1 to {_MAX_MESSAGES} messages, got {len(listed)}", param="messages"
        )
    messages = [_message(item, f"messages[{number}]") for number, item in enumerate(listed)]
    declared = body.get("tools")
    tools = [
        _tool(item, f"tools[{number}]")
        for number, item in enumerate([] if declared is None else _expect(declared, list, "tools"))
    ]
    parts = [part for _, more in (*tools, *messages) for part in more]
    stream = body.get("stream")
    options = body.get("stream_options")
    if options is not None:
        _only(
            _expect(options, dict, "stream_options"), frozenset({"include_usage"}), "stream_options"
        )
    return ChatRequest(
        model=_expect(body.get("model"), str, "model"),
        messages=tuple(sent for sent, _ in messages),
        parts=tuple(parts),
        stream=False if stream is None else bool(_expect(stream, bool, "stream")),
        wants_usage=bool(options and options.get("include_usage")),
        max_tokens=_limit(body),
        stop=_stops(body),
        tools=tuple(sent for sent, _ in tools),
        tool_choice=_tool_choice(body),
        end_user=_end_user(body),
    )


def upstream_body(chat: ChatRequest, candidate: Candidate, *, model: str, max_tokens: int) -> bytes:
    """Return the body that goes upstream, written from the parsed form and the candidate."""
    messages: list[dict[str, Any]] = []
    if candidate.model_part.system_prompt is not None:
        messages.append({"role": "system", "content": candidate.model_part.system_prompt})
    messages.extend(chat.messages)
    sampling = candidate.serving_part.sampling
    body: dict[str, Any] = {
        "model": model,
        "messages": messages,
        "max_tokens": max_tokens,
        "temperature": float(sampling.temperature),
        "top_p": float(sampling.top_p),
        "n": 1,
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
    return encode_json(body)
