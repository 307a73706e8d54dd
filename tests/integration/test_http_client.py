"""The upstream client against a scripted upstream that answers in raw bytes, often badly."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gatelift.wire.http_client import (
    Upstream,
    UpstreamError,
    UpstreamLimits,
    UpstreamRequestError,
    UpstreamResponse,
    UpstreamTimeouts,
)
from tests.support.certificates import Authority

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
HELLO = OK + b"Content-Length: 5\r\nContent-Type: a/b\r\n\r\nhello"
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(8):
            await main

    uvloop.run(bounded())


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for sets no event
        await asyncio.sleep(0.005)


class Fake:
    """Counts connections and keeps the requests that came."""

    def __init__(self) -> None:
        self.connections = 0
        self.requests: list[bytes] = []


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    size = 0
    for line in head.split(b"\r\n"):
        if line.startswith(b"content-length: "):
            size = int(line.split()[1])
    return head + await reader.readexactly(size)


@asynccontextmanager
async def upstream(
    script: Script | bytes,
    *,
    limits: UpstreamLimits | None = None,
    prefix: str = "",
    then_close: bool = False,
    timeouts: dict[str, float] | None = None,
) -> AsyncIterator[tuple[Upstream, Fake]]:
    fake = Fake()
    tasks: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        fake.connections += 1
        try:
            if not isinstance(script, bytes):
                await script(reader, writer)
                return
            while True:
                fake.requests.append(await read_request(reader))
                writer.write(script)
                if then_close:
                    return
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    times = {"first_byte_s": 2.0, "idle_s": 2.0, "total_s": 4.0, **(timeouts or {})}
    client = Upstream(
        f"http://127.0.0.1:{port}{prefix}", limits=limits, timeouts=UpstreamTimeouts(**times)
    )
    try:
        yield client, fake
    finally:
        await client.aclose()
        assert client.open_connections == 0
        server.close()
        running = [task for task in tasks if task is not None and not task.done()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def ask(client: Upstream, body: bytes = b"{}", **options: bool) -> UpstreamResponse:
    return await client.request("POST", "/v1/x", [(b"x-a", b"b")], body, **options)


async def failure(client: Upstream) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await (await ask(client)).read()
    return caught.value


def test_an_answer_is_read_and_its_connection_used_again() -> None:
    async def main() -> None:
        async with upstream(HELLO, prefix="/base/") as (client, fake):
            for _ in range(3):
                response = await ask(client)
                assert (response.status, response.headers[b"content-type"]) == (200, b"a/b")
                assert await response.read() == b"hello"
                assert response.complete
            assert fake.connections == 1
            port = client.port
            assert fake.requests[0] == (
                b"POST /base/v1/x HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nx-a: b\r\n"
                b"content-length: 2\r\n\r\n{}" % port
            )

    run(main())


def test_many_requests_at_a_time_each_get_their_own_answer() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            body = (await read_request(reader)).split(b"\r\n\r\n")[1]
            await asyncio.sleep(0.001 * (int(body) % 5))
            writer.write(OK + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))

    async def main() -> None:
        async with upstream(script) as (client, fake):

            async def one(number: int) -> bytes:
                return await (await ask(client, b"%d" % number)).read()

            for _ in range(2):
                assert await asyncio.gather(*map(one, range(50))) == [b"%d" % n for n in range(50)]
            assert fake.connections == 50

    run(main())


@pytest.mark.parametrize(
    "answer", [HELLO, CHUNKED + b"2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nT: u\r\n\r\n"]
)
def test_an_answer_reads_the_same_byte_by_byte(answer: bytes) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            for byte in b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + answer:
                writer.write(bytes([byte]))
                await asyncio.sleep(0)

    async def main() -> None:
        async with upstream(script) as (client, fake):
            for _ in range(2):
                assert await (await ask(client)).read() == b"hello"
            assert fake.connections == 1

    run(main())


BAD = {
    "no HTTP": b"hello\r\n\r\n",
    "length and coding": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "no length": OK + b"\r\nhello",
    "coding without chunked": OK + b"Transfer-Encoding: identity\r\n\r\nhello",
    "gzip, chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked in 1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "version 2": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "status 099": b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
    "status 999": b"HTTP/1.1 999 OK\r\nContent-Length: 0\r\n\r\n",
    "switching": b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nhello",
    "many interim": b"HTTP/1.1 100 Continue\r\n\r\n" * 5 + HELLO,
    "compressed": OK + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
    "two types": OK + b"Content-Type: a/b\r\nContent-Type: c/d\r\nContent-Length: 0\r\n\r\n",
    "folded": OK + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "many headers": OK + b"X: a\r\n" * 129 + b"Content-Length: 0\r\n\r\n",
    "large headers": OK + (b"X: " + b"a" * 9000 + b"\r\n") * 4 + b"Content-Length: 0\r\n\r\n",
    "bad chunk": CHUNKED + b"5\r\nhello!\r\n",
    "endless header": OK + b"X: " + b"a" * 700_000,
    "endless trailer": CHUNKED + b"0\r\nX: " + b"a" * 700_000,
    "endless extension": CHUNKED + b"5;" + b"a" * 700_000,
    "endless reason": b"HTTP/1.1 200 " + b"a" * 700_000,
}


@pytest.mark.parametrize("answer", BAD.values(), ids=BAD)
def test_an_answer_that_is_not_strict_http_is_refused(answer: bytes) -> None:
    async def main() -> None:
        async with upstream(answer) as (client, _):
            error = await failure(client)
            assert (error.code, error.sent) == ("bad_response", True)

    run(main())


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(OK + b"Content-Length: 6\r\n\r\nhello", id="length"),
        pytest.param(CHUNKED + b"5\r\nhello\r\n", id="chunked, between chunks"),
        pytest.param(CHUNKED + b"5\r\nhello\r\n0\r\n", id="chunked, last line missing"),
    ],
)
def test_an_upstream_that_dies_amid_its_answer_is_seen_after_what_it_sent(answer: bytes) -> None:
    async def main() -> None:
        async with upstream(answer, then_close=True) as (client, _):
            response = await ask(client)
            got = b""
            with pytest.raises(UpstreamError) as caught:  # noqa: PT012 - raised after the last piece
                async for data in response.chunks():
                    got += data
            assert (got, caught.value.code, response.complete) == (b"hello", "died", False)

    run(main())


def test_an_upstream_that_dies_before_its_answer_is_told_as_sent() -> None:
    async def main() -> None:
        async with upstream(b"", then_close=True) as (client, _):
            error = await failure(client)
            assert (error.code, error.sent) == ("died", True)

    run(main())


def test_nobody_listening_is_told_as_not_sent() -> None:
    async def main() -> None:
        error = await failure(Upstream("http://127.0.0.1:1"))
        assert (error.code, error.sent) == ("connect_failed", False)

    run(main())


@pytest.mark.parametrize(
    ("sent", "timeouts", "code"),
    [
        (b"", {"first_byte_s": 0.1}, "timeout_first_byte"),
        (OK + b"Content-", {"first_byte_s": 0.1}, "timeout_first_byte"),
        (CHUNKED + b"1\r\na\r\n", {"idle_s": 0.1}, "timeout_idle"),
        (CHUNKED + b"1\r\na\r\n", {"total_s": 0.1}, "timeout_total"),
    ],
)
def test_an_upstream_that_hangs_is_given_up(
    sent: bytes, timeouts: dict[str, float], code: str
) -> None:
    async def main() -> None:
        async with upstream(sent, timeouts=timeouts) as (client, _):
            assert (await failure(client)).code == code

    run(main())


def test_an_upstream_that_drips_is_given_up_in_the_end() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(CHUNKED)
        while True:
            writer.write(b"1\r\na\r\n")
            await writer.drain()
            await asyncio.sleep(0.02)

    async def main() -> None:
        async with upstream(script, timeouts={"idle_s": 0.1, "total_s": 0.3}) as (client, _):
            assert (await failure(client)).code == "timeout_total"

    run(main())


def test_bodies_are_bounded() -> None:
    async def main() -> None:
        answer = OK + b"Content-Length: 1000\r\n\r\n" + b"x" * 1000
        async with upstream(answer, limits=UpstreamLimits(max_body_bytes=999)) as (client, _):
            assert (await failure(client)).code == "too_large"
        async with upstream(answer, limits=UpstreamLimits(max_stream_bytes=999)) as (client, _):
            assert (await failure(client)).code == "too_large"

    run(main())


def test_an_upstream_is_not_read_from_while_its_reader_is_behind() -> None:
    sent = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_request(reader)
        writer.write(CHUNKED)
        for _ in range(500):
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()
            sent += 65536
        writer.write(b"0\r\n\r\n")

    async def main() -> None:
        async with upstream(script, timeouts={"idle_s": 0.2}) as (client, _):
            response = await ask(client)
            # Longer than the idle timeout: silence of our own making is not the upstream's.
            await asyncio.sleep(0.5)
            assert sent < 20_000_000
            assert response._queued < 1_000_000
            assert sum([len(data) async for data in response.chunks()]) == 500 * 65536
            assert response.complete

    run(main())


def test_closing_a_response_early_closes_its_connection() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(CHUNKED + b"1\r\na\r\n")
        assert await reader.read() == b""
        noticed.set()

    noticed = asyncio.Event()

    async def main() -> None:
        async with upstream(script) as (client, _):
            response = await ask(client)
            response.close()
            response.close()
            await noticed.wait()
            with pytest.raises(UpstreamError) as caught:
                await response.read()
            assert caught.value.code == "closed"

    run(main())


def test_a_cancelled_request_closes_its_connection() -> None:
    async def main() -> None:
        async with upstream(b"") as (client, fake):
            task = asyncio.ensure_future(ask(client))
            await until(lambda: fake.requests)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(lambda: not client.open_connections)

    run(main())


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(HELLO + b"!", id="one byte too many"),
        pytest.param(HELLO + HELLO, id="a second answer"),
        pytest.param(HELLO.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), id="close"),
        pytest.param(HELLO.replace(b"1.1", b"1.0"), id="HTTP/1.0"),
    ],
)
def test_a_connection_that_did_not_end_where_it_should_is_not_used_again(answer: bytes) -> None:
    async def main() -> None:
        async with upstream(answer) as (client, fake):
            for _ in range(2):
                assert await (await ask(client)).read() == b"hello"
            assert fake.connections == 2

    run(main())


@pytest.mark.parametrize("unasked", [HELLO.replace(b"hello", b"wrong"), b"\r\n", b"x"])
def test_a_connection_with_bytes_that_nobody_asked_for_is_not_used_again(unasked: bytes) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(HELLO)
        await asyncio.sleep(0.02)
        writer.write(unasked)
        await reader.read()

    async def main() -> None:
        async with upstream(script) as (client, fake):
            assert await (await ask(client)).read() == b"hello"
            async with asyncio.timeout(1):
                await until(lambda: not client.open_connections)
            assert await (await ask(client)).read() == b"hello"
            assert fake.connections == 2

    run(main())


def test_the_bound_on_headers_is_for_one_answer_not_for_all_on_a_connection() -> None:
    async def main() -> None:
        answer = OK + b"X: " + b"a" * 900 + b"\r\nContent-Length: 0\r\n\r\n"
        async with upstream(answer, limits=UpstreamLimits(max_header_bytes=1000)) as (client, fake):
            for _ in range(3):
                assert await (await ask(client)).read() == b""
            assert fake.connections == 1
        interim = b"HTTP/1.1 103 Early Hints\r\nX: " + b"a" * 400 + b"\r\n\r\n"
        bounded = UpstreamLimits(max_header_bytes=1000)
        async with upstream(interim * 3 + HELLO, limits=bounded) as (client, _):
            assert (await failure(client)).code == "bad_response"

    run(main())


def test_a_kept_connection_is_closed_after_its_time() -> None:
    async def main() -> None:
        async with upstream(HELLO, timeouts={"keep_s": 0.05}) as (client, fake):
            await (await ask(client)).read()
            await until(lambda: not client.open_connections)
            await (await ask(client)).read()
            assert fake.connections == 2

    run(main())


@pytest.mark.parametrize("idempotent", [True, False])
def test_only_an_idempotent_request_is_sent_again_when_its_kept_connection_closes(
    idempotent: bool,
) -> None:
    requests = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await read_request(reader)
        requests += 1
        writer.write(HELLO)
        await read_request(reader)
        requests += 1

    async def main() -> None:
        async with upstream(script) as (client, fake):
            await (await ask(client)).read()
            if idempotent:
                assert await (await ask(client, idempotent=True)).read() == b"hello"
                assert (requests, fake.connections) == (3, 2)
            else:
                error = await failure(client)
                assert (error.code, error.sent) == ("died", True)
                assert (requests, fake.connections) == (2, 1)

    run(main())


def test_an_idempotent_request_is_not_sent_again_once_an_answer_began() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(HELLO)
        await read_request(reader)
        writer.write(b"H")

    async def main() -> None:
        async with upstream(script) as (client, fake):
            await (await ask(client)).read()
            with pytest.raises(UpstreamError):
                await ask(client, idempotent=True)
            assert fake.connections == 1

    run(main())


def test_connections_are_bounded_and_so_is_who_waits_for_one() -> None:
    async def main() -> None:
        none_waits = UpstreamLimits(max_connections=1, max_waiting=0)
        async with upstream(CHUNKED, limits=none_waits) as (client, _):
            response = await ask(client)
            error = await failure(client)
            assert (error.code, error.sent) == ("too_many_connections", False)
            response.close()
        one = UpstreamLimits(max_connections=1)
        async with upstream(CHUNKED, limits=one, timeouts={"pool_s": 0.05}) as (client, fake):
            response = await ask(client)
            error = await failure(client)
            assert (error.code, error.sent, fake.connections) == ("timeout_pool", False, 1)
            response.close()

    run(main())


@pytest.mark.parametrize("kept", [True, False])
def test_those_who_wait_are_served_in_order_and_none_is_forgotten(kept: bool) -> None:
    open_now = most = 0
    order: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        try:
            while True:
                order.append((await read_request(reader)).split(b"\r\n\r\n")[1])
                await asyncio.sleep(0.002)
                writer.write(HELLO)
        finally:
            open_now -= 1

    async def main() -> None:
        limits = UpstreamLimits(max_connections=2)
        async with upstream(script, limits=limits) as (client, fake):

            async def one(number: int) -> bytes:
                return await (await ask(client, b"%d" % number, keep=kept)).read()

            tasks = [asyncio.ensure_future(one(number)) for number in range(30)]
            await asyncio.sleep(0)
            for given_up in tasks[5:30:5]:
                given_up.cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            assert answers.count(b"hello") == 25
            assert most <= 2
            assert fake.connections == (2 if kept else 25)
            numbers = [int(each) for each in order]
            # Two at a time: one may overtake the other, never two.
            places = [abs(numbers.index(n) - place) for place, n in enumerate(sorted(numbers))]
            assert max(places) <= 1
            # Who gave up left no hole: there is still room for two, and for no more.
            assert await asyncio.gather(one(1), one(2)) == [b"hello"] * 2

    run(main())


def test_a_waiter_whose_connection_dies_as_it_is_given_gets_another() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(HELLO + b"and what nobody asked for")
        await reader.read()

    async def main() -> None:
        limits = UpstreamLimits(max_connections=1)
        async with upstream(script, limits=limits, timeouts={"pool_s": 1.0}) as (client, fake):
            asked = [client.request("POST", "/", [], b"") for _ in range(4)]

            async def read(one: Awaitable[UpstreamResponse]) -> bytes:
                return await (await one).read()

            assert await asyncio.gather(*map(read, asked)) == [b"hello"] * 4
            assert fake.connections == 4

    run(main())


def test_an_upstream_that_does_not_take_the_request_is_given_up() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(5)

    async def main() -> None:
        async with upstream(script, timeouts={"write_s": 0.1}) as (client, _):
            with pytest.raises(UpstreamError) as caught:
                await client.request("POST", "/", [], b"x" * 30_000_000)
            assert (caught.value.code, caught.value.sent) == ("timeout_write", True)

    run(main())


def test_a_request_that_was_written_has_its_time_for_the_first_byte() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await asyncio.sleep(0.2)
        writer.write(HELLO)

    async def main() -> None:
        async with upstream(script, timeouts={"write_s": 0.05}) as (client, _):
            assert await (await ask(client)).read() == b"hello"

    run(main())


def test_an_upstream_that_does_not_take_the_connection_is_given_up_unsent() -> None:
    async def main() -> None:
        # A full backlog: the kernel answers no further handshake.
        with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
            port = server.getsockname()[1]
            fill = [socket.socket() for _ in range(3)]
            for each in fill:
                each.setblocking(False)
                each.connect_ex(("127.0.0.1", port))
            await asyncio.sleep(0.05)
            times = UpstreamTimeouts(connect_s=0.1)
            error = await failure(Upstream(f"http://127.0.0.1:{port}", timeouts=times))
            assert (error.code, error.sent) == ("timeout_connect", False)
            whole = UpstreamTimeouts(total_s=0.1)
            error = await failure(Upstream(f"http://127.0.0.1:{port}", timeouts=whole))
            assert (error.code, error.sent) == ("timeout_total", False)
            for each in fill:
                each.close()

    run(main())


def test_a_kept_connection_that_has_closed_is_seen_before_anything_is_sent() -> None:
    """Also when the close came within this very turn of the loop, so that nobody was told yet."""
    ready, go, closed = threading.Event(), threading.Event(), threading.Event()
    requests = 0

    def serve(server: socket.socket) -> None:
        nonlocal requests
        for turn in range(2):
            peer, _ = server.accept()
            assert peer.recv(65536)
            requests += 1
            peer.sendall(HELLO)
            if turn == 0:
                ready.set()
                go.wait(5)
            peer.close()
            closed.set()

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            thread = threading.Thread(target=serve, args=(server,))
            thread.start()
            client = Upstream(f"http://127.0.0.1:{server.getsockname()[1]}")
            assert await (await ask(client)).read() == b"hello"
            ready.wait(5)
            go.set()
            closed.wait(5)  # blocks the loop on purpose: it hears of the close only later
            time.sleep(0.02)  # noqa: ASYNC251
            assert await (await ask(client)).read() == b"hello"
            thread.join(5)
            assert requests == 2
            await client.aclose()

    run(main())


@pytest.mark.parametrize("notifies", [True, False], ids=["close_notify", "bare"])
def test_a_slow_reader_gets_all_that_came_before_a_sealed_upstream_closed(
    tmp_path: Path, notifies: bool
) -> None:
    body = b"x" * 300_000
    authority = Authority()
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(*authority.issue().write(tmp_path, "server"))

    def serve(server: socket.socket) -> None:
        with server_side.wrap_socket(server.accept()[0], server_side=True) as peer:
            assert peer.recv(65536)
            peer.sendall(OK + b"content-length: %d\r\n\r\n%b" % (len(body), body))
            if notifies:
                peer.settimeout(0)
                with contextlib.suppress(OSError):
                    peer.unwrap()

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            thread = threading.Thread(target=serve, args=(server,))
            thread.start()
            client = Upstream(
                f"https://localhost:{server.getsockname()[1]}",
                tls=ssl.create_default_context(cadata=authority.pem.decode()),
            )
            response = await ask(client)
            size = 0
            async for piece in response.chunks():
                size += len(piece)
                await asyncio.sleep(0.05)
            assert (size, response.complete) == (len(body), True)
            await client.aclose()
            thread.join(5)

    run(main())


def test_a_connection_that_is_old_is_used_for_nothing_new() -> None:
    async def main() -> None:
        async with upstream(HELLO, timeouts={"age_s": 0.1}) as (client, fake):
            for _ in range(2):
                await (await ask(client)).read()
            assert fake.connections == 1
            await asyncio.sleep(0.1)
            await (await ask(client)).read()
            assert fake.connections == 2

    run(main())


@pytest.mark.parametrize(
    ("method", "path", "header"),
    [
        ("POST", "/a b", (b"x", b"y")),
        ("POST", "/a\r\nx: y", (b"x", b"y")),
        ("POST", "a", (b"x", b"y")),
        ("HEAD", "/", (b"x", b"y")),
        ("POST", "/", (b"x", b"y\r\nz: w")),
        ("POST", "/", (b"content-length", b"0")),
        ("POST", "/", (b"host", b"elsewhere")),
        ("POST", "/", (b"accept-encoding", b"gzip")),
        ("POST", "/", (b"X", b"y")),
    ],
)
def test_what_would_break_the_framing_is_not_sent(
    method: str, path: str, header: tuple[bytes, bytes]
) -> None:
    async def main() -> None:
        with pytest.raises(UpstreamRequestError):
            await Upstream("http://127.0.0.1:1").request(method, path, [header], b"")

    run(main())


@pytest.mark.parametrize(
    "url",
    ["ftp://a", "http://", "http://u:p@a", "http://a?b", "http://a/#b", "a:1", "http://a/b c"],
)
def test_a_url_that_is_not_plain_is_refused(url: str) -> None:
    with pytest.raises(UpstreamRequestError):
        Upstream(url)


def test_a_connection_that_is_reused_before_its_first_waiter_wakes_serves_both() -> None:
    """A whole answer in one read frees the connection before the first task runs again."""

    async def play() -> list[int]:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while await reader.readuntil(b"\r\n\r\n"):
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        upstream = Upstream(f"http://127.0.0.1:{port}")

        async def work() -> int:
            size = 0
            for _ in range(60):
                response = await upstream.request("GET", "/", [], b"")
                size += len(await response.read())
                response.close()
            return size

        try:
            async with asyncio.timeout(5):
                return await asyncio.gather(*(work() for _ in range(8)))
        finally:
            await upstream.aclose()
            server.close()

    assert asyncio.run(play()) == [120] * 8
