"""Responses: what is read, dropped and refused; what a hostile upstream can and can't say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gatelift.gateway.dialects import (
    DIALECTS,
    AnswerCodec,
    AnswerEnd,
    DialectError,
    FinishReason,
    UpstreamAnswerError,
)
from gatelift.gateway.dialects.responses_request import ResponsesRequest, parse_responses
from gatelift.gateway.releasing import Release
from gatelift.plan import parse_candidate
from gatelift.safeguards import PartKind, Suite
from gatelift.terms import Category, Posture, SafeguardTerms, Scope
from gatelift.wire.sse import SseEvent
from tests.support.world import PROMPT, World

CANDIDATE = parse_candidate(World().candidate_bytes)
DIALECT = DIALECTS["/v1/responses"]
END = AnswerEnd(finishes={0: FinishReason.STOP}, input_tokens=1, output_tokens=2)


def asked(**changes: Any) -> ResponsesRequest:
    return parse_responses(json.dumps({"model": "m", "input": "hi"} | changes).encode())


def codec(**changes: Any) -> AnswerCodec:
    return DIALECT.open_answer(asked(**changes), request_id="r", created_s=0)


def sent(request: ResponsesRequest) -> dict[str, Any]:
    return json.loads(DIALECT.upstream_body(request, CANDIDATE, model="up", max_tokens=9))


def event(kind: str, **fields: Any) -> SseEvent:
    return SseEvent(json.dumps({"type": f"response.{kind}", **fields}).encode())


def test_what_is_sent_is_the_candidates_prompt_first_and_keeps_nothing() -> None:
    request = asked(instructions="be kind", metadata={"a": "b"}, store=False, user="u1")
    assert [(p.kind, p.text) for p in request.parts] == [
        (PartKind.SYSTEM, "be kind"),
        (PartKind.USER, "hi"),
    ]
    assert sent(request) == {
        "model": "up",
        "instructions": PROMPT,
        "input": [
            {"type": "message", "role": "system", "content": "be kind"},
            {"type": "message", "role": "user", "content": "hi"},
        ],
        "max_output_tokens": 9,
        "temperature": 0.7,
        "top_p": 0.95,
        "stream": False,
        "store": False,
    }


def test_ids_annotations_and_reasoning_are_dropped() -> None:
    said = {"type": "output_text", "text": "a", "annotations": [{"url": "do this"}], "logprobs": []}
    request = asked(
        input=[
            {"role": "user", "content": "q"},
            {"type": "reasoning", "id": "x", "summary": [{"type": "summary_text", "text": "hm"}]},
            {"type": "message", "id": "do this", "role": "assistant", "content": [said]},
        ]
    )
    assert sent(request)["input"] == [
        {"type": "message", "role": "user", "content": "q"},
        {"type": "message", "role": "assistant", "content": "a"},
    ]
    assert [part.text for part in request.parts] == ["q", "a"]


REFUSED: dict[str, dict[str, Any]] = {
    "input[0].type": {"input": [{"type": "item_reference", "id": "x"}]},
    "input[0].encrypted_content": {
        "input": [{"type": "reasoning", "summary": [], "encrypted_content": "gAAA"}]
    },
    "input[0].content[0].type": {
        "input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]
    },
    "input[0].content[0].image_url": {
        "input": [{"role": "user", "content": [{"type": "input_image", "image_url": "https://x"}]}]
    },
    "input[0].role": {"input": [{"role": "root", "content": ""}]},
    "input[0].call_id": {
        "input": [{"type": "function_call_output", "call_id": "do this", "output": ""}]
    },
    "input": {"input": []},
    "tools[0].type": {"tools": [{"type": "code_interpreter"}]},
    "tools[0].x": {"tools": [{"type": "function", "name": "f", "x": 1}]},
    "tool_choice": {"tool_choice": {"type": "function", "name": "f"}},
    "text.format.type": {"text": {"format": {"type": "grammar"}}},
    "text.verbosity": {"text": {"verbosity": "low"}},
    "max_output_tokens": {"max_output_tokens": 0},
    "previous_response_id": {"previous_response_id": "x"},
    "stream_options": {"stream_options": {}},
}


@pytest.mark.parametrize("param", REFUSED)
def test_is_refused_by_name(param: str) -> None:
    with pytest.raises(DialectError) as caught:
        asked(**REFUSED[param])
    assert caught.value.param == param


def test_a_memory_is_refused_with_what_to_do_instead() -> None:
    with pytest.raises(DialectError, match="send the whole conversation in `input`"):
        asked(conversation="conv_1")


@pytest.mark.parametrize(
    "data",
    [
        b"not json",
        b"{}",
        b'{"output":[]}',
        b'{"status":null,"output":[]}',
        b'{"status":"in_progress","output":[]}',
        b'{"status":"completed\xff","output":[]}',
        b'{"status":"completed","output":[],"usage":{"output_tokens":9999999999}}',
        b'{"status":"failed","output":[]}',
        b'{"status":"queued","output":[]}',
        b'{"status":"completed","output":[{"type":"message","content":"x"}]}',
        b'{"status":"completed","output":[],"usage":{"output_tokens":-1}}',
        b'{"status":"completed","output":[{"type":"function_call","name":5}]}',
    ],
)
def test_an_answer_out_of_contract_is_refused(data: bytes) -> None:
    with pytest.raises(UpstreamAnswerError):
        codec().parse_whole(data)


def test_only_named_kinds_of_output_are_read() -> None:
    output = [
        {"type": "web_search_call", "action": {"query": "hidden"}},
        {
            "type": "message",
            "id": "hidden",
            "content": [
                {"type": "output_text", "text": "said", "annotations": [{"title": "hidden"}]},
                {"type": "output_audio", "text": "hidden"},
            ],
        },
        {"type": "reasoning", "encrypted_content": "hidden", "summary": []},
    ]
    answer = codec().parse_whole(json.dumps({"status": "completed", "output": output}).encode())
    assert [piece.text for piece in answer.pieces] == ["said"]


def test_only_an_end_of_the_api_ends_a_stream() -> None:
    made = codec(stream=True)
    for told in (SseEvent(b"[DONE]"), event("output_text.done", text=""), event("unheard_of")):
        assert not made.parse_event(told).ended
    for kind in ("failed", "completed"):
        with pytest.raises(UpstreamAnswerError):
            made.parse_event(event(kind, response={"status": "failed"}))
    with pytest.raises(UpstreamAnswerError):
        made.parse_event(SseEvent(b'{"type":"error","message":"x"}'))
    done = made.parse_event(event("completed", response={"status": "completed"}))
    assert done.ended


def test_text_that_came_without_a_delta_is_read_once() -> None:
    made = codec(stream=True)
    told = [
        event("output_text.done", item_id="a", text="whole"),
        event("output_text.delta", item_id="b", delta="piece"),
        event("output_text.done", item_id="b", text="piece"),
        event("output_item.done", item={"type": "function_call", "name": "f", "arguments": "{}"}),
    ]
    pieces = [piece for each in told for piece in made.parse_event(each).pieces]
    assert [(piece.kind, piece.text) for piece in pieces] == [
        (PartKind.ASSISTANT_TEXT, "whole"),
        (PartKind.ASSISTANT_TEXT, "piece"),
        (PartKind.TOOL_CALL_NAME, "f"),
        (PartKind.TOOL_CALL_ARGUMENTS, "{}"),
    ]


def test_arguments_of_a_call_that_was_never_named_are_refused() -> None:
    with pytest.raises(UpstreamAnswerError):
        codec(stream=True).parse_event(
            event("function_call_arguments.delta", item_id="f", delta="{}")
        )


def test_a_canary_over_two_items_is_one_text_to_the_safeguards() -> None:
    terms = SafeguardTerms(postures={Category.LEAK: Posture.CUT})
    suite = Suite(terms=terms, scope=Scope(), canaries=("amber lantern",))
    made = codec(stream=True)
    held = Release(suite.open_answer, made, max_tokens=50, max_bytes=1000)
    out = b"".join(
        held.take(made.parse_event(event("output_text.delta", item_id=item, delta=text)))
        for item, text in (("a", "amber "), ("b", "lantern"))
    )
    assert held.cut_by is not None
    assert b"amber" not in out


def test_a_stream_without_a_word_still_begins_and_ends() -> None:
    said = codec(stream=True).last(END).decode()
    kinds = [line.removeprefix("event: ") for line in said.splitlines() if line[:5] == "event"]
    assert kinds == ["response.created", "response.in_progress", "response.completed"]
