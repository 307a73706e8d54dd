"""What an adversary does with stolen keys and a socket, made by hand: DSSE, statements, frames.

Written from the formats alone (DSSE v1, in-toto Statement v1, a u32 length before each msgpack
frame). Nothing here imports the package.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import signal
import socket
import sqlite3
import struct
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.promises.outside import Deployment

STATEMENT = "application/vnd.in-toto+json"
BUNDLE = "application/vnd.gatelift.bundle+json"
ROSTER = "application/vnd.gatelift.roster+json"
STATUS = "application/vnd.gatelift.status+json"
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def new_id(kind: str) -> str:
    return f"{kind}_0" + "".join(secrets.choice(_ALPHABET) for _ in range(25))


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def load_key(path: Path) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(base64.b64decode(path.read_text().strip()))


def seal(payload: bytes, kind: str, *keys: Ed25519PrivateKey) -> bytes:
    """Return a DSSE envelope."""
    message = b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(payload), payload)
    signatures = [
        {
            "keyid": digest_of(key.public_key().public_bytes_raw()),
            "sig": base64.b64encode(key.sign(message)).decode(),
        }
        for key in keys
    ]
    body = {"payload": base64.b64encode(payload).decode(), "payloadType": kind}
    return json.dumps({**body, "signatures": signatures}).encode()


def opened(envelope: bytes) -> Any:
    """Return the payload of an envelope, unverified."""
    return json.loads(base64.b64decode(json.loads(envelope)["payload"]))


def statement(
    kind: str, predicate: dict[str, Any], subject: str, *keys: Ed25519PrivateKey
) -> bytes:
    """Return the envelope of an in-toto statement about the file with digest `subject`."""
    about = {"name": "candidate", "digest": {"sha256": subject.removeprefix("sha256:")}}
    value = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [about],
        "predicateType": f"urn:gatelift:{kind}:v1",
        "predicate": predicate,
    }
    return seal(json.dumps(value).encode(), STATEMENT, *keys)


class Hands:
    """Everything one can do to a deployment with files and keys taken from its folder."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.fingerprint = digest_of((deployment.folder / "candidate.json").read_bytes())
        self.plan = digest_of((deployment.folder / "plan.yaml").read_bytes())
        self.release = json.loads((deployment.folder / "deployment.json").read_bytes())["release"]

    def key(self, name: str) -> Ed25519PrivateKey:
        return load_key(self.deployment.key(name))

    def keep(self, data: bytes) -> str:
        """Put bytes among the content-addressed files, as whoever holds the host could."""
        digest = digest_of(data)
        path = self.deployment.folder / "files/sha256" / digest.removeprefix("sha256:")
        path.write_bytes(data)
        return digest

    def file(self, digest: str) -> bytes:
        name = digest.removeprefix("sha256:")
        return (self.deployment.folder / "files/sha256" / name).read_bytes()

    def order(self, by: str, kind: str, name: str, **fields: Any) -> bytes:
        """Return an order that allows its target nothing, signed by one key."""
        value = {
            "id": new_id("order"),
            "release": self.release,
            "target": {"kind": kind, "name": name},
            "ceiling": None,
            "block_rules": [],
            "reasons": ["a promise test"],
            "at": now_ms(),
            "until": None,
            **fields,
        }
        return statement("order", value, self.fingerprint, self.key(by))

    def make_grant(
        self, principal: str, *by: str, stage: str = "assess", organisation: str = "local"
    ) -> tuple[str, bytes]:
        """Return an API key and the envelope of a grant for it, signed by the named keys."""
        public_id = secrets.token_hex(8)
        api_key = f"gl_{public_id}_{secrets.token_hex(32)}"
        at = now_ms()
        value = {
            "id": new_id("grant"),
            "release": self.release,
            "stage": stage,
            "principal": principal,
            "organisation": organisation,
            "project": "default",
            "tier": {"assess": "evaluators", "internal": "internal"}[stage],
            "endpoints": ["chat", "models"],
            "proofs": ["identity"],
            "vetting": None,
            "keys": [{"public_id": public_id, "digest": digest_of(api_key.encode())}],
            "not_before": at - 1000,
            "not_after": at + 3_600_000,
        }
        envelope = statement("grant", value, self.fingerprint, *(self.key(name) for name in by))
        return api_key, envelope

    def last_certificate(self) -> tuple[dict[str, Any], bytes]:
        """Return the newest certificate that is served from, and its envelope."""
        bundle = opened(self.file(self.served("bundle")))
        envelope = self.file(bundle["certificates"][-1]["envelope"])
        return opened(envelope)["predicate"], envelope

    def served(self, what: str) -> str:
        """Return the digest of the bundle or roster that the node serves from."""
        text = (self.deployment.folder / "run" / what).read_text().strip()
        return text if what == "bundle" else str(json.loads(text)["digest"])


def _epoch(deployment: Deployment) -> int:
    path = deployment.folder / "store/control.sqlite"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as store:
        ((value,),) = store.execute("select value from meta where name = 'epoch'")
    return int(value)


def control_socket(deployment: Deployment) -> Path:
    """Return where control and keeper meet (docs/architecture.md, processes)."""
    path = deployment.folder / "run" / "control.sock"
    assert path.exists(), "the deployment's path is too long for a socket in run/"
    return path


class StolenControl:
    """Sits where control sat, with control's key: answers every nonce with a status of its own.

    Start it while the supervisor is frozen and control is dead. `status` is what it says beside
    nonces and number; change it while it runs.
    """

    def __init__(self, hands: Hands) -> None:
        self.hands = hands
        self.answered = 0
        state = hands.deployment.admin("/state").json()
        self.status: dict[str, Any] = {
            "release": hands.release,
            "certificates": [
                each["envelope"]
                for each in opened(hands.file(hands.served("bundle")))["certificates"]
            ],
            "orders": [o["digest"] for o in state["orders"] if o["cleared_index"] is None],
            "bundle": hands.served("bundle"),
            "roster_number": opened(hands.file(hands.served("roster")))["number"],
            "roster": hands.served("roster"),
            "checkpoint": (hands.deployment.folder / "logs/releases/checkpoint").read_text(),
            # Control's own: the next one to lead has a higher one, and is heard again.
            "epoch": _epoch(hands.deployment),
            "signed_at": now_ms(),
            "ttl_ms": 60_000,
        }
        self._key = hands.key("control")
        self._path = control_socket(hands.deployment)
        self._stop = threading.Event()
        self._connection: socket.socket | None = None
        self._number = 1_000_000

    def __enter__(self) -> Self:
        deployment = self.hands.deployment
        run = deployment.folder / "run"
        self._before = {name: (run / name).read_bytes() for name in ("bundle", "roster")}
        freeze(deployment)
        deployment.kill("control")
        # Only now: until its last moment the true control may have published a larger head.
        checkpoint = deployment.folder / "logs" / "releases" / "checkpoint"
        self.status["checkpoint"] = checkpoint.read_text()
        self._path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen()
        self._listener.settimeout(0.2)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(5)
        self._listener.close()
        self._path.unlink(missing_ok=True)
        deployment = self.hands.deployment
        run = deployment.folder / "run"
        if any((run / name).read_bytes() != data for name, data in self._before.items()):
            # Numbers never go back: what was adopted keeps the true control out until the node
            # begins anew. That denies service and widens nothing.
            for pid in deployment.processes("keeper") + deployment.processes("worker"):
                os.kill(pid, signal.SIGKILL)
            for name, data in self._before.items():
                (run / name).write_bytes(data)
        thaw(deployment)
        deployment.wait_control()

    def send(self, frame: dict[str, Any]) -> None:
        """Send one frame to the keeper."""
        assert self._connection is not None, "the keeper has not come"
        data = msgspec.msgpack.encode(frame)
        self._connection.sendall(struct.pack(">I", len(data)) + data)

    def sign_roster(self, *grants: bytes) -> None:
        """Serve from a roster of the present grants and more, signed with control's key."""
        held = opened(self.hands.file(self.hands.served("roster")))
        held["number"] += 1
        held["grants"] += [grant.decode() for grant in grants]
        digest = self.hands.keep(seal(json.dumps(held).encode(), ROSTER, self._key))
        self.send({"type": "roster", "number": held["number"], "digest": digest})
        self.status |= {"roster": digest, "roster_number": held["number"]}

    def sign_bundle(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Serve from the present bundle, changed, signed with control's key."""
        held = opened(self.hands.file(self.hands.served("bundle")))
        held["number"] += 1
        change(held)
        digest = self.hands.keep(seal(json.dumps(held).encode(), BUNDLE, self._key))
        self.send({"type": "bundle", "digest": digest})
        self.status["bundle"] = digest
        self.status["certificates"] = [each["envelope"] for each in held["certificates"]]

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            connection.settimeout(0.2)
            self._connection = connection
            self._serve(connection)
            connection.close()

    def _serve(self, connection: socket.socket) -> None:
        buffer = b""
        while not self._stop.is_set():
            try:
                data = connection.recv(1 << 16)
            except TimeoutError:
                continue
            except OSError:
                return
            if not data:
                return
            buffer += data
            while len(buffer) >= 4 and len(buffer) >= 4 + struct.unpack(">I", buffer[:4])[0]:
                size = struct.unpack(">I", buffer[:4])[0]
                frame = msgspec.msgpack.decode(buffer[4 : 4 + size])
                buffer = buffer[4 + size :]
                if frame["type"] == "ask":
                    self._answer(frame["nonces"])

    def _answer(self, nonces: list[str]) -> None:
        self._number += 1
        value = {**self.status, "nonces": nonces, "number": self._number}
        self.send(
            {"type": "status", "envelope": seal(json.dumps(value).encode(), STATUS, self._key)}
        )
        self.answered += 1


def freeze(deployment: Deployment) -> None:
    """Stop the supervisor from restarting anything."""
    os.kill(deployment.process.pid, signal.SIGSTOP)


def thaw(deployment: Deployment) -> None:
    """Let the supervisor go on."""
    os.kill(deployment.process.pid, signal.SIGCONT)
