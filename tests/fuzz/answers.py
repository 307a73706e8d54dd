"""Answers of every dialect, whole and streamed, from an upstream that sends anything.

Properties: the upstream's bytes raise no other errors than those it is known to cause; a stream that
is recorded as served ended as its dialect says, by a plain reading of the same bytes; what the
caller reads is what was released, within the reserve, and the mark of an orderly end stands at its
end or nowhere; cut otherwise, the same bytes are answered the same.
"""

from __future__ import annotations

import json
import math
import struct
from base64 import b64decode
from collections.abc import Callable, Iterator
from typing import Any, Final

from gatelift.encoding import parse_json
from gatelift.messages import Outcome
from gatelift.wire.sse import SseEvent, SseParser
from tests.fuzz.exchanges import Asked, answered, asked

__all__ = [
    "fuzz_chat_answer",
    "fuzz_completions_answer",
    "fuzz_embeddings_answer",
    "fuzz_messages_answer",
    "fuzz_responses_answer",
]
# Servers say so that they broke off: it is no end.
_ABORTS: Final = frozenset({"abort", "error"})
_DONE: Final = b"data: [DONE]\n\n"


def _json(data: bytes) -> Any:
    """Return what a lax reader makes of it; null where even that reads nothing."""
    try:
        return json.loads(data.decode("utf-8", "replace"), strict=False)
    except (ValueError, RecursionError):
        return None


def _events(data: bytes) -> list[SseEvent]:
    parser = SseParser()
    found = parser.feed(data)
    assert not parser.unfinished
    return found


def _of_caller(data: bytes) -> list[dict[str, Any]]:
    """Return the caller's events: each strict JSON, but for the mark of the end."""
    return [parse_json(event.data) for event in _events(data) if event.data != b"[DONE]"]


def _stream(
    request: Asked,
    data: bytes,
    *,
    marks: tuple[bytes, ...],
    ended: Callable[[list[Any]], bool],
    texts: Callable[[dict[str, Any]], Iterator[str]],
) -> None:
    """Play a stream; `ended` judges the upstream's events, `texts` reads one event of ours."""
    step = 2 + sum(data) % 7
    found = answered(request, [data])
    again = answered(request, [data[i : i + step] for i in range(0, len(data), step)])
    assert found == again, "answered otherwise when cut"
    said = "".join(text for event in _of_caller(found.said) for text in texts(event))
    assert said.encode() == found.released, "the caller reads other than what was released"
    marked = [mark for mark in marks if mark in found.said]
    assert bool(marked) is found.clean, "marked as ended without an end, or ended without a mark"
    assert found.clean is (found.outcome in (Outcome.SERVED, Outcome.CUT))
    if found.clean:
        assert any(found.said.count(mark) == 1 for mark in marks)
        assert any(mark in found.said[found.said.rindex(b"\n\n", 0, -2) :] for mark in marks)
    if found.outcome is Outcome.SERVED and not found.ours:
        upstream = [
            event.data if event.data == b"[DONE]" else _json(event.data)
            for event in SseParser(max_event_bytes=1 << 22).feed(data)
            if event.data
        ]
        # What no other parser reads stood in a field that was skipped: nobody can judge it.
        assert None in upstream or ended(upstream), "a clean end where the upstream did not end"


def _whole(request: Asked, data: bytes, texts: Callable[[Any], Iterator[str]]) -> None:
    """Play a whole answer; `texts` reads what the caller gets."""
    found = answered(request, [data])
    body = parse_json(found.said)
    if found.outcome not in (Outcome.SERVED, Outcome.CUT):
        assert found.outcome in (Outcome.WITHHELD, Outcome.UPSTREAM_FAILED)
        return
    said = "".join(texts(body)).encode()
    # Some dialects gather what is said by kind: the same texts, in another order.
    assert sorted(said) == sorted(found.released), "the caller reads other than what was released"


_HI: Final = [{"role": "user", "content": "hi"}]
_CHAT: Final = asked("/v1/chat/completions", messages=_HI)
_CHATS: Final = asked("/v1/chat/completions", messages=_HI, n=2, stream=True)


def _chat_texts(body: dict[str, Any]) -> Iterator[str]:
    for choice in body.get("choices", []):
        said = choice.get("delta") or choice.get("message") or {}
        for field in ("reasoning_content", "content", "refusal"):
            yield said.get(field) or ""
        for call in said.get("tool_calls", ()):
            yield call["function"].get("name", "") + call["function"].get("arguments", "")


def _two_finished(events: list[Any]) -> bool:
    """Say whether each of two choices had a reason to end before the mark of the end came."""
    if b"[DONE]" not in events:
        return False
    reasons = {
        (choice.get("index", 0), choice["finish_reason"])
        for body in events[: events.index(b"[DONE]")]
        for choice in body["choices"]
        if choice.get("finish_reason") is not None
    }
    return {number for number, _ in reasons} == {0, 1} and not _ABORTS & {r for _, r in reasons}


def fuzz_chat_answer(data: bytes) -> None:
    """Chat completions: one whole, two in a stream."""
    _whole(_CHAT, data, _chat_texts)
    _stream(_CHATS, data, marks=(_DONE,), ended=_two_finished, texts=_chat_texts)


_COMPLETIONS: Final = asked("/v1/completions", prompt="hi")
_TWO: Final = asked("/v1/completions", prompt="hi", n=2, stream=True)


def _completion_texts(body: dict[str, Any]) -> Iterator[str]:
    for choice in body.get("choices", []):
        yield choice["text"]


def fuzz_completions_answer(data: bytes) -> None:
    """Completions: one whole, two in a stream."""
    _whole(_COMPLETIONS, data, _completion_texts)
    _stream(_TWO, data, marks=(_DONE,), ended=_two_finished, texts=_completion_texts)


_FLOATS: Final = asked("/v1/embeddings", input=["a", "b"], dimensions=2)
_BASE64: Final = asked("/v1/embeddings", input="a", encoding_format="base64")


def fuzz_embeddings_answer(data: bytes) -> None:
    """Vectors: as another parser reads them, finite, in the order of the texts."""
    for request in (_FLOATS, _BASE64):
        found = answered(request, [data])
        body = parse_json(found.said)
        if found.outcome is not Outcome.SERVED:
            continue
        theirs = _json(data)
        if theirs is None:
            continue
        vectors = {vector["index"]: vector["embedding"] for vector in theirs["data"]}
        assert sorted(vectors) == [vector["index"] for vector in body["data"]]
        for vector in body["data"]:
            numbers, wanted = vector["embedding"], vectors[vector["index"]]
            if isinstance(numbers, str):
                packed = b64decode(numbers, validate=True)
                assert packed == struct.pack(f"<{len(wanted)}f", *wanted)
                numbers = struct.unpack(f"<{len(wanted)}f", packed)
            else:
                assert numbers == [float(number) for number in wanted]
            assert all(map(math.isfinite, numbers))


_MESSAGE: Final = asked("/v1/messages", messages=_HI, max_tokens=9, stop_sequences=["x"])
_MESSAGES: Final = asked("/v1/messages", messages=_HI, max_tokens=9, stream=True)
_COUNT: Final = asked("/v1/messages/count_tokens", messages=_HI)


def _message_texts(event: dict[str, Any]) -> Iterator[str]:
    if event["type"] == "content_block_start":
        yield event["content_block"].get("name", "")
    if event["type"] == "content_block_delta":
        delta = event["delta"]
        yield delta.get("text", "") + delta.get("thinking", "") + delta.get("partial_json", "")


def _messages_ended(events: list[Any]) -> bool:
    kinds = [event["type"] for event in events]
    if "message_stop" not in kinds:
        return False
    reasons = {
        event["delta"].get("stop_reason")
        for event in events[: kinds.index("message_stop")]
        if event["type"] == "message_delta"
    }
    return bool(reasons - {None}) and not _ABORTS & reasons


def _in_order(events: list[dict[str, Any]]) -> None:
    """Check what clients of the protocol rely on: blocks one by one, each begun before it ends."""
    opened, count = False, 0
    for event in events:
        match event["type"]:
            case "content_block_start":
                assert (event["index"], opened) == (count, False)
                opened, count = True, count + 1
            case "content_block_delta":
                assert (event["index"], opened) == (count - 1, True)
            case "content_block_stop":
                assert (event["index"], opened) == (count - 1, True)
                opened = False


def fuzz_messages_answer(data: bytes) -> None:
    """Anthropic messages, whole and streamed, and a count of tokens."""
    found = answered(_MESSAGE, [data])
    body = parse_json(found.said)
    if found.outcome in (Outcome.SERVED, Outcome.CUT):
        for block in body["content"]:
            said = block.get("text", "") + block.get("thinking", "") + block.get("name", "")
            assert said.encode() in found.released
    _stream(
        _MESSAGES,
        data,
        marks=(b"event: message_stop\n",),
        ended=_messages_ended,
        texts=_message_texts,
    )
    _in_order(_of_caller(answered(_MESSAGES, [data]).said))
    counted = answered(_COUNT, [data])
    body = parse_json(counted.said)
    if counted.outcome is Outcome.SERVED:
        assert body == {"input_tokens": body["input_tokens"]}
        assert 0 <= body["input_tokens"] < 2**31


_RESPONSE: Final = asked("/v1/responses", input="hi")
_RESPONSES: Final = asked("/v1/responses", input="hi", stream=True)
_ENDS: Final = ("response.completed", "response.incomplete")


def _response_texts(event: dict[str, Any]) -> Iterator[str]:
    if event["type"] == "response.output_item.added":
        yield event["item"].get("name", "")
    if event["type"].endswith(".delta"):
        yield event["delta"]


def _output_texts(body: dict[str, Any]) -> Iterator[str]:
    for item in body["output"]:
        yield item.get("name", "") + item.get("arguments", "")
        for part in (*item.get("summary", ()), *item.get("content", ())):
            yield part.get("text", "") + part.get("refusal", "")


def _responses_ended(events: list[Any]) -> bool:
    return any(
        event != b"[DONE]"
        and event["type"] in _ENDS
        and event["response"]["status"] in ("completed", "incomplete")
        for event in events
    )


def fuzz_responses_answer(data: bytes) -> None:
    """Responses, whole and streamed."""
    _whole(_RESPONSE, data, _output_texts)
    _stream(
        _RESPONSES,
        data,
        marks=tuple(b"event: %b\n" % name.encode() for name in _ENDS),
        ended=_responses_ended,
        texts=_response_texts,
    )
