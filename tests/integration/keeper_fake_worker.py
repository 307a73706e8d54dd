"""A worker without HTTP: it draws leases, writes a real journal, and says on stdout what it served.

python keeper_fake_worker.py <directory> <name> <requests> <limit> <think_s> <forged 0|1> <unit>

Each request needs 1 of `requests` or `coverage`, 7 of `cost`; the limit is in requests.
RUN_BACK_MS in the environment is how far its clock was set back when its run was named.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from gatelift.encoding import Digest, decode_json, make_id, sha256_digest
from gatelift.gateway.leases import LeaseBook
from gatelift.gateway.reservation import Reservation, reservation_of
from gatelift.journal import Writer
from gatelift.messages import Charge, Finish, Outcome, RecordRef, Start
from gatelift.messages.frames import (
    Committed,
    Denied,
    Draw,
    Granted,
    Hello,
    KeeperToWorker,
    Recall,
    Release,
    Want,
)
from gatelift.terms import CapUnit, Endpoint
from gatelift.trust import SigningKey
from gatelift.watch import make_session
from gatelift.wire.frames import FrameCodec, FrameConnection
from gatelift.wire.keyfiles import load_signing_key
from gatelift.wire.sockets import socket_path

DAY = 86_400_000
EACH = {CapUnit.REQUESTS: 1, CapUnit.COST: 7, CapUnit.COVERAGE: 1}


def now_ms() -> int:
    return time.time_ns() // 10**6


def say(**line: Any) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def charges_of(written: str) -> tuple[Charge, ...]:
    return decode_json(written.encode(), tuple[Charge, ...])


class FakeWorker:
    def __init__(
        self, directory: Path, name: str, limit: int, *, forged: bool, unit: CapUnit
    ) -> None:
        self.directory = directory
        self.name = name
        self.unit = unit
        self.limit = limit * EACH[unit]
        named_ms = now_ms() - int(os.environ.get("RUN_BACK_MS", "0"))
        self.run = make_id("run", named_ms, b"0123456789")
        key = load_signing_key(directory / "keys" / "node-n1-batch.key")
        self.writer = Writer(
            directory / "journal" / name,
            node="n1",
            worker=name,
            run=self.run,
            key=SigningKey(b"x" * 32) if forged else key,
            on_committed=lambda _: self.send(Committed(worker=name, run=self.run)),
        )
        self.book = LeaseBook(self.draw, lambda leases: self.send(Release(leases=leases)))
        self.connection: Any = None
        self.lost = asyncio.Event()
        self.connected = asyncio.Event()
        self.waiting: dict[int, asyncio.Future[Any]] = {}
        self.number = 0
        self.sessions: dict[int, str] = {}
        self.certificate = Digest((directory / "certificate").read_text())
        endless = unit is CapUnit.COVERAGE
        self.start_window = 0 if endless else now_ms() // DAY * DAY
        self.until = 0 if endless else self.start_window + DAY
        self.counter = f"internal:principal.{unit}/{'none' if endless else 'd'}:p1"

    def send(self, frame: object) -> None:
        if self.connection is not None and self.connection.is_open:
            self.connection.send(frame)

    async def keep_connected(self) -> None:
        loop = asyncio.get_running_loop()
        path = str(socket_path(self.directory, "keeper.sock"))
        while True:
            self.lost.clear()
            try:
                await loop.create_unix_connection(self.make, path)
                await self.lost.wait()
            except OSError:
                pass
            await asyncio.sleep(0.02)

    def make(self) -> Any:
        return FrameConnection(
            FrameCodec(KeeperToWorker),
            on_frame=self.take,
            on_lost=self.on_lost,
            on_made=self.on_made,
        )

    def on_made(self, connection: Any) -> None:
        self.connection = connection
        self.connected.set()
        self.send(Hello(node="n1", worker=self.name, run=self.run, held=self.book.held()))

    def on_lost(self, connection: Any, _: object) -> None:
        self.connection = None
        self.connected.clear()
        waiting, self.waiting = self.waiting, {}
        for future in waiting.values():
            future.set_exception(ConnectionError())
        self.lost.set()

    def take(self, _: object, frame: Any) -> None:
        match frame:
            case Granted() | Denied():
                self.waiting.pop(frame.id).set_result(frame)
            case Recall():
                # The grants before it must be in the book first; their waiters run before this.
                asyncio.get_running_loop().call_soon(self.give_back, frame)

    def give_back(self, recall: Recall) -> None:
        self.send(Release(leases=self.book.give_back(recall.counters), recall=recall.id))

    async def draw(self, wants: tuple[Want, ...]) -> Granted | Denied:
        while True:
            await self.connected.wait()
            self.number += 1
            future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            self.waiting[self.number] = future
            self.send(Draw(id=self.number, wants=wants))
            try:
                return await future
            except ConnectionError:
                continue

    async def request(self, number: int, think_s: float) -> None:
        want = Want(
            counter=self.counter,
            window=self.start_window,
            until=self.until,
            limit=self.limit,
            need=EACH[self.unit],
            like=8 * EACH[self.unit],
        )
        taken = reservation_of(wants=(want,), units=(self.unit,))
        if await self.book.reserve(taken) is not None:
            say(denied=number)
            return
        start = self.writer.append(lambda seq: self.start(seq, number, taken))
        await start.durable
        say(served=number)
        await asyncio.sleep(think_s)
        spent = charges_of(taken.spent(EACH))
        self.book.settle(taken, EACH)
        finish = self.writer.append(lambda seq: self.finish(seq, start.seq, number, spent))
        batch = await finish.durable
        say(finished=number, batch=batch.digest)

    def start(self, seq: int, number: int, taken: Reservation) -> Start:
        session = make_session("g", f"{self.name}{number}", now_ms(), 5000, b"s" * 32)
        self.sessions[seq] = session
        return Start(
            v=1,
            node="n1",
            worker=self.name,
            run=self.run,
            seq=seq,
            at=now_ms(),
            request_id=f"q{number}",
            release="aurora",
            stage="internal",
            certificate=self.certificate,
            fingerprint=sha256_digest(b"f"),
            grant="g",
            principal="p1",
            organisation="o1",
            session=session,
            endpoint=Endpoint.CHAT,
            stream=True,
            request=sha256_digest(b"q"),
            request_bytes=1,
            reserved=charges_of(taken.charges()),
        )

    def finish(self, seq: int, of: int, number: int, spent: Any) -> Finish:
        return Finish(
            v=1,
            node="n1",
            worker=self.name,
            run=self.run,
            seq=seq,
            at=now_ms(),
            of=RecordRef(node="n1", worker=self.name, run=self.run, seq=of),
            request_id=f"q{number}",
            release="aurora",
            stage="internal",
            grant="g",
            organisation="o1",
            session=self.sessions[of],
            outcome=Outcome.SERVED,
            reason="",
            upstream=True,
            status=200,
            answer=None,
            answer_bytes=0,
            input_tokens=0,
            output_tokens=0,
            spent=spent,
            overrun_tokens=0,
            verdicts=(),
        )


async def main() -> None:
    directory, name, requests, limit, think_s, forged, unit = sys.argv[1:]
    worker = FakeWorker(Path(directory), name, int(limit), forged=forged == "1", unit=CapUnit(unit))
    link = asyncio.create_task(worker.keep_connected())
    await worker.connected.wait()
    say(ready=True)
    await asyncio.to_thread(sys.stdin.readline)
    await asyncio.gather(*(worker.request(n, float(think_s)) for n in range(int(requests))))
    say(done=True)
    await asyncio.to_thread(sys.stdin.readline)
    link.cancel()
    worker.writer.close()


if __name__ == "__main__":
    asyncio.run(main())
