"""A scripted keeper: grants up to the limit of each want, answers nonces, hands out what it is told to."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

from gatelift.encoding import sha256_digest
from gatelift.messages.frames import (
    Ask,
    BundleFrame,
    Denied,
    Draw,
    Granted,
    Hello,
    Lease,
    OrderFrame,
    PlacementFrame,
    ReceiptAsk,
    ReceiptFrame,
    Release,
    RosterFrame,
    StatusFrame,
    WorkerToKeeper,
)
from gatelift.terms import Sealing
from gatelift.trust import Status, sign_status
from gatelift.wire.frames import FrameCodec, FrameConnection
from tests.support.world import World


class FakeKeeper:
    def __init__(
        self, path: Path, world: World, bundle: bytes, roster: bytes, certificates: tuple[str, ...]
    ) -> None:
        self.world = world
        self.bundle = sha256_digest(bundle)
        self.roster = sha256_digest(roster)
        self.certificates = certificates
        self.orders: list[bytes] = []
        self.granted: dict[tuple[str, int], int] = {}
        self.answering = True
        self.sealing = Sealing.DECLARED
        self.granting = True
        self.draws_waiting = 0
        self.spent_subjects: set[str] = set()
        self.number = 0
        self.connections: set[Any] = set()
        self.hellos: list[Hello] = []
        self._path = path
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.wait(5)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._main())
        self._loop.close()

    async def _main(self) -> None:
        self._stop = asyncio.Event()
        server = await self._loop.create_unix_server(
            lambda: FrameConnection(
                FrameCodec(WorkerToKeeper),
                on_frame=self._take,
                on_lost=lambda c, _: self.connections.discard(c),
            ),
            path=str(self._path),
        )
        self._ready.set()
        await self._stop.wait()
        for connection in list(self.connections):
            connection.abort()
        server.close()
        await asyncio.sleep(0.05)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(5)

    def push(self, frame: object) -> None:
        def send() -> None:
            for connection in list(self.connections):
                connection.send(frame)

        self._loop.call_soon_threadsafe(send)

    def order(self, data: bytes) -> None:
        self.orders.append(data)
        self.push(OrderFrame(envelope=data))

    def _take(self, connection: Any, frame: Any) -> None:
        match frame:
            case Hello():
                self.hellos.append(frame)
                self.connections.add(connection)
                for order in self.orders:
                    connection.send(OrderFrame(envelope=order))
                connection.send(BundleFrame(digest=self.bundle))
                connection.send(RosterFrame(number=1, digest=self.roster))
                connection.send(self.placement())
            case Ask() if self.answering:
                connection.send(StatusFrame(envelope=self.status(frame.nonces)))
            case Draw() if not self.granting:
                self.draws_waiting += 1
            case Draw():
                connection.send(self._draw(frame))
            case Release():
                for lease in frame.leases:
                    self.granted[lease.counter, lease.window] -= lease.amount
            case ReceiptAsk():
                connection.send(ReceiptFrame(id=frame.id, known=False, proof=None))

    def placement(self) -> PlacementFrame:
        return PlacementFrame(name="here", up=True, reason="", sealing=self.sealing)

    def status(self, nonces: tuple[str, ...], **changes: Any) -> bytes:
        self.number += 1
        made = Status(
            release=self.world.plan.name,
            certificates=self.certificates,
            orders=tuple(sha256_digest(o) for o in self.orders),
            bundle=self.bundle,
            roster_number=1,
            roster=self.roster,
            checkpoint="",
            number=self.number,
            nonces=nonces,
            epoch=1,
            signed_at=time.time_ns() // 10**6,
            ttl_ms=self.world.plan.trust.status_ttl_ms,
        )
        made = msgspec.structs.replace(made, **changes)
        return sign_status(made, self.world.keys["control:machine"])

    def _draw(self, frame: Draw) -> Granted | Denied:
        leases = []
        for want in frame.wants:
            used = self.granted.get((want.counter, want.window), 0)
            spent = want.counter.split(":")[-1] in self.spent_subjects
            if spent or used + want.need > want.limit:
                return Denied(
                    id=frame.id,
                    counter=want.counter,
                    limit=want.limit,
                    used=used,
                    reserved=0,
                    reset=want.until,
                )
        for want in frame.wants:
            self.granted[want.counter, want.window] = (
                self.granted.get((want.counter, want.window), 0) + want.need
            )
            leases.append(Lease(counter=want.counter, window=want.window, amount=want.need))
        used = tuple(self.granted[want.counter, want.window] for want in frame.wants)
        return Granted(
            id=frame.id, leases=tuple(leases), used=used, reserved=tuple(0 for _ in used)
        )
