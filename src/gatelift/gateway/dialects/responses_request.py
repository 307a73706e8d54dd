"""Responses, the request: what is read, what is inspected, what is sent.

Invariants
- As `request`; `EDITS` is the closed list of what differs between what came and what is sent.
- The candidate is what we send: its system prompt goes as `instructions`, the caller's own follow
  as the first message; its sampling goes always.
- Nothing is kept upstream: `store` is always false, and what would need a memory of earlier
  exchanges is refused by name.
- Reasoning handed back by a caller is dropped: the model never reads it.

Follows the OpenAI API reference, "Create a model response", as of 2026-10.
"""

from __future__ import annotations

from typing import Any, Final

from gatelift.encoding import encode_json
from gatelift.gateway.dialects.fields import (
    read_end_user,
    read_function,
    read_schema_format,
    told_apart,
)
from gatelift.gateway.dialects.images import MAX_IMAGES
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
from gatelift.gateway.dialects.responses_items import ReadItem, read_item
from gatelift.plan import Candidate
from gatelift.safeguards import Part, PartKind

__all__ = ["EDITS", "ResponsesRequest", "parse_responses", "upstream_responses"]

EDITS: Final = (
    "model_set",
    "system_prompt_as_instructions",
    "instructions_as_message",
    "sampling_set",
    "max_output_tokens_set",
    "store_off",
    "metadata_dropped",
    "item_ids_dropped",
    "reasoning_dropped",
    "texts_joined",
)

_MAX_ITEMS = 256
# The last event says the whole answer again, and the request with it.
_EVENT_BYTES = 4 * 1024 * 1024
_STATEFUL: Final = {
    "background": "ask without it and read the answer of the same request",
    "store": "nothing is kept here: write store: false or leave it out",
    "previous_response_id": "send the whole conversation in `input`",
    "conversation": "send the whole conversation in `input`",
    "prompt": "send the text itself in `input` and `instructions`",
}
_FIXED: Final = frozenset({"temperature", "top_p", "reasoning"})
_KNOWN: Final = frozenset(
    {
        "model",
        "input",
        "instructions",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "max_output_tokens",
        "stream",
        "text",
        "include",
        "truncation",
        "metadata",
        "user",
        "safety_identifier",
        *_STATEFUL,
    }
)


class ResponsesRequest(ModelRequest, frozen=True, kw_only=True):
    """A request for a response. `items` is its input as it is sent on."""

    items: tuple[dict[str, Any], ...]
    instructions: str | None
    tools: tuple[dict[str, Any], ...]
    tool_choice: str | dict[str, Any] | None
    parallel_tool_calls: bool | None
    text_format: dict[str, Any] | None


def _refuse_state(body: dict[str, Any]) -> None:
    for name, instead in _STATEFUL.items():
        if body.get(name) not in (None, False):
            raise DialectError(
                f"{name} would need a memory of other exchanges: {instead}",
                param=name,
                code="stateful",
            )
    if body.get("include") not in (None, []):
        raise DialectError("nothing more can be included: leave it out", param="include")
    if body.get("truncation") not in (None, "disabled"):
        raise DialectError(
            "what was inspected is what is sent: shorten the input yourself", param="truncation"
        )


def _input(body: dict[str, Any]) -> list[ReadItem]:
    value = body.get("input")
    if isinstance(value, str):
        return [read_item({"role": "user", "content": value}, "input")]
    listed = expect(value, list, "input")
    if not 1 <= len(listed) <= _MAX_ITEMS:
        raise DialectError(f"expected 1 to {_MAX_ITEMS} items, got {len(listed)}", param="input")
    return [read_item(item, f"input[{number}]") for number, item in enumerate(listed)]


def _tool(value: object, param: str) -> tuple[dict[str, Any], list[Part]]:
    tool = dict(expect(value, dict, param))
    if tool.pop("type", None) != "function":
        raise DialectError(
            f"expected {param}.type to be 'function': no tool of the model server is open here",
            param=f"{param}.type",
        )
    return {"type": "function", **tool}, read_function(tool, param)


def _tool_choice(body: dict[str, Any], declared: frozenset[str]) -> str | dict[str, Any] | None:
    value = body.get("tool_choice")
    if value is None or value in ("none", "auto", "required"):
        return value if isinstance(value, str) else None
    choice = value if isinstance(value, dict) else {}
    name = choice.get("name")
    wanted = {"type": "function", "name": name}
    if not isinstance(name, str) or choice != wanted or name not in declared:
        raise DialectError(
            "expected tool_choice none, auto, required or a function that `tools` declares",
            param="tool_choice",
        )
    return choice


def _text_format(body: dict[str, Any]) -> tuple[dict[str, Any] | None, list[Part]]:
    if body.get("text") is None:
        return None, []
    text = expect(body["text"], dict, "text")
    expect_only(text, frozenset({"format"}), "text")
    if text.get("format") is None:
        return None, []
    form = expect(text["format"], dict, "text.format")
    if form in ({"type": "text"}, {"type": "json_object"}):
        return form, []
    spec = dict(form)
    if spec.pop("type", None) != "json_schema":
        raise DialectError(
            "expected text.format.type text, json_object or json_schema", param="text.format.type"
        )
    return form, read_schema_format(spec, "text.format")


def _instructions(body: dict[str, Any]) -> str | None:
    value = body.get("instructions")
    return None if value is None else expect(value, str, "instructions")


def parse_responses(data: bytes) -> ResponsesRequest:
    """Return the request in a body; raises `DialectError` that names the field."""
    body = parse_body(data)
    check_fields(body, _KNOWN, _FIXED)
    _refuse_state(body)
    items = _input(body)
    images = sum(item.images for item in items)
    if images > MAX_IMAGES:
        raise DialectError(f"expected at most {MAX_IMAGES} images, got {images}", param="input")
    sent = tuple(item.sent for item in items if item.sent is not None)
    if not sent:
        raise DialectError("expected an item that the model can read", param="input")
    declared = body.get("tools")
    tools = [
        _tool(item, f"tools[{number}]")
        for number, item in enumerate([] if declared is None else expect(declared, list, "tools"))
    ]
    form, form_parts = _text_format(body)
    instructions = _instructions(body)
    said = [part for _, more in tools for part in more] + form_parts
    if instructions is not None:
        said.append(Part(kind=PartKind.SYSTEM, text=instructions))
    parts, readings = told_apart([*said, *(part for item in items for part in item.parts)])
    limit, parallel = body.get("max_output_tokens"), body.get("parallel_tool_calls")
    return ResponsesRequest(
        model=expect(body.get("model"), str, "model"),
        items=sent,
        instructions=instructions,
        messages=len(sent) + (instructions is not None),
        parts=parts,
        readings=readings,
        stream=read_bool(body, "stream"),
        max_tokens=None if limit is None else expect_positive(limit, "max_output_tokens"),
        tools=tuple(tool for tool, _ in tools),
        tool_choice=_tool_choice(body, frozenset(tool["name"] for tool, _ in tools)),
        parallel_tool_calls=(
            None if parallel is None else expect(parallel, bool, "parallel_tool_calls")
        ),
        text_format=form,
        images=images,
        end_user=read_end_user(body),
        event_bytes=_EVENT_BYTES,
    )


def upstream_responses(
    asked: ResponsesRequest, candidate: Candidate, *, model: str, max_tokens: int
) -> bytes:
    """Return the body that goes upstream, written from the parsed form and the candidate."""
    items: list[dict[str, Any]] = []
    if asked.instructions is not None:
        items.append({"type": "message", "role": "system", "content": asked.instructions})
    items.extend(asked.items)
    sampling = candidate.serving_part.sampling
    body: dict[str, Any] = {
        "model": model,
        "input": items,
        "max_output_tokens": max_tokens,
        "temperature": float(sampling.temperature),
        "top_p": float(sampling.top_p),
        "stream": asked.stream,
        "store": False,
    }
    if candidate.model_part.system_prompt is not None:
        body["instructions"] = candidate.model_part.system_prompt
    if asked.text_format is not None:
        body["text"] = {"format": asked.text_format}
    if asked.tools:
        body["tools"] = list(asked.tools)
        if asked.tool_choice is not None:
            body["tool_choice"] = asked.tool_choice
        if asked.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = asked.parallel_tool_calls
    return encode_json(body)
