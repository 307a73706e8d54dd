"""What is fuzzed: one function a parser of hostile bytes, each with the property that must hold.

Invariants
- A target takes any bytes and returns nothing; a property that does not hold is an `AssertionError`,
  and any other exception is a defect as well.
- No clock and no chance: the same bytes always do the same, so that a kept input stays a test.
- Where another parser exists it is the judge: h11 for HTTP, `json` and msgspec for JSON, a plain
  reading of the HTML standard for server-sent events.

Run by `tests/fuzz/run.py` (coverage-guided, `make fuzz`) and by `tests/fuzz/test_fuzz_corpus.py`.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from gatelift.encoding import EncodingError, encode_json, parse_json
from gatelift.gateway.dialects import (
    DIALECTS,
    AnswerEnd,
    DialectError,
    FinishReason,
    UpstreamAnswerError,
)
from gatelift.gateway.dialects.chat_answer import ChatAnswer
from gatelift.gateway.dialects.chat_request import parse_chat, upstream_chat
from gatelift.gateway.http_known_heads import KnownHeads
from gatelift.gateway.http_messages import HttpRejectionError, ServerLimits
from gatelift.gateway.http_reader import RequestReader
from gatelift.messages.frames import KeeperToWorker, WorkerToKeeper
from gatelift.plan import parse_candidate
from gatelift.safeguards import PartKind
from gatelift.wire.frames import FrameCodec, FrameError
from gatelift.wire.sse import SseError, SseEvent, SseParser
from tests.fuzz.answers import (
    fuzz_chat_answer,
    fuzz_completions_answer,
    fuzz_embeddings_answer,
    fuzz_messages_answer,
    fuzz_responses_answer,
)
from tests.fuzz.asked import (
    fuzz_completions_request,
    fuzz_embeddings_request,
    fuzz_messages_request,
    fuzz_responses_request,
)
from tests.fuzz.responses import fuzz_response
from tests.support.http_corpus import read_as_h11
from tests.support.world import World

__all__ = ["TARGETS"]

_LIMITS: Final = ServerLimits(
    max_header_bytes=512, max_target_bytes=64, max_headers=8, max_body_bytes=256
)
_KNOWN_HEADS: Final = KnownHeads()
_CHUNKED_HEAD: Final = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
_CANDIDATE: Final = parse_candidate(World().candidate_bytes)
_ROOMY: Final = 1 << 20
_ASKED: Final = {
    stream: parse_chat(
        encode_json({"model": "m", "messages": [{"role": "user", "content": ""}], "stream": stream})
    )
    for stream in (False, True)
}
_OTHERS: Final = {
    path: DIALECTS[path].parse(encode_json({"model": "m", "max_tokens": 9, **body}))
    for path, body in {
        "/v1/completions": {"prompt": "x"},
        "/v1/messages": {"messages": [{"role": "user", "content": "x"}]},
    }.items()
} | {
    path: DIALECTS[path].parse(encode_json({"model": "m", "input": "x"}))
    for path in ("/v1/responses", "/v1/embeddings")
}
"""What is asked of the dialects beside chat, whose answers are only parsed or refused."""


def _cuts(data: bytes) -> Iterator[list[bytes]]:
    """Yield the same bytes whole, byte by byte, and in pieces that depend on the bytes."""
    yield [data]
    yield [data[i : i + 1] for i in range(len(data))]
    step = 2 + sum(data) % 7
    yield [data[i : i + step] for i in range(0, len(data), step)]


def _same(readings: list[Any]) -> Any:
    first, *others = readings
    assert all(other == first for other in others), f"read otherwise when cut: {readings!r}"
    return first


def _read_requests(parts: list[bytes]) -> tuple[list[tuple[bytes, bytes, bytes]], str, bool]:
    # Kept over all that is read here: what is known may never change how anything is read.
    reader = RequestReader(_LIMITS, _KNOWN_HEADS)
    found: list[tuple[bytes, bytes, bytes]] = []
    for part in parts:
        reader.feed(part)
        try:
            while (taken := reader.take()) is not None:
                head, body = taken
                target = head.path + (f"?{head.query}" if head.query else "")
                found.append((head.method.encode(), target.encode(), body))
                if not head.keep_alive:
                    return found, "closes", False
        except HttpRejectionError as error:
            return found, f"{error.status} {error.code}", False
    # Bounded: what waits is at most one head or one body with its frame.
    assert reader.buffered <= _LIMITS.max_header_bytes + _LIMITS.max_body_bytes + 64
    return found, "", reader.buffered > 0


def _judge_requests(data: bytes) -> None:
    found, _, _ = _same([_read_requests(parts) for parts in _cuts(data)])
    theirs, why = read_as_h11(data)
    if len(theirs) < len(found):
        # h11 takes no empty line before a request; it has no other right to refuse what we take.
        assert why == "no request line received", f"h11 refuses what we take: {why}"
    shared = min(len(found), len(theirs))
    # A query that is empty is not told from none.
    assert found[:shared] == [(m, t.removesuffix(b"?"), b) for m, t, b in theirs[:shared]]


def fuzz_request(data: bytes) -> None:
    """Heads and bodies: the same in every cut, and never read otherwise than h11 reads them."""
    _judge_requests(data)


def fuzz_chunked(data: bytes) -> None:
    """Bodies in chunks, behind a head that is right."""
    _judge_requests(_CHUNKED_HEAD + data)


def _read_events(parts: list[bytes]) -> tuple[list[tuple[bytes, bytes]], bool, bool]:
    parser = SseParser(max_event_bytes=1024)
    found: list[tuple[bytes, bytes]] = []
    for part in parts:
        try:
            found += [(event.name, event.data) for event in parser.feed(part)]
        except SseError:
            return found, True, False
    return found, False, parser.unfinished


def _plain_events(data: bytes) -> list[tuple[bytes, bytes]]:
    lines = re.split(rb"\r\n|\r|\n", data)[:-1]
    if lines:
        lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
    found: list[tuple[bytes, bytes]] = []
    name, kept = b"", []
    for line in lines:
        if not line:
            if kept:
                found.append((name, b"\n".join(kept)))
            name, kept = b"", []
            continue
        field, _, value = line.partition(b":")
        value = value[1:] if value.startswith(b" ") else value
        if field == b"data":
            kept.append(value)
        elif field == b"event":
            name = value
    return found


def fuzz_sse(data: bytes) -> None:
    """Server-sent events: as the standard reads them, in every cut, within the bound."""
    readings = [_read_events(parts) for parts in _cuts(data)]
    plain = _plain_events(data)
    if len(data) < 1000:
        found, broken, _ = _same(readings)
        assert not broken
        assert found == plain
    for found, broken, _ in readings:
        assert found == plain[: len(found)]
        assert broken or found == plain


def _alike(ours: Any, theirs: Any) -> bool:
    """Compare values of two JSON parsers; an integer is no float."""
    if isinstance(ours, dict):
        return (
            isinstance(theirs, dict)
            and ours.keys() == theirs.keys()
            and all(_alike(value, theirs[key]) for key, value in ours.items())
        )
    if isinstance(ours, list):
        return (
            isinstance(theirs, list)
            and len(ours) == len(theirs)
            and all(_alike(one, other) for one, other in zip(ours, theirs, strict=True))
        )
    if isinstance(ours, float):
        assert math.isfinite(ours)
    return type(ours) is type(theirs) and bool(ours == theirs)


def fuzz_json(data: bytes) -> None:
    """Strict JSON: what is taken is read alike by two other parsers, and can be written again."""
    try:
        ours = parse_json(data)
    except EncodingError:
        return
    assert _alike(ours, json.loads(data))
    assert _alike(ours, msgspec.json.decode(data))
    written = encode_json(ours)
    written.decode("utf-8")
    assert _alike(ours, parse_json(written))


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, key)
    elif isinstance(value, str):
        yield key, value


def fuzz_chat(data: bytes) -> None:
    """A chat request: refused by name, or every text that is sent upstream was inspected."""
    try:
        chat = parse_chat(data)
    except DialectError as error:
        str(error).encode("utf-8", "backslashreplace")
        return
    sent = upstream_chat(chat, _CANDIDATE, model="m", max_tokens=7)
    body = parse_json(sent)
    assert body == json.loads(sent) == msgspec.json.decode(sent)
    assert (body["model"], body["max_tokens"], body["n"]) == ("m", 7, chat.choices)
    inspected = "\n".join(part.text for part in chat.parts)
    for part in chat.parts:
        part.text.encode("utf-8")
    ours = len(body["messages"]) - chat.messages
    for tool in body.get("tools", []):
        schema = tool["function"].pop("parameters", None)
        assert schema is None or encode_json(schema).decode() in inspected
    for key, text in _texts([body["messages"][ours:], body.get("tools", [])]):
        if key in {"role", "type", "id", "tool_call_id"}:
            assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text)
        else:
            assert text in inspected


def _read_frames(kind: Any, parts: list[bytes]) -> tuple[list[Any], str, bool]:
    codec: FrameCodec[Any] = FrameCodec(kind, max_frame_bytes=1024)
    found: list[Any] = []
    for part in parts:
        try:
            found += codec.feed(part)
        except FrameError as error:
            return found, error.code, False
        if codec.error is not None:
            return found, codec.error.code, False
    assert not codec.unfinished or sum(map(len, parts)) > 0
    return found, "", codec.unfinished


def fuzz_frames(data: bytes) -> None:
    """Frames: the same in every cut; what was read is written and read again unchanged."""
    for kind in (WorkerToKeeper, KeeperToWorker):
        found, _, _ = _same([_read_frames(kind, parts) for parts in _cuts(data)])
        codec: FrameCodec[Any] = FrameCodec(kind, max_frame_bytes=_ROOMY)
        for frame in found:
            (again,) = codec.feed(codec.encode(frame))
            assert again == frame or msgspec.msgpack.encode(again) == msgspec.msgpack.encode(frame)


def fuzz_answer(data: bytes) -> None:
    """The upstream's JSON, whole and in events: refused, or read as `json` reads it."""
    for path, asked in _OTHERS.items():
        codec = DIALECTS[path].open_answer(asked, request_id="r", created_s=0)
        with contextlib.suppress(UpstreamAnswerError):
            codec.parse_whole(data)
        with contextlib.suppress(UpstreamAnswerError):
            codec.parse_event(SseEvent(data))
    for stream, key in ((False, "message"), (True, "delta")):
        codec = ChatAnswer(_ASKED[stream], request_id="r", created_s=0)
        try:
            answer = codec.parse_event(SseEvent(data)) if stream else codec.parse_whole(data)
        except UpstreamAnswerError:
            continue
        if answer.ended or not data:
            continue
        try:
            choices = json.loads(data.decode("utf-8", "replace"))["choices"]
        except ValueError:
            # Only in a field that is not read: skipped by msgspec, and dropped by us.
            continue
        message = (choices[0].get(key) or {}) if choices else {}
        said = [piece.text for piece in answer.pieces if piece.kind is PartKind.ASSISTANT_TEXT]
        assert said == ([message["content"]] if message.get("content") else [])
        end = AnswerEnd(finishes={0: FinishReason.STOP}, input_tokens=0, output_tokens=0)
        for piece in answer.pieces:
            piece.text.encode("utf-8")
            out = codec.release(piece, piece.text)
            if stream:
                (event,) = SseParser().feed(out)
                parse_json(event.data)
        if stream:
            *events, done = SseParser().feed(codec.last(end))
            assert done.data == b"[DONE]"
            for event in events:
                parse_json(event.data)
        else:
            parse_json(codec.whole(end))


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "request": fuzz_request,
    "chunked": fuzz_chunked,
    "response": fuzz_response,
    "sse": fuzz_sse,
    "json": fuzz_json,
    "chat": fuzz_chat,
    "answer": fuzz_answer,
    "frames": fuzz_frames,
    "chat_answer": fuzz_chat_answer,
    "responses_request": fuzz_responses_request,
    "responses_answer": fuzz_responses_answer,
    "completions_request": fuzz_completions_request,
    "completions_answer": fuzz_completions_answer,
    "embeddings_request": fuzz_embeddings_request,
    "embeddings_answer": fuzz_embeddings_answer,
    "messages_request": fuzz_messages_request,
    "messages_answer": fuzz_messages_answer,
}
