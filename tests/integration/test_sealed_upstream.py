"""A whole deployment before a sealed upstream: served with short-lived certificates, shut without."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gatelift.cli.plan_template import PlanSize, render_plan
from gatelift.encoding import sha256_digest
from gatelift.gateway.context import Context
from gatelift.gateway.upstream_identity import UpstreamIdentity
from gatelift.messages import Placement, UpstreamTls
from gatelift.messages.frames import CredentialFrame
from gatelift.wire.http_client import Upstream, UpstreamError
from gatelift.wire.sealing import Bearer, create_upstream_ca, upstream_ca_paths
from tests.integration.test_cli_up import (
    CREDENTIAL,
    ENVIRONMENT,
    Stub,
    Up,
    answers,
    chat,
    free_ports,
    until,
)
from tests.support.certificates import Authority
from tests.support.terminator import Terminator

WORKER = "gatelift://n1/w0/dev"


def command(*arguments: str, code: int | None = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "gatelift", *arguments],
        capture_output=True, text=True, env=ENVIRONMENT, timeout=60, check=False,
    )  # fmt: skip
    assert code is None or done.returncode == code, (done.stdout, done.stderr)
    return done.stdout


def test_a_deployment_serves_through_a_sealed_door_only_while_status_stands(tmp_path: Path) -> None:
    authority, stub, port = Authority(), Stub(CREDENTIAL), free_ports()
    folder = tmp_path / "d"
    (tmp_path / "server-ca.pem").write_bytes(authority.pem)
    key_file = tmp_path / "upstream.key"
    key_file.touch(0o600)
    key_file.write_text(CREDENTIAL + "\n")
    plan = tmp_path / "plan.yaml"
    text = render_plan(release="dev", model="stub", size=PlanSize.SMALL).decode()
    assert "status_ttl: 10s" in text
    plan.write_text(text.replace("status_ttl: 10s", "status_ttl: 3s"))
    (tmp_path / "prompt.txt").write_text("Be brief.")
    command(
        "init", str(folder), "--yes", "--plan", str(plan), "--model", "stub",
        "--port", str(port), "--json",
    )  # fmt: skip
    trusted = json.loads(command("keys", "upstream-ca", "--dir", str(folder), "--json"))
    assert not trusted["made"]
    door = Terminator(
        *authority.issue().write(tmp_path, "server"),
        stub.port,
        Path(trusted["certificate"]).read_bytes(),
    )
    settings = json.loads((folder / "deployment.json").read_bytes())
    (folder / "deployment.json").write_text(json.dumps(settings | {"upstream": door.url}))
    up = Up(
        "--dir", str(folder), "--upstream-name", "localhost",
        "--upstream-ca", str(tmp_path / "server-ca.pem"), "--upstream-key-file", str(key_file),
    )  # fmt: skip
    try:
        base_url, api_key = up.said["base_url"], up.said["api_key"]
        assert answers(base_url, api_key, "hello")
        assert door.bearers() == {"gatelift://n1/terminal/dev", "gatelift://n1/keeper/dev", WORKER}
        _check_said(folder, port)
        _check_no_key_on_disk(folder)

        # Control falls silent: the status lapses, and with it every way in.
        control = up.children()["control"]
        os.kill(control, signal.SIGSTOP)
        until(lambda: not answers(base_url, api_key, "hello"), "the status lapses", 10)
        time.sleep(1.0)  # nor is anything issued on the last status' account
        before = _serials(door)
        time.sleep(3.0)
        assert chat(base_url, api_key, "hello")[0] == 503
        assert _serials(door) == before
        os.kill(control, signal.SIGCONT)
        until(lambda: answers(base_url, api_key, "hello"), "it serves again", 10)
    finally:
        up.stop()
        door.close()
        stub.close()


def _serials(door: Terminator) -> set[str]:
    return {
        each["serialNumber"]
        for each in door.seen
        if ("URI", WORKER) in each.get("subjectAltName", ())
    }


def _check_said(folder: Path, port: int) -> None:
    reader = (
        "--admin", f"http://127.0.0.1:{port + 1}", "--token-file", str(folder / "keys/reader.token")
    )  # fmt: skip
    state = json.loads(command("status", *reader, "--json"))
    assert [each["probe"]["sealing"] for each in state["probes"]] == ["sealed"]
    assert state["stages"][0]["certificate"]["levels"]["sealing"] == "sealed"
    assert "sealed: refuses calls" in command("doctor", "--dir", str(folder), code=None)


def _check_no_key_on_disk(folder: Path) -> None:
    held = [path for path in folder.rglob("*") if path.is_file()]
    assert len(held) > 20
    assert not [path for path in held if b"PRIVATE KEY" in path.read_bytes()]


def run(main: Any) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(10):
            await main

    uvloop.run(bounded())


def test_retired_connections_close_now_or_after_their_answer() -> None:
    release = asyncio.Event()
    arrived = asyncio.Event()
    made: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.append(writer)
        arrived.set()
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                if b"/slow" in head:
                    await release.wait()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        upstream = Upstream(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        slow = asyncio.ensure_future(upstream.request("GET", "/slow", [], b""))
        await arrived.wait()
        assert await (await upstream.request("GET", "/", [], b"")).read() == b"ok"
        assert upstream.open_connections == 2
        upstream.retire()
        await asyncio.sleep(0.05)
        assert upstream.open_connections == 1
        release.set()
        assert await (await slow).read() == b"ok"
        await asyncio.sleep(0.05)
        assert upstream.open_connections == 0
        assert await (await upstream.request("GET", "/", [], b"")).read() == b"ok"
        assert len(made) == 3
        await upstream.aclose()
        server.close()
        await asyncio.sleep(0.05)

    run(main())


class Worker:
    """A worker's side of a sealed door: its context, with clocks of our own."""

    def __init__(self, folder: Path) -> None:
        authority, self.stub = Authority(), Stub(CREDENTIAL)
        (folder / "keys").mkdir()
        self.ca = create_upstream_ca(folder, "n1", time.time_ns() // 10**6)
        trusted = upstream_ca_paths(folder, "n1")[1].read_bytes()
        self.door = Terminator(*authority.issue().write(folder, "server"), self.stub.port, trusted)
        self.now, self.alive = 1_000, True
        self.context = Context(
            **dict.fromkeys(("holdings", "journal", "link", "leases", "honey")),  # type: ignore[arg-type]
            upstream_key=CREDENTIAL,
            session_secret=b"",
            identity=UpstreamIdentity(
                lambda _: authority.pem, lambda _: self.alive, lambda: self.now
            ),
        )
        self.placement = Placement(
            name="p1",
            base_url=self.door.url,
            model="m",
            baseline=None,
            tls=UpstreamTls(server_name="localhost", ca=sha256_digest(authority.pem)),
        )

    def close(self) -> None:
        self.door.close()
        self.stub.close()

    def adopt(self) -> None:
        bearer = Bearer(node="n1", worker="w0", release="dev")
        pem = self.ca.issue(bearer, now_ms=time.time_ns() // 10**6, lives_s=30)
        self.context.adopt_credential(CredentialFrame(pem=pem, lives_ms=30_000))

    async def ask(self) -> int:
        body = json.dumps({"messages": [{"role": "user", "content": "hello"}]}).encode()
        response = await self.context.upstream(self.placement).request(
            "POST", "/v1/chat/completions", self.context.upstream_headers(), body
        )
        await response.read()
        return response.status

    async def closed(self) -> None:
        async with asyncio.timeout(1):
            while self.door.open:  # noqa: ASYNC110 - the other end is a thread
                await asyncio.sleep(0.01)

    async def refused(self) -> None:
        with pytest.raises(UpstreamError) as raised:
            await self.ask()
        assert (raised.value.code, raised.value.sent) == ("connect_failed", False)


def test_a_workers_connections_end_with_certificate_and_status(tmp_path: Path) -> None:
    worker = Worker(tmp_path)

    async def main() -> None:
        await worker.refused()
        worker.adopt()
        assert [await worker.ask(), await worker.ask()] == [200, 200]
        assert (len(worker.door.open), len(worker.door.seen)) == (1, 1)
        worker.adopt()
        await worker.closed()
        assert await worker.ask() == 200
        assert len({each["serialNumber"] for each in worker.door.seen}) == 2
        worker.alive = False
        worker.context.retire_sealed()  # as the worker does when its status lapses
        await worker.closed()
        await worker.refused()
        worker.alive = True
        assert await worker.ask() == 200
        worker.now += 29_999
        worker.context.expire_credential()
        assert await worker.ask() == 200
        worker.now += 1
        worker.context.expire_credential()
        await worker.closed()
        await worker.refused()
        await worker.context.close()

    try:
        run(main())
    finally:
        worker.close()


def test_without_a_certificate_no_connection_is_even_tried() -> None:
    def none() -> ssl.SSLContext:
        raise UpstreamError("none", code="connect_failed", sent=False)

    async def main() -> None:
        async def count(reader: Any, writer: Any) -> None:
            raise AssertionError("somebody connected")

        server = await asyncio.start_server(count, "127.0.0.1", 0)
        upstream = Upstream(
            f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", tls=none, server_name="a"
        )
        with pytest.raises(UpstreamError) as raised:
            await upstream.request("GET", "/", [], b"")
        assert not raised.value.sent
        assert upstream.open_connections == 0
        await upstream.aclose()
        server.close()

    run(main())
