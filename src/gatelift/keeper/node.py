"""One keeper process: the node's caps, orders, status, requests log and probes, wired together.

    worker sockets ── Draws ── Counters        journals ── Journals ── requests log
          │                        └── Settling ──┘            └── counts, heads ──┐
    orders, bundle, status ── OrderDesk, Serving ── releases log, incoming/,        │
          │                                         orders.sock, overseers' lists   │
          └───────────────────────── Uplink to control ─────────────────────────────┘

The loop's thread answers workers and never waits for the journals; one other thread reads journals
and writes the requests log (`pump`).

Invariants
- An order is kept, then sent to every worker, then reported; nothing else comes in between.
- Whatever breaks the chain of records closes the node: nothing is granted, no status is passed on,
  no certificate is issued, every placement is down. Orders still go out. Only a restart, with the cause mended, opens it.
- Without control the node serves until its workers' statuses lapse.
- A wall clock that was set back past windows that are forgotten ends the process: begun anew, it
  counts every window from the journals.
- SIGTERM: stop answering, publish what was read, give the journal back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from gatelift.encoding import Digest
from gatelift.journal import Writer
from gatelift.keeper.counters import GRACE_MS, Counters, WorkerRun
from gatelift.keeper.draws import Draws
from gatelift.keeper.erasing import Eraser, MakeDesk
from gatelift.keeper.errors import KeeperError
from gatelift.keeper.incoming import pick_up
from gatelift.keeper.journals import KEEPER, Journals
from gatelift.keeper.order_poll import OrderPoll
from gatelift.keeper.order_socket import OrderSocket
from gatelift.keeper.own_grants import OwnGrantDesk
from gatelift.keeper.pinning import Pin
from gatelift.keeper.placements import PlacementWatches
from gatelift.keeper.pump import JournalPump
from gatelift.keeper.receipts import Receipts
from gatelift.keeper.sealing import Issuer
from gatelift.keeper.server import WorkerServer
from gatelift.keeper.serving import Serving
from gatelift.keeper.settling import Settling
from gatelift.keeper.troubles import Troubles
from gatelift.keeper.uplink import Uplink
from gatelift.messages import Probe
from gatelift.messages.frames import (
    Ask,
    BundleFrame,
    ClearFrame,
    Committed,
    ControlToKeeper,
    CredentialFrame,
    Draw,
    Hello,
    KeeperToControl,
    KeeperToWorker,
    OrderFrame,
    OrderReport,
    OwnGrantFrame,
    OwnGrantReport,
    ProbeReport,
    ReceiptAsk,
    Release,
    RootFrame,
    RosterFrame,
    StatusFrame,
)
from gatelift.plan import Plan, parse_plan
from gatelift.trust import Root, looks_like_own_grant
from gatelift.wire.files import FileStore
from gatelift.wire.sealing import ProbeIdentities

__all__ = ["Node"]

_LOG = logging.getLogger(__name__)
_FOLLOW_S: Final = 0.1
_UNLOGGED_S: Final = 3.0


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _boot_ms() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


class Node:
    """The parts of a keeper. Made and run inside one event loop (`app.run`)."""

    def __init__(
        self,
        *,
        node: str,
        directory: Path,
        files: FileStore,
        serving: Serving,
        pin: Pin,
        make_desk: MakeDesk,
        make_own_grants: Callable[[Callable[[OwnGrantFrame], None]], OwnGrantDesk],
        journals: Journals,
        own: Writer,
        worker_socket: Path,
        control_socket: Path,
        order_socket: Path,
        order_urls: tuple[str, ...],
        credential: str | None,
        issuer: Issuer,
        replica: Path | None,
    ) -> None:
        self._node = node
        self._incoming = directory / "incoming"
        self._files = files
        self._serving = serving
        self._journals = journals
        self._own = own
        self._credential = credential
        self._issuer = issuer
        self._server = WorkerServer(worker_socket, node, self)
        self._uplink = Uplink(
            control_socket,
            node,
            replicated=replica is not None,
            welcome=self._welcome,
            on_frame=self._from_control,
        )
        self._eraser = Eraser(
            journals=directory / "journal",
            replica=replica,
            redo=directory / "run",
            files=files,
            exclusive=self._while_unread,
            before_erasing=journals.forget_saved,
        )
        self._own_grants = make_own_grants(self._server.broadcast)
        self._pin = pin
        self._desk = make_desk(
            self._server.broadcast,
            self._eraser.take,
            self._own_grants.adopt_logged,
            self._take_root,
        )
        self._order_socket = OrderSocket(order_socket, self._adopt)
        self._order_polls = tuple(OrderPoll(url, self._adopt) for url in order_urls)
        self._counters = Counters(journals.past)
        self._draws = Draws(
            self._counters, send=self._server.send, spent=journals.spent, now_ms=_now_ms
        )
        self._settling = Settling(
            directory=directory / "journal",
            journals=journals,
            counters=self._counters,
            own=own,
            connected=lambda: self._server.connected,
        )
        self._pump = JournalPump(
            node=node,
            journals=journals,
            settling=self._settling,
            own=own,
            plans=self._plans,
            plan_of=lambda: self._desk.plan_of,
            tell=self._uplink.send,
            on_gone=self._draws.heard,
            on_closed=self._close_node,
            before_reading=self._eraser.recover,
        )
        self._receipts = Receipts(self._pump.receipt, self._server.send)
        self._watches: PlacementWatches | None = None
        self._known_plans: dict[Digest, Plan] = {}
        self._troubles = Troubles()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set."""
        self._troubles.attempt("the releases log can't be followed", self._desk.follow)
        self._troubles.attempt(
            "the bundle served before is not", lambda: self._serving.load(_now_ms())
        )
        self._draws.wait_for(await self._pump.open())
        await self._server.start()
        await self._order_socket.start()
        async with asyncio.TaskGroup() as group:
            self._watches = PlacementWatches(
                group,
                credential=self._credential,
                identities=self._identities,
                tell_workers=self._server.broadcast,
                tell_control=self._tell_probe,
            )
            self._watches.watch(self._serving.jobs())
            if self._pump.closed_by is not None:
                self._watches.close_node()
            tasks = [
                group.create_task(work)
                for work in (
                    self._uplink.run(),
                    self._pump.run(),
                    self._pump.run_heads(),
                    self._eraser.run(),
                    self._follow(),
                    *(poll.run() for poll in self._order_polls),
                )
            ]
            await stop.wait()
            for task in tasks:
                task.cancel()
            self._watches.stop()
        await self._leave()

    # Workers.

    def on_hello(self, worker: WorkerRun, frame: Hello) -> Iterable[KeeperToWorker]:
        """Register a worker; return what it must hear first, in order."""
        if self._settling.is_settled(worker) or worker.worker == KEEPER or "/" in worker.worker:
            raise KeeperError(f"{worker.worker}/{worker.run} may not register", code="bad_hello")
        self._counters.hello(worker, frame.held, self._journals.charged(worker))
        self._draws.heard(worker)
        placements = self._watches.frames() if self._watches else ()
        credential = self._credential_for(worker, anew=True)
        own = self._own_grants.frames(_now_ms())
        held = (*self._pin.frames(), *self._desk.frames(), *self._serving.frames(), *own)
        return (*held, *placements, *credential)

    def on_frame(
        self, worker: WorkerRun, frame: Draw | Release | Ask | Committed | ReceiptAsk
    ) -> None:
        """Take a frame of a registered worker."""
        match frame:
            case Draw():
                self._draws.draw(worker, frame)
            case Release():
                self._draws.released(worker, frame)
            case Ask():
                self._issuer.asked(frame.nonces, _boot_ms())
                self._uplink.ask(frame.nonces)
            case Committed():
                self._pump.grew()
            case ReceiptAsk():
                self._receipts.answer(worker, frame)

    def on_gone(self, worker: WorkerRun) -> None:
        """Take that a worker's connection is lost; its leases count until it is settled."""
        self._draws.gone(worker)
        self._issuer.forget(worker)
        self._pump.hurry()

    def _credential_for(
        self, worker: WorkerRun, *, anew: bool = False
    ) -> tuple[CredentialFrame, ...]:
        if not self._serving.needs_credentials:
            return ()
        made = self._issuer.issue_due(worker, boot_ms=_boot_ms(), now_ms=_now_ms(), anew=anew)
        return () if made is None else (made,)

    def _identities(self) -> ProbeIdentities | None:
        plan = self._serving.plan
        return None if plan is None else self._issuer.probe_identities(plan[1].name)

    # Control.

    def _from_control(self, frame: ControlToKeeper) -> None:
        self._troubles.attempt(f"{type(frame).__name__} not taken", lambda: self._obey(frame))

    def _obey(self, frame: ControlToKeeper) -> None:
        match frame:
            case OrderFrame():
                self._desk.adopt_order(frame.envelope)
            case ClearFrame():
                self._desk.adopt_clear(frame.envelope)
            case StatusFrame() if self._pump.closed_by is None:
                self._pass_status_on(frame)
            case BundleFrame():
                # It may need the root that the log brings just now.
                self._troubles.attempt("the releases log can't be followed", self._desk.follow)
                if self._serving.adopt_bundle(frame, _now_ms()) and self._watches is not None:
                    self._watches.watch(self._serving.jobs())
                    self._pump.hurry()
                self._server.broadcast(frame)
            case RosterFrame():
                self._serving.adopt_roster(frame)
                self._server.broadcast(frame)
            case _:
                return

    def _pass_status_on(self, frame: StatusFrame) -> None:
        status = self._desk.check_status(frame.envelope, _now_ms())
        self._server.broadcast(frame)
        plan = self._serving.plan
        if plan is not None:
            self._issuer.adopt(status, plan[1].trust.status_ttl_ms)
        for worker in self._server.connected:
            for made in self._credential_for(worker):
                self._server.send(worker, made)

    def _welcome(self) -> Iterable[KeeperToControl]:
        frames: list[KeeperToControl] = [OrderReport(envelope=e) for e in self._desk.unlogged()]
        if self._watches is not None:
            frames += [ProbeReport(probe=probe) for probe in self._watches.probes()]
        return [*frames, *self._pump.frames()]

    def _tell_probe(self, probe: Probe) -> None:
        self._uplink.send(ProbeReport(probe=probe))

    def _plans(self) -> tuple[Digest | None, dict[Digest, Plan]]:
        current = self._serving.plan
        if current is not None:
            self._known_plans[current[0]] = current[1]
        for digest in set(self._desk.plan_of.values()) - self._known_plans.keys():
            self._known_plans[digest] = parse_plan(self._files.get(digest))
        return (None if current is None else current[0]), self._known_plans

    async def _while_unread(self, work: Callable[[], None]) -> None:
        await self._pump.exclusively(work)

    def _close_node(self) -> None:
        self._draws.close_node()
        self._issuer.close_node()
        if self._watches is not None:
            self._watches.close_node()

    # Orders.

    async def _follow(self) -> None:
        told = time.monotonic()
        latest_ms = 0
        while True:
            latest_ms = max(latest_ms, _now_ms())
            if _now_ms() < latest_ms - GRACE_MS:
                raise KeeperError(
                    f"the clock was set back by {(latest_ms - _now_ms()) // 1000} s: start the "
                    "keeper anew, so that it counts every window again",
                    code="clock_set_back",
                )
            self._troubles.attempt("the releases log can't be followed", self._desk.follow)
            self._troubles.attempt("order files can't be taken", self._take_files)
            if time.monotonic() - told >= _UNLOGGED_S:
                told = time.monotonic()
                self._report_unlogged()
                self._counters.roll()
            await asyncio.sleep(_FOLLOW_S)

    def _take_files(self) -> None:
        pick_up(self._incoming, self._adopt)

    def _adopt(self, envelope: bytes) -> Digest:
        """Take an order, or an own grant, that came past control: kept, sent on, then reported."""
        if looks_like_own_grant(envelope):
            digest = self._own_grants.adopt(envelope)
        else:
            digest = self._desk.adopt_order(envelope).digest
        self._report_unlogged()
        return digest

    def _take_root(self, digest: Digest, root: Root) -> None:
        """Take a root that the log has led to; judge by it what is judged by the newest alone."""
        if self._pin.take(digest, root):
            self._serving.pin_root(digest)
            self._own_grants.judge_by(root)
        self._server.broadcast(RootFrame(digest=digest))

    def _report_unlogged(self) -> None:
        for envelope in self._desk.unlogged():
            self._uplink.send(OrderReport(envelope=envelope))
        for envelope in self._own_grants.unlogged(_now_ms()):
            self._uplink.send(OwnGrantReport(envelope=envelope))

    async def _leave(self) -> None:
        await self._draws.aclose()
        await self._server.close()
        await self._order_socket.close()
        await self._receipts.aclose()
        await self._pump.close()
