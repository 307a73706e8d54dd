"""A deployment with a control process (and a witness) in it, and a keeper that tests play."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatelift.encoding import Digest, encode_base64, sha256_digest
from gatelift.messages import (
    Commit,
    EntryKind,
    PlacementEnrolment,
    PlanAdoption,
    Probe,
)
from gatelift.messages.frames import (
    ControlToKeeper,
    KeeperToControl,
    NodeHello,
    ProbeReport,
    StatusFrame,
)
from gatelift.plan import encode_candidate, make_candidate, parse_plan
from gatelift.terms import Sealing
from gatelift.tlog import CosignatureSigner, NoteSigner
from gatelift.trust import (
    ROOT_TYPE,
    STATEMENT_TYPE,
    Certificate,
    Key,
    Node,
    Order,
    Person,
    Role,
    Root,
    Scheme,
    SigningKey,
    Status,
    Subject,
    Target,
    TargetKind,
    Witness,
    encode_statement,
    sign_envelope,
    verify_status,
)
from gatelift.wire.sockets import socket_path

ROLES = ("root", "operator", "safety", "admissions", "stop", "control", "evaluator")
NAME = "example.com/aurora"
WITNESS_NAME = "witness.example/w1"
START_TIMEOUT_S = 30.0
PROMPT = "You answer in one sentence.\n"
CONTROL = """
import sys
from pathlib import Path
from gatelift.control import run
from gatelift.errors import GateliftError
folder, port, witness = sys.argv[1:]
try:
    run(Path(folder), host="127.0.0.1", port=int(port), witness_url=witness or None)
except GateliftError as error:
    print(error.code, flush=True)
    sys.exit(3)
print("returned", flush=True)
"""
WITNESS = """
import sys
from pathlib import Path
from gatelift.witness import serve
folder, name, key, port, vkey = sys.argv[1:]
serve(Path(folder), name=name, signing_key_path=Path(key), log_vkeys=[vkey],
      host="127.0.0.1", port=int(port))
"""
PLAN = """
apiVersion: gatelift/v1
kind: Release
metadata: {name: aurora}
candidate:
  model: small
  dialect: openai
  system_prompt: prompt.txt
  weights: null
  engine: llama.cpp
  sampling: {temperature: 0.7, top_p: 0.95}
trust: {quorum: [operator, safety], notice: 0s, status_ttl: 10s, durability: node}
false_alarm: 0.05
false_assurance: 0.05
session_window: 5s
stretch: 50
units_per_organisation: 20
drift: {probes: 16, tokens: 8, every: 2s, changed: 3}
thresholds: []
metrics:
  leak_rate: {of: session, harmful_when: {safeguard: leak, side: answer}, labels: rules}
stages:
  - name: assess
    audience: {tier: evaluators, max_organisations: 1, requires: []}
    scope: {endpoints: [chat, models], tools: none, agent_steps: 0, context_tokens: 2048, output_tokens: 64, logprobs: false, unlocked: []}
    caps: {principal: {requests: 600/min, parallel: 8}, stage: {output_tokens: 100k/d}}
    safeguards: {leak: cut, misuse: observe}
    retention: {content: none, training: never}
    quorum: [operator, safety]
    assurance: dev
    sealing: open
    certificate: 1h
    gate: {}
    events:
      - {event: {safeguard: leak, side: answer}, count: 3, on_breach: halt, severity: SEV-1}
exposures: []
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def seed_of(name: str) -> bytes:
    return hashlib.sha256(f"control test {name}".encode()).digest()


def wait_for(what: Callable[[], Any], timeout_s: float = START_TIMEOUT_S) -> Any:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


class Deployment:
    """A folder with keys, root and tokens, and the control process over it."""

    def __init__(
        self,
        folder: Path,
        *,
        witnessed: bool = False,
        witnesses: tuple[Witness, ...] = (),
        quorum: int = 1,
        max_age_ms: int = 3_600_000,
    ) -> None:
        self.folder = folder / "deployment"
        self.keys = {role: SigningKey(seed_of(role)) for role in ROLES}
        self.port, self.witness_port = free_port(), free_port()
        self.witnessed = witnessed
        self.witnesses, self.quorum, self.max_age_ms = witnesses, quorum, max_age_ms
        self.process: subprocess.Popen[str] | None = None
        self.witness: subprocess.Popen[str] | None = None
        self.tokens = {
            role: f"glat_{role}_{seed_of(role).hex()}" for role in ("reader", "submitter")
        }
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=20)
        self.log_key = Ed25519PrivateKey.from_private_bytes(seed_of("log"))
        self.log = NoteSigner(f"{NAME}/releases", self.log_key)
        self._write()

    def _write(self) -> None:
        keys = self.folder / "keys"
        keys.mkdir(parents=True)
        for name, seed in (("control", "control"), ("releases-log", "log"), ("witness", "witness")):
            path = keys / f"{name}.key"
            path.write_text(base64.b64encode(seed_of(seed)).decode() + "\n")
            path.chmod(0o600)
        digests = {role: sha256_digest(text.encode()) for role, text in self.tokens.items()}
        (keys / "admin-tokens.json").write_text(json.dumps(digests))
        cosigner = CosignatureSigner(
            WITNESS_NAME, Ed25519PrivateKey.from_private_bytes(seed_of("witness"))
        )
        now = int(time.time() * 1000)
        witness = Witness(
            name=WITNESS_NAME, vkey=cosigner.vkey, organisation="elsewhere", independent=False
        )
        nodes = tuple(
            Node(
                name=name,
                batch_key=SigningKey(seed_of(f"{name} batch")).public_text,
                requests_key=SigningKey(seed_of(f"{name} requests")).public_text,
            )
            for name in ("n1", "n2")
        )
        self.root = Root(
            name=NAME,
            version=1,
            issued_at=now - 1000,
            expires_at=now + 86_400_000,
            people=tuple(
                Person(id=f"p-{role}", organisation="acme", proof="unproven") for role in ROLES
            ),
            keys={
                key.id: Key(scheme=Scheme.ED25519, public=key.public_text, person=f"p-{role}")
                for role, key in self.keys.items()
            },
            roles={role: Role(keys=(key.id,)) for role, key in self.keys.items()},
            releases_vkey=self.log.vkey,
            nodes=nodes,
            witnesses=((witness,) if self.witnessed else ()) + self.witnesses,
            witness_quorum=self.quorum if self.witnessed or self.witnesses else 0,
            witness_max_age_ms=self.max_age_ms,
        )
        envelope = sign_envelope(msgspec.json.encode(self.root), ROOT_TYPE, [self.keys["root"]])
        (self.folder / "root.json").write_bytes(envelope)
        self.root_digest = sha256_digest(envelope)
        (self.folder / "root.sha256").write_text(self.root_digest + "\n")

    def spawn(self, port: int | None = None) -> subprocess.Popen[str]:
        url = f"http://127.0.0.1:{self.witness_port}" if self.witnessed else ""
        arguments = [str(self.folder), str(port or self.port), url]
        return subprocess.Popen(
            [sys.executable, "-c", CONTROL, *arguments], stdout=subprocess.PIPE, text=True
        )

    def start(self) -> None:
        self.process = self.spawn()
        wait_for(self.is_up)

    def is_up(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, "control ended"
        with contextlib.suppress(httpx.HTTPError):
            return self.client.get("/healthz").status_code == 200
        return False

    def start_witness(self) -> None:
        arguments = [
            str(self.folder / "witness"),
            WITNESS_NAME,
            str(self.folder / "keys" / "witness.key"),
            str(self.witness_port),
            self.log.vkey,
        ]
        self.witness = subprocess.Popen([sys.executable, "-c", WITNESS, *arguments])

        def listens() -> bool:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.witness_port), timeout=1).close()
                return True
            return False

        wait_for(listens)

    def end(self, how: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        code = self.process.wait(20)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None
        return code

    def call(
        self, method: str, path: str, role: str | None = "submitter", **more: Any
    ) -> httpx.Response:
        headers = {} if role is None else {"authorization": f"Bearer {self.tokens[role]}"}
        return self.client.request(method, f"/admin/v1/{path}", headers=headers, **more)

    def state(self) -> Any:
        answer = self.call("GET", "state", "reader")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def sign(
        self, kind: EntryKind, predicate: msgspec.Struct, roles: tuple[str, ...], about: str = ""
    ) -> str:
        digest = Digest(about) if about else self.root_digest
        payload = encode_statement(kind.value, (Subject(name="it", digest=digest),), predicate)
        return sign_envelope(payload, STATEMENT_TYPE, [self.keys[r] for r in roles]).decode()

    def submit(self, kind: EntryKind, envelope: str, **more: Any) -> httpx.Response:
        body = {"kind": kind.value, "envelope": envelope, **more}
        return self.call("POST", "entries", json=body)

    def adopt(self, text: str = PLAN) -> None:
        plan = text.encode()
        candidate = encode_candidate(make_candidate(parse_plan(plan), PROMPT))
        self.fingerprint = sha256_digest(candidate)
        adoption = PlanAdoption(
            release="aurora", plan=sha256_digest(plan), candidate=self.fingerprint
        )
        self.adoption = self.sign(EntryKind.PLAN, adoption, ("operator",))
        files = [encode_base64(plan), encode_base64(candidate)]
        answer = self.submit(EntryKind.PLAN, self.adoption, attachments=files)
        assert answer.status_code == 201, answer.text
        placement = PlacementEnrolment(
            name="here",
            base_url="http://127.0.0.1:1",
            model="small",
            fingerprint=self.fingerprint,
            baseline=None,
        )
        answer = self.submit(
            EntryKind.PLACEMENT, self.sign(EntryKind.PLACEMENT, placement, ("operator",))
        )
        assert answer.status_code == 201, answer.text

    def certify(self) -> httpx.Response:
        wait_for(lambda: self.state()["checkpoint"])
        draft = self.call("GET", "draft/certificate", "reader", params={"stage": "assess"})
        assert draft.status_code == 200, draft.text
        certificate = msgspec.convert(draft.json()["certificate"], Certificate)
        envelope = self.sign(
            EntryKind.CERTIFICATE, certificate, ("operator", "safety"), self.fingerprint
        )
        return self.submit(EntryKind.CERTIFICATE, envelope, cosigned=True)

    def order(self, name: str, role: str = "stop") -> str:
        order = Order(
            id=name,
            release="aurora",
            target=Target(kind=TargetKind.RELEASE, name="aurora"),
            ceiling=None,
            reasons=("a test",),
            at=int(time.time() * 1000),
        )
        return self.sign(EntryKind.ORDER, order, (role,))

    def commit(self, name: str) -> str:
        commit = Commit(
            id=name,
            fingerprint=self.fingerprint,
            assessment="a",
            metric="m",
            comparator="below",
            limit="0.1",
            margin="0.02",
            confidence="0.95",
            attempts=10,  # type: ignore[arg-type]
            data_set=self.root_digest,
            deadline=int(time.time() * 1000) + 3_600_000,
        )
        return self.sign(EntryKind.COMMIT, commit, ("evaluator",), self.fingerprint)

    def submit_commit(self, name: str) -> httpx.Response | None:
        """Submit a commit; null if control went away instead of answering."""
        try:
            return self.submit(EntryKind.COMMIT, self.commit(name))
        except httpx.HTTPError:
            return None


class FakeKeeper:
    """The other end of `control.sock`: says hello, collects frames with the time they came."""

    def __init__(
        self, deployment: Deployment, node: str = "n1", *, replicated: bool = False
    ) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(socket_path(deployment.folder, "control.sock")))
        self.frames: list[tuple[float, ControlToKeeper]] = []
        self.closed = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self.send(NodeHello(node=node, replicated=replicated))

    def send(self, frame: KeeperToControl) -> None:
        data = msgspec.msgpack.encode(frame)
        self._socket.sendall(struct.pack(">I", len(data)) + data)

    def of(self, kind: type[Any]) -> list[Any]:
        return [frame for _, frame in list(self.frames) if isinstance(frame, kind)]

    def certified_status(self, root: Root) -> Status | None:
        """Return a status that came and names a certificate, null while there is none."""
        found = (verify_status(frame.envelope, root) for frame in self.of(StatusFrame))
        return next((status for status in found if status.certificates), None)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._socket.close()

    def _read(self) -> None:
        decoder = msgspec.msgpack.Decoder(ControlToKeeper)
        with contextlib.suppress(OSError), self._socket.makefile("rb") as stream:
            while head := stream.read(4):
                body = stream.read(struct.unpack(">I", head)[0])
                self.frames.append((time.monotonic(), decoder.decode(body)))
        self.closed.set()


def probe(up: bool = True) -> ProbeReport:
    return ProbeReport(
        probe=Probe(
            node="n1", placement="here", sealing=Sealing.OPEN, changed=0, of=16, up=up, reason=""
        )
    )


@contextlib.contextmanager
def running(
    folder: Path,
    *,
    witnessed: bool = False,
    adopt: bool = True,
    witnesses: tuple[Witness, ...] = (),
    quorum: int = 1,
    max_age_ms: int = 3_600_000,
) -> Iterator[Deployment]:
    deployment = Deployment(
        folder, witnessed=witnessed, witnesses=witnesses, quorum=quorum, max_age_ms=max_age_ms
    )
    try:
        if witnessed:
            deployment.start_witness()
        deployment.start()
        if adopt:
            deployment.adopt()
        yield deployment
    finally:
        deployment.client.close()
        if deployment.process is not None:
            deployment.end(signal.SIGKILL)
        if deployment.witness is not None:
            deployment.witness.kill()
            deployment.witness.wait(10)


@contextlib.contextmanager
def keeper_of(
    deployment: Deployment, node: str = "n1", *, replicated: bool = False
) -> Iterator[FakeKeeper]:
    keeper = FakeKeeper(deployment, node, replicated=replicated)
    try:
        yield keeper
    finally:
        keeper.close()
