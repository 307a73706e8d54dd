"""Promise 1, what binds a candidate: `measured` is said only while a sidecar measures these weights.

Attacked here, with a real process as model server under `gatelift sidecar`: one byte of a weight file
is flipped before the start; a file is swapped, and swapped back, after it was loaded; a measurement is
replayed, another placement's or another key's is shown, by somebody who sits on the sidecar's address.

Seen to fail: with a keeper that passes over the nonce, the replay was served from (red); with a
sidecar that compares no files, the swap went unseen (red); with a worker that passes over what its
node says of the binding, it served on (red).
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.promises.hands import load_key, opened, seal
from tests.promises.outside import Deployment, Said, free_ports, gatelift, say, wait_for
from tests.promises.siege import write_plan

CAPS = {"principal": {"requests": "1M/d"}, "stage": {"output_tokens": "100M/d"}}
KEY = "upstream-key-of-measured-weights"
# A model server as anybody might write one: it reads its weights once, at the start.
SERVER = """
import http.server, json, pathlib, sys
folder, port, key = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
word = (folder / "model.gguf").read_bytes()[:8].hex()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"] or 0))
        known = self.headers["authorization"] == f"Bearer {key}"
        choice = {"index": 0, "message": {"role": "assistant", "content": word}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 3, "completion_tokens": 1}
        body = json.dumps({"choices": [choice], "usage": usage} if known else {}).encode()
        self.send_response(200 if known else 401)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        return
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


class House:
    """A sealed model, its sidecar and server, and a deployment whose first stage asks `measured`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.model = home / "aurora"
        self.model.mkdir()
        (self.model / "model.gguf").write_bytes(os.urandom(300_000))
        (self.model / "config.json").write_bytes(b"{}")
        (home / "server.py").write_text(SERVER)
        self._draw_keys()
        self.manifest = home / "model.sig"
        said = Said(
            gatelift(
                *["candidate", "seal", self.model, "--key", home / "seal.pem"],
                *["-o", self.manifest, "--json"],
            )
        ).must()
        self.server_port, self.sidecar_port = free_ports(), free_ports()
        plan = write_plan(home / "plan", CAPS)
        text = plan.read_text().replace("weights: null", f"weights: {said['weights']}", 1)
        plan.write_text(text.replace("sealing: open", "sealing: open\n    binding: measured", 1))
        self.upstream = f"http://127.0.0.1:{self.server_port}"
        made = gatelift(
            *["init", home / "d", "--yes", "--plan", plan, "--upstream", self.upstream],
            *["--port", str(free_ports()), "--json"],
        )
        assert made.returncode == 0, made.stdout + made.stderr
        self.candidate = home / "d" / "candidate.json"
        self.sidecar: subprocess.Popen[bytes] | None = None

    def _draw_keys(self) -> None:
        private, public = self.home / "seal.pem", self.home / "seal.pub.pem"
        for words in (
            ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(private)],
            ["ec", "-in", str(private), "-pubout", "-out", str(public)],
        ):
            subprocess.run(["openssl", *words], check=True, capture_output=True)
        private.chmod(0o600)
        self.signer = public
        self.sidecar_key = self.home / "sidecar.key"
        drawn = Said(gatelift("keys", "new", self.sidecar_key, "--json")).must()
        self.sidecar_public: str = drawn["public"]

    def start_sidecar(self) -> subprocess.Popen[bytes]:
        """Start the sidecar, which starts the server; it may refuse."""
        words = ["sidecar", "--model", self.model, "--manifest", self.manifest]
        words += ["--signer", self.signer, "--candidate", self.candidate]
        words += ["--key", self.sidecar_key, "--lives", "3s"]
        words += ["--listen", f"127.0.0.1:{self.sidecar_port}", "--"]
        words += [sys.executable, self.home / "server.py", self.model, self.server_port, KEY]
        self.sidecar = subprocess.Popen(
            [sys.executable, "-m", "gatelift", *map(str, words)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        return self.sidecar

    def stop_sidecar(self) -> None:
        if self.sidecar is not None and self.sidecar.poll() is None:
            self.sidecar.send_signal(signal.SIGTERM)
            self.sidecar.wait(20)
        if self.sidecar is not None and self.sidecar.stderr is not None:
            self.sidecar.stderr.close()

    def answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.sidecar_port}/").status_code == 200
        except httpx.TransportError:
            return False

    def measure(self, nonce: str) -> httpx.Response:
        url = f"http://127.0.0.1:{self.sidecar_port}/measure"
        return httpx.post(url, json={"nonce": nonce}, timeout=10)

    def serves(self) -> bool:
        try:
            httpx.post(self.upstream, json={}, timeout=5)
        except httpx.TransportError:
            return False
        return True


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    found = House(tmp_path_factory.mktemp("p01-weights"))
    yield found
    found.stop_sidecar()


@pytest.fixture(scope="module")
def deployment(house: House) -> Iterator[Deployment]:
    house.start_sidecar()
    wait_for(house.answers, seconds=20)
    wait_for(house.serves, seconds=20)
    found = Deployment(house.home / "d", upstream=house.upstream, upstream_key=KEY, bootstrap=False)
    found.cli("plan", "adopt", found.folder / "plan.yaml", who=("operator",)).must()
    yield found
    found.stop()


def enrol(deployment: Deployment, house: House, *who: str) -> Said:
    return deployment.cli(
        *["placement", "enrol", "--name", "p1", "--base-url", house.upstream, "--model", "mock"],
        *["--upstream-key-file", deployment.key("upstream")],
        *["--sidecar-url", f"http://127.0.0.1:{house.sidecar_port}"],
        *["--sidecar-key", house.sidecar_public],
        *["--manifest", house.manifest, "--signer", house.signer],
        who=who,
    )


def probe(deployment: Deployment) -> dict[str, Any]:
    probes = deployment.admin("/state").json()["probes"]
    return dict(probes[0]["probe"]) if probes else {}


def told(deployment: Deployment) -> tuple[int, str]:
    answer = deployment.chat("hello", max_tokens=1)
    return answer.status_code, answer.json().get("error", {}).get("code", "")


def test_one_flipped_byte_starts_no_server(house: House) -> None:
    weights = house.model / "model.gguf"
    good = weights.read_bytes()
    weights.write_bytes(good[:1000] + bytes([good[1000] ^ 1]) + good[1001:])
    try:
        process = house.start_sidecar()
        assert process.stderr is not None
        _, words = process.communicate(timeout=20)
        assert process.returncode == 1
        assert b"model.gguf" in words
        assert not house.serves()
        assert not house.answers()
    finally:
        weights.write_bytes(good)


def test_one_person_enrols_no_sidecar(deployment: Deployment, house: House) -> None:
    alone = enrol(deployment, house, "operator")
    assert (alone.code, alone.error["code"]) == (1, "quorum_unmet")
    assert not deployment.admin("/state").json()["placements"]


def test_what_is_measured_is_certified_and_served(deployment: Deployment, house: House) -> None:
    enrol(deployment, house, "operator", "security").must()
    wait_for(lambda: probe(deployment).get("up"), seconds=20)
    assert probe(deployment)["binding"] == "measured"
    said = opened(probe(deployment)["measurement"].encode())["predicate"]
    assert said["placement"] == "p1"
    assert (
        said["fingerprint"] == "sha256:" + hashlib.sha256(house.candidate.read_bytes()).hexdigest()
    )
    deployment.cli("certify", "--stage", "assess", who=("operator", "safety")).must()
    deployment.api_key = deployment.grant("measured")
    deployment.wait_serving()
    assert told(deployment)[0] == 200
    header = {"authorization": f"Bearer {deployment.api_key}"}
    shown = httpx.get(f"{deployment.base_url}/access", headers=header).json()
    assert (shown["levels"]["binding"], shown["binding_seen"]) == ("measured", "measured")


def swapped_for_a_moment(house: House) -> None:
    """Put another file in its place and the first one back: names, sizes and bytes are as before."""
    weights, aside = house.model / "model.gguf", house.home / "aside"
    weights.rename(aside)
    weights.write_bytes(b"x" * aside.stat().st_size)
    aside.replace(weights)


def test_a_file_that_was_swapped_ends_the_measuring_and_the_service(
    deployment: Deployment, house: House
) -> None:
    assert told(deployment)[0] == 200
    swapped_for_a_moment(house)
    wait_for(lambda: told(deployment) == (503, "binding_below"), seconds=15)
    assert {told(deployment) for _ in range(10)} == {(503, "binding_below")}
    answer = house.measure("0" * 32)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not_measured")
    wait_for(lambda: probe(deployment)["binding"] == "claimed")
    stage = deployment.admin("/state").json()["stages"][0]
    assert "claimed" in stage["withheld"]
    refused = deployment.cli("certify", "--stage", "assess", who=("operator", "safety"))
    assert (refused.code, refused.error["code"]) == (1, "binding_below")
    house.stop_sidecar()
    house.start_sidecar()
    wait_for(lambda: told(deployment)[0] == 200, seconds=30)


class Impostor:
    """Whoever sits on the sidecar's address and answers as it likes."""

    def __init__(self, port: int, make: Callable[[str], bytes]) -> None:
        outer = self
        self.asked = 0

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"] or 0))
                outer.asked += 1
                content = make(json.loads(body)["nonce"])
                self.send_response(200)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                return

        http.server.ThreadingHTTPServer.allow_reuse_address = True
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_a_replayed_or_foreign_measurement_is_refused(deployment: Deployment, house: House) -> None:
    assert told(deployment)[0] == 200
    kept = house.measure("ab" * 16).content
    own, foreign = load_key(house.sidecar_key), Ed25519PrivateKey.generate()

    def statement(nonce: str, key: Ed25519PrivateKey, **fields: str) -> bytes:
        value = opened(kept)
        value["predicate"] |= {"nonce": nonce, **fields}
        return seal(json.dumps(value).encode(), "application/vnd.in-toto+json", key)

    ways: dict[str, Callable[[str], bytes]] = {
        "replayed": lambda _: kept,
        "by another key": lambda nonce: statement(nonce, foreign),
        "of another placement": lambda nonce: statement(nonce, own, placement="p2"),
        "of other weights": lambda nonce: statement(nonce, own, weights="sha256:" + "0" * 64),
        "of another candidate": lambda nonce: statement(
            nonce, own, fingerprint="sha256:" + "1" * 64
        ),
        "of another manifest": lambda nonce: statement(nonce, own, manifest="sha256:" + "2" * 64),
    }
    house.stop_sidecar()
    # The server goes on without its sidecar, as one would that somebody else started.
    words = [sys.executable, str(house.home / "server.py"), str(house.model)]
    with subprocess.Popen([*words, str(house.server_port), KEY]) as server:
        try:
            for name, make in ways.items():
                impostor = Impostor(house.sidecar_port, make)
                try:
                    wait_for(lambda i=impostor: i.asked >= 2, seconds=15)
                    wait_for(lambda: told(deployment) == (503, "binding_below"), seconds=15)
                    say(f"{name}: refused, {impostor.asked} answers")
                    assert probe(deployment)["binding"] == "claimed"
                finally:
                    impostor.close()
            honest = Impostor(house.sidecar_port, lambda nonce: statement(nonce, own))
            wait_for(lambda: told(deployment)[0] == 200, seconds=20)
            honest.close()
            wait_for(lambda: told(deployment) == (503, "binding_below"), seconds=20)
        finally:
            server.terminate()


def test_both_verifiers_find_who_measured(deployment: Deployment, tmp_path: Path) -> None:
    dossier = tmp_path / "dossier"
    words = ["dossier", "export", "--dir", deployment.folder, "--out", dossier]
    deployment.cli(*words).must()
    root = "sha256:" + hashlib.sha256((deployment.folder / "root.json").read_bytes()).hexdigest()
    found = Said(gatelift("verify", dossier, "--root", root, "--json", timeout=120))
    assert found.code == 0, found.text
    file = Path(__file__).parents[2] / "verifier" / "gatelift_verify.py"
    alone = [sys.executable, str(file), str(dossier), "--root", root]
    done = subprocess.run(alone, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_nobody_reads_a_key_in_what_the_sidecar_says(house: House) -> None:
    secret = house.sidecar_key.read_text().strip()
    assert base64.b64decode(secret)
    house.start_sidecar()
    wait_for(house.answers, seconds=20)
    seen = house.measure("cd" * 16).text + httpx.get(f"http://127.0.0.1:{house.sidecar_port}/").text
    assert secret not in seen
    house.stop_sidecar()
