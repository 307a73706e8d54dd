"""Text that is none, at every door where bytes become values: refused as such, never a fault of ours.

Each of these once escaped as another exception than the door's own; the fuzzers found them.
"""

from __future__ import annotations

import pytest

from gatelift.encoding import EncodingError, parse_json
from gatelift.gateway.dialects import DialectError, UpstreamAnswerError
from gatelift.gateway.dialects.chat_answer import ChatAnswer
from gatelift.gateway.dialects.chat_request import parse_chat
from gatelift.messages import RecordError, decode_record
from gatelift.messages.frames import Ask, WorkerToKeeper
from gatelift.wire.frames import FrameCodec
from gatelift.wire.sse import SseEvent

CODEC = ChatAnswer(
    parse_chat(b'{"model":"m","messages":[{"role":"user","content":""}]}'),
    request_id="r",
    created_s=0,
)


@pytest.mark.parametrize(
    "data", [rb'"\ud800"', rb'"\udc00\ud800"', rb'{"a":["\uD83D"]}', rb'{"\udfff":1}']
)
def test_half_a_surrogate_pair_is_no_text(data: bytes) -> None:
    with pytest.raises(EncodingError) as caught:
        parse_json(data)
    assert caught.value.code == "lone_surrogate"


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (rb'"\ud83d\ude00"', "\U0001f600"),
        (rb'"\\ud800"', r"\ud800"),
        (rb'"\u00e9"', "é"),
    ],
)
def test_whole_pairs_and_what_only_looks_like_half_a_pair_are_text(data: bytes, value: str) -> None:
    assert parse_json(data) == value


def test_a_prompt_with_half_a_pair_is_refused_and_not_an_error_of_ours() -> None:
    with pytest.raises(DialectError) as caught:
        parse_chat(rb'{"model":"m","messages":[{"role":"user","content":"\ud800"}]}')
    assert caught.value.code == "lone_surrogate"


@pytest.mark.parametrize(
    "body",
    [
        b'{"choices":[{"finish_reason":"stop","message":{"content":"\xff"},"delta":{"content":"\xff"}}]}',
        rb'{"choices":[{"finish_reason":"stop","message":{"content":"\ud800"},"delta":{"content":"\ud800"}}]}',
        b'{"choices":[],"usage":{"completion_tokens":99999999999999999999}}',
        b'{"choices":[],"usage":{"completion_tokens":-1}}',
        b'{"choices":[{"finish_reason":"stop","message":{"tool_calls":[{"index":-1}]},"delta":{"tool_calls":[{"index":-1}]}}]}',
        b'{"choices":[{"finish_reason":"stop","message":{"tool_calls":[{"index":128}]},"delta":{"tool_calls":[{"index":128}]}}]}',
    ],
)
def test_an_upstream_that_sends_no_text_or_no_count_is_out_of_its_contract(body: bytes) -> None:
    with pytest.raises(UpstreamAnswerError):
        CODEC.parse_whole(body)
    with pytest.raises(UpstreamAnswerError):
        CODEC.parse_event(SseEvent(body))


@pytest.mark.parametrize("reason", ["abort", "error", "cancelled", "insufficient_system_resource"])
def test_an_answer_that_says_it_was_broken_off_did_not_end(reason: str) -> None:
    event = b'{"choices":[{"delta":{},"finish_reason":"%b"}]}' % reason.encode()
    with pytest.raises(UpstreamAnswerError) as caught:
        CODEC.parse_event(SseEvent(event))
    assert caught.value.code == "upstream_died"


def test_an_empty_finish_reason_of_a_piece_is_no_end() -> None:
    event = b'{"choices":[{"delta":{"content":"hi"},"finish_reason":""}]}'
    assert CODEC.parse_event(SseEvent(event)).finishes == ()


def test_a_frame_that_is_no_text_does_not_take_the_frames_before_it_along() -> None:
    codec: FrameCodec[WorkerToKeeper] = FrameCodec(WorkerToKeeper)
    good = codec.encode(Ask(nonces=("abc",)))
    assert codec.feed(good + good.replace(b"abc", b"a\xffc")) == [Ask(nonces=("abc",))]
    assert codec.error is not None
    assert codec.error.code == "frame_malformed"


def test_a_record_that_is_no_text_is_no_record() -> None:
    with pytest.raises(RecordError):
        decode_record(b'{"kind":"beat","node":"\xff"}')
