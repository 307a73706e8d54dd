"""The door of a sealed placement, tried from outside by every kind of stranger."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gatelift.terms import Sealing
from gatelift.wire.keyfiles import KeyFileError
from gatelift.wire.probes import ProbeError, ProbeTarget, measure_baseline
from gatelift.wire.sealing import (
    Bearer,
    PinnedServer,
    ProbeIdentities,
    UpstreamCa,
    create_upstream_ca,
    load_upstream_ca,
    upstream_ca_paths,
)
from gatelift.wire.sealing_probes import probe_sealing
from tests.integration.test_cli_up import CREDENTIAL, Stub, free_ports
from tests.support.certificates import Authority
from tests.support.terminator import Terminator

BEARER = Bearer(node="n1", worker="w0", release="aurora")
GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "seal-the-upstream.md"


def now_ms() -> int:
    return time.time_ns() // 10**6


class House:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers = Authority("Servers")
        self.pem, self.key = self.servers.issue().write(folder, "server")
        (folder / "keys").mkdir()
        self.ca: UpstreamCa = create_upstream_ca(folder, "n1", now_ms())
        self.ca_pem = upstream_ca_paths(folder, "n1")[1].read_bytes()
        self.closing: list[Callable[[], None]] = []

    def terminator(
        self,
        credential: str | None = CREDENTIAL,
        *,
        client_ca: bytes | None = b"ours",
        **weakness: Any,
    ) -> Terminator:
        stub = Stub(credential)
        trusted = self.ca_pem if client_ca == b"ours" else client_ca
        made = Terminator(self.pem, self.key, stub.port, trusted, **weakness)
        self.closing += [made.close, stub.close]
        return made

    def target(self, url: str, ca: bytes | None = None) -> ProbeTarget:
        return ProbeTarget(
            base_url=url,
            model="m",
            system_prompt=None,
            max_tokens=4,
            pinned=PinnedServer(server_name="localhost", ca=ca or self.servers.pem),
        )

    def probe(self, url: str, identities: Any = None, **more: Any) -> Sealing:
        return asyncio.run(
            probe_sealing(
                self.target(url, **more),
                CREDENTIAL,
                identities or ProbeIdentities(self.ca, BEARER),
            )
        )


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    for close in made.closing:
        close()


def test_an_upstream_that_takes_living_certificates_of_ours_alone_is_sealed(house: House) -> None:
    assert house.probe(house.terminator().url) is Sealing.SEALED
    # Nor does it need a key beside the certificate.
    assert house.probe(house.terminator(None).url) is Sealing.SEALED


@pytest.mark.parametrize(
    ("credential", "weakness", "level"),
    [
        pytest.param(CREDENTIAL, {"client_ca": None}, Sealing.DECLARED, id="key alone opens"),
        pytest.param(None, {"client_ca": None}, Sealing.OPEN, id="TLS opens to all"),
        pytest.param(CREDENTIAL, {"optional": True}, Sealing.DECLARED, id="certificate optional"),
        pytest.param(None, {"optional": True}, Sealing.OPEN, id="optional and no key"),
        pytest.param(CREDENTIAL, {"ignores_time": True}, Sealing.DECLARED, id="expired opens"),
        pytest.param(None, {"ignores_time": True}, Sealing.DECLARED, id="expired, no key"),
        pytest.param(CREDENTIAL, {"speaks_http": True}, Sealing.DECLARED, id="HTTP with a key"),
        pytest.param(None, {"speaks_http": True}, Sealing.OPEN, id="HTTP opens to all"),
        pytest.param(
            None, {"speaks_http": True, "ignores_time": True}, Sealing.OPEN, id="the worst counts"
        ),
    ],
)
def test_each_weakness_is_found(
    house: House, credential: str | None, weakness: dict[str, Any], level: Sealing
) -> None:
    assert house.probe(house.terminator(credential, **weakness).url) is level


def test_an_upstream_that_trusts_another_ca_as_well_is_not_sealed(house: House) -> None:
    other = Authority(f"Gatelift upstream CA {BEARER.node}")

    class Identities(ProbeIdentities):
        def foreign(self) -> bytes:
            issued = other.issue(client=True)
            return issued.pem + issued.key

    url = house.terminator(client_ca=house.ca_pem + other.pem).url
    assert house.probe(url, Identities(house.ca, BEARER)) is Sealing.DECLARED


def test_an_upstream_that_refuses_us_too_says_nothing(house: House) -> None:
    url = house.terminator(client_ca=Authority("Somebody").pem).url
    with pytest.raises(ProbeError, match="upstream CA") as raised:
        house.probe(url)
    assert raised.value.code == "probe_refused"


def test_a_server_that_is_not_the_pinned_one_gets_no_key_of_ours(house: House) -> None:
    made = house.terminator(None, client_ca=None)
    with pytest.raises(ProbeError):
        house.probe(made.url, ca=Authority("Elsewhere").pem)
    assert made.open == set()


def test_a_server_that_is_not_there_is_not_sealed(house: House) -> None:
    with pytest.raises(ProbeError) as raised:
        house.probe("https://127.0.0.1:9")
    assert raised.value.code == "probe_unreachable"


def test_a_baseline_of_a_sealed_placement_is_measured_with_a_certificate(house: House) -> None:
    made = house.terminator()
    data = asyncio.run(
        measure_baseline(house.target(made.url), 4, CREDENTIAL, ProbeIdentities(house.ca, BEARER))
    )
    assert data.startswith(b"[")
    assert made.bearers() == {"gatelift://n1/w0/aurora"}


def test_a_ca_key_is_a_key_file_like_others(house: House) -> None:
    key, _ = upstream_ca_paths(house.folder, "n1")
    assert key.stat().st_mode & 0o777 == 0o600
    again = load_upstream_ca(key, "n1")
    assert house.probe(house.terminator().url, ProbeIdentities(again, BEARER)) is Sealing.SEALED
    key.chmod(0o640)
    with pytest.raises(KeyFileError) as raised:
        load_upstream_ca(key, "n1")
    assert raised.value.code == "key_file_mode"
    with pytest.raises(KeyFileError):
        create_upstream_ca(house.folder, "n1", now_ms())


@pytest.fixture
def nginx(house: House) -> Iterator[str]:
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    if not Path(program).exists():
        pytest.skip("no nginx here; the terminator above stands for it")
    stub, port = Stub(CREDENTIAL), free_ports()
    found = re.search(r"```nginx\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert found is not None
    server = found.group(1)
    _, ca = upstream_ca_paths(house.folder, "n1")
    for documented, here in (
        ("listen 8443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/nginx/model.pem", str(house.pem)),
        ("/etc/nginx/model.key", str(house.key)),
        ("/etc/nginx/gatelift-n1-upstream-ca.pem", str(ca)),
        ("http://127.0.0.1:8000", f"http://127.0.0.1:{stub.port}"),
    ):
        assert documented in server, f"the guide no longer says {documented}"
        server = server.replace(documented, here)
    config = house.folder / "nginx.conf"
    config.write_text(
        f"daemon off; pid {house.folder}/nginx.pid; error_log stderr warn;\n"
        "events {}\n"
        f"http {{ access_log off; client_body_temp_path {house.folder}/body;\n"
        f"proxy_temp_path {house.folder}/proxy; fastcgi_temp_path {house.folder}/f;\n"
        f"uwsgi_temp_path {house.folder}/u; scgi_temp_path {house.folder}/s;\n{server}}}\n"
    )
    process = subprocess.Popen([program, "-p", str(house.folder), "-c", str(config)])
    until_s = time.monotonic() + 5
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < until_s
            time.sleep(0.05)
    yield f"https://127.0.0.1:{port}"
    process.terminate()
    process.wait(10)
    stub.close()


def test_nginx_as_the_guide_sets_it_up_is_sealed(house: House, nginx: str) -> None:
    assert house.probe(nginx) is Sealing.SEALED
