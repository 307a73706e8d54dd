"""Keys that are worth nothing alone: bound to a client certificate, or to a key that signs each call."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.integration.test_cli_up import ENVIRONMENT, Stub, Up, free_ports, until
from tests.support.certificates import Authority, Issued
from tests.support.proofs import Holder

BODY = {"model": "stub", "messages": [{"role": "user", "content": "hello"}]}
ROUTES = (("GET", "/v1/models"), ("GET", "/v1/access"), ("GET", "/v1/receipts/" + "0" * 64))


class House:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers, self.clients = Authority(), Authority("Clients")
        self.stub, port = Stub(None), free_ports()
        pem, key = self.servers.issue().write(folder, "listener")
        (folder / "clients.pem").write_bytes(self.clients.pem)
        self.up = Up(
            "--dir", str(folder / "d"), "--port", str(port), "--model", "stub",
            "--upstream", f"http://127.0.0.1:{self.stub.port}",
            "--tls-cert", str(pem), "--tls-key", str(key),
            "--tls-client-ca", str(folder / "clients.pem"),
        )  # fmt: skip
        self.url = f"https://127.0.0.1:{port}"
        self._admin = f"http://127.0.0.1:{port + 1}"

    def close(self) -> None:
        self.up.stop()
        self.stub.close()

    def grant(self, *binding: str, ok: bool = True) -> dict[str, Any]:
        keys = self.folder / "d" / "keys"
        done = subprocess.run(
            [
                sys.executable, "-m", "gatelift", "grant", "--principal", "eve", "--stage", "assess",
                "--organisation", "local", "--key", str(keys / "admissions.key"),
                "--admin", self._admin, "--token-file", str(keys / "submitter.token"), "--json",
                *binding,
            ],
            capture_output=True, text=True, env=ENVIRONMENT, timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode == 0) is ok, (done.stdout, done.stderr)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def http(self, issued: Issued | None = None) -> httpx.Client:
        context = ssl.create_default_context(cadata=self.servers.pem.decode())
        if issued is not None:
            context.load_cert_chain(*issued.write(self.folder, "client"))
        return httpx.Client(base_url=self.url, verify=context, timeout=20)

    def ask(
        self, api_key: str, issued: Issued | None = None, scheme: str = "Bearer", **headers: str
    ) -> tuple[int, str]:
        with self.http(issued) as http:
            answer = http.post(
                "/v1/chat/completions",
                json=BODY,
                headers={"authorization": f"{scheme} {api_key}"} | headers,
            )
        return answer.status_code, answer.json().get("error", {}).get("code", "")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House(tmp_path_factory.mktemp("bound"))
    yield made
    made.close()


def test_a_key_bound_to_a_certificate_works_on_its_tls_alone(house: House) -> None:
    mine, other = house.clients.issue("eve", client=True), house.clients.issue("bob", client=True)
    pem, _ = mine.write(house.folder, "eve")
    made = house.grant("--bind-mtls", str(pem))
    assert made["binding"]["kind"] == "mtls"
    key = made["api_key"]
    until(lambda: house.ask(key, mine) == (200, ""), "the grant is known")
    assert house.ask(key) == (401, "binding_required")
    assert house.ask(key, other) == (401, "binding_failed")
    # No header can stand for a certificate.
    forged = {"x-forwarded-client-cert": f"Hash={made['binding']['thumbprint']}"}
    assert house.ask(key, **forged) == (401, "binding_required")
    assert house.ask(key, dpop=Holder().proof(house.url, key)) == (401, "binding_required")
    with house.http() as http:
        for method, path in ROUTES:
            answer = http.request(method, path, headers={"authorization": f"Bearer {key}"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "binding_required")
    assert house.ask(house.up.said["api_key"]) == (200, "")


@pytest.mark.parametrize("kind", ["ES256", "EdDSA"])
def test_a_key_bound_by_dpop_wants_a_fresh_proof_for_each_request(house: House, kind: str) -> None:
    holder, other = Holder(kind), Holder(kind)
    file = house.folder / f"{kind}.json"
    file.write_text(json.dumps(holder.jwk))
    made = house.grant("--bind-dpop", str(file))
    assert made["binding"] == {"kind": "dpop", "thumbprint": holder.thumbprint()}
    key, url = made["api_key"], f"{house.url}/v1/chat/completions"
    until(lambda: house.ask(key, dpop=holder.proof(url, key)) == (200, ""), "the grant is known")
    assert house.ask(key) == (401, "binding_required")
    assert house.ask(key, dpop=other.proof(url, key)) == (401, "binding_failed")
    assert house.ask(key, dpop=holder.proof(url, "gl_a_b")) == (401, "binding_failed")
    assert house.ask(key, dpop=holder.proof(url + "x", key)) == (401, "binding_failed")
    once = holder.proof(url, key)
    assert house.ask(key, scheme="DPoP", dpop=once) == (200, "")
    assert house.ask(key, dpop=once) == (401, "binding_failed")
    with house.http() as http:
        for method, path in ROUTES:
            answer = http.request(method, path, headers={"authorization": f"Bearer {key}"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "binding_required")
            assert answer.headers["www-authenticate"].startswith("DPoP")
        seen = http.get(
            "/v1/access",
            headers={
                "authorization": f"Bearer {key}",
                "dpop": holder.proof(f"{house.url}/v1/access", key, method="GET"),
            },
        ).json()
        assert seen["may"] is True


def test_the_official_client_sends_a_proof_and_raises_without(house: House) -> None:
    holder = Holder()
    file = house.folder / "sdk.pem"
    form = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    file.write_bytes(holder.key.public_key().public_bytes(*form))
    key = house.grant("--bind-dpop", str(file))["api_key"]
    url = f"{house.url}/v1/chat/completions"
    until(lambda: house.ask(key, dpop=holder.proof(url, key))[0] == 200, "the grant is known")
    with (
        house.http() as http,
        openai.OpenAI(base_url=f"{house.url}/v1", api_key=key, http_client=http) as client,
    ):
        made = client.chat.completions.create(
            model="stub",
            messages=[{"role": "user", "content": "hello"}],
            extra_headers={"DPoP": holder.proof(url, key)},
        )
        assert made.choices[0].message.content == "answer 2cf24dba"
        with pytest.raises(openai.AuthenticationError) as raised:
            client.chat.completions.create(
                model="stub", messages=[{"role": "user", "content": "hello"}]
            )
        assert raised.value.code == "binding_required"


def test_a_grant_is_not_bound_to_what_is_no_public_key(house: House) -> None:
    file = house.folder / "bad"
    for text in (
        json.dumps(Holder().jwk | {"d": "AAAA"}),
        "-----BEGIN PRIVATE KEY-----\n",
        "nonsense",
        json.dumps({"kty": "RSA", "n": "AAAA", "e": "AQAB"}),
    ):
        file.write_text(text)
        assert not house.grant("--bind-dpop", str(file), ok=False)["ok"]
    assert not house.grant("--bind-mtls", str(file), ok=False)["ok"]
    pem, _ = house.clients.issue(client=True).write(house.folder, "both")
    both = house.grant("--bind-mtls", str(pem), "--bind-dpop", str(file), ok=False)
    assert "not both" in both["error"]["message"]
