"""One worker process against a scripted keeper and a model server of the test's."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec

from gatelift.encoding import encode_base64
from gatelift.journal import RunFollower, list_runs
from gatelift.messages import EntryKind, Finish, Placement, Start
from gatelift.terms import Endpoint, Tier
from gatelift.trust import Grant, GrantKey, Order, Target, TargetKind, key_digest
from gatelift.wire.sockets import socket_path
from tests.support.bundles import Shelf
from tests.support.fake_keeper import FakeKeeper
from tests.support.world import HOUR, World, seed

API_KEY = "gl_abc123_secretsecretsecret"
MODEL = "smollm2-135m"
START_S = 20
_CODE = (
    "import sys;from pathlib import Path;from gatelift.gateway import WorkerSettings,run;"
    "run(WorkerSettings(directory=Path(sys.argv[1]),node='n1',worker='w1',"
    "host='127.0.0.1',port=int(sys.argv[2]),listen_within_s=float(sys.argv[3])))"
)


def grant_of(world: World, **changes: Any) -> Grant:
    """Return a grant of one principal to stage `internal`, with the one key `API_KEY`."""
    made = Grant(
        id="grant_1",
        release=world.plan.name,
        stage="internal",
        principal="p1",
        organisation="o1",
        project="x",
        tier=Tier.INTERNAL,
        endpoints=world.plan.stage("internal").envelope.scope.endpoints or (),
        proofs=("identity",),
        vetting=None,
        keys=(GrantKey(public_id="abc123", digest=key_digest(API_KEY)),),
        not_before=world.now - HOUR,
        not_after=world.now + HOUR,
    )
    return msgspec.structs.replace(made, **changes)


class WorkerHouse:
    """A folder with keys, files, a keeper and the worker over it; `upstream` has `url` and `key`.

    `endpoints` are those of the one grant, all that its stage opens if left out; `environment` is
    added to the worker's. What else is certified, granted or kept is a subclass' to say.
    """

    def __init__(
        self,
        directory: Path,
        upstream: Any,
        plan: bytes,
        endpoints: tuple[Endpoint, ...] | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.world = world = World(now=time.time_ns() // 10**6, plan_bytes=plan)
        self._endpoints = endpoints
        self._environment = os.environ | (environment or {})
        shelf = Shelf(world)
        shelf.log(EntryKind.ROOT, world.root_envelope)
        for certificate in self.certificates():
            shelf.log(EntryKind.CERTIFICATE, certificate)
        place = Placement(name="here", base_url=upstream.url, model="upstream-model", baseline=None)
        bundle = shelf.bundle((place,))
        roster = shelf.roster(
            *(world.sign("grant", each, "admissions:ada") for each in self.grants())
        )
        for digest, data in shelf.files.items():
            path = directory / "files" / "sha256" / digest.removeprefix("sha256:")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        (directory / "root.sha256").write_text(world.root_digest + "\n")
        (directory / "keys").mkdir()
        secrets = {"node-n1-batch.key": encode_base64(seed("batch")), "upstream.key": upstream.key}
        for name, text in (secrets | self.secrets()).items():
            path = directory / "keys" / name
            path.touch(mode=0o600)
            path.write_text(text + "\n")
        named = tuple(digest for digest, _, _ in shelf.leaves[1:])
        self.keeper = FakeKeeper(
            socket_path(directory, "keeper.sock"), world, bundle, roster, named
        )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.verify: Any = True
        self.process = self.launch()
        self._wait()

    def certificates(self) -> list[bytes]:
        """Return what is logged and named by status."""
        return [self.world.signed_certificate("internal")]

    def grants(self) -> list[Grant]:
        """Return who is admitted."""
        changes = {} if self._endpoints is None else {"endpoints": self._endpoints}
        return [grant_of(self.world, **changes)]

    def secrets(self) -> dict[str, str]:
        """Return more files of `keys/`."""
        return {}

    def launch(self, *, listen_within_s: float = 0) -> subprocess.Popen[bytes]:
        """Start the worker and do not wait for it."""
        words = [str(self.directory), str(self.port), str(listen_within_s)]
        return subprocess.Popen([sys.executable, "-c", _CODE, *words], env=self._environment)

    def restart(self) -> None:
        """Kill the worker and put another in its place, which knows nothing of it."""
        self.process.kill()
        self.process.wait()
        self.process = self.launch()
        self._wait()

    def _wait(self) -> None:
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            try:
                if httpx.get(self.url + "/healthz", verify=self.verify).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        self.close()
        raise AssertionError("the worker did not become ready")

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

    def stop_order(self, **changes: Any) -> bytes:
        """Return an order that stops the release, or what `changes` make of it."""
        made = Order(
            id="order_1",
            release=self.world.plan.name,
            target=Target(kind=TargetKind.RELEASE, name=self.world.plan.name),
            ceiling=None,
            reasons=("test",),
            at=self.world.now,
        )
        return self.world.sign("order", msgspec.structs.replace(made, **changes), "safety:sam")

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        finally:
            self.process.kill()
            self.process.wait()
            self.keeper.close()
