"""The server on real sockets, spoken to in raw bytes. Each test is a client that misbehaves, or not."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from gatelift.gateway.http_messages import ClientGoneError
from gatelift.gateway.http_server import HttpServer, Request, Responder, ServerLimits, serve

JSON = [(b"content-type", b"application/json")]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], Awaitable[Streams]]


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(8):
            await main

    uvloop.run(bounded())


async def echo(request: Request, responder: Responder) -> None:
    body = json.dumps([request.method, request.path, request.body.decode()]).encode()
    responder.send(200, JSON, body)


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for sets no event
        await asyncio.sleep(0.005)


@asynccontextmanager
async def serving(
    handler: Callable[[Request, Responder], Awaitable[None]] = echo,
    errors: list[BaseException] | None = None,
    **limits: Any,
) -> AsyncIterator[tuple[HttpServer, Connect]]:
    server = await serve(
        handler,
        host="127.0.0.1",
        port=0,
        limits=ServerLimits(**{"linger_timeout_s": 0.1, **limits}),
        on_error=([] if errors is None else errors).append,
    )
    writers: list[asyncio.StreamWriter] = []

    async def connect() -> Streams:
        reader, writer = await asyncio.open_connection(*server.addresses[0])
        writers.append(writer)
        return reader, writer

    try:
        yield server, connect
    finally:
        for writer in writers:
            writer.close()
        await server.drain(0)
        assert (server.in_flight, server.open_connections) == (0, 0)


async def read_response(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return int(first.split()[1]), headers, body


def post(body: bytes, *, path: str = "/", more: bytes = b"") -> bytes:
    head = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n%b\r\n"
    return head % (path.encode(), len(body), more) + body


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def test_two_requests_on_one_connection_are_answered() -> None:
    async def main() -> None:
        async with serving() as (server, connect):
            reader, writer = await connect()
            for path in ("/one", "/two"):
                writer.write(post(b"hi", path=path))
                status, headers, body = await read_response(reader)
                assert (status, json.loads(body)) == (200, ["POST", path, "hi"])
                assert "connection" not in headers
            assert server.open_connections == 1

    run(main())


def test_what_came_while_reading_was_paused_is_answered_once_it_goes_on() -> None:
    async def main() -> None:
        begun, goes_on = asyncio.Event(), asyncio.Event()

        async def held(request: Request, responder: Responder) -> None:
            begun.set()
            await goes_on.wait()
            await echo(request, responder)

        async with serving(held, max_buffered_bytes=100) as (_, connect):
            reader, writer = await connect()
            writer.write(b"GET /first HTTP/1.1\r\nhost: a\r\n\r\n")
            await begun.wait()
            # The second is beyond the bound and stops the reading; the third waits in the kernel.
            for path in (b"/second" + b"x" * 100, b"/third"):
                writer.write(b"GET " + path + b" HTTP/1.1\r\nhost: a\r\n\r\n")
                await asyncio.sleep(0.1)
            goes_on.set()
            paths = [json.loads((await read_response(reader))[2])[1] for _ in range(3)]
            assert paths == ["/first", "/second" + "x" * 100, "/third"]

    run(main())


def test_pipelined_requests_are_answered_in_order_one_at_a_time() -> None:
    running = 0

    async def slow(request: Request, responder: Responder) -> None:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0.001 if request.path == "/0" else 0)
        running -= 1
        responder.send(200, [], request.path.encode())

    async def main() -> None:
        async with serving(slow, max_buffered_bytes=100) as (_, connect):
            reader, writer = await connect()
            writer.write(b"".join(post(b"x" * 50, path=f"/{n}") for n in range(40)))
            assert [(await read_response(reader))[2] for _ in range(40)] == [
                b"/%d" % n for n in range(40)
            ]

    run(main())


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
            400,
            id="CL.TE",
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n" + GET,
            400,
            id="chunked, identity",
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n" + GET,
            400,
            id="two lengths",
        ),
        pytest.param(GET[:-2] + b"X: a\r\n b\r\n\r\n" + GET, 400, id="folded"),
        pytest.param(b"GET / HTTP/1.1\nHost: a\n\n" + GET, 400, id="bare LF"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n" + GET,
            400,
            id="blank before colon",
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;\nxx\r\n4c\r\n0\r\n"
            b"\r\n" + GET,
            400,
            id="chunk extension",
        ),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n" + GET, 400, id="no host"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, id="TLS"),
        pytest.param(b"GET /" + b"a" * 20_000, 431, id="endless target"),
        pytest.param(post(b"x" * 2_000_000), 413, id="large body"),
    ],
)
def test_what_is_no_request_is_answered_once_and_the_connection_closed(
    data: bytes, status: int
) -> None:
    seen: list[str] = []

    async def handler(request: Request, responder: Responder) -> None:
        seen.append(request.path)
        responder.send(200, [], b"")

    async def main() -> None:
        async with serving(handler) as (_, connect):
            reader, writer = await connect()
            writer.write(data)
            got, headers, body = await read_response(reader)
            assert got == status
            assert headers["connection"] == "close"
            assert json.loads(body)["error"]["type"] == "invalid_request_error"
            assert await reader.read() == b""
            assert seen == []

    run(main())


@pytest.mark.parametrize("data", [b"GET / HT", post(b"x" * 10)[:-5]], ids=["head", "body"])
def test_a_request_that_comes_too_slowly_is_refused(data: bytes) -> None:
    async def main() -> None:
        async with serving(header_timeout_s=0.1, body_timeout_s=0.1) as (_, connect):
            reader, writer = await connect()
            for byte in data:
                writer.write(bytes([byte]))
            assert (await read_response(reader))[0] == 408
            assert await reader.read() == b""

    run(main())


def test_dripping_a_head_does_not_extend_its_time() -> None:
    async def main() -> None:
        async with serving(header_timeout_s=0.15) as (_, connect):
            reader, writer = await connect()
            writer.write(b"GET / HTTP/1.1\r\n")
            answer = asyncio.ensure_future(read_response(reader))
            for _ in range(50):
                if answer.done():
                    break
                writer.write(b"X: a\r\n")
                await asyncio.sleep(0.02)
            assert (await answer)[0] == 408

    run(main())


def test_an_idle_connection_is_closed_in_silence() -> None:
    async def main() -> None:
        async with serving(idle_timeout_s=0.1, header_timeout_s=0.1) as (_, connect):
            fresh, _ = await connect()
            reader, writer = await connect()
            writer.write(GET)
            await read_response(reader)
            assert await reader.read() == b""
            assert await fresh.read() == b""

    run(main())


def test_a_client_that_waits_for_100_gets_it_and_one_that_is_too_large_does_not() -> None:
    async def main() -> None:
        async with serving(max_body_bytes=10) as (_, connect):
            reader, writer = await connect()
            writer.write(post(b"hello", more=b"Expect: 100-continue\r\n")[:-5])
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"hello")
            assert json.loads((await read_response(reader))[2])[2] == "hello"
            writer.write(post(b"x" * 11, more=b"Expect: 100-continue\r\n")[:-11])
            assert (await read_response(reader))[0] == 413

    run(main())


def test_head_is_answered_without_body() -> None:
    async def main() -> None:
        async with serving() as (_, connect):
            reader, writer = await connect()
            writer.write(GET.replace(b"GET", b"HEAD") + GET)
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"content-length: 17\r\n" in head
            assert (await read_response(reader))[0] == 200

    run(main())


def test_a_stream_is_chunked_and_ends() -> None:
    async def handler(_: Request, responder: Responder) -> None:
        responder.start_stream(200, [(b"content-type", b"text/event-stream")], b"one")
        await responder.write(b"two")
        await responder.write(b"")
        await responder.finish(b"end")

    async def main() -> None:
        async with serving(handler) as (_, connect):
            reader, writer = await connect()
            for _ in range(2):
                writer.write(GET)
                assert b"transfer-encoding: chunked" in await reader.readuntil(b"\r\n\r\n")
                assert (
                    await reader.readuntil(b"0\r\n\r\n")
                    == b"3\r\none\r\n3\r\ntwo\r\n3\r\nend\r\n0\r\n\r\n"
                )

    run(main())


@pytest.mark.parametrize("flush", [False, True])
def test_an_aborted_stream_is_broken_for_the_client(flush: bool) -> None:
    async def handler(_: Request, responder: Responder) -> None:
        responder.start_stream(200, [], b"one")
        await asyncio.sleep(0.02)
        responder.abort(flush=flush)
        with pytest.raises(ClientGoneError):
            await responder.write(b"two")

    async def main() -> None:
        async with serving(handler) as (_, connect):
            reader, writer = await connect()
            writer.write(GET)
            await reader.readuntil(b"\r\n\r\n")
            if flush:
                assert await reader.read() == b"3\r\none\r\n"
            else:
                with pytest.raises(ConnectionResetError):
                    await reader.read()

    run(main())


def test_a_reader_that_stalls_is_cut_and_its_handler_told() -> None:
    ended: list[str] = []

    async def handler(_: Request, responder: Responder) -> None:
        responder.start_stream(200, [])
        try:
            while True:
                await responder.write(b"x" * 65536)
        except ClientGoneError as error:
            ended.append(error.code)
            raise

    async def main() -> None:
        async with serving(handler, write_timeout_s=0.2) as (server, connect):
            reader, writer = await connect()
            # The client's own buffer takes some; it stops reading at twice this limit.
            reader._limit = 1  # type: ignore[attr-defined]
            writer.write(GET)
            await until(lambda: ended)
            assert ended == ["client_gone"]
            assert server.in_flight == 0

    run(main())


def test_a_large_answer_that_nobody_reads_does_not_keep_its_connection() -> None:
    async def handler(_: Request, responder: Responder) -> None:
        responder.send(200, [], b"x" * 16_000_000)

    async def main() -> None:
        async with serving(handler, write_timeout_s=0.2) as (server, connect):
            reader, writer = await connect()
            reader._limit = 1  # type: ignore[attr-defined]
            writer.write(GET + GET)
            await asyncio.sleep(0.1)
            assert server.open_connections == 1
            await until(lambda: not server.open_connections)

    run(main())


def test_a_slow_reader_that_goes_on_reading_gets_everything() -> None:
    size = 3_000_000

    async def handler(_: Request, responder: Responder) -> None:
        responder.start_stream(200, [])
        for _part in range(30):
            await responder.write(b"x" * (size // 30))
        await responder.finish()

    async def main() -> None:
        async with serving(handler, write_timeout_s=0.5) as (_, connect):
            reader, writer = await connect()
            writer.write(GET)
            await reader.readuntil(b"\r\n\r\n")
            got = 0
            while not (data := await reader.read(200_000)).endswith(b"0\r\n\r\n"):
                got += len(data)
                await asyncio.sleep(0.005)
            assert got + len(data) >= size

    run(main())


@pytest.mark.parametrize("half", [True, False], ids=["half-closed", "closed"])
def test_a_client_that_leaves_is_noticed_while_its_exchange_runs(half: bool) -> None:
    told: list[str] = []

    async def handler(_: Request, responder: Responder) -> None:
        responder.on_disconnect(lambda: told.append("callback"))
        await responder.disconnected
        told.append("future")
        assert responder.gone
        responder.on_disconnect(lambda: told.append("late callback"))
        responder.send(200, [], b"still here?")

    async def main() -> None:
        async with serving(handler) as (server, connect):
            reader, writer = await connect()
            writer.write(GET)
            await asyncio.sleep(0.05)
            assert told == []
            if half:
                writer.write_eof()
                # Only its sending side is closed: it may still be answered.
                assert (await read_response(reader))[2] == b"still here?"
                assert await reader.read() == b""
            else:
                writer.transport.abort()
            await until(lambda: not server.open_connections)
            assert told == ["callback", "future", "late callback"]

    run(main())


def test_an_error_of_the_handler_is_a_500_that_says_nothing() -> None:
    errors: list[BaseException] = []

    async def handler(_: Request, __: Responder) -> None:
        raise RuntimeError("the secret prompt")

    async def main() -> None:
        async with serving(handler, errors) as (_, connect):
            reader, writer = await connect()
            writer.write(GET + GET)
            status, headers, body = await read_response(reader)
            assert status == 500
            assert headers["connection"] == "close"
            assert b"secret" not in body
            assert json.loads(body)["error"]["code"] == "internal_error"
            assert await reader.read() == b""

    run(main())
    assert [type(error) for error in errors] == [RuntimeError]


@pytest.mark.parametrize("raises", [True, False])
def test_a_handler_that_ends_amid_a_stream_breaks_it(raises: bool) -> None:
    async def handler(_: Request, responder: Responder) -> None:
        responder.start_stream(200, [], b"one")
        await asyncio.sleep(0.01)
        if raises:
            raise RuntimeError

    async def main() -> None:
        async with serving(handler) as (_, connect):
            reader, writer = await connect()
            writer.write(GET)
            with pytest.raises(ConnectionResetError):
                await reader.read()

    run(main())


def test_a_handler_that_answers_nothing_is_a_500() -> None:
    async def handler(_: Request, __: Responder) -> None:
        return

    async def main() -> None:
        async with serving(handler) as (_, connect):
            reader, writer = await connect()
            writer.write(GET)
            assert (await read_response(reader))[0] == 500

    run(main())


def test_abort_all_cuts_every_stream_at_once_and_leaves_the_idle() -> None:
    gone = 0

    async def handler(request: Request, responder: Responder) -> None:
        nonlocal gone
        if request.path == "/idle":
            responder.send(200, [], b"")
            return
        responder.start_stream(200, [], b"one")
        await responder.disconnected
        gone += 1

    async def main() -> None:
        async with serving(handler) as (server, connect):
            idle_reader, idle_writer = await connect()
            idle_writer.write(GET.replace(b"/ ", b"/idle "))
            await read_response(idle_reader)
            streams = [await connect() for _ in range(20)]
            for reader, writer in streams:
                writer.write(GET)
                await reader.readuntil(b"one\r\n")
            assert server.in_flight == 20
            assert server.abort_all() == 20
            for reader, _ in streams:
                with pytest.raises(ConnectionResetError):
                    await reader.read()
            assert gone == 20
            assert server.open_connections == 1

    run(main())


def test_draining_lets_answers_end_and_cuts_what_does_not() -> None:
    async def handler(request: Request, responder: Responder) -> None:
        if request.path == "/short":
            await asyncio.sleep(0.1)
            responder.send(200, [], b"done")
            return
        responder.start_stream(200, [])
        await responder.disconnected

    async def main() -> None:
        async with serving(handler) as (server, connect):
            idle, _ = await connect()
            short, short_writer = await connect()
            short_writer.write(GET.replace(b"/ ", b"/short "))
            endless, endless_writer = await connect()
            endless_writer.write(GET)
            await endless.readuntil(b"\r\n\r\n")
            draining = asyncio.ensure_future(server.drain(0.3))
            _, headers, body = await read_response(short)
            assert (body, headers["connection"]) == (b"done", "close")
            assert await idle.read() == b""
            with pytest.raises(ConnectionResetError):
                await endless.read()
            assert await draining == 1
            with pytest.raises(OSError, match="refused"):
                await asyncio.open_connection(*endless_writer.get_extra_info("peername"))

    run(main())


def test_who_waits_in_the_kernels_queue_when_draining_begins_is_served() -> None:
    async def main() -> None:
        async with serving() as (server, _):
            # Nothing is awaited meanwhile, so the loop has accepted none of them.
            waiting = [socket.create_connection(server.addresses[0], 5) for _ in range(8)]
            for sock in waiting:
                sock.sendall(GET)
            assert server.open_connections == 0
            assert await server.drain(2, idle_grace_s=0.2) == 0
            for sock in waiting:
                answer = sock.recv(65536)
                assert answer.startswith(b"HTTP/1.1 200 ")
                assert b"connection: close\r\n" in answer
                sock.close()

    run(main())


def test_a_kept_connection_has_a_moment_to_learn_that_it_ends() -> None:
    async def main() -> None:
        async with serving() as (server, connect):
            late, late_writer = await connect()
            idle, idle_writer = await connect()
            for reader, writer in ((late, late_writer), (idle, idle_writer)):
                writer.write(GET)
                _, headers, _ = await read_response(reader)
                assert "connection" not in headers
            draining = asyncio.ensure_future(server.drain(5, idle_grace_s=0.3))
            await asyncio.sleep(0.1)
            late_writer.write(GET)
            status, headers, _ = await read_response(late)
            assert (status, headers["connection"]) == (200, "close")
            assert await idle.read() == b""
            assert await draining == 0

    run(main())


def test_a_stream_that_began_before_draining_leaves_its_connection_a_moment() -> None:
    """Its head said nothing of closing, so the client may ask again."""

    async def handler(_: Request, responder: Responder) -> None:
        responder.start_stream(200, [])
        await asyncio.sleep(0.1)
        await responder.finish(b"x")

    async def main() -> None:
        async with serving(handler, linger_timeout_s=0.5) as (server, connect):
            reader, writer = await connect()
            writer.write(GET)
            assert b"connection" not in await reader.readuntil(b"\r\n\r\n")
            draining = asyncio.ensure_future(server.drain(5, idle_grace_s=0.5))
            await reader.readuntil(b"0\r\n\r\n")
            writer.write(GET)
            assert b"connection: close" in await reader.readuntil(b"\r\n\r\n")
            await reader.read()
            assert await draining == 0

    run(main())


def test_a_handler_that_ignores_its_stop_is_cancelled() -> None:
    async def handler(_: Request, __: Responder) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        async with serving(handler) as (server, connect):
            _, writer = await connect()
            writer.write(GET)
            await asyncio.sleep(0.02)
            assert await server.drain(0) == 1
            assert server.in_flight == 0

    run(main())


def test_connections_beyond_the_bound_are_refused() -> None:
    async def handler(_: Request, responder: Responder) -> None:
        await responder.disconnected

    async def main() -> None:
        async with serving(handler, max_connections=1) as (server, connect):
            _, first_writer = await connect()
            first_writer.write(GET)
            await until(lambda: server.in_flight)
            second, _ = await connect()
            assert (await read_response(second))[0] == 503

    run(main())


def test_a_unix_socket_and_a_given_socket_are_served(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    async def main() -> None:
        path = str(tmp_path_factory.mktemp("s") / "s")
        sock = socket.create_server(("127.0.0.1", 0))
        address = sock.getsockname()
        on_unix = await serve(echo, unix_path=path, limits=ServerLimits(linger_timeout_s=0.1))
        on_sock = await serve(echo, sock=sock, limits=ServerLimits(linger_timeout_s=0.1))
        unix = await asyncio.open_unix_connection(path)
        tcp = await asyncio.open_connection(*address)
        for reader, writer in (unix, tcp):
            writer.write(GET)
            assert (await read_response(reader))[0] == 200
            writer.close()
        await on_unix.drain(0)
        await on_sock.drain(0)

    run(main())
