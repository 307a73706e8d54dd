"""Anthropic messages, the request: what is read, what is inspected, what is sent.

Invariants
- As `request`; `EDITS` is the closed list of what differs between what came and what is sent.
- The candidate is what we send: its system prompt comes first, its sampling always.
- Counting tokens is the same request without a limit: read and inspected alike.

Follows the Anthropic API reference, "Create a Message" and "Count tokens in a Message".
"""

from __future__ import annotations

from typing import Any, Final

from gatelift.encoding import encode_json
from gatelift.gateway.dialects.fields import told_apart
from gatelift.gateway.dialects.images import MAX_IMAGES
from gatelift.gateway.dialects.messages_content import (
    JOIN,
    drop_cache_control,
    images_in,
    read_message,
    read_system,
    read_tool,
)
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

__all__ = [
    "COUNT_BYTES",
    "EDITS",
    "MessagesRequest",
    "parse_count",
    "parse_messages",
    "upstream_count",
    "upstream_messages",
]

EDITS: Final = (
    "model_set",
    "system_prompt_prepended",
    "sampling_set",
    "max_tokens_set",
    "text_blocks_joined",
    "thinking_blocks_dropped",
    "cache_control_dropped",
    "metadata_dropped",
)

COUNT_BYTES: Final = 32
"""The most that the answer to a count may take."""
_MAX_MESSAGES = 256
_MAX_STOPS = 16
_MAX_USER_CHARS = 256
_FIXED: Final = frozenset({"temperature", "top_p", "top_k", "thinking"})
_COUNTED: Final = frozenset(
    {"model", "messages", "system", "tools", "tool_choice", "cache_control"}
)
_KNOWN: Final = _COUNTED | {"max_tokens", "stream", "stop_sequences", "metadata"}
_CHOICES: Final = frozenset({"auto", "any", "tool", "none"})


class MessagesRequest(ModelRequest, frozen=True, kw_only=True):
    """A messages request. `conversation` is its messages as they are sent on."""

    conversation: tuple[dict[str, Any], ...]
    system: str
    stop: tuple[str, ...]
    tools: tuple[dict[str, Any], ...]
    tool_choice: dict[str, Any] | None


def _stops(body: dict[str, Any]) -> tuple[str, ...]:
    value = body.get("stop_sequences")
    stops = [] if value is None else expect(value, list, "stop_sequences")
    if len(stops) > _MAX_STOPS:
        raise DialectError(f"expected at most {_MAX_STOPS} stop texts", param="stop_sequences")
    return tuple(expect(stop, str, "stop_sequences") for stop in stops)


def _end_user(body: dict[str, Any]) -> str:
    metadata = body.get("metadata")
    if metadata is None:
        return ""
    expect_only(expect(metadata, dict, "metadata"), frozenset({"user_id"}), "metadata")
    if metadata.get("user_id") is None:
        return ""
    value = expect(metadata["user_id"], str, "metadata.user_id")
    if len(value) > _MAX_USER_CHARS:
        raise DialectError(
            f"expected metadata.user_id of at most {_MAX_USER_CHARS} characters",
            param="metadata.user_id",
        )
    return value


def _tool_choice(body: dict[str, Any], declared: frozenset[str]) -> dict[str, Any] | None:
    value = body.get("tool_choice")
    if value is None:
        return None
    choice = expect(value, dict, "tool_choice")
    kind = choice.get("type")
    if not isinstance(kind, str) or kind not in _CHOICES:
        raise DialectError(
            f"expected tool_choice.type to be one of {sorted(_CHOICES)}", param="tool_choice.type"
        )
    more = {"tool": {"name", "disable_parallel_tool_use"}, "none": set()}
    allowed = frozenset({"type"} | more.get(kind, {"disable_parallel_tool_use"}))
    expect_only(choice, allowed, "tool_choice")
    if "disable_parallel_tool_use" in choice:
        param = "tool_choice.disable_parallel_tool_use"
        expect(choice["disable_parallel_tool_use"], bool, param)
    if kind == "tool":
        name = expect(choice.get("name"), str, "tool_choice.name")
        if name not in declared:
            raise DialectError(
                "expected tool_choice.name to be a tool that `tools` declares",
                param="tool_choice.name",
            )
    return choice


def _read(data: bytes, known: frozenset[str], *, counts: bool) -> MessagesRequest:
    body = parse_body(data)
    check_fields(body, known, _FIXED)
    drop_cache_control(body, "")
    listed = expect(body.get("messages"), list, "messages")
    if not 1 <= len(listed) <= _MAX_MESSAGES:
        raise DialectError(
            f"expected 1 to {_MAX_MESSAGES} messages, got {len(listed)}", param="messages"
        )
    system = read_system(body.get("system"))
    declared = body.get("tools")
    tools = [
        read_tool(item, f"tools[{number}]")
        for number, item in enumerate([] if declared is None else expect(declared, list, "tools"))
    ]
    messages = [read_message(item, f"messages[{number}]") for number, item in enumerate(listed)]
    images = sum(images_in(sent) for sent, _ in messages)
    if images > MAX_IMAGES:
        raise DialectError(f"expected at most {MAX_IMAGES} images, got {images}", param="messages")
    said = [Part(kind=PartKind.SYSTEM, text=system)] if system else []
    parts, readings = told_apart(
        [*said, *(part for _, more in (*tools, *messages) for part in more)]
    )
    return MessagesRequest(
        model=expect(body.get("model"), str, "model"),
        conversation=tuple(sent for sent, _ in messages),
        system=system,
        messages=len(messages) + (1 if system else 0),
        parts=parts,
        readings=readings,
        stream=read_bool(body, "stream"),
        max_tokens=None if counts else expect_positive(body.get("max_tokens"), "max_tokens"),
        stop=_stops(body),
        tools=tuple(sent for sent, _ in tools),
        tool_choice=_tool_choice(body, frozenset(sent["name"] for sent, _ in tools)),
        images=images,
        end_user=_end_user(body),
        end_user_field="metadata.user_id",
        generates=not counts,
        costs_input=not counts,
        data_bytes=COUNT_BYTES if counts else 0,
    )


def parse_messages(data: bytes) -> MessagesRequest:
    """Return the request in a body; raises `DialectError` that names the field."""
    return _read(data, _KNOWN, counts=False)


def parse_count(data: bytes) -> MessagesRequest:
    """Return the request whose tokens are to be counted; raises `DialectError`."""
    return _read(data, _COUNTED, counts=True)


def _upstream(asked: MessagesRequest, candidate: Candidate, model: str) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model, "messages": list(asked.conversation)}
    # One text: some servers would join the blocks of two, each in its own way.
    system = [text for text in (candidate.model_part.system_prompt, asked.system) if text]
    if system:
        body["system"] = JOIN.join(system)
    if asked.tools:
        body["tools"] = list(asked.tools)
        if asked.tool_choice is not None:
            body["tool_choice"] = asked.tool_choice
    return body


def upstream_messages(
    asked: MessagesRequest, candidate: Candidate, *, model: str, max_tokens: int
) -> bytes:
    """Return the body that goes upstream, written from the parsed form and the candidate."""
    sampling = candidate.serving_part.sampling
    body = _upstream(asked, candidate, model)
    body |= {
        "max_tokens": max_tokens,
        "temperature": float(sampling.temperature),
        "top_p": float(sampling.top_p),
        "stream": asked.stream,
    }
    if asked.stop:
        body["stop_sequences"] = list(asked.stop)
    return encode_json(body)


def upstream_count(asked: MessagesRequest, candidate: Candidate, *, model: str) -> bytes:
    """Return the body that asks the upstream to count, written as `upstream_messages` does."""
    return encode_json(_upstream(asked, candidate, model))
