"""Model servers that die, lie and flood, seen by a caller through a whole worker.

What must hold in every row: the caller never reads a clean end, what was released stays released, the
exchange is recorded as failed upstream, and the next caller is served.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gatelift.messages import Finish, Outcome
from gatelift.wire.http_client import Upstream, UpstreamError, UpstreamTimeouts
from gatelift.wire.probes import ProbeError, ProbeTarget, ask_probe
from tests.integration import test_gateway_worker as worker
from tests.support.raw_upstream import RawUpstream, Script

OK = b"HTTP/1.1 200 OK\r\n"
SSE = OK + b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
JSON = OK + b"content-type: application/json\r\n"
END = b"0\r\n\r\n"


def event(value: object) -> bytes:
    text = value if isinstance(value, str) else json.dumps(value)
    return f"data: {text}\n\n".encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def delta(text: str = "", finish: str | None = None) -> bytes:
    said = {"content": text} if text else {}
    return event({"choices": [{"index": 0, "delta": said, "finish_reason": finish}]})


def whole(text: str, finish: str | None = "stop") -> bytes:
    choice = {"index": 0, "message": {"content": text}, "finish_reason": finish}
    usage = {"prompt_tokens": 1, "completion_tokens": 1}
    return json.dumps({"choices": [choice], "usage": usage}).encode()


def lengthed(body: bytes, length: int | None = None) -> bytes:
    return JSON + b"content-length: %d\r\n\r\n%b" % (len(body) if length is None else length, body)


HI, LAST, DONE = chunk(delta("hi ")), chunk(delta(finish="stop")), chunk(event("[DONE]"))
GOOD = SSE + HI + LAST + DONE + END
FINE = Script(pieces=(lengthed(whole("fine")),), end="keep")

# Streams: (pieces, how it ends, what the caller may have read of the answer).
STREAMS: dict[str, tuple[tuple[bytes, ...], str, bytes]] = {
    "closes without a byte": ((), "close", b""),
    "resets without a byte": ((), "reset", b""),
    "dies amid the first line": ((b"HTTP/1.1 2",), "close", b""),
    "dies amid the head": ((OK + b"content-type: text/ev",), "close", b""),
    "dies before the empty line": ((SSE[:-2],), "reset", b""),
    "dies after the head": ((SSE,), "close", b""),
    "resets after the head": ((SSE,), "reset", b""),
    "dies amid a size": ((SSE + HI, b"4"), "close", b"hi "),
    "dies amid a chunk": ((SSE + HI, LAST[:20]), "close", b"hi "),
    "dies between chunks": ((SSE + HI,), "close", b"hi "),
    "resets between chunks": ((SSE + HI,), "reset", b"hi "),
    "dies amid an event of whole chunks": ((SSE + HI, chunk(b"data: {")), "close", b"hi "),
    "dies amid the word of the end": ((SSE + HI + LAST, chunk(b"data: [DONE")), "close", b"hi "),
    "dies before the blank line of the end": (
        (SSE + HI + LAST, chunk(b"data: [DONE]\n")),
        "close",
        b"hi ",
    ),
    "ends in order without its last word": ((SSE + HI + END,), "keep", b"hi "),
    "ends in order after a finish reason": ((SSE + HI + LAST + END,), "keep", b"hi "),
    "says its last word without a finish reason": ((SSE + HI + DONE + END,), "keep", b"hi "),
    "says nothing but its last word": ((SSE + DONE + END,), "keep", b""),
    "says that it aborted": (
        (SSE + HI + chunk(delta(finish="abort")) + DONE + END,),
        "keep",
        b"hi ",
    ),
    "tells an error in the stream": (
        (SSE + HI + chunk(event({"error": {"message": "engine died"}})) + DONE + END,),
        "keep",
        b"hi ",
    ),
    "sends what is no JSON": ((SSE + HI + chunk(event("{nonsense")) + DONE + END,), "keep", b"hi "),
    "sends what is no UTF-8": (
        (SSE + HI + chunk(delta("X").replace(b"X", b"\xff")) + LAST + DONE + END,),
        "keep",
        b"hi ",
    ),
    "nests without end": (
        (SSE + HI + chunk(event("[" * 50_000)) + LAST + DONE + END,),
        "keep",
        b"hi ",
    ),
    "sends two choices": (
        (SSE + HI + chunk(event({"choices": [{"index": 0}, {"index": 1}]})) + DONE + END,),
        "keep",
        b"hi ",
    ),
    "sends a bad size": ((SSE + HI + b"xyz\r\n",), "keep", b"hi "),
    "sends a signed size": ((SSE + HI + b"+5\r\nhello\r\n" + END,), "keep", b"hi "),
    "sends a chunk longer than its size": ((SSE + HI + b"2\r\nhello\r\n" + END,), "keep", b"hi "),
    "sends an endless event": ((SSE + HI, chunk(b"data: " + b"x" * 300_000)), "keep", b"hi "),
    "sends an endless extension": ((SSE + HI, b"5;" + b"x" * 300_000), "keep", b"hi "),
    "sends endless trailers": ((SSE + HI, b"0\r\n" + b"X: y\r\n" * 20_000), "keep", b"hi "),
    "sends a coding as a trailer": (
        (SSE + HI, b"0\r\nTransfer-Encoding: gzip\r\n\r\n"),
        "keep",
        b"hi ",
    ),
    "counts too few bytes": ((OK + b"content-length: 9\r\n\r\n" + delta("hi "),), "keep", b""),
    "counts too many bytes": (
        (OK + b"content-length: 900\r\n\r\n" + delta("hi ") + event("[DONE]"),),
        "close",
        b"hi ",
    ),
    "counts in both ways": (
        (SSE[:-2] + b"content-length: 5\r\n\r\n" + HI + DONE + END,),
        "keep",
        b"",
    ),
    "counts not at all": ((OK + b"\r\n" + delta("hi ") + event("[DONE]"),), "close", b""),
    "compresses": ((SSE[:-2] + b"content-encoding: gzip\r\n\r\n" + HI + DONE + END,), "keep", b""),
    "answers whole when a stream was asked for": ((lengthed(whole("hi ")),), "keep", b""),
    "floods with 1xx": ((b"HTTP/1.1 100 Continue\r\n\r\n" * 1000 + GOOD,), "keep", b""),
    "floods with early hints": ((b"HTTP/1.1 103 X\r\nLink: y\r\n\r\n" * 1000 + GOOD,), "keep", b""),
    "frames an interim answer": (
        (b"HTTP/1.1 103 X\r\ncontent-length: 5\r\n\r\n" + GOOD,),
        "keep",
        b"",
    ),
    "switches protocols": (
        (b"HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n" + GOOD,),
        "keep",
        b"",
    ),
    "speaks another protocol": ((GOOD.replace(b"HTTP/1.1", b"RTSP/1.0"),), "keep", b""),
    "speaks HTTP/2": ((GOOD.replace(b"HTTP/1.1", b"HTTP/2.0"),), "keep", b""),
    "speaks none": ((b"hello\r\n\r\n",), "keep", b""),
    "begins with empty lines": ((b"\r\n\r\n" + GOOD,), "keep", b""),
    "has a huge head": (
        (SSE[:-2] + b"X: " + b"y" * 40_000 + b"\r\n\r\n" + HI + DONE + END,),
        "keep",
        b"",
    ),
    "has an endless head": ((SSE[:-2], b"X: " + b"y" * 300_000), "keep", b""),
    "has a thousand headers": (
        (SSE[:-2] + b"X: y\r\n" * 1000 + b"\r\n" + HI + DONE + END,),
        "keep",
        b"",
    ),
    "folds a line": ((SSE[:-2] + b"X: a\r\n b\r\n\r\n" + HI + DONE + END,), "keep", b""),
    "answers 500": ((b"HTTP/1.1 500 X\r\ncontent-length: 2\r\n\r\n{}",), "keep", b""),
    "answers 302": (
        (b"HTTP/1.1 302 X\r\nlocation: /v1/other\r\ncontent-length: 0\r\n\r\n",),
        "keep",
        b"",
    ),
    "answers 204": ((b"HTTP/1.1 204 X\r\n\r\n",), "keep", b""),
    "answers 304": ((b"HTTP/1.1 304 X\r\n\r\n",), "keep", b""),
    "answers 206": ((GOOD.replace(b"200 OK", b"206 Partial"),), "keep", b""),
}
# Whole answers: (pieces, how it ends); every one must become a 502 without a word of the answer.
WHOLES: dict[str, tuple[tuple[bytes, ...], str]] = {
    "closes without a byte": ((), "close"),
    "dies amid the head": ((JSON,), "close"),
    "dies amid the body": ((lengthed(whole("hi "))[:-5],), "close"),
    "resets amid the body": ((lengthed(whole("hi "))[:-5],), "reset"),
    "counts too few bytes": ((lengthed(whole("hi "), 20),), "keep"),
    "counts too many bytes": ((lengthed(whole("hi "), 2000),), "close"),
    "counts twice": (
        (lengthed(whole("hi ")).replace(b"\r\n\r\n", b"\r\ncontent-length: 5\r\n\r\n", 1),),
        "keep",
    ),
    "dies before the last chunk": (
        (JSON + b"transfer-encoding: chunked\r\n\r\n" + chunk(whole("hi ")),),
        "close",
    ),
    "dies in the last chunk": (
        (JSON + b"transfer-encoding: chunked\r\n\r\n" + chunk(whole("hi ")) + b"0\r\n",),
        "close",
    ),
    "sends what is no UTF-8": ((lengthed(whole("hi X").replace(b"X", b"\xff")),), "keep"),
    "sends half a surrogate pair": ((lengthed(whole("hi X").replace(b"X", rb"\ud800")),), "keep"),
    "nests without end": ((lengthed(b'{"x":' + b"[" * 50_000),), "keep"),
    "sends two values": ((lengthed(whole("hi ") * 2),), "keep"),
    "sends a stream": ((GOOD,), "keep"),
    "says that it aborted": ((lengthed(whole("hi ", "abort")),), "keep"),
    "gives no finish reason": ((lengthed(whole("hi ", None)),), "keep"),
    "leaves the finish reason out": (
        (lengthed(whole("hi ").replace(b', "finish_reason": "stop"', b"")),),
        "keep",
    ),
    "sends an enormous count": (
        (
            lengthed(
                whole("hi ").replace(
                    b'"completion_tokens": 1', b'"completion_tokens": 1' + b"0" * 30
                )
            ),
        ),
        "keep",
    ),
}


class Door:
    """A worker, its badly behaved model server, and raw callers."""

    def __init__(self, directory: Path) -> None:
        self.upstream = RawUpstream(FINE)
        self.deployment = worker.Deployment(directory, self.upstream)  # type: ignore[arg-type]

    def ask(self, *, stream: bool, text: str = "hello") -> bytes:
        """Return every byte of the answer, up to its end, clean or not."""
        body = json.dumps(
            {
                "model": "smollm2-135m",
                "messages": [{"role": "user", "content": text}],
                "stream": stream,
            }
        ).encode()
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {worker.API_KEY}\r\nConnection: close\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode()
        got = b""
        with socket.create_connection(("127.0.0.1", self.deployment.port), timeout=10) as sock:
            sock.sendall(head + body)
            try:
                while data := sock.recv(65_536):
                    got += data
            except ConnectionResetError:
                got += b"<reset>"
        return got

    def last_finish(self, count: int) -> Finish:
        until = time.monotonic() + 3
        while time.monotonic() < until:
            found = self.finishes()
            if len(found) > count:
                return found[-1]
            time.sleep(0.02)
        raise AssertionError("no finish was recorded")

    def finishes(self) -> list[Finish]:
        return [r for r in self.deployment.records() if isinstance(r, Finish)]

    def next_is_served(self) -> None:
        self.upstream.script = FINE
        answer = self.ask(stream=False)
        assert answer.startswith(b"HTTP/1.1 200 "), answer[:400]
        assert b'"content":"fine"' in answer


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "PLAN", worker.PLAN.replace(b"requests: 30/h", b"requests: 5000/h"))
        made = Door(tmp_path_factory.mktemp("door"))
    yield made
    made.deployment.close()
    made.upstream.close()


def script_of(pieces: tuple[bytes, ...], end: Any) -> Script:
    return Script(pieces=pieces, end=end)


def test_a_good_stream_ends_cleanly(door: Door) -> None:
    """Or the tests below would prove nothing."""
    door.upstream.script = Script(pieces=(GOOD,), end="keep")
    answer = door.ask(stream=True)
    assert b"hi " in answer
    assert b"data: [DONE]\n\n" in answer
    assert answer.endswith(END)


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_breaks_never_ends_cleanly_for_the_caller(door: Door, name: str) -> None:
    pieces, end, may_read = STREAMS[name]
    door.upstream.script = script_of(pieces, end)
    count = len(door.finishes())
    answer = door.ask(stream=True)
    assert b"[DONE]" not in answer
    assert b'"finish_reason":"' not in answer
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head:
        assert head.startswith(b"HTTP/1.1 200 ")
        assert not body.endswith(END)
    else:
        assert head.startswith(b"HTTP/1.1 502 ")
    assert (b"hi " in body) <= (may_read == b"hi ")
    finish = door.last_finish(count)
    assert finish.outcome is Outcome.UPSTREAM_FAILED
    door.next_is_served()


@pytest.mark.parametrize("name", WHOLES)
def test_a_whole_answer_that_breaks_is_a_502_without_a_word_of_it(door: Door, name: str) -> None:
    pieces, end = WHOLES[name]
    door.upstream.script = script_of(pieces, end)
    count = len(door.finishes())
    answer = door.ask(stream=False)
    assert answer.startswith(b"HTTP/1.1 502 "), answer[:300]
    assert b"hi " not in answer
    assert door.last_finish(count).outcome is Outcome.UPSTREAM_FAILED
    door.next_is_served()


@pytest.mark.parametrize("reads", [True, False], ids=["after reading", "before reading"])
@pytest.mark.parametrize("end", ["keep", "close", "reset"])
def test_an_error_that_comes_while_the_request_is_still_being_sent_is_a_502(
    door: Door, reads: bool, end: Any
) -> None:
    error = b"HTTP/1.1 413 X\r\ncontent-length: 2\r\n\r\n{}"
    door.upstream.script = Script(pieces=(error,), end=end, reads=reads)
    count = len(door.finishes())
    answer = door.ask(stream=False, text="word " * 200)
    assert answer.startswith(b"HTTP/1.1 502 "), answer[:300]
    assert door.last_finish(count).outcome is Outcome.UPSTREAM_FAILED
    door.next_is_served()


@pytest.mark.parametrize(
    "extra",
    [b"x", b"\r\n\r\n", lengthed(whole("smuggled")), b"HTTP/1.1 100 Continue\r\n\r\n"],
    ids=["a byte", "empty lines", "a second answer", "an interim answer"],
)
@pytest.mark.parametrize("late", [False, True], ids=["at once", "late"])
def test_bytes_beyond_an_answer_are_nobodys_answer(door: Door, extra: bytes, late: bool) -> None:
    good = lengthed(whole("first"))
    pieces = (good, extra) if late else (good + extra,)
    door.upstream.script = Script(pieces=pieces, end="keep")
    answer = door.ask(stream=False)
    assert b'"content":"first"' in answer
    assert b"smuggled" not in answer
    if late:
        time.sleep(0.1)
    door.upstream.script = FINE
    for _ in range(3):
        answer = door.ask(stream=False)
        assert b'"content":"fine"' in answer, answer[:300]


@pytest.mark.parametrize("end", ["keep", "close"])
def test_an_answer_to_a_request_that_is_not_read_is_taken_and_its_connection_is_not(
    end: Any,
) -> None:
    """The client alone, with a request that no socket buffer holds."""
    error = b"HTTP/1.1 413 X\r\ncontent-length: 2\r\n\r\n{}"
    upstream = RawUpstream(Script(pieces=(error,), end=end, reads=False))

    async def main() -> None:
        client = Upstream(upstream.url, timeouts=UpstreamTimeouts(first_byte_s=5.0))
        failed: list[tuple[str, bool]] = []
        for number in range(3):
            try:
                async with asyncio.timeout(5):
                    response = await client.request("POST", "/", [], b"x" * 64_000_000)
                    assert (response.status, await response.read()) == (413, b"{}")
            except UpstreamError as gone:
                failed.append((gone.code, gone.sent))
            assert upstream.connections == number + 1
        # An upstream that closes on what it did not read may take its own answer with it.
        assert failed == [] if end == "keep" else set(failed) <= {("died", True)}
        await client.aclose()

    try:
        uvloop.run(main())
    finally:
        upstream.close()


def test_a_probe_that_is_answered_with_what_is_no_text_is_odd_and_not_a_fault_of_the_keeper() -> (
    None
):
    body = whole("hi X").replace(b"X", b"\xff")
    upstream = RawUpstream(Script(pieces=(lengthed(body),), end="keep"))
    target = ProbeTarget(base_url=upstream.url, model="m", system_prompt=None, max_tokens=4)

    async def main() -> None:
        client = Upstream(upstream.url)
        with pytest.raises(ProbeError) as caught:
            await ask_probe(client, target, "hello", None)
        assert caught.value.code == "probe_odd"
        await client.aclose()

    try:
        uvloop.run(main())
    finally:
        upstream.close()


def test_after_all_that_the_worker_is_small_and_keeps_no_connection_too_many(door: Door) -> None:
    before = door.upstream.connections
    for _ in range(20):
        door.next_is_served()
    assert door.upstream.connections - before <= 1
