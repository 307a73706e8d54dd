"""The smuggling corpus against a running server: one answer or none, and never a hidden request.

Each case runs in every cut: whole, byte by byte, and at random points. What is no request is followed
by one that must not be served; what is one, by one that must be, so that both ends of every message
are proved. The answers are read by another parser than our own.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop

from gatelift.gateway.http_messages import HttpRejectionError, ServerLimits
from gatelift.gateway.http_reader import RequestReader
from gatelift.gateway.http_server import Request, Responder, serve
from tests.support.http_corpus import (
    MAX_BODY_BYTES,
    NAMES,
    NEXT,
    SMUGGLED,
    Answer,
    Case,
    load,
    pieces,
    read_answers,
    read_as_h11,
)

SEED = int(os.environ.get("HTTP_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
LIMITS = ServerLimits(max_body_bytes=MAX_BODY_BYTES, linger_timeout_s=0.5)
Seen = dict[int, list[tuple[bytes, bytes, bytes]]]


class Caller(asyncio.Protocol):
    """Sends pieces and keeps what comes back, also what came before a reset."""

    def __init__(self) -> None:
        self.data = b""
        self.changed = asyncio.Event()
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.port: int = transport.get_extra_info("sockname")[1]

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.changed.set()

    def eof_received(self) -> bool:
        self.closed.set()
        self.changed.set()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()
        self.changed.set()

    async def send(self, parts: list[bytes]) -> None:
        for part in parts:
            if self.transport.is_closing() or self.closed.is_set():
                return
            self.transport.write(part)
            await asyncio.sleep(0)

    async def answers(self, methods: list[bytes], count: int) -> list[Answer]:
        """Wait for `count` answers or the end."""
        while True:
            self.changed.clear()
            found, _ = read_answers(self.data, methods)
            if len(found) >= count or self.closed.is_set():
                return found
            await self.changed.wait()


async def play(port: int, case: Case, suffix: bytes, cut: str, seen: Seen) -> list[str]:
    """Return what was wrong."""
    loop = asyncio.get_running_loop()
    _, caller = await loop.create_connection(Caller, "127.0.0.1", port)
    data = case.raw + suffix
    serves_next = suffix == NEXT
    expected = [*case.answers, 200] if serves_next else case.answers
    methods = [*case.methods, b"GET"]
    wrong: list[str] = []
    try:
        async with asyncio.timeout(5):
            await caller.send(pieces(data, cut, random.Random(f"{SEED} {case.name}")))
            if case.ends:
                caller.transport.write_eof()
            await caller.answers(methods, len(expected) if serves_next else 99)
            if serves_next:
                caller.transport.write_eof()
            await caller.closed.wait()
    except TimeoutError:
        wrong.append("the connection was left open")
    caller.transport.abort()
    found, rest = read_answers(caller.data, methods)
    statuses = [answer.status for answer in found]
    if statuses != expected or rest:
        wrong.append(f"expected answers {expected}, got {statuses} and {rest[:80]!r}")
    ended = expected and statuses == expected and not serves_next
    if ended and found[-1].headers.get("connection") != "close":
        wrong.append("the last answer does not say that the connection closes")
    interim = sum(answer.interim for answer in found)
    if interim > (1 if case.interim else 0):
        wrong.append(f"{interim} interim answers")
    got = seen.get(caller.port, [])
    right = [*case.seen, (b"GET", b"/next", b"")] if serves_next else case.seen
    if got != right:
        wrong.append(f"the handler saw {str(got)[:200]}")
    return wrong


def variants(case: Case) -> list[bytes]:
    if case.ends:
        return [b""]
    return [b"", SMUGGLED] if case.closes else [NEXT]


@pytest.mark.parametrize("cut", ["whole", "bytes", "random"])
@pytest.mark.parametrize("name", NAMES)
def test_every_case_gets_its_answers_and_hides_no_request(name: str, cut: str) -> None:
    print(f"HTTP_SEED={SEED}")  # noqa: T201 - shown when it fails; set it to see it again
    seen: Seen = {}
    failed: list[BaseException] = []

    async def handler(request: Request, responder: Responder) -> None:
        target = request.path + (f"?{request.query}" if request.query else "")
        port = int(request.peer.rpartition(":")[2])
        seen.setdefault(port, []).append((request.method.encode(), target.encode(), request.body))
        responder.send(200, [(b"content-type", b"text/plain")], b"ok")

    async def main() -> dict[str, list[str]]:
        server = await serve(
            handler, host="127.0.0.1", port=0, limits=LIMITS, on_error=failed.append
        )
        port = server.addresses[0][1]
        gate = asyncio.Semaphore(20)
        wrong: dict[str, list[str]] = {}

        async def one(case: Case, suffix: bytes) -> None:
            async with gate:
                if found := await play(port, case, suffix, cut, seen):
                    wrong.setdefault(case.name, []).extend(found)

        async with asyncio.TaskGroup() as group:
            for case in load(name):
                for suffix in variants(case):
                    group.create_task(one(case, suffix))
        await server.drain(1)
        assert (server.in_flight, server.open_connections) == (0, 0)
        return wrong

    assert uvloop.run(main()) == {}
    assert failed == []


def read_as_we(data: bytes) -> tuple[list[tuple[bytes, bytes, bytes]], str]:
    reader = RequestReader(LIMITS)
    reader.feed(data)
    found: list[tuple[bytes, bytes, bytes]] = []
    try:
        while (taken := reader.take()) is not None:
            head, body = taken
            target = head.path + (f"?{head.query}" if head.query else "")
            found.append((head.method.encode(), target.encode(), body))
            if not head.keep_alive:
                return found, "closes"
    except HttpRejectionError as error:
        return found, error.code
    return found, ""


def difference(case: Case) -> tuple[str, Any]:
    """Say how h11 reads a case otherwise: `stricter` is what we refuse and it takes."""
    ours, why = read_as_we(case.raw)
    theirs, other = read_as_h11(case.raw)
    assert ours == case.seen, case.name
    if theirs == ours:
        # Neither took more; who of us waits and who refuses is not a difference of reading.
        return "", None
    if theirs[: len(ours)] == ours:
        return "takes it" if why else "reads more", (theirs, other)
    if ours[: len(theirs)] == theirs:
        return "refuses it", (ours, other)
    return "reads otherwise", (ours, theirs)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_that_we_take_is_read_otherwise_by_another_parser(name: str) -> None:
    """`h11` in the corpus names the known differences: all of them are ours being stricter, or h11."""
    found = {case.name: difference(case)[0] for case in load(name)}
    assert found == {case.name: case.h11 for case in load(name)}
    assert set(found.values()) <= {"", "takes it", "refuses it"}


def test_the_corpus_names_each_case_once_and_says_where_it_comes_from() -> None:
    cases = [case for name in NAMES for case in load(name)]
    assert len(cases) > 400
    assert len({case.name for case in cases}) == len(cases)
    assert all(case.section[0].isdigit() for case in cases)


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node, a third parser")
def test_nothing_that_we_take_is_read_otherwise_by_node() -> None:
    taken = {c.name: c for name in NAMES for c in load(name) if c.answers and c.seen}
    lines = [
        json.dumps({"name": case.name, "raw": base64.b64encode(case.raw).decode()})
        for case in taken.values()
    ]
    reader = Path(__file__).parents[1] / "support" / "http_reader.js"
    done = subprocess.run(
        ["node", str(reader)],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    read = {
        found["name"]: [
            (method.encode(), target.encode("latin-1"), base64.b64decode(body))
            for method, target, body in found["seen"]
        ]
        for found in map(json.loads, done.stdout.splitlines())
    }
    assert read.keys() == taken.keys()
    # Node may take more after what we took, or refuse; it may not read the same bytes otherwise.
    otherwise = {
        name: (case.seen, read[name])
        for name, case in taken.items()
        if read[name][: len(case.seen)] != case.seen[: len(read[name])]
    }
    assert otherwise == {}
    assert sum(bool(seen) for seen in read.values()) > len(taken) * 0.9
