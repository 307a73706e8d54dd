"""Anthropic messages: what is refused by name, what is sent, what of an answer passes."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatelift.gateway.dialects import DIALECTS, AnswerEnd, DialectError, UpstreamAnswerError
from gatelift.gateway.dialects.messages import check_headers
from gatelift.gateway.dialects.messages_answer import MessagesAnswer
from gatelift.gateway.dialects.messages_count import MAX_COUNT, CountAnswer
from gatelift.gateway.dialects.messages_request import (
    COUNT_BYTES,
    parse_count,
    parse_messages,
    upstream_count,
    upstream_messages,
)
from gatelift.gateway.http_messages import Request
from gatelift.gateway.releasing import Release
from gatelift.plan import parse_candidate
from gatelift.safeguards import PartKind, Suite
from gatelift.safeguards.autonomy import count_steps
from gatelift.terms import Category, Posture, SafeguardTerms, Scope
from gatelift.wire.sse import SseEvent, SseParser
from tests.support.world import PROMPT, World

CANDIDATE = parse_candidate(World().candidate_bytes)
USER = {"role": "user", "content": "hi"}
TOOL = {"name": "run", "input_schema": {"type": "object"}}
TEXT = {"type": "text", "text": "x"}


def body(**changes: Any) -> bytes:
    return json.dumps({"model": "m", "max_tokens": 9, "messages": [USER]} | changes).encode()


def said(*blocks: Any, role: str = "user") -> bytes:
    return body(messages=[{"role": role, "content": list(blocks)}])


def image(**changes: Any) -> dict[str, Any]:
    source = {"type": "base64", "media_type": "image/gif", "data": "R0lGODlh"}
    return {"type": "image", "source": source | changes}


# What is wrong, and what the error names.
REFUSED: dict[str, tuple[bytes, str | None]] = {
    "no limit": (json.dumps({"model": "m", "messages": [USER]}).encode(), "max_tokens"),
    "limit of zero": (body(max_tokens=0), "max_tokens"),
    "true is no number": (body(max_tokens=True), "max_tokens"),
    "duplicate key": (b'{"model":"m","max_tokens":1,"max_tokens":2,"messages":[]}', None),
    "case variant": (body(System="x"), "System"),
    **{
        f"the candidate's {name}": (body(**{name: 1}), name)
        for name in ("temperature", "top_p", "top_k", "thinking")
    },
    **{
        name: (body(**{name: None}), name)
        for name in (
            "service_tier",
            "container",
            "mcp_servers",
            "context_management",
            "output_config",
            "prefill",
            "speed",
            "inference_geo",
        )
    },
    "no messages": (body(messages=[]), "messages"),
    "system as a message": (
        body(messages=[{"role": "system", "content": "x"}]),
        "messages[0].role",
    ),
    "an image elsewhere": (
        said(TEXT, {"type": "image", "source": {"type": "url", "url": "https://a"}}),
        "messages[0].content[1].source.type",
    ),
    "an image in a file": (
        said({"type": "image", "source": {"type": "file", "file_id": "x"}}),
        "messages[0].content[0].source.type",
    ),
    "an image without a source": (said({"type": "image"}), "messages[0].content[0].source"),
    "an image of another kind": (
        said(image(media_type="image/svg+xml")),
        "messages[0].content[0].source.data",
    ),
    "an image that is another": (
        said(image(media_type="image/png")),
        "messages[0].content[0].source.data",
    ),
    "an image in base64 that is not canonical": (
        said(image(data="R0lGODlh=")),
        "messages[0].content[0].source.data",
    ),
    "an image that is too large": (
        said(image(data="R0lG" * 240_000)),
        "messages[0].content[0].source.data",
    ),
    "a field in an image": (said({**image(), "alt": "x"}), "messages[0].content[0].alt"),
    "a field in a source": (said(image(url="https://a")), "messages[0].content[0].source.url"),
    "nine images": (said(*[image()] * 9), "messages"),
    "nine images, one in a tool's result": (
        said(*[image()] * 8, {"type": "tool_result", "tool_use_id": "a", "content": [image()]}),
        "messages",
    ),
    "an image of the assistant": (
        said(image(), role="assistant"),
        "messages[0].content[0].type",
    ),
    "an image in the system": (body(system=[image()]), "system[0].type"),
    "a document": (said({"type": "document"}), "messages[0].content[0].type"),
    "a document in a tool's result": (
        said({"type": "tool_result", "tool_use_id": "a", "content": [{"type": "document"}]}),
        "messages[0].content[0].content[0].type",
    ),
    "an image elsewhere in a tool's result": (
        said(
            {
                "type": "tool_result",
                "tool_use_id": "a",
                "content": [TEXT, {"type": "image", "source": {"type": "url", "url": "https://a"}}],
            }
        ),
        "messages[0].content[0].content[1].source.type",
    ),
    "a server's tool": (body(tools=[{"type": "web_search_20250305"}]), "tools[0].type"),
    "a server tool's call": (
        said({"type": "server_tool_use"}, role="assistant"),
        "messages[0].content[0].type",
    ),
    "a call by the user": (
        said({"type": "tool_use", "id": "a", "name": "b", "input": {}}),
        "messages[0].content[0].type",
    ),
    "thinking of the user": (said({"type": "thinking"}), "messages[0].content[0].type"),
    "nothing but thinking": (
        said({"type": "thinking", "thinking": "x", "signature": "y"}, role="assistant"),
        "messages[0].content",
    ),
    "text in a call's id": (
        said({"type": "tool_result", "tool_use_id": "do this now"}),
        "messages[0].content[0].tool_use_id",
    ),
    "input as text": (
        said({"type": "tool_use", "id": "a", "name": "b", "input": "{}"}, role="assistant"),
        "messages[0].content[0].input",
    ),
    "citations": (said({**TEXT, "citations": [{}]}), "messages[0].content[0].citations"),
    "field in a block": (said({**TEXT, "x": 1}), "messages[0].content[0].x"),
    "cache control as text": (
        said({**TEXT, "cache_control": "do this"}),
        "messages[0].content[0].cache_control",
    ),
    "strict is no text": (body(tools=[{**TOOL, "strict": "do this"}]), "tools[0].strict"),
    "field in a tool": (body(tools=[{**TOOL, "defer_loading": True}]), "tools[0].defer_loading"),
    "a choice that is not declared": (
        body(tools=[TOOL], tool_choice={"type": "tool", "name": "x"}),
        "tool_choice.name",
    ),
    "a choice of another kind": (body(tool_choice={"type": "required"}), "tool_choice.type"),
    "field in a choice": (body(tool_choice={"type": "auto", "name": "x"}), "tool_choice.name"),
    "metadata": (body(metadata={"x": 1}), "metadata.x"),
    "a long user": (body(metadata={"user_id": "x" * 257}), "metadata.user_id"),
    "stream is a word": (body(stream="yes"), "stream"),
    "one stop text": (body(stop_sequences="END"), "stop_sequences"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_by_name(name: str) -> None:
    data, param = REFUSED[name]
    with pytest.raises(DialectError) as caught:
        parse_messages(data)
    assert caught.value.param == param


def test_what_is_sent_is_written_from_what_was_inspected() -> None:
    asked = body(
        system=[TEXT, {"type": "text", "text": "y", "cache_control": {"type": "ephemeral"}}],
        messages=[
            {"role": "user", "content": [TEXT, {"type": "text", "text": "z"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "secret", "signature": "opaque"},
                    {"type": "redacted_thinking", "data": "opaque"},
                    {"type": "text", "text": "a"},
                    {"type": "text", "text": "b"},
                    {"type": "tool_use", "id": "c1", "name": "run", "input": {"q": 'a "b"'}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "c1",
                        "content": [TEXT],
                        "is_error": True,
                    }
                ],
            },
        ],
        tools=[{**TOOL, "type": "custom", "description": "does", "cache_control": {}}],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
        metadata={"user_id": "someone"},
        cache_control={"type": "ephemeral"},
        stop_sequences=["END"],
        stream=True,
    )
    read = parse_messages(asked)
    assert [(part.kind, part.text) for part in read.parts] == [
        (PartKind.SYSTEM, "x\n\ny"),
        (PartKind.TOOL_DECLARATION, "run"),
        (PartKind.SYSTEM, "does"),
        (PartKind.SYSTEM, '{"type":"object"}'),
        (PartKind.USER, "x\n\nz"),
        (PartKind.ASSISTANT_TEXT, "ab"),
        (PartKind.TOOL_CALL_NAME, "run"),
        (PartKind.TOOL_CALL_ARGUMENTS, '{"q":"a \\"b\\""}'),
        (PartKind.TOOL_RESULT, "x"),
    ]
    assert [(part.kind, part.text) for part in read.readings] == [
        (PartKind.TOOL_RESULT, '{"q":"a "b""}')
    ]
    assert (read.end_user, read.max_tokens, read.messages) == ("someone", 9, 4)
    sent = json.loads(upstream_messages(read, CANDIDATE, model="up", max_tokens=7))
    assert sent == {
        "model": "up",
        "system": f"{PROMPT}\n\nx\n\ny",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "x\n\nz"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "ab"},
                    {"type": "tool_use", "id": "c1", "name": "run", "input": {"q": 'a "b"'}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": "x", "is_error": True}
                ],
            },
        ],
        "tools": [{"name": "run", "description": "does", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "max_tokens": 7,
        "temperature": 0.7,
        "top_p": 0.95,
        "stop_sequences": ["END"],
        "stream": True,
    }


def test_images_are_counted_and_sent_between_the_texts_around_them() -> None:
    result = {"type": "tool_result", "tool_use_id": "c1", "content": [TEXT, TEXT, image()]}
    asked = said(TEXT, TEXT, {**image(), "cache_control": {}}, {**TEXT, "text": "y"}, result)
    read = parse_messages(asked)
    assert read.images == 2
    assert [(part.kind, part.text) for part in read.parts] == [
        (PartKind.USER, "x\n\nx"),
        (PartKind.USER, "y"),
        (PartKind.TOOL_RESULT, "x\n\nx"),
    ]
    joined = {"type": "text", "text": "x\n\nx"}
    conversation = [
        {
            "role": "user",
            "content": [
                joined,
                image(),
                {"type": "text", "text": "y"},
                {**result, "content": [joined, image()]},
            ],
        }
    ]
    sent = json.loads(upstream_messages(read, CANDIDATE, model="up", max_tokens=7))
    assert sent["messages"] == conversation
    counted = parse_count(json.dumps({"model": "m", "messages": conversation}).encode())
    assert (counted.images, counted.parts) == (2, read.parts)


def test_an_image_may_stand_alone() -> None:
    read = parse_messages(said(image()))
    assert (read.images, [(part.kind, part.text) for part in read.parts]) == (
        1,
        [(PartKind.USER, "")],
    )


def test_results_that_are_only_images_still_divide_the_steps_of_an_agent() -> None:
    call = {"type": "tool_use", "id": "a", "name": "look", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "a", "content": [image()]}
    turns = [
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
    ]
    read = parse_messages(body(messages=[USER, *turns * 2]))
    assert read.images == 2
    assert count_steps(read.parts) == 2


def test_a_count_is_the_same_request_without_a_limit() -> None:
    data = json.dumps({"model": "m", "messages": [USER], "system": "s"}).encode()
    read = parse_count(data)
    assert (read.generates, read.data_bytes, read.max_tokens) == (False, COUNT_BYTES, None)
    assert json.loads(upstream_count(read, CANDIDATE, model="up")) == {
        "model": "up",
        "messages": [USER],
        "system": f"{PROMPT}\n\ns",
    }
    for name in ("max_tokens", "stream", "metadata", "stop_sequences"):
        with pytest.raises(DialectError) as caught:
            parse_count(body(**{name: None}))
        assert caught.value.param in (name, "max_tokens")


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_parsed_or_refused(data: bytes) -> None:
    for parse in (parse_messages, parse_count):
        with contextlib.suppress(DialectError):
            parse(data)


def _request(*headers: tuple[bytes, bytes]) -> Request:
    return Request(
        method="POST",
        path="/",
        query="",
        headers=headers,
        body=b"",
        peer="",
        received_at_monotonic=0,
    )


def test_only_known_versions_and_no_beta_are_taken() -> None:
    version, beta = b"anthropic-version", b"anthropic-beta"
    for taken in ([], [(version, b"2023-06-01")], [(version, b"2026-10-21")], [(beta, b" , ")]):
        check_headers(_request(*taken))
    for refused in (
        [(version, b"2023-01-01")],
        [(version, b"")],
        [(version, b"2023-06-01"), (version, b"2023-06-01")],
        [(beta, b"context-1m-2025-08-07")],
        [(beta, b""), (beta, b"x")],
    ):
        with pytest.raises(DialectError):
            check_headers(_request(*refused))


# Answers.


def codec(**changes: Any) -> MessagesAnswer:
    return MessagesAnswer(parse_messages(body(**changes)), request_id="req_1")


WHOLES = {
    "no json": b"no",
    "no content": b'{"stop_reason":"end_turn"}',
    "no reason to stop": b'{"content":[{"type":"text","text":"x"}],"stop_reason":null}',
    "an empty reason to stop": b'{"content":[{"type":"text","text":"x"}],"stop_reason":""}',
    "no text": b'{"stop_reason":"end_turn","content":[{"type":"text","text":"\xff"}]}',
    "an enormous count": b'{"stop_reason":"end_turn","content":[],"usage":{"output_tokens":9999999999}}',
    "a block without a type": b'{"stop_reason":"end_turn","content":[{"text":"x"}]}',
    "a block that was not asked for": b'{"stop_reason":"end_turn","content":[{"type":"server_tool_use","name":"x"}]}',
    "a call without a name": b'{"stop_reason":"end_turn","content":[{"type":"tool_use","input":{}}]}',
    "input as text": b'{"stop_reason":"end_turn","content":[{"type":"tool_use","name":"x","input":"{}"}]}',
    "text as a number": b'{"stop_reason":"end_turn","content":[{"type":"text","text":5}]}',
    "usage below zero": b'{"stop_reason":"end_turn","content":[],"usage":{"input_tokens":-1}}',
    "output below zero": b'{"stop_reason":"end_turn","content":[],"usage":{"input_tokens":1,"output_tokens":-1}}',
    "deep nesting": b'{"stop_reason":"end_turn","content":[{"type":"tool_use","name":"x","input":{"a":%b%b}}]}'
    % (b"[" * 9000, b"]" * 9000),
}


@pytest.mark.parametrize("name", WHOLES)
def test_an_answer_out_of_contract_is_refused(name: str) -> None:
    with pytest.raises(UpstreamAnswerError):
        codec().parse_whole(WHOLES[name])


START = {"type": "message_start", "message": {"content": [], "usage": {"input_tokens": 3}}}


def begin(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": fields}


def stop(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def words(index: int, *texts: str) -> list[dict[str, Any]]:
    deltas = [delta(index, type="text_delta", text=text) for text in texts]
    return [begin(index, type="text", text=""), *deltas, stop(index)]


def call(index: int, name: str, *pieces: str) -> list[dict[str, Any]]:
    deltas = [delta(index, type="input_json_delta", partial_json=piece) for piece in pieces]
    return [begin(index, type="tool_use", id="x", name=name, input={}), *deltas, stop(index)]


def end(reason: str = "end_turn", **usage: int) -> list[dict[str, Any]]:
    told = {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}
    return [told, {"type": "message_stop"}]


STREAMS: dict[str, list[dict[str, Any]]] = {
    "content before the start": [begin(0, type="text")],
    "an end before the start": end()[:1],
    "two starts": [START, START],
    "a start with content": [
        {"type": "message_start", "message": {"content": [{"type": "text", "text": "x"}]}}
    ],
    "an error": [START, {"type": "error", "error": {"type": "overloaded_error"}}],
    "a block left out": [START, begin(1, type="text")],
    "a block twice": [START, begin(0, type="text"), begin(0, type="text")],
    "a delta without a block": [START, delta(0, type="text_delta", text="x")],
    "a delta of another type": [
        START,
        begin(0, type="text"),
        delta(0, type="thinking_delta", thinking="x"),
    ],
    "a delta of an unknown type": [START, begin(0, type="text"), delta(0, type="x", text="x")],
    "a delta for a block that has ended": [
        START,
        *words(0, "x"),
        delta(0, type="text_delta", text="y"),
    ],
    "a delta for the block before": [
        START,
        *words(0, "x"),
        begin(1, type="tool_use", name="a"),
        delta(0, type="text_delta", text="y"),
    ],
    "input twice": [
        START,
        begin(0, type="tool_use", name="a", input={"b": 1}),
        delta(0, type="input_json_delta", partial_json="{}"),
    ],
    "a stop without a block": [START, stop(0)],
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_out_of_contract_is_refused(name: str) -> None:
    made = codec(stream=True)
    *before, last = STREAMS[name]
    for event in before:
        made.parse_event(SseEvent(json.dumps(event).encode()))
    with pytest.raises(UpstreamAnswerError):
        made.parse_event(SseEvent(json.dumps(last).encode()))


def through(
    *events: dict[str, Any], posture: Posture = Posture.CUT, canary: str = "amber lantern"
) -> tuple[list[dict[str, Any]], Release]:
    """Return what a caller reads of a stream's events."""
    made = codec(stream=True)
    terms = SafeguardTerms(postures={Category.LEAK: posture})
    suite = Suite(terms=terms, scope=Scope(tools=("run", "see")), canaries=(canary,))
    held = Release(suite.open_answer, made, max_tokens=50, max_bytes=10_000)
    out = b""
    for event in events:
        out += held.take(made.parse_event(SseEvent(json.dumps(event).encode())))
    out += held.end()
    out += made.last(held.end_for(100))
    return [json.loads(event.data) for event in SseParser().feed(out)], held


def kinds(events: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [
        (event["type"].removeprefix("content_block_"), event.get("index", -1)) for event in events
    ]


def test_what_is_held_back_leaves_in_its_own_block() -> None:
    # "amb" could begin the canary, so it is held until its block has ended.
    events, held = through(
        START,
        *words(0, "look at amb"),
        *call(1, "run", '{"q":"amb', 'er"}'),
        *call(2, "see"),
        *words(3, "done amb"),
        *end("tool_use", output_tokens=6),
    )
    assert held.cut_by is None
    texts: dict[int, str] = {}
    order = []
    for event in events:
        if event["type"] == "content_block_start":
            order.append((event["index"], event["content_block"]["type"]))
            texts[event["index"]] = ""
        elif event["type"] == "content_block_delta":
            said = event["delta"]
            texts[event["index"]] += said.get("text") or said.get("partial_json") or ""
    assert order == [(0, "text"), (1, "tool_use"), (2, "tool_use"), (3, "text")]
    assert texts == {0: "look at amb", 1: '{"q":"amber"}', 2: "", 3: "done amb"}
    # One block at a time, each ended before the next.
    marks = [mark for mark in kinds(events) if mark[0] in ("start", "stop")]
    assert marks == [(what, index) for index in range(4) for what in ("start", "stop")]
    assert events[-2]["usage"] == {"input_tokens": 3, "output_tokens": 6}
    assert events[-1] == {"type": "message_stop"}


def test_a_server_may_end_its_blocks_all_at_last() -> None:
    *talk, stop_0 = words(0, "hm")
    *calls, stop_1 = call(1, "run", "{}")
    events, held = through(START, *talk, *calls, stop_0, stop_1, *end("tool_use"))
    assert held.cut_by is None
    marks = [mark for mark in kinds(events) if mark[0] in ("start", "stop")]
    assert marks == [("start", 0), ("stop", 0), ("start", 1), ("stop", 1)]


def test_a_canary_over_two_text_blocks_is_found() -> None:
    events, held = through(START, *words(0, "amber "), *words(1, "lantern"), *end())
    assert held.cut_by is not None
    assert "lantern" not in json.dumps(events)
    assert events[-2]["delta"]["stop_reason"] == "refusal"


def test_a_canary_in_thinking_and_in_a_calls_input_is_found() -> None:
    think = [begin(0, type="thinking"), delta(0, type="thinking_delta", thinking="amber lantern")]
    for blocks in (think, call(0, "run", '{"q":"amber', ' lantern"}')):
        events, held = through(START, *blocks, *end())
        assert held.cut_by is not None
        assert "lantern" not in json.dumps(events)


_INDEX = st.integers(-1, 3)
_WORD = st.sampled_from(["", "amb", "er lantern", '{"a":', "1}", "x"])
_EVENTS = st.one_of(
    st.builds(
        lambda index, kind, word: begin(index, type=kind, text=word, thinking=word, name="run"),
        _INDEX,
        st.sampled_from(["text", "thinking", "tool_use", "redacted_thinking"]),
        _WORD,
    ),
    st.builds(
        lambda index, kind, word: delta(
            index, type=kind, text=word, thinking=word, partial_json=word
        ),
        _INDEX,
        st.sampled_from(["text_delta", "thinking_delta", "input_json_delta", "signature_delta"]),
        _WORD,
    ),
    st.builds(stop, _INDEX),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(_EVENTS, max_size=12))
def test_whatever_a_server_streams_a_caller_reads_whole_blocks_in_order(
    events: list[dict[str, Any]],
) -> None:
    try:
        read, _ = through(START, *events, *end())
    except UpstreamAnswerError:
        return
    open_block: int | None = None
    count = 0
    for event in read[1:-2]:
        match event["type"]:
            case "content_block_start":
                assert (open_block, event["index"]) == (None, count)
                open_block, count = count, count + 1
            case "content_block_delta":
                assert event["index"] == open_block
            case "content_block_stop":
                assert event["index"] == open_block
                open_block = None
            case other:
                assert other == "ping"
    assert open_block is None
    assert [event["type"] for event in read[-2:]] == ["message_delta", "message_stop"]


def test_only_named_fields_of_an_answer_pass() -> None:
    events, _ = through(
        START,
        begin(0, type="redacted_thinking", data="hidden"),
        stop(0),
        begin(1, type="thinking", thinking="", signature="hidden"),
        delta(1, type="thinking_delta", thinking="so"),
        delta(1, type="signature_delta", signature="hidden"),
        stop(1),
        begin(2, type="text", text="a", citations=["hidden"]),
        delta(2, type="citations_delta", citation="hidden"),
        stop(2),
        {"type": "hidden", "text": "hidden"},
        *end("hidden", output_tokens=2),
    )
    assert "hidden" not in json.dumps(events)
    starts = [event["content_block"] for event in events if event["type"] == "content_block_start"]
    assert starts == [
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "text", "text": ""},
    ]
    assert events[-2]["delta"]["stop_reason"] == "end_turn"


def test_a_call_whose_input_is_cut_off_is_left_out_of_a_whole_answer() -> None:
    made = codec()
    data = {
        "content": [TEXT, {"type": "tool_use", "name": "run", "input": {"q": "amber lantern"}}],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 1, "output_tokens": 5},
    }
    terms = SafeguardTerms(postures={Category.LEAK: Posture.CUT})
    suite = Suite(terms=terms, scope=Scope(tools=("run",)), canaries=("amber lantern",))
    held = Release(suite.open_answer, made, max_tokens=50, max_bytes=10_000)
    held.take(made.parse_whole(json.dumps(data).encode()), whole=True)
    held.end()
    answer = json.loads(made.whole(held.end_for(100)))
    assert answer["content"] == [TEXT]
    assert answer["stop_reason"] == "refusal"


def test_a_refusal_is_marked_as_ours_whole_and_streamed() -> None:
    note = {"gatelift": {"category": "misuse"}}
    told = AnswerEnd(finishes={}, input_tokens=0, output_tokens=0, note=note)
    whole = json.loads(codec().refusal("Refused.", told))
    events = [
        json.loads(event.data)
        for event in SseParser().feed(codec(stream=True).refusal("Refused.", told))
    ]
    text = "[From the gateway, not from the model] Refused."
    assert whole["content"] == [{"type": "text", "text": text}]
    assert (whole["stop_reason"], whole["gatelift"]) == ("refusal", note["gatelift"])
    assert [e["delta"]["text"] for e in events if e["type"] == "content_block_delta"] == [text]
    last = events[-2]
    assert (last["delta"]["stop_reason"], last["gatelift"]) == ("refusal", note["gatelift"])
    assert events[-1]["type"] == "message_stop"


@pytest.mark.parametrize(
    "data", [b"{}", b'{"input_tokens":-1}', b'{"input_tokens":true}', b'{"input_tokens":1.5}',
             b'{"input_tokens":"1"}', b'{"input_tokens":%d}' % (MAX_COUNT + 1), b"1", b"\xff"]
)  # fmt: skip
def test_a_count_that_is_no_count_is_refused(data: bytes) -> None:
    with pytest.raises(UpstreamAnswerError):
        CountAnswer().parse_whole(data)


def test_a_count_is_written_anew_and_charges_no_token() -> None:
    made = CountAnswer()
    answer = made.parse_whole(b'{"input_tokens":%d,"x":"y"}' % MAX_COUNT)
    told = AnswerEnd(finishes={}, input_tokens=0, output_tokens=0)
    assert made.whole(told) == b'{"input_tokens":%d}' % MAX_COUNT
    assert answer.data_bytes == len(made.whole(told)) <= COUNT_BYTES
    assert (answer.input_tokens, answer.output_tokens, answer.pieces) == (0, 0, ())


def test_the_routes_are_there() -> None:
    assert {"/v1/messages", "/v1/messages/count_tokens"} <= set(DIALECTS)
