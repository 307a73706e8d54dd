"""A whole worker process in front of hostile callers: the corpus, a thousand stalls, half a connection."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gatelift.messages import Finish, Outcome, Start
from tests.integration import test_gateway_worker as worker
from tests.support.callers import memory_mb, open_many_files, stall
from tests.support.http_corpus import NAMES, NEXT, SMUGGLED, Case, load, pieces, read_answers
from tests.support.raw_upstream import RawUpstream, Script
from tests.support.upstream import ScriptedUpstream

SEED = random.SystemRandom().randrange(1, 1 << 32)
COUNT = 1000
STREAMS = 200
# A thousand callers with a grant, all at once, whose answers are larger than any socket's buffers.
PLAN = (
    worker.PLAN.replace(b"requests: 30/h, parallel: 4", b"requests: 5000/h, parallel: 2000")
    .replace(b"output_tokens: 100k/d}", b"output_tokens: 100M/d}")
    .replace(b"bytes_out: 1M/d", b"bytes_out: 20G/d")
    .replace(
        b"context_tokens: 2048, output_tokens: 128", b"context_tokens: 131072, output_tokens: 65536"
    )
)


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    made = ScriptedUpstream()
    yield made
    made.close()


@pytest.fixture(scope="module")
def deployment(
    tmp_path_factory: pytest.TempPathFactory, upstream: ScriptedUpstream
) -> Iterator[worker.Deployment]:
    open_many_files()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "PLAN", PLAN)
        made = worker.Deployment(tmp_path_factory.mktemp("worker"), upstream)
    yield made
    made.close()


def run(main: Coroutine[Any, Any, None], bound_s: float = 60) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(bound_s):
            await main

    uvloop.run(bounded())


def chat(text: str = "hello", *, stream: bool = False, more: str = "", **fields: Any) -> bytes:
    body = json.dumps(
        {
            "model": "smollm2-135m",
            "messages": [{"role": "user", "content": text}],
            "stream": stream,
            **fields,
        }
    )
    return (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {worker.API_KEY}\r\n{more}Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def exchange(
    port: int, parts: list[bytes], *, ends: bool = False, methods: tuple[bytes, ...] = ()
) -> tuple[list[int], bytes]:
    """Send `parts`, read to the end; return the statuses and every byte."""
    got = b""
    with socket.create_connection(("127.0.0.1", port), timeout=15) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for part in parts:
                sock.sendall(part)
            if ends:
                sock.shutdown(socket.SHUT_WR)
            while data := sock.recv(65_536):
                got += data
        except ConnectionError:
            pass
    answers, _ = read_answers(got, list(methods))
    return [answer.status for answer in answers], got


def refused() -> list[Case]:
    # What depends on the bound of a body is judged where that bound is set.
    return [
        case
        for name in NAMES
        for case in load(name)
        if case.closes and not case.seen and not case.ends and 413 not in case.answers
    ]


@pytest.mark.parametrize("cut", ["whole", "random"])
def test_a_worker_refuses_what_the_corpus_says_and_serves_on(
    deployment: worker.Deployment, cut: str
) -> None:
    print(f"SEED={SEED}")  # noqa: T201 - shown when it fails
    chance = random.Random(SEED)
    wrong = {}
    for case in refused():
        statuses, got = exchange(deployment.port, pieces(case.raw + SMUGGLED, cut, chance))
        if statuses != case.answers or b"connection: close" not in got:
            wrong[case.name] = (case.answers, statuses)
    assert (wrong, len(refused()) > 200) == ({}, True)
    assert exchange(deployment.port, [NEXT.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")])[
        0
    ] == [404]
    assert deployment.post(max_tokens=1).status_code == 200


def test_a_key_smuggled_behind_a_body_spends_nothing(
    deployment: worker.Deployment, upstream: ScriptedUpstream
) -> None:
    calls = upstream.calls
    inner = chat("smuggled")
    for head in (
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: 0\r\nContent-Length: 5\r\n\r\n",
        b"Content-Length: +0\r\n\r\n",
    ):
        outer = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n" + head
        assert exchange(deployment.port, [outer + inner])[0] == [400]
    assert upstream.calls == calls


def test_pipelined_exchanges_are_answered_in_order(deployment: worker.Deployment) -> None:
    ask = chat(max_tokens=1)
    last = chat(max_tokens=1, more="Connection: close\r\n")
    models = b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n"
    statuses, _ = exchange(deployment.port, [ask + models + ask + last])
    assert statuses == [200, 401, 200, 200]


def test_a_caller_that_waits_for_100_is_served(deployment: worker.Deployment) -> None:
    ask = chat(max_tokens=1, more="Expect: 100-continue\r\nConnection: close\r\n")
    head, _, body = ask.partition(b"\r\n\r\n")
    with socket.create_connection(("127.0.0.1", deployment.port), timeout=10) as sock:
        sock.sendall(head + b"\r\n\r\n")
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(body)
        got = b""
        while data := sock.recv(65_536):
            got += data
    assert got.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("stream", [False, True])
def test_a_caller_that_has_closed_its_side_is_still_answered(
    deployment: worker.Deployment, upstream: ScriptedUpstream, stream: bool
) -> None:
    statuses, got = exchange(deployment.port, [chat(stream=stream)], ends=True)
    assert statuses == [200]
    assert (b"data: [DONE]" in got) is stream


def test_a_caller_that_leaves_amid_a_stream_is_recorded_and_its_upstream_let_go(
    deployment: worker.Deployment, upstream: ScriptedUpstream
) -> None:
    words, upstream.words, upstream.delay_s = upstream.words, ["word "] * 400, 0.01
    try:
        with socket.create_connection(("127.0.0.1", deployment.port), timeout=10) as sock:
            sock.sendall(chat(stream=True))
            assert sock.recv(65_536).startswith(b"HTTP/1.1 200 ")
        until = time.monotonic() + 3
        while time.monotonic() < until:
            finishes = [r for r in deployment.records() if isinstance(r, Finish)]
            if finishes and finishes[-1].outcome is Outcome.DISCONNECTED:
                break
            time.sleep(0.05)
        assert finishes[-1].outcome is Outcome.DISCONNECTED
        assert finishes[-1].output_tokens < 400
    finally:
        upstream.words, upstream.delay_s = words, 0.0


HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
STALLS = {
    "heads": (HEAD + b"X: " + b"x" * 15_000, 12.0, 40),
    "bodies": (HEAD + b"Content-Length: 1000000\r\n\r\n" + b" " * 500_000, 32.0, 160),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", STALLS)
def test_a_worker_outlives_a_thousand_stalled_callers_with_its_real_deadlines(
    deployment: worker.Deployment, name: str
) -> None:
    data, deadline_s, most_mb = STALLS[name]
    pid = deployment.process.pid

    async def main() -> None:
        before = memory_mb(pid)
        begun = time.monotonic()
        callers = await stall(deployment.port, COUNT, data)
        served = 0
        while time.monotonic() - begun < deadline_s:
            answer = await asyncio.to_thread(deployment.post, max_tokens=1)
            assert answer.status_code == 200
            served += 1
            await asyncio.sleep(0.5)
        async with asyncio.timeout(10):
            got = {(await caller.end())[9:12] for caller in callers}
        grown = memory_mb(pid, "VmHWM") - before
        print(f"{COUNT} {name}: {grown:.0f} MB, {served} others served, {got}")  # noqa: T201
        assert got <= {b"408", b"503"}
        assert grown < most_mb

    run(main())


def endless_answer() -> Script:
    """Return a stream of 800 KB that does not come to its end: more than all buffers on its way."""
    said = {"choices": [{"index": 0, "delta": {"content": "word " * 800}}]}
    event = b"data: " + json.dumps(said).encode() + b"\n\n"
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    return Script(pieces=(head, *[b"%x\r\n%b\r\n" % (len(event), event)] * 200), end="keep")


@pytest.mark.slow
def test_a_worker_outlives_two_hundred_streams_that_nobody_reads(tmp_path: Path) -> None:
    open_many_files()
    upstream = RawUpstream(endless_answer())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "PLAN", PLAN)
        deployment = worker.Deployment(tmp_path, upstream)  # type: ignore[arg-type]
    pid = deployment.process.pid
    health = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

    async def main() -> None:
        before = memory_mb(pid)
        begun = time.monotonic()
        callers = await stall(deployment.port, STREAMS, chat(stream=True, max_tokens=60_000))
        for _ in range(20):
            assert (await asyncio.to_thread(exchange, deployment.port, [health]))[0] == [200]
            await asyncio.sleep(0.5)
        held = memory_mb(pid) - before
        async with asyncio.timeout(120):
            # Looking at one is enough to read it on: nobody looks before the worker has cut them.
            while await asyncio.to_thread(open_streams, deployment):  # noqa: ASYNC110
                await asyncio.sleep(1)
        cut_after_s = time.monotonic() - begun
        got = [await caller.end() for caller in callers]
        print(  # noqa: T201 - shown by pytest -rP
            f"{STREAMS} streams unread: {held:.0f} MB, at most"
            f" {memory_mb(pid, 'VmHWM') - before:.0f} MB, all cut after {cut_after_s:.0f} s"
        )
        assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in got)
        # Twice the text that was released before the stall (it is 400 KB here), and some 100 KB more.
        assert memory_mb(pid, "VmHWM") - before < 1.5 * STREAMS

    try:
        run(main(), 200)
    finally:
        deployment.close()
        upstream.close()


def open_streams(deployment: worker.Deployment) -> int:
    """Return how many exchanges have begun and not ended, by their records."""
    records = deployment.records()
    return sum(isinstance(r, Start) for r in records) - sum(isinstance(r, Finish) for r in records)
