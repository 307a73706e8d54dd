"""What is read, what is refused by name, and what is sent."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatelift.gateway.dialects import DialectError, UpstreamAnswerError
from gatelift.gateway.dialects.chat_answer import ChatAnswer
from gatelift.gateway.dialects.chat_request import parse_chat, upstream_chat
from gatelift.plan import parse_candidate
from gatelift.safeguards import PartKind
from gatelift.wire.sse import SseEvent
from tests.support.world import PROMPT, World

CANDIDATE = parse_candidate(World().candidate_bytes)


def body(**changes: Any) -> bytes:
    made = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    return json.dumps(made | changes).encode()


CODEC = ChatAnswer(parse_chat(body()), request_id="r", created_s=0)

REFUSED: dict[str, tuple[bytes, str]] = {
    "duplicate key": (b'{"model":"a","model":"b","messages":[]}', "duplicate_key"),
    "duplicate key deep": (
        b'{"model":"a","messages":[{"role":"user","role":"system","content":""}]}',
        "duplicate_key",
    ),
    "case variant": (body(Messages=[]), "unknown_field"),
    "engine field": (body(cache_prompt=True), "unknown_field"),
    "grammar": (body(grammar="root ::= x"), "unknown_field"),
    "stored state": (body(store=True), "unknown_field"),
    "logit bias": (body(logit_bias={}), "unknown_field"),
    "sampling is the candidate's": (body(temperature=0), "fixed_by_candidate"),
    "NaN": (b'{"model":"a","messages":NaN}', "not_finite"),
    "huge number": (b'{"model":"a","max_tokens":99999999999999999999}', "big_integer"),
    "bad utf-8": (b'{"model":"\xff"}', "bad_utf8"),
    "byte order mark": (b"\xef\xbb\xbf{}", "not_json"),
    "too deep": (b"[" * 5000, "too_deep"),
    "too many choices": (body(n=9), "invalid_request"),
    "no choice": (body(n=0), "invalid_request"),
    "a tool that was not declared is chosen": (
        body(tool_choice={"type": "function", "function": {"name": "x"}}),
        "invalid_request",
    ),
    "true is no number": (body(max_tokens=True), "invalid_request"),
    "no messages": (body(messages=[]), "invalid_request"),
    "unknown role": (body(messages=[{"role": "root", "content": ""}]), "invalid_request"),
    "unknown part": (
        body(messages=[{"role": "user", "content": [{"type": "image_url"}]}]),
        "invalid_request",
    ),
    "field in a message": (
        body(messages=[{"role": "user", "content": "", "prefix": True}]),
        "invalid_request",
    ),
    "both limits": (body(max_tokens=1, max_completion_tokens=1), "invalid_request"),
    "zero tokens": (body(max_tokens=0), "invalid_request"),
    "stream is a word": (body(stream="yes"), "invalid_request"),
    "stream option": (body(stream_options={"x": 1}), "invalid_request"),
    "array": (b"[]", "invalid_request"),
    "text in a tool call id": (
        body(messages=[{"role": "tool", "content": "", "tool_call_id": "do this now"}]),
        "invalid_request",
    ),
    "strict is no text": (
        body(tools=[{"type": "function", "function": {"name": "x", "strict": "do this"}}]),
        "invalid_request",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_by_name(name: str) -> None:
    data, code = REFUSED[name]
    with pytest.raises(DialectError) as caught:
        parse_chat(data)
    assert caught.value.code == code


def test_what_is_sent_is_written_from_what_was_inspected() -> None:
    asked = body(
        messages=[
            {"role": "developer", "content": [{"type": "text", "text": "be "}]},
            {
                "role": "user",
                "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            },
        ],
        user="someone",
        metadata={"k": "v"},
        max_completion_tokens=99,
        stream=True,
    )
    chat = parse_chat(asked)
    assert [(p.kind, p.text) for p in chat.parts] == [
        (PartKind.SYSTEM, "be "),
        (PartKind.USER, "ab"),
    ]
    sent = json.loads(upstream_chat(chat, CANDIDATE, model="upstream-name", max_tokens=7))
    assert sent == {
        "model": "upstream-name",
        "messages": [
            {"role": "system", "content": PROMPT},
            {"role": "system", "content": "be "},
            {"role": "user", "content": "ab"},
        ],
        "max_tokens": 7,
        "temperature": 0.7,
        "top_p": 0.95,
        "n": 1,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_every_text_of_a_tool_is_inspected() -> None:
    tool = {
        "type": "function",
        "function": {"name": "run", "description": "does", "parameters": {"description": "deep"}},
    }
    chat = parse_chat(body(tools=[tool]))
    texts = " ".join(part.text for part in chat.parts)
    assert all(word in texts for word in ("run", "does", "deep"))
    assert chat.parts[0].kind is PartKind.TOOL_DECLARATION


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_parsed_or_refused(data: bytes) -> None:
    with contextlib.suppress(DialectError):
        parse_chat(data)


@pytest.mark.parametrize(
    "data",
    [
        b"not json",
        b"{}",
        b'{"choices":[{"index":1,"message":{},"finish_reason":"stop"}]}',
        b'{"choices":[{"message":{},"finish_reason":"stop"},{"message":{},"finish_reason":"stop"}]}',
        b'{"choices":[]}',
        b'{"choices":[{"message":{}}]}',
        b'{"choices":[{"message":{},"finish_reason":null}]}',
        b'{"choices":[{"message":{},"finish_reason":""}]}',
        b'{"choices":[{"message":{},"finish_reason":"abort"}]}',
        b'{"choices":[{"message":{"content":5},"finish_reason":"stop"}]}',
        b'{"choices":[{"message":{},"finish_reason":"stop"}],"usage":{"completion_tokens":-1}}',
    ],
)
def test_an_answer_out_of_contract_is_refused(data: bytes) -> None:
    with pytest.raises(UpstreamAnswerError):
        CODEC.parse_whole(data)


def test_only_named_fields_of_an_upstream_answer_are_read() -> None:
    data = {
        "choices": [{"delta": {"content": "x", "hidden": "y"}, "logprobs": {"content": ["z"]}}],
        "system_fingerprint": "upstream",
    }
    answer = CODEC.parse_event(SseEvent(json.dumps(data).encode()))
    assert [piece.text for piece in answer.pieces] == ["x"]
