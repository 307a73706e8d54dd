"""Judging from outside: processes, bytes, kills and files. Nothing here imports the package.

The checks of tickets and receipts are written from the formats (docs/reference/dossier.md, C2SP
tlog-proof, RFC 6962) with the standard library and `cryptography` alone.
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

PYTHON = sys.executable
HERE = Path(__file__).parent
PLANS = HERE / "plans"


def say(text: str) -> None:
    """Tell a measured figure: `pytest -s` shows it, and so does a failure."""
    sys.stdout.write(f"\n{text}\n")


def free_ports() -> int:
    """Return P such that P, P+1 and P+2 are free now."""
    for _ in range(50):
        with socket.socket() as first:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
        if port > 65000:
            continue
        held = [socket.socket() for _ in range(3)]
        try:
            for number, sock in enumerate(held, start=port):
                sock.bind(("127.0.0.1", number))
        except OSError:
            continue
        finally:
            for sock in held:
                sock.close()
        return port
    raise RuntimeError("no three free ports in a row")


def gatelift(*words: object, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run one command."""
    return subprocess.run(
        [PYTHON, "-m", "gatelift", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


class Said:
    """What a command said: its exit code, its JSON and its words."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code = done.returncode
        self.text = done.stdout + done.stderr
        try:
            self.value: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            self.value = {}
        self.error: dict[str, Any] = self.value.get("error") or {}

    def must(self) -> dict[str, Any]:
        """Return what it said; a refusal fails the test with its words."""
        assert self.code == 0, self.text
        return self.value

    def reasons(self) -> dict[str, dict[str, Any]]:
        """Return the reasons of a refusal by code."""
        return {each["code"]: each for each in self.error.get("detail") or ()}


class Deployment:
    """`gatelift up` in a folder, as a person would start it."""

    def __init__(
        self,
        folder: Path,
        *,
        upstream: str,
        upstream_key: str,
        plan: Path | None = None,
        workers: int = 1,
        model: str = "mock",
        bootstrap: bool = True,
        more: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self._environment = {**os.environ, **(environment or {})}
        self.port = free_ports()
        self.workers = workers
        key = folder.parent / f"{folder.name}-upstream.key"
        key.touch(mode=0o600)
        key.write_text(upstream_key + "\n")
        words: list[str] = ["up", "--dir", str(folder), "--upstream", upstream, "--model", model]
        words += ["--upstream-key-file", str(key), "--port", str(self.port)]
        words += ["--workers", str(workers), "--json"]
        if plan is not None:
            words += ["--plan", str(plan)]
        if not bootstrap:
            words += ["--no-bootstrap"]
        words += more
        self._words = words
        self.start()
        if bootstrap:
            self.wait_serving()

    def start(self) -> None:
        path = self.folder.parent / f"{self.folder.name}-up.log"
        self.log = path.open("ab")
        self.process = subprocess.Popen(
            [PYTHON, "-m", "gatelift", *self._words],
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            start_new_session=True,
            env=self._environment,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.stop()
            log = (self.folder.parent / f"{self.folder.name}-up.log").read_text()
            raise AssertionError(f"gatelift up did not become ready: {log[-2000:]}")
        self.said: dict[str, Any] = json.loads(line)
        if "base_url" not in self.said:
            self.stop()
            raise AssertionError(f"gatelift up was refused: {line}")
        if self.said.get("api_key"):
            self.api_key = self.said["api_key"]
        self.base_url: str = self.said["base_url"]
        self.admin_url: str = self.said["admin_url"]
        self.model: str = self.said["model"]

    def chat(
        self,
        text: str = "hello",
        *,
        key: str | None = None,
        base_url: str | None = None,
        **fields: Any,
    ) -> httpx.Response:
        body = {"model": self.model, "messages": [{"role": "user", "content": text}], **fields}
        return httpx.post(
            f"{base_url or self.base_url}/chat/completions",
            json=body,
            headers={"authorization": f"Bearer {key or self.api_key}"},
            timeout=30,
        )

    def processes(self, name: str) -> list[int]:
        """Return the pids of this deployment's processes of a kind, oldest first."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                words = (entry / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if "gatelift" in words and name in words and str(self.folder) in words:
                found.append(int(entry.name))
        return sorted(found)

    def kill(self, name: str) -> int:
        """Kill -9 the first process of a kind, once there is one; return its pid."""
        pid: int = wait_for(lambda: self.processes(name), seconds=20)[0]
        os.kill(pid, signal.SIGKILL)
        return pid

    def root(self) -> dict[str, Any]:
        """Return the payload of the root, unverified."""
        envelope = json.loads((self.folder / "root.json").read_bytes())
        found: dict[str, Any] = json.loads(base64.b64decode(envelope["payload"]))
        return found

    def node_key(self) -> bytes:
        return base64.b64decode(self.root()["nodes"][0]["batch_key"])

    def requests_key(self) -> bytes:
        return base64.b64decode(self.root()["nodes"][0]["requests_key"])

    def key(self, name: str) -> Path:
        return self.folder / "keys" / f"{name}.key"

    def cli(self, *words: object, who: tuple[str, ...] = ()) -> Said:
        """Run a person's command against this deployment, signing with the keys of `who`."""
        more: list[object] = [
            "--admin",
            self.admin_url,
            "--token-file",
            str(self.folder / "keys/submitter.token"),
        ]
        for name in who:
            more += ["--key", str(self.key(name))]
        return Said(gatelift(*words, *more, "--json"))

    def anchor_heads(self) -> None:
        """Have control log the newest heads of the requests logs; it does so each minute by itself."""
        text = (self.folder / "keys" / "submitter.token").read_text().strip()
        headers = {"authorization": f"Bearer {text}"}
        httpx.post(
            f"{self.admin_url}/admin/v1/heads", headers=headers, timeout=20
        ).raise_for_status()

    def admin(self, path: str, *, token: str | None = "reader") -> httpx.Response:
        headers = {}
        if token is not None:
            text = (self.folder / "keys" / f"{token}.token").read_text().strip()
            headers["authorization"] = f"Bearer {text}"
        return httpx.get(f"{self.admin_url}/admin/v1{path}", headers=headers, timeout=20)

    def grant(self, principal: str, *, stage: str = "assess", organisation: str = "local") -> str:
        """Admit a principal as admissions would; return its API key once a worker knows it."""
        words = ["grant", "--principal", principal, "--organisation", organisation]
        words += ["--stage", stage, "--proof", "identity"]
        said = self.cli(*words, who=("admissions",)).must()
        api_key: str = said["api_key"]
        self.wait_known(api_key)
        return api_key

    def wait_known(self, api_key: str) -> None:
        """Wait until every worker takes the key: connections are spread over them by chance."""
        seen = 0

        def known() -> bool:
            nonlocal seen
            response = httpx.get(
                f"{self.base_url}/access", headers={"authorization": f"Bearer {api_key}"}
            )
            seen = seen + 1 if response.status_code == 200 else 0
            return seen >= 4 * self.workers

        wait_for(known, every=0.01)

    def wait_serving(self, api_key: str | None = None) -> None:
        """Wait until every worker would serve, as `/access` says: nothing is spent by asking."""
        header = {"authorization": f"Bearer {api_key or self.api_key}"}
        seen = 0

        def serves() -> bool:
            nonlocal seen
            try:
                response = httpx.get(f"{self.base_url}/access", headers=header)
            except httpx.TransportError:
                seen = 0
                return False
            may = response.status_code == 200 and response.json()["may"]
            seen = seen + 1 if may else 0
            return seen >= 4 * self.workers

        wait_for(serves, seconds=20, every=0.01)

    def wait_control(self) -> None:
        """Wait until control answers and the node is connected."""

        def well() -> bool:
            try:
                found = httpx.get(f"{self.admin_url}/healthz").json()
            except httpx.TransportError:
                return False
            return bool(found["healthy"] and found["node_connected"])

        wait_for(well, seconds=30)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.log.close()


class OrderList:
    """An overseer's endpoint: any web server that offers a text. Counts who asked for it."""

    def __init__(self) -> None:
        self.text = b""
        self.asked = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.asked += 1
                self.send_response(200 if self.path == "/orders.txt" else 404)
                self.send_header("content-length", str(len(outer.text)))
                self.end_headers()
                self.wfile.write(outer.text)

            def log_message(self, *_: object) -> None:
                return

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/orders.txt"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def publish(self, envelope: bytes) -> None:
        self.text += envelope + b"\n"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Stream(threading.Thread):
    """Reads one streamed answer to its end, and remembers when each piece came."""

    def __init__(
        self,
        deployment: Deployment,
        text: str = "a long one",
        *,
        key: str | None = None,
        **fields: Any,
    ) -> None:
        super().__init__(daemon=True)
        self._url = f"{deployment.base_url}/chat/completions"
        self._header = {"authorization": f"Bearer {key or deployment.api_key}"}
        message = {"role": "user", "content": text}
        self._body = {"model": deployment.model, "messages": [message], "stream": True, **fields}
        self.status = 0
        self.text = b""
        self.last_s = 0.0
        self.broken = False
        self.headers: httpx.Headers = httpx.Headers()
        self.start()

    def run(self) -> None:
        try:
            with httpx.stream(
                "POST", self._url, json=self._body, headers=self._header, timeout=60
            ) as response:
                self.status, self.headers = response.status_code, response.headers
                for piece in response.iter_raw():
                    self.last_s = time.monotonic()
                    self.text += piece
        except httpx.TransportError:
            self.broken = True


def leaf_hash(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def climb(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """Return the root that an inclusion proof leads to (RFC 9162, 2.1.3.2)."""
    node, last, steps = index, size - 1, list(path)
    found = leaf
    for step in steps:
        assert last > 0, "the proof is too long"
        if node & 1 or node == last:
            found = hashlib.sha256(b"\x01" + step + found).digest()
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            found = hashlib.sha256(b"\x01" + found + step).digest()
        node >>= 1
        last >>= 1
    assert last == 0, "the proof is too short"
    return found


def holds(public: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def open_ticket(text: str, node_key: bytes) -> tuple[bytes, dict[str, Any]]:
    """Return the batch entry's bytes and the record of a ticket that the node signed."""
    ticket = json.loads(base64.b64decode(text, validate=True))
    entry = ticket["entry"].encode()
    signature = base64.b64decode(ticket["signature"])
    assert holds(node_key, signature, b"gatelift/batch/v1\n" + entry), "not signed by the node"
    batch = json.loads(entry)
    record = ticket["record"].encode()
    salt = base64.b64decode(ticket["salt"])
    leaf = hashlib.sha256(b"\x00gatelift/record/v1\n" + salt + record).digest()
    path = [base64.b64decode(step) for step in ticket["path"]]
    root = climb(leaf, ticket["index"], batch["n"], path)
    assert batch["root"] == "sha256:" + root.hex(), "the record is not in the batch"
    found = json.loads(record)
    assert found["seq"] == batch["seq"] + ticket["index"], "the record is at another place"
    return entry, found


def check_receipt(proof: str, entry: bytes, requests_key: bytes) -> None:
    """Check a tlog-proof of a batch entry against the node's key for its requests logs."""
    head, _, note = proof.partition("\n\n")
    lines = head.split("\n")
    assert lines[0] == "c2sp.org/tlog-proof@v1"
    index = int(lines[1].removeprefix("index "))
    path = [base64.b64decode(line) for line in lines[2:]]
    text, _, signatures = note.partition("\n\n")
    origin, size, root = text.split("\n")[:3]
    message = (text + "\n").encode()
    keyid = hashlib.sha256(origin.encode() + b"\n\x01" + requests_key).digest()[:4]
    signed = False
    for line in signatures.strip().split("\n"):
        _, name, blob = line.split(" ")
        raw = base64.b64decode(blob)
        if name == origin and raw[:4] == keyid:
            signed = holds(requests_key, raw[4:], message)
    assert signed, "the checkpoint is not signed by the node's requests key"
    assert climb(leaf_hash(entry), index, int(size), path) == base64.b64decode(root)


def wait_for(check: Any, *, seconds: float = 10, every: float = 0.05) -> Any:
    """Return the first true value of `check`; fail after `seconds`."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = check()
        if found:
            return found
        time.sleep(every)
    raise AssertionError(f"did not happen within {seconds} s")
