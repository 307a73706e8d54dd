"""JSON that is well formed and hostile: a request or an answer is refused by name, nothing breaks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gatelift.gateway.dialects import DIALECTS, AnswerCodec, DialectError, UpstreamAnswerError
from gatelift.gateway.releasing import Release
from gatelift.safeguards import Suite
from gatelift.terms import SafeguardTerms, Scope
from gatelift.wire.sse import SseEvent

SAID: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/responses": {"input": "hi"},
    "/v1/completions": {"prompt": "hi"},
    "/v1/embeddings": {"input": "hi"},
    "/v1/messages": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4},
    "/v1/messages/count_tokens": {"messages": [{"role": "user", "content": "hi"}]},
}
ANSWERS = {
    "/v1/chat/completions": b'{"choices":[{"message":{"content":"%b"}}],"usage":{"completion_tokens":%b}}',
    "/v1/responses": b'{"status":"%b","output":[],"usage":{"output_tokens":%b}}',
    "/v1/completions": b'{"choices":[{"text":"%b"}],"usage":{"completion_tokens":%b}}',
    "/v1/embeddings": b'{"data":[{"index":0,"embedding":[1]}],"%b":1,"usage":{"prompt_tokens":%b}}',
    "/v1/messages": b'{"content":[{"type":"text","text":"%b"}],"usage":{"output_tokens":%b}}',
    "/v1/messages/count_tokens": b'{"%b":1,"input_tokens":%b}',
}
DEEP = b"[" * 50_000 + b"]" * 50_000


def codec(path: str) -> AnswerCodec:
    dialect = DIALECTS[path]
    request = dialect.parse(json.dumps({"model": "m", **SAID[path]}).encode())
    return dialect.open_answer(request, request_id="r", created_s=0)


@pytest.mark.parametrize("path", SAID)
@pytest.mark.parametrize("count", [b"-1", b"9" * 40])
def test_a_count_that_is_none_of_a_models_is_no_answer(path: str, count: bytes) -> None:
    with pytest.raises(UpstreamAnswerError):
        codec(path).parse_whole(ANSWERS[path] % (b"completed", count))


@pytest.mark.parametrize("path", [*[*SAID][:3], "/v1/messages"])
def test_bytes_that_are_no_text_are_no_answer(path: str) -> None:
    for read in (codec(path).parse_whole, lambda data: codec(path).parse_event(SseEvent(data))):
        with pytest.raises(UpstreamAnswerError):
            read(ANSWERS[path] % (b"\xff", b"1"))


@pytest.mark.parametrize("path", SAID)
def test_nesting_without_end_is_no_answer(path: str) -> None:
    for data in (DEEP, b'{"x":%b}' % DEEP):
        with pytest.raises(UpstreamAnswerError):
            codec(path).parse_whole(data)
        with pytest.raises(UpstreamAnswerError):
            codec(path).parse_event(SseEvent(data))


@pytest.mark.parametrize("value", [[], {}, 1, True])
@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/v1/messages", {"messages": [{"role": "?", "content": "hi"}]}),
        ("/v1/messages", {"messages": [{"role": "user", "content": [{"type": "?"}]}]}),
        ("/v1/messages", {"tool_choice": {"type": "tool", "name": "?"}}),
        ("/v1/chat/completions", {"messages": [{"role": "?", "content": "hi"}]}),
        (
            "/v1/chat/completions",
            {"tool_choice": {"type": "function", "function": {"name": "?"}}},
        ),
        ("/v1/responses", {"tool_choice": {"type": "function", "name": "?"}}),
        ("/v1/responses", {"input": [{"role": "?", "content": "hi"}]}),
    ],
)
def test_a_word_of_the_protocol_that_is_no_text_is_refused(
    path: str, place: dict[str, Any], value: object
) -> None:
    body = json.dumps({"model": "m", **SAID[path], **place}).replace('"?"', json.dumps(value))
    with pytest.raises(DialectError):
        DIALECTS[path].parse(body.encode())


ABORTED = {
    "/v1/chat/completions": b'{"choices":[{"message":{"content":"a"},"finish_reason":"abort"}]}',
    "/v1/responses": b'{"status":"cancelled","output":[]}',
    "/v1/completions": b'{"choices":[{"text":"a","finish_reason":"abort"}]}',
    "/v1/messages": b'{"content":[{"type":"text","text":"a"}],"stop_reason":"abort"}',
}


@pytest.mark.parametrize("path", ABORTED)
def test_an_answer_that_says_it_was_broken_off_is_none(path: str) -> None:
    with pytest.raises(UpstreamAnswerError):
        codec(path).parse_whole(ABORTED[path])


def test_a_stream_has_ended_when_each_choice_that_was_asked_for_has() -> None:
    dialect = DIALECTS["/v1/completions"]
    body = {"model": "m", "prompt": "hi", "n": 2, "stream": True}
    made = dialect.open_answer(
        dialect.parse(json.dumps(body).encode()), request_id="r", created_s=0
    )
    suite = Suite(terms=SafeguardTerms(postures={}), scope=Scope())
    held = Release(suite.open_answer, made, max_tokens=9, max_bytes=99)
    ended = []
    for choice in (0, 1):
        event = b'{"choices":[{"index":%d,"text":"a","finish_reason":"stop"}]}' % choice
        held.take(made.parse_event(SseEvent(event)))
        ended.append(held.ended)
    assert ended == [False, True]
