"""Requests of every dialect but chat: refused by name, or sent as they were inspected.

Properties: only `DialectError` is raised; the body that goes upstream holds the texts that the
safeguards saw, each of them and no other; read again as a request, it is inspected alike; what
belongs to the candidate is the candidate's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from gatelift.encoding import encode_json, parse_json
from gatelift.gateway.dialects import DIALECTS, Dialect, DialectError, ModelRequest
from gatelift.plan import parse_candidate
from tests.support.world import PROMPT, World

__all__ = [
    "fuzz_completions_request",
    "fuzz_embeddings_request",
    "fuzz_messages_request",
    "fuzz_responses_request",
]

_CANDIDATE: Final = parse_candidate(World().candidate_bytes)
_SAMPLING: Final = {
    "temperature": float(_CANDIDATE.serving_part.sampling.temperature),
    "top_p": float(_CANDIDATE.serving_part.sampling.top_p),
}
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SAID: Final = frozenset({"text", "content", "name", "description", "arguments", "output"})
_OBJECTS: Final = frozenset({"input_schema", "parameters", "schema"})
_IDS: Final = frozenset({"id", "call_id", "tool_use_id"})
_IMAGES: Final = re.compile(r"(data:)?image/(png|jpeg|gif|webp).*|[A-Za-z0-9+/]+={0,2}")
# Words of the protocol: whoever reads them as text has read nothing of the caller's.
_WORDS: Final = frozenset(
    {
        *("message", "role", "user", "assistant", "system", "text", "tool_use", "tool_result"),
        *(
            "function_call",
            "function",
            "function_call_output",
            "input_text",
            "input_image",
            "image",
        ),
        *("base64", "auto", "low", "high", "json_schema", "json_object"),
    }
)


def _texts(value: Any, key: str = "") -> Iterator[str]:
    """Yield every text of a body that is sent, and check that the rest can say nothing."""
    if isinstance(value, dict):
        if key in _OBJECTS or (key == "input" and "type" not in value):
            yield encode_json(value).decode()
            return
        for name, inner in value.items():
            yield from _texts(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, key)
    elif isinstance(value, str):
        if key in _SAID:
            yield value
        elif key in _IDS:
            assert _ID.fullmatch(value)
        elif key in {"image_url", "data", "media_type"}:
            assert _IMAGES.fullmatch(value)
        else:
            assert value in _WORDS, f"{key} says {value!r}"


def _sent(dialect: Dialect, data: bytes) -> tuple[ModelRequest, dict[str, Any]] | None:
    """Return the request, and what is sent of it without what is the gateway's to set."""
    try:
        request = dialect.parse(data)
    except DialectError as error:
        str(error).encode("utf-8", "backslashreplace")
        return None
    assert request.images == 0 or b"image" in data
    for part in request.inspected:
        part.text.encode("utf-8")
    sent = dialect.upstream_body(request, _CANDIDATE, model="m", max_tokens=7)
    body = parse_json(sent)
    assert body == json.loads(sent) == msgspec.json.decode(sent)
    assert body.pop("model") == "m"
    return request, body


def _take(body: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name, value in wanted.items():
        assert body.pop(name) == value


def _check(dialect: Dialect, request: ModelRequest, said: Any, again: dict[str, Any]) -> None:
    """Check that `said` is what was inspected, and that `again` is inspected alike."""
    sent, seen = _texts(said), (part.text for part in request.parts)
    assert sorted(filter(None, sent)) == sorted(filter(None, seen))
    second = dialect.parse(encode_json({"model": request.model, **again}))
    assert second.inspected == request.inspected
    assert (second.messages, second.images) == (request.messages, request.images)
    assert (second.stream, second.choices) == (request.stream, request.choices)


def _checked_choice(body: dict[str, Any], name_of: Callable[[Any], object]) -> Any:
    choice, tools = body.get("tool_choice"), body.get("tools", [])
    name = name_of(choice) if isinstance(choice, dict) else None
    assert name is None or name in [tool["name"] for tool in tools]
    return tools


def fuzz_responses_request(data: bytes) -> None:
    """A request for a response."""
    dialect = DIALECTS["/v1/responses"]
    if (found := _sent(dialect, data)) is None:
        return
    request, body = found
    _take(body, {**_SAMPLING, "max_output_tokens": 7, "store": False, "instructions": PROMPT})
    assert body["stream"] is request.stream
    assert body.keys() <= {"input", "stream", "text", "tools", "tool_choice", "parallel_tool_calls"}
    tools = _checked_choice(body, lambda choice: choice["name"])
    form = dict(body.get("text", {}).get("format", {}))
    if "name" in form:
        # It is an id, and inspected as a text all the same.
        assert _ID.fullmatch(form["name"])
    _check(dialect, request, [body["input"], tools, form], body)


def fuzz_completions_request(data: bytes) -> None:
    """A request to go on from a prompt."""
    dialect = DIALECTS["/v1/completions"]
    if (found := _sent(dialect, data)) is None:
        return
    request, body = found
    assert not request.carries_system
    assert body["n"] == request.choices
    _take(body, {**_SAMPLING, "max_tokens": 7})
    if request.stream:
        assert body["stream_options"] == {"include_usage": True}
    allowed = {"prompt", "n", "stream", "stream_options", "stop"}
    assert body.keys() <= allowed
    _check(dialect, request, {"text": body["prompt"]}, body)


def fuzz_embeddings_request(data: bytes) -> None:
    """A request for vectors: what it sets aside is bounded."""
    dialect = DIALECTS["/v1/embeddings"]
    if (found := _sent(dialect, data)) is None:
        return
    request, body = found
    assert not request.generates
    assert 0 < request.data_bytes < 1 << 23
    assert body["encoding_format"] == "float"
    assert body.keys() <= {"input", "encoding_format", "dimensions"}
    _check(dialect, request, {"text": body["input"]}, body)


def _messages(dialect: Dialect, data: bytes, own: dict[str, Any]) -> None:
    if (found := _sent(dialect, data)) is None:
        return
    request, body = found
    _take(body, own)
    system = body.pop("system")
    assert system.startswith(PROMPT)
    if system != PROMPT:
        _, join, body["system"] = system.partition("\n\n")
        assert join
    assert body.keys() <= {
        *("messages", "system", "tools", "tool_choice", "stream", "stop_sequences")
    }
    tools = _checked_choice(body, lambda choice: choice.get("name"))
    said = [body["messages"], {"text": body.get("system", [])}, tools]
    _check(dialect, request, said, body | ({"max_tokens": 7} if own else {}))


def fuzz_messages_request(data: bytes) -> None:
    """A messages request, and the same bytes as one to count its tokens."""
    _messages(DIALECTS["/v1/messages"], data, {**_SAMPLING, "max_tokens": 7})
    _messages(DIALECTS["/v1/messages/count_tokens"], data, {})
