"""One worker process: listens, asks for status, beats, obeys.

Invariants
- Its journal is its own, locked for life; a second process of the same name is refused.
- Each second it asks for a status with a fresh nonce and writes one beat.
- When the status lapses it cuts every open exchange at that moment and refuses all others.
- What arrives from the keeper is verified by `Holdings` before it counts; what does not hold is
  logged by its code and ignored, and the status that needs it is not adopted.
- Renewed TLS files are taken up within two seconds; a handshake that fails is counted in the beat.
- A wall clock set back past what is forgotten ends it like SIGTERM; it says no hello any more.
- SIGTERM: accept nothing new, let answers end (10 s), settle, give leases back.
- A worker that takes over from another listens only once it would serve: it says so on `ready_fd`.
  One that is started again waits for that too, but not for ever (`listen_within_s`): the kernel gives
  it its share of the callers as soon as it listens, and others may be serving.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket

import uvloop

from gatelift.encoding import ID_ENTROPY_BYTES, make_id
from gatelift.errors import GateliftError
from gatelift.gateway.context import Context, boot_ms, now_ms
from gatelift.gateway.holdings import Holdings
from gatelift.gateway.honey import load_honey
from gatelift.gateway.http_server import (
    HttpServer,
    ServerLimits,
    connections_that_fit,
    serve,
)
from gatelift.gateway.keeper_link import KeeperLink
from gatelift.gateway.leases import LeaseBook
from gatelift.gateway.overload import OverloadTerms
from gatelift.gateway.placements import PlacementTerms
from gatelift.gateway.routes import Router
from gatelift.gateway.set_back import SetBackWatch
from gatelift.gateway.upstream_identity import UpstreamIdentity
from gatelift.gateway.worker_settings import WorkerSettings, read_terms, read_upstream_key
from gatelift.journal import JournalError, Writer
from gatelift.messages import Beat, Record
from gatelift.messages.frames import (
    BundleFrame,
    ClearFrame,
    CredentialFrame,
    Hello,
    KeeperToWorker,
    OrderFrame,
    OwnGrantFrame,
    PlacementFrame,
    Recall,
    RootFrame,
    RosterFrame,
    StatusFrame,
)
from gatelift.trust import Refusal
from gatelift.watch import session_secret
from gatelift.wire.files import FileStore
from gatelift.wire.keyfiles import load_signing_key
from gatelift.wire.memory import settle_collector
from gatelift.wire.pinned_root import PinnedRoots, read_pinned_roots
from gatelift.wire.sockets import socket_path
from gatelift.wire.tls import ListenerContext, TlsFiles

__all__ = ["run"]

_LOG = logging.getLogger(__name__)
_BEAT_S = 1.0
_DRAIN_S = 10.0
_IDLE_GRACE_S = 1.0
_LOOK_S = 0.02
_LAG_EVERY_S = 0.05
_CALLERS = 20_000


class _Worker:
    """One running worker."""

    def __init__(self, settings: WorkerSettings, roots: PinnedRoots) -> None:
        self._settings = settings
        directory = settings.directory
        files = FileStore(directory / "files")
        self._run = make_id("run", now_ms(), secrets.token_bytes(ID_ENTROPY_BYTES))
        self._holdings = Holdings(
            roots.pinned,
            files.get,
            first_root=roots.first,
            replicated=settings.replica is not None,
        )
        self._link = KeeperLink(
            socket_path(directory, "keeper.sock"), self._hello, self._take_frame
        )
        self._leases = LeaseBook(self._link.draw, self._link.give_back)
        key = load_signing_key(directory / "keys" / f"node-{settings.node}-batch.key")
        journal = Writer(
            directory / "journal" / settings.worker,
            node=settings.node,
            worker=settings.worker,
            run=self._run,
            key=key,
            replica=settings.replica and settings.replica / settings.worker,
            on_committed=lambda _: self._link.committed(settings.worker, self._run),
            relaxed=lambda: self._holdings.is_relaxed,
        )
        self._context = Context(
            holdings=self._holdings,
            journal=journal,
            link=self._link,
            leases=self._leases,
            upstream_key=read_upstream_key(directory),
            session_secret=session_secret(key),
            identity=UpstreamIdentity(files.get, self._holdings.is_alive, boot_ms),
            placement_terms=read_terms(directory / "upstream.json", PlacementTerms),
            overload_terms=read_terms(directory / "overload.json", OverloadTerms),
            honey=load_honey(directory / "keys" / "honey.json"),
        )
        self._tls = self._listener(settings.tls) if settings.tls else None
        self._stop = asyncio.Event()
        self._set_back = SetBackWatch(lambda: self._leases.past_ms, self._stop)
        self._lapse: asyncio.TimerHandle | None = None
        self._missing: dict[type, KeeperToWorker] = {}
        """Bundle and roster that were not adopted: their files may yet come, so each beat tries."""

    def _listener(self, files: TlsFiles) -> ListenerContext:
        def count(reason: str) -> None:
            self._context.refused[reason] += 1

        return ListenerContext(files, now_ms=now_ms(), on_failure=count)

    def _hello(self) -> Hello | None:
        if self._set_back.seen(now_ms()):
            return None
        return Hello(
            node=self._settings.node,
            worker=self._settings.worker,
            run=self._run,
            held=self._leases.held(),
        )

    def _take_frame(self, frame: KeeperToWorker) -> None:
        self._missing.pop(type(frame), None)
        try:
            self._obey(frame)
        except GateliftError as error:
            if isinstance(frame, BundleFrame | RosterFrame):
                self._missing[type(frame)] = frame
            # Not adopted: whatever depends on it stays shut. The code says which rule it broke, or
            # that its file is not there yet; the link stays up, as orders come on it.
            _LOG.warning("%s not adopted: %s", type(frame).__name__, error.code)

    def _obey(self, frame: KeeperToWorker) -> None:
        holdings = self._holdings
        match frame:
            case OrderFrame():
                holdings.adopt_order(frame.envelope)
                self._context.recheck()
            case ClearFrame():
                holdings.adopt_clear(frame.envelope)
            case OwnGrantFrame():
                holdings.adopt_own_grant(frame.envelope)
            case StatusFrame():
                if holdings.adopt_status(frame.envelope):
                    self._arm_lapse()
                    self._context.recheck()
            case RootFrame():
                holdings.adopt_root(frame.digest, now_ms())
            case BundleFrame():
                holdings.adopt_bundle(frame.digest, now_ms())
                self._context.recheck()
                self._ask()
            case RosterFrame():
                holdings.adopt_roster(frame.digest)
                self._context.recheck()
                self._ask()
            case PlacementFrame():
                holdings.set_placement(
                    frame.name, up=frame.up, sealing=frame.sealing, binding=frame.binding
                )
                if not frame.up:
                    self._close_placement(frame)
                self._context.recheck()
            case CredentialFrame():
                self._context.adopt_credential(frame)
            case Recall():
                # After the grants that came with it are booked, or there is nothing to give.
                loop = asyncio.get_running_loop()
                loop.call_soon(self._give_back, frame)
            case _:
                _LOG.warning("%s is not for a worker", type(frame).__name__)

    def _give_back(self, recall: Recall) -> None:
        self._link.give_back(self._leases.give_back(recall.counters), recall.id)

    def _close_placement(self, frame: PlacementFrame) -> None:
        if frame.reason == "drift":
            drifted = Refusal(code="no_placement", message="the placement's answers drifted")
            self._context.cut_placement(frame.name, drifted)

    def _arm_lapse(self) -> None:
        if self._lapse is not None:
            self._lapse.cancel()
        left_s = max(0, self._holdings.alive_until_ms - boot_ms()) / 1000
        self._lapse = asyncio.get_running_loop().call_later(left_s + 0.001, self._lapsed)

    def _lapsed(self) -> None:
        if not self._holdings.is_alive(boot_ms()):
            _LOG.warning("status lapsed: %d open exchanges cut", self._context.recheck())
            self._context.retire_sealed()

    def _ask(self) -> None:
        nonce = secrets.token_hex(16)
        self._holdings.ask(nonce, boot_ms())
        self._link.ask_status(nonce)

    async def _beats(self) -> None:
        while True:
            for kind in (BundleFrame, RosterFrame):
                if kind in self._missing:
                    self._take_frame(self._missing[kind])
            self._ask()
            self._leases.forget_past(now_ms())
            self._set_back.seen(now_ms())
            self._context.expire_credential()
            if self._tls is not None:
                self._tls.refresh(now_ms())
            if not self._holdings.is_alive(boot_ms()):
                # The loop's own clock stands still while the machine sleeps; this one does not.
                self._context.recheck()
                self._context.retire_sealed()
            try:
                self._context.close_orphans()
                self._beat()
            except JournalError as error:
                _LOG.error("%s: nothing is served until the journal can be written", error.code)
                await asyncio.to_thread(self._context.journal.try_recover)
            await asyncio.sleep(_BEAT_S)

    async def _lags(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + _LAG_EVERY_S
            await asyncio.sleep(_LAG_EVERY_S)
            self._context.overload.sample((loop.time() - due_s) * 1000)

    def _beat(self) -> None:
        journal, refused = self._context.journal, dict(self._context.refused)
        at = now_ms()

        def make(seq: int) -> Record:
            return Beat(
                v=1,
                node=journal.node,
                worker=journal.worker,
                run=journal.run,
                seq=seq,
                at=at,
                refused=refused,
            )

        journal.append(make)
        self._context.refused.clear()

    async def serve(self) -> None:
        """Serve until SIGTERM, SIGINT or `ClockSetBackError`."""
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._stop.set)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each()) for each in (self._link.run, self._beats)]
            leaving = group.create_task(self._stop.wait())
            if self._settings.ready_fd is not None or self._settings.listen_within_s:
                tasks.append(group.create_task(self._until_serving()))
                await asyncio.wait(
                    (tasks[-1], leaving),
                    timeout=self._settings.listen_within_s or None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
            server = await self._listen()
            settle_collector()
            self._say_ready()
            tasks.append(group.create_task(self._lags()))
            await leaving
            await self._leave(server)
            for task in tasks:
                task.cancel()
        self._set_back.check()

    async def _until_serving(self) -> None:
        holdings = self._holdings
        # What makes it serve comes in three frames in any order, and status lives by the clock.
        while not (  # noqa: ASYNC110
            holdings.is_alive(boot_ms()) and holdings.bundle and holdings.roster
        ):
            await asyncio.sleep(_LOOK_S)

    async def _listen(self) -> HttpServer:
        inherited = self._settings.listen_fd
        return await serve(
            Router(self._context).handle,
            host=None if inherited is not None else self._settings.host,
            port=self._settings.port,
            sock=None if inherited is None else socket.socket(fileno=inherited),
            reuse_port=True,
            ssl_context=self._tls,
            limits=ServerLimits(max_connections=connections_that_fit(_CALLERS)),
        )

    def _say_ready(self) -> None:
        if self._settings.ready_fd is not None:
            # Who asked may have given up waiting; this worker serves all the same.
            with contextlib.suppress(OSError):
                os.write(self._settings.ready_fd, b"ready\n")
                os.close(self._settings.ready_fd)

    async def _leave(self, server: HttpServer) -> None:
        await server.drain(_DRAIN_S, idle_grace_s=_IDLE_GRACE_S)
        held = {lease.counter for lease in self._leases.held()}
        self._link.give_back(self._leases.give_back(tuple(held)))
        await self._context.close()
        self._context.journal.close()


def run(settings: WorkerSettings) -> None:
    """Run one worker until it is told to stop; raises `GateliftError` when it cannot start."""
    roots = read_pinned_roots(settings.directory)

    async def main() -> None:
        await _Worker(settings, roots).serve()

    try:
        uvloop.run(main())
    except* GateliftError as group:
        raise group.exceptions[0] from None
