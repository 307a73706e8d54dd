"""Whole processes behind TLS: `up` serves by it and renews, a stop cuts a stream, failures count."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from gatelift.messages import Beat, Finish
from tests.integration.test_cli_up import ENVIRONMENT, Stub, Up, free_ports, until
from tests.integration.test_gateway_worker import API_KEY, Deployment
from tests.support.certificates import Authority, Issued
from tests.support.upstream import ScriptedUpstream


def serial(port: int, authority: Authority) -> int:
    context = ssl.create_default_context(cadata=authority.pem.decode())
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as tls,
    ):
        found = tls.getpeercert()
        assert found is not None
        return int(str(found["serialNumber"]), 16)


def test_up_serves_tls_and_takes_up_a_renewed_certificate(tmp_path: Path) -> None:
    authority, stub, port = Authority(), Stub(None), free_ports()
    first = authority.issue()
    pem, key = first.write(tmp_path, "listener")
    where = ("--dir", str(tmp_path / "d"))
    up = Up(
        *where, "--port", str(port), "--model", "stub",
        "--upstream", f"http://127.0.0.1:{stub.port}",
        "--tls-cert", str(pem), "--tls-key", str(key),
    )  # fmt: skip
    try:
        assert up.said["base_url"] == f"https://127.0.0.1:{port}/v1"
        context = ssl.create_default_context(cadata=authority.pem.decode())
        with (
            httpx.Client(verify=context) as http,
            openai.OpenAI(
                base_url=up.said["base_url"],
                api_key=up.said["api_key"],
                http_client=http,
                max_retries=0,
            ) as client,
        ):
            made = client.chat.completions.create(
                model="stub", messages=[{"role": "user", "content": "hello"}]
            )
            assert made.choices[0].message.content == "answer 2cf24dba"
            with pytest.raises(httpx.TransportError):
                httpx.get(f"http://127.0.0.1:{port}/healthz")
        assert serial(port, authority) == first.certificate.serial_number
        renewed = authority.issue()
        renewed.write(tmp_path, "listener")
        until(
            lambda: serial(port, authority) == renewed.certificate.serial_number,
            "the renewed certificate is served",
            timeout_s=5,
        )
        doctor = subprocess.run(
            [sys.executable, "-m", "gatelift", "doctor", *where],
            capture_output=True, text=True, env=ENVIRONMENT, timeout=60, check=False,
        )  # fmt: skip
        assert f"holds a live status at https://127.0.0.1:{port}" in " ".join(doctor.stdout.split())
    finally:
        up.stop()
        stub.close()


@pytest.mark.parametrize(
    ("missing", "code"), [("--tls-key", "unreadable_input"), ("mismatch", "tls_key_mismatch")]
)
def test_up_says_what_is_wrong_with_its_tls_files_before_it_starts(
    tmp_path: Path, missing: str, code: str
) -> None:
    authority = Authority()
    pem, _ = authority.issue().write(tmp_path, "one")
    _, other = authority.issue().write(tmp_path, "two")
    more = () if missing == "--tls-key" else ("--tls-key", str(other))
    done = subprocess.run(
        [
            sys.executable, "-m", "gatelift", "up", "--json", "--dir", str(tmp_path / "d"),
            "--upstream", "http://127.0.0.1:9", "--model", "m", "--tls-cert", str(pem), *more,
        ],
        capture_output=True, text=True, env=ENVIRONMENT, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert json.loads(done.stdout)["error"]["code"] == code
    assert not (tmp_path / "d").exists()


class TlsDeployment(Deployment):
    """A worker behind TLS, against a scripted keeper and model server."""

    authority: Authority
    issued: Issued

    def launch(self) -> subprocess.Popen[bytes]:
        self.authority = Authority()
        self.issued = self.authority.issue()
        pem, key = self.issued.write(self.directory, "listener")
        self.url = f"https://127.0.0.1:{self.port}"
        self.verify = ssl.create_default_context(cadata=self.authority.pem.decode())
        code = (
            "import sys;from pathlib import Path;from gatelift.gateway import WorkerSettings,run;"
            "from gatelift.wire.tls import TlsFiles;p=[Path(x) for x in sys.argv[2:]];"
            "run(WorkerSettings(directory=p[0],node='n1',worker='w1',host='127.0.0.1',"
            "port=int(sys.argv[1]),tls=TlsFiles(certificate=p[1],key=p[2])))"
        )
        return subprocess.Popen(
            [sys.executable, "-c", code, str(self.port), str(self.directory), str(pem), str(key)]
        )


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    made = ScriptedUpstream()
    yield made
    made.close()


@pytest.fixture
def deployment(tmp_path: Path, upstream: ScriptedUpstream) -> Iterator[TlsDeployment]:
    made = TlsDeployment(tmp_path, upstream)
    yield made
    made.close()


def test_an_order_cuts_a_tls_stream_within_a_second(
    deployment: TlsDeployment, upstream: ScriptedUpstream
) -> None:
    upstream.words = ["word "] * 100
    upstream.delay_s = 0.05
    pieces: list[tuple[float, bytes]] = []

    def read() -> None:
        body = {"model": "smollm2-135m", "messages": [{"role": "user", "content": "go"}]}
        try:
            with httpx.stream(
                "POST",
                deployment.url + "/v1/chat/completions",
                json=body | {"stream": True},
                headers={"authorization": f"Bearer {API_KEY}"},
                verify=deployment.verify,
            ) as stream:
                pieces.extend((time.monotonic(), data) for data in stream.iter_bytes())
        except httpx.TransportError:
            pieces.append((time.monotonic(), b"broken"))

    reader = threading.Thread(target=read)
    reader.start()
    until(lambda: len(pieces) > 5, "the stream runs")
    ordered = time.monotonic()
    deployment.keeper.order(deployment.stop_order())
    reader.join(3)
    assert not reader.is_alive()
    assert pieces[-1][1] == b"broken"
    assert pieces[-1][0] - ordered < 1
    assert not any(b"[DONE]" in data for _, data in pieces)
    until(
        lambda: "stopped" in [r.outcome for r in deployment.records() if isinstance(r, Finish)],
        "the stop is recorded",
    )


def test_a_failed_handshake_is_counted_in_the_next_beat(deployment: TlsDeployment) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{deployment.port}/healthz")
    with pytest.raises(httpx.ConnectError):  # it does not trust our CA and says so
        httpx.get(deployment.url + "/healthz")
    until(
        lambda: (
            sum(
                record.refused.get("tls_failed", 0)
                for record in deployment.records()
                if isinstance(record, Beat)
            )
            >= 2
        ),
        "both are in a beat",
        timeout_s=5,
    )
