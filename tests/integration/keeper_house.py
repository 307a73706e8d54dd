"""A deployment's folder with a keeper process in it, a scripted control, and frame peers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gatelift.encoding import Digest, encode_base64, sha256_digest
from gatelift.journal import RunFollower, list_runs
from gatelift.ledger import RequestsLog, TileLog
from gatelift.messages import EntryKind, Placement, Start
from gatelift.messages.frames import (
    BundleFrame,
    Hello,
    KeeperToControl,
    KeeperToWorker,
    NodeHello,
    RosterFrame,
    StatusFrame,
)
from gatelift.tlog import KeyKind, VerifierKey, verify_checkpoint
from gatelift.trust import Order, Status, Target, TargetKind, sign_status
from gatelift.wire.frames import FrameCodec, FrameConnection
from gatelift.wire.sockets import socket_path
from tests.support.bundles import Shelf
from tests.support.world import PLAN_FILE, World, key, seed

PLAN = PLAN_FILE.read_text().replace("every: 2s", "every: 500ms").encode()


STARTED: list[subprocess.Popen[bytes]] = []


def end_all() -> None:
    """Kill what a failed test has left running."""
    while STARTED:
        process = STARTED.pop()
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


class Peer:
    """One end of a frame connection that remembers what came."""

    def __init__(self) -> None:
        self.frames: list[Any] = []
        self.connections: set[Any] = set()
        self._news = asyncio.Event()

    def make(self, union: Any) -> FrameConnection[Any]:
        return FrameConnection(
            FrameCodec(union),
            on_frame=self._take,
            on_lost=lambda c, _: self.connections.discard(c),
            on_made=self.connections.add,
        )

    def _take(self, _: object, frame: object) -> None:
        self.frames.append(frame)
        self._news.set()

    def send(self, frame: object) -> None:
        for connection in list(self.connections):
            connection.send(frame)

    def all(self, kind: type) -> list[Any]:
        return [frame for frame in self.frames if isinstance(frame, kind)]

    async def wait(
        self, kind: type, match: Callable[[Any], bool] = lambda _: True, timeout_s: float = 8.0
    ) -> Any:
        async with asyncio.timeout(timeout_s):
            while True:
                for frame in self.all(kind):
                    if match(frame):
                        return frame
                self._news.clear()
                await self._news.wait()

    def close(self) -> None:
        for connection in list(self.connections):
            connection.abort()


class House:
    """The deployment and its keeper; use it inside one event loop."""

    def __init__(
        self,
        directory: Path,
        placements: tuple[Placement, ...] = (),
        order_urls: tuple[str, ...] = (),
    ) -> None:
        self.directory = directory
        self.world = World(now=time.time_ns() // 10**6, plan_bytes=PLAN, order_urls=order_urls)
        self.shelf = Shelf(self.world)
        self.releases: RequestsLog | None = None
        self.control = Peer()
        self.number = 0
        self.bundle = Digest("")
        self.roster = Digest("")
        self.process: subprocess.Popen[bytes] | None = None
        self._servers: list[asyncio.AbstractServer] = []
        (directory / "keys").mkdir(parents=True)
        for name, text in (
            ("node-n1-batch.key", encode_base64(seed("batch"))),
            ("node-n1-requests.key", encode_base64(seed("requests"))),
            ("upstream.key", "up"),
        ):
            path = directory / "keys" / name
            path.touch(mode=0o600)
            path.write_text(text + "\n")
        (directory / "root.sha256").write_text(self.world.root_digest + "\n")
        self.log(EntryKind.ROOT, self.world.root_envelope)
        self.log(EntryKind.CERTIFICATE, self.world.signed_certificate("internal"))
        self.certificate = self.shelf.leaves[1][0]
        (directory / "certificate").write_text(self.certificate)
        self.enrol(placements)

    # What control would do.

    def enrol(self, placements: tuple[Placement, ...], number: int = 1) -> None:
        self.bundle = sha256_digest(self.shelf.bundle(placements, number=number))
        self.roster = sha256_digest(self.shelf.roster())
        self.store()

    def store(self) -> None:
        for digest, data in self.shelf.files.items():
            path = self.directory / "files" / "sha256" / digest.removeprefix("sha256:")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def log(self, kind: EntryKind, body: bytes) -> None:
        """Put an entry into the releases log and publish it, cosigned."""
        self.shelf.log(kind, body)
        self.store()
        folder = self.directory / "logs" / "releases"
        if self.releases is None:
            self.releases = RequestsLog(folder, self.world.log)
        self.releases.append(self.shelf.leaves[-1][1])
        self.releases.commit()
        (folder / "checkpoint").write_bytes(self.shelf.checkpoint())

    def order(self, name: str = "order_1", *, by: str = "stop:sam", **changes: Any) -> bytes:
        fields: dict[str, Any] = {
            "id": name,
            "release": self.world.plan.name,
            "target": Target(kind=TargetKind.STAGE, name="internal"),
            "ceiling": None,
            "reasons": ("test",),
            "at": self.world.now,
        }
        return self.world.sign("order", Order(**{**fields, **changes}), by)

    def status(self, *orders: bytes, nonces: tuple[str, ...] = ("n",)) -> bytes:
        self.number += 1
        made = Status(
            release=self.world.plan.name,
            certificates=(self.certificate,),
            orders=tuple(sha256_digest(order) for order in orders),
            bundle=self.bundle,
            roster_number=1,
            roster=self.roster,
            checkpoint=self.shelf.checkpoint().decode(),
            number=self.number,
            nonces=nonces,
            epoch=1,
            signed_at=self.world.now,
            ttl_ms=10_000,
        )
        return sign_status(made, self.world.keys["control:machine"])

    def push_all(self) -> None:
        self.control.send(BundleFrame(digest=self.bundle))
        self.control.send(RosterFrame(number=1, digest=self.roster))

    def push_status(self, *orders: bytes) -> bytes:
        status = self.status(*orders)
        self.control.send(StatusFrame(envelope=status))
        return status

    # Processes.

    async def start(self, *, control: bool = True) -> None:
        loop = asyncio.get_running_loop()
        if control:
            path = socket_path(self.directory, "control.sock")
            server = await loop.create_unix_server(
                lambda: self.control.make(KeeperToControl), str(path)
            )
            self._servers.append(server)
        self.start_keeper()
        if control:
            await self.control.wait(NodeHello)
            self.push_all()

    def start_keeper(self) -> None:
        code = (
            "import sys,logging;logging.basicConfig(level=20);from pathlib import Path;"
            "from gatelift.keeper import run;run(Path(sys.argv[1]),node='n1')"
        )
        self.process = subprocess.Popen([sys.executable, "-c", code, str(self.directory)])
        STARTED.append(self.process)

    def stop_keeper(self) -> None:
        assert self.process is not None
        self.process.terminate()
        assert self.process.wait(10) == 0

    def kill_keeper(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    async def worker(self, name: str = "w9", run: str = "run_1") -> Peer:
        """Return a peer that has said hello as a worker."""
        peer = Peer()
        path = str(socket_path(self.directory, "keeper.sock"))
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(8):
            while True:
                try:
                    await loop.create_unix_connection(lambda: peer.make(KeeperToWorker), path)
                    break
                except OSError:
                    await asyncio.sleep(0.02)
        peer.send(Hello(node="n1", worker=name, run=run, held=()))
        return peer

    def spawn_worker(
        self,
        name: str,
        *,
        requests: int,
        limit: int,
        think_s: float = 0.0,
        forged: bool = False,
        unit: str = "requests",
    ) -> Spawned:
        return Spawned(self.directory, name, requests, limit, think_s, forged=forged, unit=unit)

    async def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            code = await asyncio.to_thread(self.process.wait, 10)
            assert code == 0, f"the keeper left with {code}"
        for server in self._servers:
            server.close()
        self.control.close()
        if self.releases is not None:
            self.releases.close()
        await asyncio.sleep(0.02)

    # What is on disk.

    def records(self, worker: str) -> list[Any]:
        folder = self.directory / "journal" / worker
        return [
            stored.record
            for run in list_runs(folder)
            for batch in RunFollower(folder, run).poll()
            for stored in batch.records
        ]

    def uncommitted(self, worker: str) -> int:
        """Return how many starts a worker wrote that no batch covers: they count, in no record."""
        folder, lost = self.directory / "journal" / worker, 0
        for run in list_runs(folder):
            follower = RunFollower(folder, run)
            while follower.poll():
                pass
            lost += sum(isinstance(stored.record, Start) for stored in follower.uncommitted)
        return lost

    def batches(self) -> list[bytes]:
        folders = sorted((self.directory / "journal").iterdir())
        return [
            batch.data
            for folder in folders
            for run in list_runs(folder)
            for batch in RunFollower(folder, run).poll()
        ]

    def logged(self) -> list[bytes]:
        """Return every entry of the requests logs, verified with the root's key."""
        found = []
        for folder in sorted((self.directory / "logs" / "requests").iterdir()):
            origin = f"test.example/requests/n1/{folder.name.removeprefix('n1-')}"
            vkey = VerifierKey(name=origin, kind=KeyKind.NOTE, public_key=key("requests").public)
            head = verify_checkpoint((folder / "checkpoint").read_bytes(), vkey)
            found += [entry for _, entry in TileLog(folder, head).entries()]
        return found


class Spawned:
    """A fake worker in its own process, driven by its standard streams."""

    def __init__(
        self,
        directory: Path,
        name: str,
        requests: int,
        limit: int,
        think_s: float,
        *,
        forged: bool,
        unit: str,
    ) -> None:
        script = Path(__file__).with_name("keeper_fake_worker.py")
        arguments = [
            str(directory),
            name,
            str(requests),
            str(limit),
            str(think_s),
            str(int(forged)),
            unit,
        ]
        self.process = subprocess.Popen(
            [sys.executable, str(script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        STARTED.append(self.process)

    def ready(self) -> None:
        assert self.process.stdout is not None
        assert json.loads(self.process.stdout.readline()) == {"ready": True}

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()

    def line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found

    def until_done(self) -> tuple[int, int]:
        """Return how many requests were served and denied."""
        served = denied = 0
        while True:
            line = self.line()
            served += "served" in line
            denied += "denied" in line
            if "done" in line:
                return served, denied

    def leave(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
