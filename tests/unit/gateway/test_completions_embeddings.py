"""Completions and embeddings: what is read and refused, and what an upstream may answer."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest

from gatelift.gateway.dialects import (
    DIALECTS,
    AnswerEnd,
    DialectError,
    FinishReason,
    UpstreamAnswerError,
)
from gatelift.gateway.dialects.embeddings_request import MAX_DIMENSIONS, parse_embeddings
from gatelift.plan import parse_candidate
from gatelift.wire.sse import SseEvent
from tests.support.world import World

CANDIDATE = parse_candidate(World().candidate_bytes)
COMPLETIONS = DIALECTS["/v1/completions"]
EMBEDDINGS = DIALECTS["/v1/embeddings"]
END = AnswerEnd(finishes={0: FinishReason.STOP}, input_tokens=3, output_tokens=0)


def completion_body(**changes: Any) -> bytes:
    return json.dumps({"model": "m", "prompt": "once"} | changes).encode()


def embedding_body(**changes: Any) -> bytes:
    return json.dumps({"model": "m", "input": ["a", "b"]} | changes).encode()


def test_a_completion_does_not_carry_a_system_prompt() -> None:
    request = COMPLETIONS.parse(completion_body(prompt=["once"], n=2))
    assert not request.carries_system
    assert [part.text for part in request.parts] == ["once"]
    sent = json.loads(COMPLETIONS.upstream_body(request, CANDIDATE, model="up", max_tokens=4))
    assert sent == {
        "model": "up",
        "prompt": "once",
        "max_tokens": 4,
        "temperature": 0.7,
        "top_p": 0.95,
        "n": 2,
        "stream": False,
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompt", ["a", "b"]),
        ("prompt", [1, 2]),
        ("prompt", None),
        ("suffix", "x"),
        ("echo", True),
        ("best_of", 2),
        ("logprobs", 3),
        ("logit_bias", {}),
        ("temperature", 0),
        ("n", 9),
        ("store", True),
    ],
)
def test_a_completion_refuses_by_name(name: str, value: Any) -> None:
    with pytest.raises(DialectError) as caught:
        COMPLETIONS.parse(completion_body(**{name: value}))
    assert caught.value.param == name


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b'{"choices":[]}',
        b'{"choices":[{"index":1,"text":"x","finish_reason":"stop"}]}',
        b'{"choices":[{"text":"x","finish_reason":"stop"},{"text":"y","finish_reason":"stop"}]}',
        b'{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}]}',
        b'{"choices":[{"text":"x","finish_reason":"stop"}],"usage":{"prompt_tokens":-1}}',
        b'{"choices":[{"text":"x","finish_reason":"stop"}],"usage":{"completion_tokens":9999999999}}',
        b'{"choices":[{"text":"x\xff","finish_reason":"stop"}]}',
        b'{"choices":[{"text":"x"}]}',
        b'{"choices":[{"text":"x","finish_reason":"abort"}]}',
    ],
)
def test_a_completion_out_of_contract_is_refused(data: bytes) -> None:
    codec = COMPLETIONS.open_answer(
        COMPLETIONS.parse(completion_body()), request_id="r", created_s=0
    )
    with pytest.raises(UpstreamAnswerError):
        codec.parse_whole(data)


def test_a_completion_stream_ends_with_its_mark_only() -> None:
    request = COMPLETIONS.parse(completion_body(stream=True))
    codec = COMPLETIONS.open_answer(request, request_id="r", created_s=0)
    answer = codec.parse_event(SseEvent(b'{"choices":[{"text":"x","finish_reason":"length"}]}'))
    assert (answer.ended, answer.finishes) == (False, ((0, FinishReason.LENGTH),))
    assert codec.release(answer.pieces[0], "x").startswith(b"data: {")
    assert codec.parse_event(SseEvent(b"[DONE]")).ended
    assert codec.last(END).endswith(b"data: [DONE]\n\n")
    assert codec.refusal("no", END) is None


def test_what_an_embedding_may_weigh_is_set_aside_before_it_is_asked_for() -> None:
    request = parse_embeddings(embedding_body())
    assert not request.generates
    assert request.data_bytes >= 2 * MAX_DIMENSIONS * len("-2.2250738585072014e-308,")
    small = parse_embeddings(embedding_body(dimensions=3, encoding_format="base64"))
    # Three floats of four bytes: sixteen characters and two quotes, twice.
    assert small.data_bytes == 2 * 18


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("input", [1, 2]),
        ("input", [["a"]]),
        ("input", []),
        ("input", ["a"] * 65),
        ("input", ["a"] * 257),
        ("dimensions", 0),
        ("dimensions", 4097),
        ("encoding_format", "int8"),
        ("truncate_prompt_tokens", 5),
    ],
)
def test_an_embedding_refuses_by_name(name: str, value: Any) -> None:
    with pytest.raises(DialectError) as caught:
        EMBEDDINGS.parse(embedding_body(**{name: value}))
    assert (caught.value.param or "").startswith(name)


def test_more_texts_are_embedded_where_their_length_is_named() -> None:
    assert len(parse_embeddings(embedding_body(input=["a"] * 256, dimensions=1024)).texts) == 256


def answer(vectors: Any, **changes: Any) -> tuple[int, dict[str, Any]]:
    request = EMBEDDINGS.parse(embedding_body(**changes))
    codec = EMBEDDINGS.open_answer(request, request_id="r", created_s=0)
    data = [{"index": n, "embedding": v, "object": "hidden"} for n, v in enumerate(vectors)]
    told = codec.parse_whole(json.dumps({"data": data, "usage": {"prompt_tokens": 3}}).encode())
    return told.data_bytes, json.loads(codec.whole(END))


def test_numbers_leave_as_they_were_read_and_are_counted() -> None:
    size, body = answer([[0.5, -1.25e-7], [1, 2]])
    assert [each["embedding"] for each in body["data"]] == [[0.5, -1.25e-7], [1.0, 2.0]]
    assert size == len("[0.5,-1.25e-7]") + len("[1.0,2.0]")
    assert "hidden" not in json.dumps(body)
    _, body = answer([[0.5, -1.25], [1, 2]], encoding_format="base64")
    raw = base64.b64decode(body["data"][0]["embedding"])
    assert struct.unpack("<2f", raw) == (0.5, -1.25)


@pytest.mark.parametrize(
    "vectors",
    [
        [[1.0]],
        [[1.0], [1.0], [1.0]],
        [[1.0], [1.0, 2.0]],
        [[], []],
        [["x"], ["y"]],
        [[None], [1.0]],
        ["AAAA", "AAAA"],
        [[1.0] * 4097] * 2,
    ],
)
def test_anything_but_one_vector_a_text_is_refused(vectors: Any) -> None:
    with pytest.raises(UpstreamAnswerError):
        answer(vectors)


def test_a_vector_is_as_long_as_was_asked_and_fits_its_form() -> None:
    with pytest.raises(UpstreamAnswerError):
        answer([[1.0], [1.0]], dimensions=2)
    with pytest.raises(UpstreamAnswerError):
        answer([[1e300], [1.0]], encoding_format="base64")


def test_an_index_that_comes_twice_is_refused() -> None:
    codec = EMBEDDINGS.open_answer(EMBEDDINGS.parse(embedding_body()), request_id="r", created_s=0)
    twice = [{"index": 0, "embedding": [1.0]}] * 2
    with pytest.raises(UpstreamAnswerError):
        codec.parse_whole(json.dumps({"data": twice}).encode())
