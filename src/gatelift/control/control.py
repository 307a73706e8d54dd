"""The leader: one process that holds the store, decides, signs and speaks to everybody else.

    load (refold) -> decide -> record (writer) -> act (orders, bundle, status), again and again

Invariants
- One control a deployment: the store's lock, and its epoch over machines.
- What is signed as current (status, bundle, roster, head) follows from committed entries only.
- When the writer fails, nothing more is signed and `running` ends with the error: silence closes
  every gateway within its status' ttl.

It wires; each part says its own rules. HTTP is in `api`, the process in `run`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from gatelift.control.actor import Actor
from gatelift.control.assembling import Prepared
from gatelift.control.beacons import BeaconPanel, BeaconReport
from gatelift.control.bundles import Bundles, Outgoing
from gatelift.control.clock import wall_clock_ms
from gatelift.control.deployment import Deployment, open_deployment
from gatelift.control.errors import ControlError, ControlFailedError
from gatelift.control.keepers import KeeperSocket, NodeSeen
from gatelift.control.node_reports import NodeReports
from gatelift.control.noticing import make_notice, make_noticed_root
from gatelift.control.outlet import Outlet
from gatelift.control.publisher import Cosigned, Publisher
from gatelift.control.relay import OrderRelay
from gatelift.control.signing import Draft, sign_draft, subject_of
from gatelift.control.statuses import StatusBeat, compose_status
from gatelift.control.tokens import AdminTokens
from gatelift.control.witness_client import WitnessReport
from gatelift.control.witness_panel import WitnessPanel, witness_urls
from gatelift.control.writer import Writer
from gatelift.decide import State, decide
from gatelift.encoding import Digest
from gatelift.errors import GateliftError
from gatelift.messages import Decision, EntryHeader, EntryKind, PlacementEnrolment, Tick
from gatelift.messages.frames import (
    Ask,
    ControlToKeeper,
    KeeperToControl,
    OrderReport,
    OwnGrantReport,
)
from gatelift.terms import Envelope
from gatelift.trust import Notice, NoticedRoot, Root, StandingOrder, Status
from gatelift.wire.files import FileStore
from gatelift.wire.sockets import socket_path

__all__ = ["Control"]

_LOG = logging.getLogger(__name__)


class Control:
    """One leader over the deployment in a folder. Make it, then serve inside `running`.

    Making it takes the store's lock and refolds the log; raises `StoreError` (`store_locked`),
    `ControlError` or `ControlFailedError` when it may not lead. See `witness_urls` for the URLs.
    """

    def __init__(
        self,
        directory: Path,
        *,
        witness_url: str | None = None,
        named_witness_urls: Mapping[str, str] | None = None,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self._now_ms = now_ms
        self._held: Deployment = open_deployment(directory, now_ms())
        held = self._held
        try:
            self._tasks: asyncio.TaskGroup | None = None
            self._writer = Writer(
                state=held.refolded.state,
                logged=held.refolded.logged,
                hidden=held.refolded.hidden,
                files=held.files,
                append=held.append,
                sign_decision=lambda decision, state: self._sign(
                    EntryKind.DECISION, decision, state
                ),
                tick=lambda: self._sign(EntryKind.TICK, Tick(release=self.state.release or "")),
                wake_at=decide(held.refolded.state, held.refolded.state.at)[1],
                now_ms=now_ms,
                on_commit=self._committed,
            )
            urls = witness_urls(self._root(), witness_url, named_witness_urls or {})
            self._wire(directory, urls)
        except BaseException:
            held.close()
            raise

    def _wire(self, directory: Path, urls: Mapping[str, str]) -> None:
        held, writer = self._held, self._writer
        self._keepers = KeeperSocket(
            socket_path(directory, "control.sock"),
            root=self._root,
            welcome=self._welcome,
            on_report=self._report,
        )
        self._beacons = BeaconPanel(self._root, self._now_ms)
        self._beat = StatusBeat(
            compose=self._status,
            endorse=self._beacons.endorse,
            push=self._keepers.push,
            key=held.control_key,
        )
        self._outlet = Outlet(
            Bundles(store=held.store, files=held.files, key=held.control_key, prove=self._prove),
            situation=self._situation,
            call=writer.call,
            push=self._keepers.push,
            on_changed=self._beat.hurry,
        )
        self._witnesses = WitnessPanel(root=self._root(), urls=urls, log=held.log, call=writer.call)
        self._publisher = Publisher(
            log=held.log,
            root=self._root,
            call=writer.call,
            witnesses=self._witnesses,
            on_cosigned=self._outlet.refresh_soon,
            now_ms=self._now_ms,
        )
        self._relay = OrderRelay(
            state=lambda: self.state,
            push=self._keepers.push,
            submit=writer.submit,
            on_order=self._beat.hurry,
        )
        self._relay.load(held.orders_and_clears)
        self._reports = NodeReports(state=lambda: self.state, sign=self._sign, submit=writer.submit)
        self._actor = Actor(
            sign=self._sign,
            submit=writer.submit,
            push=self._relay.push,
            spawn=self._spawn,
            now_ms=self._now_ms,
        )

    @property
    def state(self) -> State:
        """The state after the last commit."""
        return self._writer.state

    @property
    def files(self) -> FileStore:
        """The files of the deployment by digest."""
        return self._held.files

    @property
    def tokens(self) -> AdminTokens:
        """Who may use the admin API."""
        return self._held.tokens

    @property
    def cosigned(self) -> Cosigned | None:
        """The newest head that meets the root's policy."""
        return self._publisher.last

    @property
    def witness_problem(self) -> str | None:
        """Why the newest head is not cosigned yet, if something is wrong."""
        return self._publisher.problem

    @property
    def witnesses(self) -> tuple[WitnessReport, ...]:
        """How each witness of the root stands."""
        return self._witnesses.reports()

    @property
    def beacons(self) -> tuple[BeaconReport, ...]:
        """How each beacon of the root stands."""
        return self._beacons.reports()

    @property
    def last_status(self) -> Status | None:
        """The last status signed."""
        return self._beat.last

    @property
    def outgoing(self) -> Outgoing:
        """The bundle and roster that gateways are told to hold."""
        return self._outlet.outgoing

    @property
    def node(self) -> NodeSeen:
        """The node that control serves, and how it stands."""
        return self._keepers.node

    @property
    def logs_directory(self) -> Path:
        """Where the published releases log lies."""
        return self._held.publish_dir

    @property
    def is_healthy(self) -> bool:
        """Whether control writes and signs."""
        return self._writer.is_healthy

    def now_ms(self) -> int:
        """Return the time that control goes by, in ms UTC."""
        return self._now_ms()

    def is_hidden(self, digest: Digest) -> bool:
        """Whether a file is a body, or the roster, that not every reader may see."""
        roster = self.outgoing.roster
        return self._writer.is_hidden(digest) or (roster is not None and roster.digest == digest)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Lead for as long as the block runs; ends with an error when control cannot go on."""
        try:
            async with self._beacons, asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                beside = [tasks.create_task(self._writer.run())]
                beside += [
                    tasks.create_task(work) for work in self._witnesses.works(self._publisher)
                ]
                await self._witnesses.compare_first()
                await self._begin()
                await self._keepers.start()
                beside += [
                    tasks.create_task(work)
                    for work in (
                        self._publisher.run(),
                        self._outlet.run(),
                        self._beat.run(),
                        self._reports.run_counts(),
                        self._reports.run_grown(),
                        self._writer.watch_lead(self._held.store.check_leads),
                        self._stop_on_failure(),
                    )
                ]
                yield
                await self._keepers.close()
                for task in beside:
                    task.cancel()
        finally:
            self._tasks = None
            self._held.close()

    async def submit(
        self, drafts: list[Draft], expected_size: int | None = None
    ) -> tuple[int, ...]:
        """Log drafts together and return their indices; see `Writer.submit`."""
        return await self._writer.submit(drafts, expected_size)

    async def order(self, envelope: bytes) -> tuple[StandingOrder, int]:
        """Have an order act at once, then log it; see `OrderRelay.give`."""
        return await self._relay.give(envelope)

    async def until_cosigned(self, size: int, timeout_s: float) -> Cosigned:
        """Wait for a cosigned head of at least `size` entries; see `Publisher.cosigned`."""
        return await self._publisher.cosigned(size, timeout_s)

    async def anchor_heads(self, timeout_s: float) -> Cosigned:
        """Log the newest heads of the requests logs now, and wait until that is cosigned."""
        await self._reports.anchor()
        return await self.until_cosigned(self.state.size, timeout_s)

    async def notice(self, stage: str, envelope: Envelope) -> Notice | None:
        """Return the notice that a certificate of these terms would name; see `make_notice`."""
        state, held = self.state, self._held
        return await asyncio.to_thread(
            make_notice, state, stage, envelope, files=held.files, prove=held.prove_earliest
        )

    async def noticed_root(self, root: Digest) -> NoticedRoot:
        """Return the file with which an announced root takes effect; see `make_noticed_root`."""
        state, held, head = self.state, self._held, self.cosigned
        if head is None:
            raise ControlError("no head is cosigned yet", code="not_cosigned")
        return await asyncio.to_thread(
            make_noticed_root,
            state,
            root,
            files=held.files,
            prove=held.prove_earliest,
            prove_now=lambda index: held.prove(index, head.note)[1],
        )

    async def entries(self, first: int, stop: int) -> list[tuple[EntryHeader, bytes]]:
        """Return the headers and bodies of entries from `first` up to, not including, `stop`."""
        return await asyncio.to_thread(self._held.entries, first, stop)

    async def proof(self, index: int) -> bytes:
        """Return the tlog-proof of an entry under the newest cosigned head."""
        head = self.cosigned
        if head is None or not 0 <= index < head.size:
            raise ControlError(
                f"expected an entry below the cosigned size {head.size if head else 0}, "
                f"got {index}",
                code="not_cosigned",
            )
        return (await asyncio.to_thread(self._held.prove, index, head.note))[1]

    async def _begin(self) -> None:
        if self.state.size == 0:
            await self.submit([Draft(kind=EntryKind.ROOT, body=self._held.root_envelope)])
            return
        # What a decision before a crash asked for and nobody did.
        self._actor.act(self.state, decide(self.state, self.state.at)[0])

    async def _stop_on_failure(self) -> None:
        raise await self._writer.failed()

    def _committed(self, entries: tuple[Prepared, ...], decision: Decision | None) -> None:
        self._relay.on_logged(entries)
        for entry in entries:
            if isinstance(entry.value.value, PlacementEnrolment):
                self._reports.forget_probes(entry.value.value.name)
        if decision is not None:
            self._actor.act(self.state, decision)
        self._publisher.grow()
        self._outlet.refresh_soon()

    def _situation(self) -> tuple[State, int, int]:
        head = self._publisher.last
        return self.state, head.size if head else 0, self._now_ms()

    def _root(self) -> Root:
        return self.state.root or self._held.root

    def _sign(
        self, kind: EntryKind, predicate: msgspec.Struct, state: State | None = None
    ) -> Draft:
        state = self.state if state is None else state
        subject = subject_of(
            state.release or "",
            state.fingerprint,
            state.plan_digest,
            state.root_digest or self._held.root_digest,
        )
        return sign_draft(kind, predicate, subject, self._held.control_key)

    def _prove(self, index: int) -> tuple[bytes, bytes]:
        head = self._publisher.last
        if head is None:
            raise ControlFailedError("a proof was asked for before any head was cosigned")
        return self._held.prove(index, head.note)

    def _status(self, nonces: tuple[str, ...], number: int) -> Status | None:
        if not self.is_healthy:
            return None
        return compose_status(
            self.state,
            self.outgoing,
            self._publisher.last,
            nonces=nonces,
            number=number,
            epoch=self._held.store.epoch,
            now_ms=self._now_ms(),
        )

    def _welcome(self) -> list[ControlToKeeper]:
        return [*self._relay.frames(), *self._outlet.frames()]

    def _report(self, node: str, frame: KeeperToControl) -> None:
        match frame:
            case Ask():
                self._beat.ask(frame.nonces)
            case OrderReport():
                _ = self._spawn(self._take_report(self.order(frame.envelope)))
            case OwnGrantReport():
                draft = Draft(kind=EntryKind.OWN_GRANT, body=frame.envelope)
                _ = self._spawn(self._take_report(self.submit([draft])))
            case _:
                self._reports.take(node, frame)

    async def _take_report(self, work: Coroutine[Any, Any, object]) -> None:
        try:
            _ = await work
        except GateliftError as error:
            _LOG.error("what a node reported was not logged: %s: %s", error.code, error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        if self._tasks is None:
            raise ControlFailedError("control is not running")
        return self._tasks.create_task(work)
