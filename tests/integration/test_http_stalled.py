"""A thousand callers that stall: the server's memory is bounded, and the others are served.

The server is a process of its own, with short deadlines; `test_http_worker.py` does the same to a
whole worker with its real ones.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import uvloop

from tests.support.callers import Stalled, memory_mb, open_many_files, stall

COUNT = 1000
HELD_MB = 16
SERVER = f"""
import asyncio, json, sys, uvloop
from gatelift.gateway.http_server import ServerLimits, connections_that_fit, serve

async def handler(request, responder):
    if request.path == "/wait":
        responder.start_stream(200, [], b"x")
        await responder.disconnected
        return
    if request.path == "/stream":
        responder.start_stream(200, [])
        while True:
            await responder.write(b"x" * 8192)
    if request.path == "/large":
        responder.send(200, [], b"x" * 300_000)
        return
    if request.path == "/state":
        found = [server.open_connections, server.in_flight, server.held_bytes]
        responder.send(200, [], json.dumps(found).encode())
        return
    responder.send(200, [], b"%d" % len(request.body))

async def main():
    global server
    limits = ServerLimits(
        header_timeout_s=2.0, body_timeout_s=2.0, write_timeout_s=2.0, idle_timeout_s=2.0,
        linger_timeout_s=0.5, max_held_bytes={HELD_MB} * 1024 * 1024,
        max_connections=connections_that_fit(5000),
    )
    server = await serve(handler, host="127.0.0.1", port=0, limits=limits)
    print(server.addresses[0][1], flush=True)
    await asyncio.Event().wait()

uvloop.run(main())
"""


@dataclass(frozen=True)
class House:
    """The server's process."""

    port: int
    pid: int


@pytest.fixture
def house() -> Iterator[House]:
    open_many_files()
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield House(int(process.stdout.readline()), process.pid)
            assert process.poll() is None
        finally:
            process.kill()


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(40):
            await main

    uvloop.run(bounded())


async def ask(port: int, path: str = "/", body: bytes = b"") -> bytes:
    """Ask as a caller in good order does; raises when there is no answer in good order."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = b"POST %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    writer.write(head % (path.encode(), len(body)) + body)
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), answer[:300]
    return rest


HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"
# What each caller sends, the status it gets in the end (0: none), and the MB by which the server may
# grow at most: what may be held, and some KB a connection.
STALLS: dict[str, tuple[bytes, int, int]] = {
    "says nothing": (b"", 0, 10),
    "stops amid a head": (HEAD + b"X: " + b"x" * 15_000, 408, 32),
    "stops before a body": (HEAD + b"Content-Length: 1000000\r\n\r\n", 408, 10),
    "stops amid a body": (HEAD + b"Content-Length: 1000000\r\n\r\n" + b"x" * 200_000, 503, 48),
    "stops amid tiny chunks": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"2\r\nxx\r\n" * 500,
        408,
        16,
    ),
    "pipelines amid an exchange": (
        b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n" + HEAD + b"X: " + b"x" * 60_000,
        200,
        48,
    ),
    "does not read a stream": (b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n", 200, 150),
    "does not read large answers": (b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n" * 20, 200, 700),
}
IN_EVERY_RUN = {"stops amid a head", "stops amid a body", "does not read a stream"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in IN_EVERY_RUN else pytest.mark.slow) for name in STALLS],
)
def test_a_thousand_stalled_callers_cost_bounded_memory_and_nobody_else_their_service(
    house: House, name: str
) -> None:
    data, status, most_mb = STALLS[name]

    async def main() -> None:
        await ask(house.port)
        before = memory_mb(house.pid)
        callers = await stall(house.port, COUNT, data)
        for _ in range(5):
            await asyncio.sleep(0.1)
            assert await ask(house.port, body=b"x" * 100_000) == b"100000"
        if name == "pipelines amid an exchange":
            # These callers are being served; they leave by themselves.
            for caller in callers:
                caller.leave()
            callers = []
        async with asyncio.timeout(20):
            while await ask(house.port, "/state") != b"[1, 1, 0]":  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.1)
        grown = memory_mb(house.pid, "VmHWM") - before
        print(f"{COUNT} callers, {name}: {grown:.0f} MB")  # noqa: T201 - shown by pytest -rP
        assert grown < most_mb, f"the server grew by {grown:.0f} MB"
        async with asyncio.timeout(10):
            got = {(await caller.end())[9:12] for caller in callers}
        assert got <= ({b"%d" % status, b"408", b""} if status else {b""}), got

    run(main())


def is_closed(caller: Stalled) -> bool:
    """Say whether the server has ended; drops what it sent."""
    try:
        while data := caller.sock.recv(4096):
            if not data:
                break
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    return True


def test_a_full_table_makes_room_for_a_new_caller_and_never_at_the_cost_of_an_exchange(
    house: House,
) -> None:
    async def main() -> None:
        busy = await stall(house.port, 20, b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        idle = await stall(house.port, 5100, b"")
        assert await ask(house.port) == b"0"
        assert is_closed(idle[0])
        assert not is_closed(idle[-1])
        assert not any(is_closed(caller) for caller in busy)
        for caller in (*busy, *idle):
            caller.leave()

    run(main())
