"""Our own count decides, whatever the upstream says or leaves out."""

from __future__ import annotations

import json

import pytest

from gatelift.gateway.dialects import DIALECTS, AnswerCodec, FinishReason, UpstreamAnswerError
from gatelift.gateway.releasing import Release
from gatelift.safeguards import Suite
from gatelift.terms import Category, Posture, SafeguardTerms, Scope
from gatelift.wire.sse import SseEvent

CHAT = DIALECTS["/v1/chat/completions"]


def codec(**changes: object) -> AnswerCodec:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    request = CHAT.parse(json.dumps(body | changes).encode())
    return CHAT.open_answer(request, request_id="r", created_s=0)


def release(max_tokens: int = 50, **changes: object) -> tuple[Release, AnswerCodec]:
    terms = SafeguardTerms(postures={Category.LEAK: Posture.CUT})
    suite = Suite(terms=terms, scope=Scope(tools=()), canaries=("amber lantern",))
    made = codec(**changes)
    return Release(suite.open_answer, made, max_tokens=max_tokens, max_bytes=10_000), made


def chunk(text: str, choice: int = 0) -> SseEvent:
    return SseEvent(
        b'{"choices":[{"index":%d,"delta":{"content":"%b"}}]}' % (choice, text.encode())
    )


def test_many_tokens_in_one_chunk_are_not_one() -> None:
    held, made = release()
    held.take(made.parse_event(chunk("x" * 400)))
    held.end()
    assert held.output_tokens == 50


def test_usage_is_believed_within_the_reserve_only() -> None:
    held, made = release()
    held.take(made.parse_event(chunk("hello")))
    usage = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":900}}'
    held.take(made.parse_event(SseEvent(usage)))
    assert held.output_tokens == 50
    assert held.overrun_tokens == 850
    assert held.input_tokens(10) == 3
    assert held.input_tokens(2) == 2


def test_nothing_is_released_after_the_reserve() -> None:
    held, made = release(max_tokens=2)
    said = [held.take(made.parse_event(chunk(word))) for word in ("one ", "two ", "three")]
    assert [bool(out) for out in said] == [True, True, False]
    assert held.finishes == {0: FinishReason.LENGTH}
    assert held.released == b"one two "


def test_an_upstreams_call_id_never_reaches_the_caller() -> None:
    terms = SafeguardTerms(postures={})
    suite = Suite(terms=terms, scope=Scope(tools=("read",), agent_steps=3))
    made = codec()
    held = Release(suite.open_answer, made, max_tokens=9, max_bytes=99)
    call = b'{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"amber lantern","function":{"name":"read"}}]}}]}'
    out = held.take(made.parse_event(SseEvent(call)))
    assert b'"name":"read"' in out
    assert b"amber" not in out


def test_each_choice_is_inspected_by_itself_and_a_cut_of_one_ends_all() -> None:
    held, made = release(n=2)
    # Half of the canary in each choice is no canary; the whole of it in one of them is.
    out = held.take(made.parse_event(chunk("amber ", 0))) + held.take(
        made.parse_event(chunk("lantern ", 1))
    )
    assert held.cut_by is None
    held.take(made.parse_event(chunk("lantern", 0)))
    assert held.cut_by is not None
    assert held.take(made.parse_event(chunk("more", 1))) == b""
    assert b"lantern" not in out.replace(b"lantern ", b"")
    assert held.finishes == {0: FinishReason.CONTENT_FILTER, 1: FinishReason.CONTENT_FILTER}


def test_usage_that_no_tokenizer_could_mean_is_not_believed() -> None:
    for text, told in (("one two three four", 3), ("x" * 97, 3)):
        held, made = release()
        held.take(made.parse_event(chunk(text)))
        usage = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":%d}}'
        held.take(made.parse_event(SseEvent(usage % told)))
        assert held.output_tokens == min(50, len(text))
        held.take(made.parse_event(SseEvent(usage % (told + 1))))
        assert held.output_tokens == told + 1


def test_a_lie_about_a_whole_answer_costs_the_whole_reserve() -> None:
    held, made = release(stream=False)
    held.expect_whole()
    assert held.output_tokens == 50, "it may break off before its usage is known"
    answer = (
        b'{"choices":[{"message":{"content":"one two three"},"finish_reason":"stop"}],'
        b'"usage":{"prompt_tokens":3,"completion_tokens":1}}'
    )
    held.take(made.parse_whole(answer), whole=True)
    assert held.output_tokens == 50
    assert held.overrun_tokens == 0


@pytest.mark.parametrize(
    ("text", "max_bytes", "left"),
    [
        ("one two", 7, "one two"),
        ("one two", 6, ""),
        # What is held back leaves last: there it stops.
        ("éé am", 6, "éé "),
        ("one amber lantern", 99, "one "),
        ("ééé", 6, "ééé"),
    ],
)
def test_a_whole_answer_leaves_as_far_as_its_reserve_and_the_safeguards_let_it(
    text: str, max_bytes: int, left: str
) -> None:
    held, made = release(stream=False)
    held._max_bytes = max_bytes
    held.expect_whole()
    body = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
    held.take(made.parse_whole(json.dumps(body).encode()), whole=True)
    held.end()
    assert held.released.decode() == left
    assert held.stopped is (left != text)
    whole = json.loads(made.whole(held.end_for(9)))
    assert whole["choices"][0]["message"]["content"] == left


@pytest.mark.parametrize("told", ["-1", "9007199254740992", "1e3", '"3"', "null"])
def test_usage_that_is_no_number_of_tokens_ends_the_exchange(told: str) -> None:
    body = b'{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}],"usage":{"completion_tokens":%b}}'
    with pytest.raises(UpstreamAnswerError):
        codec(stream=False).parse_whole(body % told.encode())


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (["amber lantern"], FinishReason.CONTENT_FILTER),
        (["one ", "two ", "three"], FinishReason.LENGTH),
    ],
    ids=["cut", "exhausted"],
)
def test_a_choice_that_had_not_begun_reads_why_all_were_stopped(
    texts: list[str], reason: FinishReason
) -> None:
    held, made = release(max_tokens=2, n=3)
    for text in texts:
        held.take(made.parse_event(chunk(text, 1)))
    assert held.ended
    assert held.finishes == {0: reason, 1: reason, 2: reason}
    told = made.last(held.end_for(10))
    assert told.count(b'"finish_reason":"%b"' % reason.encode()) == 3
    assert b'"finish_reason":"stop"' not in told


def test_an_answer_has_not_ended_while_a_choice_is_silent() -> None:
    held, made = release(n=3)
    end = b'{"choices":[{"index":%d,"delta":{},"finish_reason":"stop"}]}'
    for choice in (0, 2):
        held.take(made.parse_event(SseEvent(end % choice)))
        assert not held.ended
    held.take(made.parse_event(SseEvent(end % 1)))
    assert held.ended
