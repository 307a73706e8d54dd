"""TLS at our own door, on real sockets: who gets in, what is refused, renewal, and a cut."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gatelift.errors import CallerError
from gatelift.gateway.http_server import HttpServer, Request, Responder, ServerLimits, serve
from gatelift.wire.tls import ListenerContext, TlsFiles
from tests.support.certificates import Authority, Issued

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CLOSING = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def now_ms() -> int:
    return time.time_ns() // 10**6


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(10):
            await main

    uvloop.run(bounded())


async def until(condition: Any) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for sets no event
        await asyncio.sleep(0.005)


async def hello(request: Request, responder: Responder) -> None:
    responder.send(200, [], b"hello")


class House:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority()
        self.failures: Counter[str] = Counter()
        self.files = self.keep(self.authority.issue())

    def keep(self, issued: Issued) -> TlsFiles:
        pem, key = issued.write(self.folder, "listener")
        return TlsFiles(certificate=pem, key=key)

    def context(self, files: TlsFiles | None = None, **more: Any) -> ListenerContext:
        return ListenerContext(files or self.files, now_ms=now_ms(), on_failure=self._count, **more)

    def _count(self, reason: str) -> None:
        self.failures[reason] += 1

    def client(self, issued: Issued | None = None) -> ssl.SSLContext:
        made = ssl.create_default_context(cadata=self.authority.pem.decode())
        if issued is not None:
            pem, key = issued.write(self.folder, "client")
            made.load_cert_chain(pem, key)
        return made

    @asynccontextmanager
    async def serving(
        self, handler: Any = hello, context: ListenerContext | None = None, **limits: Any
    ) -> Any:
        server = await serve(
            handler,
            host="127.0.0.1",
            limits=ServerLimits(**{"linger_timeout_s": 0.1, **limits}),
            ssl_context=context or self.context(),
        )
        try:
            yield server
        finally:
            await server.drain(0)
            await asyncio.sleep(0.02)  # the clients' ends close as well
            assert (server.in_flight, server.open_connections) == (0, 0)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    return House(tmp_path)


async def connect(server: HttpServer, context: ssl.SSLContext) -> Any:
    return await asyncio.open_connection(
        *server.addresses[0], ssl=context, server_hostname="localhost"
    )


async def ask(server: HttpServer, context: ssl.SSLContext) -> bytes:
    reader, writer = await connect(server, context)
    writer.write(CLOSING)
    data = await reader.read()
    writer.close()
    return bytes(data)


def test_the_newest_protocol_is_spoken_and_http_1_1_alone_is_offered(house: House) -> None:
    async def main() -> None:
        async with house.serving() as server:
            client = house.client()
            client.set_alpn_protocols(["h2", "http/1.1"])
            reader, writer = await connect(server, client)
            tls = writer.get_extra_info("ssl_object")
            assert (tls.version(), tls.selected_alpn_protocol()) == ("TLSv1.3", "http/1.1")
            for _ in range(2):
                writer.write(GET)
                assert b"200 OK" in await reader.readuntil(b"hello")
            writer.close()

    run(main())


def test_tls_1_2_gets_in_and_1_1_does_not(house: House) -> None:
    async def main() -> None:
        async with house.serving() as server:
            old = house.client()
            old.maximum_version = ssl.TLSVersion.TLSv1_2
            assert b"hello" in await ask(server, old)
            with pytest.warns(DeprecationWarning, match="TLSv1_1"):
                old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
            old.set_ciphers("ALL:@SECLEVEL=0")
            with pytest.raises(ConnectionResetError):
                await ask(server, old)
            await until(lambda: house.failures == {"tls_failed": 1})

    run(main())


def test_plain_http_and_noise_are_refused_and_counted(house: House) -> None:
    async def main() -> None:
        context = house.context()
        async with house.serving(context=context) as server:
            for data in (GET, b"\x16\x03\x01\xff\xff" + b"x" * 70_000, b"\0" * 100):
                reader, writer = await asyncio.open_connection(*server.addresses[0])
                writer.write(data)
                with suppress(ConnectionError):
                    assert b"HTTP/1.1" not in await reader.read()
                writer.close()
            await until(lambda: sum(house.failures.values()) == 3)
            assert context.handshakes == 0
            assert b"hello" in await ask(server, house.client())

    run(main())


def test_a_handshake_that_takes_too_long_is_ended_and_counted(house: House) -> None:
    async def main() -> None:
        context = house.context(handshake_timeout_s=0.2)
        async with house.serving(context=context) as server:
            reader, _writer = await asyncio.open_connection(*server.addresses[0])
            assert await reader.read() == b""
            await until(lambda: house.failures == {"tls_timeout": 1})
            assert context.handshakes == 0
            _writer.close()

    run(main())


def test_a_client_that_leaves_amid_the_handshake_is_counted_as_gone(house: House) -> None:
    async def main() -> None:
        context = house.context()
        async with house.serving(context=context) as server:
            _, writer = await asyncio.open_connection(*server.addresses[0])
            await until(lambda: context.handshakes == 1)
            writer.close()
            await until(lambda: house.failures == {"tls_gone": 1})

    run(main())


def test_no_more_handshakes_are_under_way_than_allowed(house: House) -> None:
    async def main() -> None:
        context = house.context(max_handshakes=3)
        async with house.serving(context=context) as server:
            slow = [await asyncio.open_connection(*server.addresses[0]) for _ in range(3)]
            await until(lambda: context.handshakes == 3)
            with pytest.raises(ConnectionResetError):
                await ask(server, house.client())
            assert house.failures == {"tls_too_many": 1}
            for _, writer in slow:
                writer.close()
            await until(lambda: context.handshakes == 0)
            assert b"hello" in await ask(server, house.client())

    run(main())


def test_a_renewed_certificate_serves_new_connections_and_old_ones_go_on(house: House) -> None:
    async def main() -> None:
        context = house.context()
        async with house.serving(context=context) as server:
            reader, writer = await connect(server, house.client())
            before = writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]
            assert not context.refresh(now_ms())
            # The pair is replaced one file after the other: amid that nothing changes.
            renewed = house.authority.issue(rsa_key=True)
            house.files.key.write_bytes(renewed.key)
            assert not context.refresh(now_ms())
            assert b"hello" in await ask(server, house.client())
            house.files.certificate.write_bytes(renewed.pem)
            assert context.refresh(now_ms())
            assert not context.refresh(now_ms())
            _, other = await connect(server, house.client())
            after = other.get_extra_info("ssl_object").getpeercert()["serialNumber"]
            assert int(after, 16) == renewed.certificate.serial_number != int(before, 16)
            writer.write(GET)
            assert b"200 OK" in await reader.readuntil(b"hello")
            writer.close()
            other.close()

    run(main())


def _mismatch(house: House) -> TlsFiles:
    house.files.key.write_bytes(house.authority.issue().key)
    return house.files


def _readable(house: House) -> TlsFiles:
    house.files.key.chmod(0o644)
    return house.files


def _with_passphrase(house: House) -> TlsFiles:
    from cryptography.hazmat.primitives import serialization as s

    issued = house.authority.issue()
    files = house.keep(issued)
    form = (s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(b"x"))
    files.key.write_bytes(issued.private.private_bytes(*form))
    return files


def _garbage(house: House) -> TlsFiles:
    house.files.certificate.write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n")
    return house.files


def _key_as_certificate(house: House) -> TlsFiles:
    return TlsFiles(certificate=house.files.certificate, key=house.files.certificate)


@pytest.mark.parametrize(
    ("spoil", "code", "says"),
    [
        pytest.param(_mismatch, "tls_key_mismatch", "issued together", id="another key"),
        pytest.param(_readable, "key_file_mode", "chmod 600", id="key readable by others"),
        pytest.param(_with_passphrase, "bad_tls_file", "passphrase", id="passphrase"),
        pytest.param(_garbage, "bad_tls_file", "expected PEM", id="no certificate"),
        pytest.param(_key_as_certificate, "bad_tls_file", "private key", id="certificate as key"),
        pytest.param(
            lambda house: house.keep(house.authority.issue(ends_s=-10)),
            "tls_certificate_expired",
            "renew it",
            id="expired",
        ),
        pytest.param(
            lambda house: house.keep(house.authority.issue(begins_s=3600)),
            "tls_certificate_early",
            "clock",
            id="not valid yet",
        ),
        pytest.param(
            lambda house: TlsFiles(certificate=house.folder / "none", key=house.files.key),
            "tls_file_missing",
            "cannot read",
            id="missing certificate",
        ),
        pytest.param(
            lambda house: TlsFiles(certificate=house.files.certificate, key=house.folder / "none"),
            "key_file_missing",
            "no key file",
            id="missing key",
        ),
    ],
)
def test_a_file_that_cannot_serve_is_refused_with_its_reason(
    house: House, spoil: Any, code: str, says: str
) -> None:
    files = spoil(house)
    with pytest.raises(CallerError, match=says) as raised:
        house.context(files)
    assert raised.value.code == code
    assert "PRIVATE KEY" not in str(raised.value)


def test_an_expired_renewal_leaves_the_old_certificate_in_place(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        context = house.context()
        async with house.serving(context=context) as server:
            house.keep(house.authority.issue(ends_s=-10))
            for _ in range(3):
                assert not context.refresh(now_ms())
            assert b"hello" in await ask(server, house.client())

    run(main())
    assert [r.levelname for r in caplog.records if "not taken up" in r.message] == ["ERROR"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_stop_cuts_a_tls_stream_at_once(house: House, version: ssl.TLSVersion) -> None:
    async def endless(request: Request, responder: Responder) -> None:
        responder.start_stream(200, [])
        while True:
            await responder.write(b"x" * 1000)
            await asyncio.sleep(0.001)

    async def main() -> None:
        async with house.serving(endless) as server:
            client = house.client()
            client.maximum_version = version
            streams = [await connect(server, client) for _ in range(4)]
            for reader, writer in streams:
                writer.write(GET)
                await reader.readuntil(b"x" * 1000)
            begun = time.monotonic()
            assert server.abort_all() == 4
            for reader, writer in streams:
                rest = b""
                try:
                    while data := await reader.read(65536):
                        rest += data
                except OSError:
                    pass
                assert not rest.endswith(b"0\r\n\r\n")
                writer.close()
            assert time.monotonic() - begun < 1

    run(main())


def test_a_stop_cuts_a_tls_reader_that_is_stuck(house: House) -> None:
    async def flood(request: Request, responder: Responder) -> None:
        responder.start_stream(200, [])
        while True:
            await responder.write(b"x" * 65536)

    async def main() -> None:
        async with house.serving(flood) as server:
            reader, writer = await asyncio.open_connection(
                *server.addresses[0], ssl=house.client(), server_hostname="localhost", limit=1024
            )
            writer.write(GET)
            await reader.readuntil(b"200 OK")
            await asyncio.sleep(0.3)  # all buffers on the way are full now
            assert server.abort_all() == 1
            async with asyncio.timeout(1):
                await until(lambda: server.open_connections == 0)
            writer.transport.abort()
            await asyncio.sleep(0.05)

    run(main())


def test_a_reader_that_does_not_read_is_cut_too(house: House) -> None:
    stuck = asyncio.Event()

    async def flood(request: Request, responder: Responder) -> None:
        responder.start_stream(200, [])
        for _ in range(2000):
            asyncio.get_running_loop().call_later(0.2, stuck.set)
            await responder.write(b"x" * 65536)

    async def main() -> None:
        async with house.serving(flood, write_timeout_s=0.4) as server:
            reader, writer = await asyncio.open_connection(
                *server.addresses[0], ssl=house.client(), server_hostname="localhost", limit=1024
            )
            writer.write(GET)
            await reader.readuntil(b"200 OK")
            begun = time.monotonic()
            await until(lambda: server.open_connections == 0)
            assert time.monotonic() - begun < 5
            writer.transport.abort()
            await asyncio.sleep(0.05)

    run(main())


def test_a_client_that_closes_amid_a_stream_is_noticed(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    gone = asyncio.Event()

    async def endless(request: Request, responder: Responder) -> None:
        responder.on_disconnect(gone.set)
        responder.start_stream(200, [])
        while True:
            await responder.write(b"x")
            await asyncio.sleep(0.005)

    async def main() -> None:
        async with house.serving(endless) as server:
            reader, writer = await connect(server, house.client())
            writer.write(GET)
            await reader.readuntil(b"x")
            writer.close()
            await gone.wait()
            await until(lambda: server.open_connections == 0)

    run(main())
    assert not caplog.records


def test_a_large_last_answer_reaches_a_slow_reader_whole(house: House) -> None:
    body = bytes(range(256)) * 8192

    async def large(request: Request, responder: Responder) -> None:
        responder.send(200, [], body)

    async def main() -> None:
        async with house.serving(large) as server:
            reader, writer = await connect(server, house.client())
            writer.write(CLOSING)
            await asyncio.sleep(0.4)
            head, _, got = (await reader.read()).partition(b"\r\n\r\n")
            assert b"200 OK" in head
            assert got == body
            writer.close()

    run(main())


def test_a_client_certificate_may_be_absent_but_not_from_elsewhere(house: House) -> None:
    async def main() -> None:
        ours, other = Authority("Clients"), Authority("Clients")
        ca = house.folder / "clients.pem"
        ca.write_bytes(ours.pem)
        files = TlsFiles(certificate=house.files.certificate, key=house.files.key, client_ca=ca)
        async with house.serving(context=house.context(files)) as server:
            assert b"hello" in await ask(server, house.client())
            assert b"hello" in await ask(server, house.client(ours.issue(client=True)))
            for bad in (
                other.issue(client=True),
                ours.issue(client=True, ends_s=-5),
                ours.issue(client=False),
            ):
                # In TLS 1.3 the client learns of it only after its own part of the handshake.
                with suppress(OSError):
                    assert await ask(server, house.client(bad)) == b""
            await until(lambda: house.failures == {"tls_failed": 3})

    run(main())
