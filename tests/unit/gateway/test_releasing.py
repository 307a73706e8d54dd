"""Our own count decides, whatever the upstream says or leaves out."""

from __future__ import annotations

import pytest

from gatelift.gateway.answers import (
    AnswerWriter,
    UpstreamAnswerError,
    parse_answer,
    parse_chunk,
)
from gatelift.gateway.releasing import Release
from gatelift.safeguards import Suite
from gatelift.terms import Category, Posture, SafeguardTerms, Scope


def release(max_tokens: int = 50) -> Release:
    terms = SafeguardTerms(postures={Category.LEAK: Posture.CUT})
    suite = Suite(terms=terms, scope=Scope(tools=()), canaries=("amber lantern",))
    writer = AnswerWriter(request_id="r", model="m", created_s=0)
    return Release(suite.open_answer(), writer, max_tokens=max_tokens, max_bytes=10_000)


def chunk(text: str) -> bytes:
    return b'{"choices":[{"delta":{"content":"%b"}}]}' % text.encode()


def test_many_tokens_in_one_chunk_are_not_one() -> None:
    held = release()
    held.take(parse_chunk(chunk("x" * 400)))
    held.end()
    assert held.output_tokens == 50


def test_usage_is_believed_within_the_reserve_only() -> None:
    held = release()
    held.take(parse_chunk(chunk("hello")))
    held.take(parse_chunk(b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":900}}'))
    assert held.output_tokens == 50
    assert held.overrun_tokens == 850
    assert held.input_tokens(10) == 3
    assert held.input_tokens(2) == 2


def test_nothing_is_released_after_the_reserve() -> None:
    held = release(max_tokens=2)
    said = [held.take(parse_chunk(chunk(word))) for word in ("one ", "two ", "three")]
    assert [len(deltas) for deltas in said] == [1, 1, 0]
    assert held.finish_reason == "length"
    assert held.released == b"one two "


def test_an_upstreams_call_id_never_reaches_the_caller() -> None:
    terms = SafeguardTerms(postures={})
    suite = Suite(terms=terms, scope=Scope(tools=("read",), agent_steps=3))
    writer = AnswerWriter(request_id="r", model="m", created_s=0)
    held = Release(suite.open_answer(), writer, max_tokens=9, max_bytes=99)
    call = b'{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"amber lantern","function":{"name":"read"}}]}}]}'
    (delta,) = held.take(parse_chunk(call))
    assert "amber" not in str(delta)


def test_usage_that_no_tokenizer_could_mean_is_not_believed() -> None:
    for text, told in (("one two three four", 3), ("x" * 97, 3)):
        held = release()
        held.take(parse_chunk(chunk(text)))
        usage = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":%d}}'
        held.take(parse_chunk(usage % told))
        assert held.output_tokens == min(50, len(text))
        held.take(parse_chunk(usage % (told + 1)))
        assert held.output_tokens == told + 1


def test_a_lie_about_a_whole_answer_costs_the_whole_reserve() -> None:
    held = release()
    held.expect_whole()
    assert held.output_tokens == 50, "it may break off before its usage is known"
    held.take(
        parse_answer(
            b'{"choices":[{"message":{"content":"one two three"}}],'
            b'"usage":{"prompt_tokens":3,"completion_tokens":1}}'
        ),
        whole=True,
    )
    assert held.output_tokens == 50
    assert held.overrun_tokens == 0


@pytest.mark.parametrize("told", ["-1", "9007199254740992", "1e3", '"3"', "null"])
def test_usage_that_is_no_number_of_tokens_ends_the_exchange(told: str) -> None:
    body = b'{"choices":[{"message":{"content":"x"}}],"usage":{"completion_tokens":%b}}'
    with pytest.raises(UpstreamAnswerError):
        parse_answer(body % told.encode())
