"""Chat completions, the request: what is read, what is inspected, what is sent.

Invariants
- As `request`; `EDITS` is the closed list of what differs between what came and what is sent.
- The candidate is what we send: its system prompt comes first, its sampling always.

Follows the OpenAI API reference, "Create chat completion", as of 2026-10.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from gatelift.encoding import MAX_SAFE_INTEGER, encode_json
from gatelift.gateway.dialects.chat_messages import (
    PlainMessage,
    plain_part,
    read_message,
)
from gatelift.gateway.dialects.fields import (
    MAX_CHOICES,
    read_choices,
    read_end_user,
    read_function,
    read_schema_format,
    read_stops,
    read_usage_wanted,
    told_apart,
)
from gatelift.gateway.dialects.images import MAX_IMAGES
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
from gatelift.safeguards import Part

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


_UNSET: Final = msgspec.UNSET
_Limit = Annotated[int, msgspec.Meta(ge=1, le=MAX_SAFE_INTEGER)]


class _PlainBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What most bodies hold, without a null: nothing else needs to be looked for."""

    model: str
    messages: Annotated[list[PlainMessage], msgspec.Meta(min_length=1, max_length=_MAX_MESSAGES)]
    max_tokens: _Limit | msgspec.UnsetType = msgspec.UNSET
    max_completion_tokens: _Limit | msgspec.UnsetType = msgspec.UNSET
    stream: bool | msgspec.UnsetType = msgspec.UNSET
    safety_identifier: (
        Annotated[str, msgspec.Meta(max_length=MAX_END_USER_CHARS)] | msgspec.UnsetType
    ) = msgspec.UNSET


_PLAIN: Final = msgspec.json.Decoder(_PlainBody)


class ChatRequest(ModelRequest, frozen=True, kw_only=True):
    """A chat request. `conversation` is its messages as they are sent on."""

    conversation: tuple[dict[str, Any] | PlainMessage, ...]
    wants_usage: bool = False
    stop: tuple[str, ...] = ()
    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None


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
    old, new = body.get("max_tokens"), body.get("max_completion_tokens")
    if new is None:
        return None if old is None else expect_positive(old, "max_tokens")
    if old is not None:
        raise DialectError(
            "write max_tokens or max_completion_tokens, not both", param="max_completion_tokens"
        )
    return expect_positive(new, "max_completion_tokens")


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


def _parse_plain(data: bytes) -> ChatRequest | None:
    """Return the request in a body that is plain and surely strict, null for any other.

    The typed decoder refuses everything that `parse_any_chat` does, but for a key that stands twice,
    of which it keeps the last, and U+0000. Each key and each text stands between two quotes, so where
    there are no more quotes than for those that were kept, no key stood twice.
    """
    try:
        body = _PLAIN.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    messages, user = body.messages, body.safety_identifier
    old, new, stream = body.max_tokens, body.max_completion_tokens, body.stream
    strings = 3 + 4 * len(messages)
    strings += 2 * (user is not _UNSET) + (stream is not _UNSET)
    strings += (old is not _UNSET) + (new is not _UNSET)
    if _quotes(data) != 2 * strings or (old is not _UNSET and new is not _UNSET):
        return None
    limit = old if new is _UNSET else new
    return ChatRequest(
        model=body.model,
        conversation=tuple(map(_sent, messages)),
        messages=len(messages),
        parts=tuple(map(plain_part, messages)),
        stream=stream is True,
        max_tokens=None if limit is _UNSET else limit,
        end_user="" if user is _UNSET else user,
    )


def _sent(message: PlainMessage) -> PlainMessage:
    """Return a plain message as it is sent on: what a developer says, the system says."""
    return PlainMessage("system", message.content) if message.role == "developer" else message


def _quotes(data: bytes) -> int:
    """Return how many quotes begin or end a string in a JSON text, -1 where that is not plain."""
    quotes = data.count(b'"')
    if b"\\" not in data:
        return quotes
    # A quote behind two backslashes may be either; a NUL is for `parse_any_chat` to refuse.
    if b'\\\\"' in data or b"\\u0000" in data:
        return -1
    return quotes - data.count(b'\\"')


def parse_chat(data: bytes) -> ChatRequest:
    """Return the request in a body; raises `DialectError` that names the field."""
    return _parse_plain(data) or parse_any_chat(data)


def parse_any_chat(data: bytes) -> ChatRequest:
    """Return the request in a body, whatever it holds, or say what is wrong with it."""
    body = parse_body(data)
    check_fields(body, _KNOWN, _FIXED)
    messages = [read_message(item, f"messages[{n}]") for n, item in enumerate(_listed(body))]
    images = sum([count for _, _, count in messages])
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
    messages: list[dict[str, Any] | PlainMessage] = []
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
