"""One worker process with a fake keeper: any plan, any endpoints, one key."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from gatelift.encoding import encode_base64
from gatelift.journal import RunFollower, list_runs
from gatelift.messages import EntryKind, Finish, Placement, Start
from gatelift.terms import Endpoint, Tier
from gatelift.trust import Grant, GrantKey, Order, Target, TargetKind, key_digest
from gatelift.wire.sockets import socket_path
from tests.support.bundles import Shelf
from tests.support.fake_keeper import FakeKeeper
from tests.support.world import HOUR, PLAN_FILE, World, seed

API_KEY = "gl_abc123_secretsecretsecret"
MODEL = "smollm2-135m"
_CODE = (
    "import sys;from pathlib import Path;from gatelift.gateway import WorkerSettings,run;"
    "run(WorkerSettings(directory=Path(sys.argv[1]),node='n1',worker='w1',"
    "host='127.0.0.1',port=int(sys.argv[2])))"
)


def open_plan(scope: str, *, prompt: bool = True, refusal: str = "error") -> bytes:
    """Return a plan whose stage `internal` has this scope, withholds leaks, and says so in a form."""
    text = PLAN_FILE.read_text()
    text = re.sub(
        r"(name: internal\n(?:.*\n)*?    scope: )\{.*\}(\n(?:.*\n)*?    safeguards: \{leak: )cut(.*\n)",
        rf"\1{{{scope}}}\2block\3    refusal: {refusal}\n",
        text,
        count=1,
    )
    if not prompt:
        text = re.sub(r"  system_prompt: .*\n", "  system_prompt: null\n", text)
    return text.encode()


class GatewayHouse:
    """The one grant names `endpoints`, or all that its stage opens. `more` goes into the environment."""

    def __init__(
        self,
        directory: Path,
        upstream: Any,
        plan: bytes,
        endpoints: tuple[Endpoint, ...] | None = None,
        more: dict[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self._environment = os.environ | (more or {})
        self.world = world = World(now=time.time_ns() // 10**6, plan_bytes=plan)
        shelf = Shelf(world)
        shelf.log(EntryKind.ROOT, world.root_envelope)
        shelf.log(EntryKind.CERTIFICATE, world.signed_certificate("internal"))
        grant = Grant(
            id="grant_1",
            release=world.plan.name,
            stage="internal",
            principal="p1",
            organisation="o1",
            project="x",
            tier=Tier.INTERNAL,
            endpoints=endpoints or world.plan.stage("internal").envelope.scope.endpoints or (),
            proofs=("identity",),
            vetting=None,
            keys=(GrantKey(public_id="abc123", digest=key_digest(API_KEY)),),
            not_before=world.now - HOUR,
            not_after=world.now + HOUR,
        )
        place = Placement(name="here", base_url=upstream.url, model="up", baseline=None)
        bundle = shelf.bundle((place,))
        roster = shelf.roster(world.sign("grant", grant, "admissions:ada"))
        for digest, data in shelf.files.items():
            path = directory / "files" / "sha256" / digest.removeprefix("sha256:")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        (directory / "root.sha256").write_text(world.root_digest + "\n")
        (directory / "keys").mkdir()
        self._secret("node-n1-batch.key", encode_base64(seed("batch")))
        self._secret("upstream.key", upstream.key)
        certificate = shelf.leaves[1][0]
        self.keeper = FakeKeeper(
            socket_path(directory, "keeper.sock"), world, bundle, roster, (certificate,)
        )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._start()

    def _secret(self, name: str, text: str) -> None:
        path = self.directory / "keys" / name
        path.touch(mode=0o600)
        path.write_text(text + "\n")

    def _start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _CODE, str(self.directory), str(self.port)],
            env=self._environment,
        )
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                if httpx.get(self.url + "/healthz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        self.close()
        raise AssertionError("the worker did not become ready")

    def post(self, path: str, body: Any, **more: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {API_KEY}", "content-type": "application/json"}
        data = {"content": body} if isinstance(body, bytes) else {"json": body}
        return httpx.post(self.url + path, headers=headers, timeout=20, **data, **more)

    def records(self) -> list[Any]:
        folder = self.directory / "journal" / "w1"
        return [
            stored.record
            for run in list_runs(folder)
            for batch in RunFollower(folder, run).poll()
            for stored in batch.records
        ]

    def starts(self) -> list[Start]:
        return [record for record in self.records() if isinstance(record, Start)]

    def finishes(self) -> list[Finish]:
        return [record for record in self.records() if isinstance(record, Finish)]

    def stop(self) -> None:
        """Order the release to stop, and wait until it does."""
        order = Order(
            id="order_1",
            release=self.world.plan.name,
            target=Target(kind=TargetKind.RELEASE, name=self.world.plan.name),
            ceiling=None,
            reasons=("test",),
            at=self.world.now,
        )
        self.keeper.order(self.world.sign("order", order, "safety:sam"))
        time.sleep(0.3)

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        finally:
            self.process.kill()
            self.process.wait()
            self.keeper.close()
