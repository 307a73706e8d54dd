"""Answers of every dialect but chat, whole and streamed, from an upstream that sends anything.

The gateway's own `Answering` and `Release` are driven, with a caller and a journal that only note
what they are given. Properties: the upstream's bytes raise no other errors than those it is known
to cause; an answer that is recorded as served ended as the dialect says, by a plain reading of the
same bytes; what the caller reads is what was released, within the reserve, and the mark of an
orderly end stands at its end or nowhere; cut otherwise, the same bytes are answered the same.
"""

from __future__ import annotations

import asyncio
import json
import math
import struct
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final, NamedTuple, cast

from gatelift.encoding import encode_json, parse_json
from gatelift.gateway.answering import Answering
from gatelift.gateway.dialects import DIALECTS, Dialect, ModelRequest, UpstreamAnswerError
from gatelift.gateway.http_responder import ResponseState
from gatelift.gateway.recorded import RecordedExchange
from gatelift.gateway.recording import Ending
from gatelift.gateway.releasing import Release
from gatelift.gateway.replies import Reply, error_reply
from gatelift.journal import Pending
from gatelift.messages import Outcome
from gatelift.plan import RefusalForm
from gatelift.safeguards import Suite
from gatelift.terms import CapUnit, Category, Posture, SafeguardTerms, Scope
from gatelift.wire.http_client import UpstreamResponse
from gatelift.wire.sse import SseError, SseEvent, SseParser

__all__ = [
    "fuzz_completions_answer",
    "fuzz_embeddings_answer",
    "fuzz_messages_answer",
    "fuzz_responses_answer",
]

_LOOP: Final = asyncio.new_event_loop()
_SUITE: Final = Suite(
    terms=SafeguardTerms(postures={Category.LEAK: Posture.CUT}),
    scope=Scope(tools=("f",), agent_steps=3),
    canaries=("amber lantern",),
)
_TOKENS: Final = 12
_BYTES: Final = 96
_INPUT_BOUND: Final = 40
_MOST: Final = 2**33


class _Caller:
    """What the caller reads, in the place of a responder."""

    def __init__(self) -> None:
        self.state = ResponseState.AWAITED
        self.status = 0
        self.said = b""

    def start_stream(self, status: int, headers: object) -> None:
        assert (self.state, status) == (ResponseState.AWAITED, 200)
        self.state = ResponseState.STREAMING

    async def write(self, data: bytes) -> None:
        assert self.state is ResponseState.STREAMING
        self.said += data

    async def finish(self, data: bytes) -> None:
        await self.write(data)
        self.state = ResponseState.SENT

    def abort(self, *, flush: bool = False, last: bytes = b"") -> None:
        self.said += last if flush else b""
        self.state = ResponseState.CUT

    def send(self, status: int, headers: object, body: bytes) -> None:
        assert self.state is ResponseState.AWAITED
        self.state, self.status, self.said = ResponseState.SENT, status, body


class _Book:
    """What is written down, in the place of a recorder and its steps."""

    start: Final = True

    def __init__(self) -> None:
        self.finish: Ending | None = None
        self.durable: asyncio.Future[None] = _LOOP.create_future()
        self.durable.set_result(None)

    def on(self, event: object) -> None:
        """Take a step: their order is tried elsewhere."""

    def start_ticket(self) -> str:
        return "start"

    def finish_ticket(self) -> str:
        assert self.finish is not None, "a ticket of a finish that was not written"
        return "finish"


class _Exchange:
    """One exchange between a caller and a book."""

    id, headers, verdicts, forwarded = "req_1", (), (), True

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self.recorder = self.steps = _Book()
        self.responder = _Caller()

    def error(self, code: str, message: str, **more: Any) -> Reply:
        return error_reply(code, message, headers=(), shape=self._dialect.errors, **more)

    async def finish(self, ending: Ending, answer: object, spent: dict[CapUnit, int]) -> None:
        assert self.recorder.finish is None, "two finishes"
        assert 0 <= spent[CapUnit.OUTPUT_TOKENS] <= _TOKENS
        assert 0 <= spent[CapUnit.INPUT_TOKENS] <= _INPUT_BOUND
        # A journal takes 64 bits; three counts of a usage may stand in a sum.
        assert 0 <= ending.overrun_tokens <= _MOST
        self.recorder.finish = ending

    def send_with_ticket(self, reply: Reply) -> None:
        self.recorder.finish_ticket()
        self.responder.send(reply.status, reply.headers, reply.body)


class _Response:
    """An upstream's response whose bytes came whole, and then its end."""

    def __init__(self, parts: list[bytes]) -> None:
        self._parts = parts

    async def read(self) -> bytes:
        return b"".join(self._parts)

    async def chunks(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            yield part


class _Answered(NamedTuple):
    """What came of it: to the caller, to the book, and what may have been said at all."""

    said: bytes
    status: int
    clean: bool
    outcome: Outcome
    released: bytes
    ours: bool


def _answered(dialect: Dialect, request: ModelRequest, parts: list[bytes]) -> _Answered:
    """Play an exchange; any error but an upstream's is raised."""
    codec = dialect.open_answer(request, request_id="r", created_s=0)
    max_bytes = request.data_bytes or _BYTES
    release = Release(
        lambda: _SUITE.open_answer(request.parts),
        codec,
        max_tokens=_TOKENS if request.generates else 0,
        max_bytes=max_bytes,
        choices=request.choices,
    )
    exchange = _Exchange(dialect)
    answering = Answering(
        cast("RecordedExchange", exchange),
        dialect,
        request,
        release,
        codec,
        input_bound=_INPUT_BOUND,
        form=RefusalForm.COMPLETION,
    )

    async def play() -> None:
        response, start = _Response(parts), exchange.recorder
        try:
            await answering.answer(cast("UpstreamResponse", response), cast("Pending", start))
        except (UpstreamAnswerError, SseError) as error:
            await answering.failed(error)

    _LOOP.run_until_complete(play())
    caller, ending = exchange.responder, exchange.recorder.finish
    assert ending is not None
    assert caller.state in (ResponseState.SENT, ResponseState.CUT)
    assert release.bytes_out <= max_bytes
    return _Answered(
        caller.said,
        caller.status,
        caller.state is ResponseState.SENT and caller.status in (0, 200),
        ending.outcome,
        bytes(release.released),
        release.stopped,
    )


def _asked(path: str, **fields: Any) -> tuple[Dialect, ModelRequest]:
    dialect = DIALECTS[path]
    return dialect, dialect.parse(encode_json({"model": "m", **fields}))


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
    asked: tuple[Dialect, ModelRequest],
    data: bytes,
    *,
    marks: tuple[bytes, ...],
    ended: Callable[[list[Any]], bool],
    texts: Callable[[dict[str, Any]], Iterator[str]],
) -> None:
    """Play a stream; `ended` judges the upstream's events, `texts` reads one event of ours."""
    step = 2 + sum(data) % 7
    found = _answered(*asked, [data])
    again = _answered(*asked, [data[i : i + step] for i in range(0, len(data), step)])
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


def _whole(
    asked: tuple[Dialect, ModelRequest], data: bytes, texts: Callable[[Any], Iterator[str]]
) -> Any:
    """Play a whole answer and return what the caller reads of it, null where it is none."""
    found = _answered(*asked, [data])
    body = parse_json(found.said)
    assert found.status in (200, 502, 403, 451) or found.status >= 400
    if found.outcome is not Outcome.SERVED:
        assert found.outcome in (Outcome.CUT, Outcome.WITHHELD, Outcome.UPSTREAM_FAILED)
    if found.outcome not in (Outcome.SERVED, Outcome.CUT):
        return None
    said = "".join(texts(body))
    assert said.encode() == found.released, "the caller reads other than what was released"
    return body


_COMPLETIONS: Final = _asked("/v1/completions", prompt="hi")
_TWO: Final = _asked("/v1/completions", prompt="hi", n=2, stream=True)


def _completion_texts(body: dict[str, Any]) -> Iterator[str]:
    for choice in body.get("choices", []):
        yield choice["text"]


def _completions_ended(events: list[Any]) -> bool:
    if b"[DONE]" not in events:
        return False
    finished = {
        choice.get("index", 0)
        for body in events[: events.index(b"[DONE]")]
        for choice in body["choices"]
        if choice.get("finish_reason") is not None
    }
    return finished == {0, 1}


def fuzz_completions_answer(data: bytes) -> None:
    """Completions: one whole, two in a stream."""
    _whole(_COMPLETIONS, data, _completion_texts)
    _stream(
        _TWO,
        data,
        marks=(b"data: [DONE]\n\n",),
        ended=_completions_ended,
        texts=_completion_texts,
    )


_FLOATS: Final = _asked("/v1/embeddings", input=["a", "b"], dimensions=2)
_BASE64: Final = _asked("/v1/embeddings", input="a", encoding_format="base64")


def fuzz_embeddings_answer(data: bytes) -> None:
    """Vectors: as another parser reads them, finite, in the order of the texts."""
    for asked in (_FLOATS, _BASE64):
        found = _answered(*asked, [data])
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


_HI: Final = [{"role": "user", "content": "hi"}]
_MESSAGE: Final = _asked("/v1/messages", messages=_HI, max_tokens=9, stop_sequences=["x"])
_MESSAGES: Final = _asked("/v1/messages", messages=_HI, max_tokens=9, stream=True)
_COUNT: Final = _asked("/v1/messages/count_tokens", messages=_HI)


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
    return any(
        event["type"] == "message_delta" and event["delta"].get("stop_reason") is not None
        for event in events[: kinds.index("message_stop")]
    )


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
    found = _answered(*_MESSAGE, [data])
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
    _in_order(_of_caller(_answered(*_MESSAGES, [data]).said))
    counted = _answered(*_COUNT, [data])
    body = parse_json(counted.said)
    if counted.outcome is Outcome.SERVED:
        assert body == {"input_tokens": body["input_tokens"]}
        assert 0 <= body["input_tokens"] < 2**31


_RESPONSE: Final = _asked("/v1/responses", input="hi")
_RESPONSES: Final = _asked("/v1/responses", input="hi", stream=True)
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
    found = _answered(*_RESPONSE, [data])
    body = parse_json(found.said)
    if found.outcome in (Outcome.SERVED, Outcome.CUT):
        # Items are gathered by kind: the same texts, in another order.
        said = "".join(_output_texts(body)).encode()
        assert sorted(said) == sorted(found.released)
    _stream(
        _RESPONSES,
        data,
        marks=tuple(b"event: %b\n" % name.encode() for name in _ENDS),
        ended=_responses_ended,
        texts=_response_texts,
    )
