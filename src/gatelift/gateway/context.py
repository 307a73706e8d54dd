"""What the steps of an exchange share: holdings, leases, journal, upstream, open exchanges.

Invariants
- `recheck` is called after everything that may narrow: it cuts each open exchange that is no
  longer permitted what it was permitted at its start.
- A stop cuts the caller first and settles afterwards.
- Suites are built once for each effective envelope.
"""

from __future__ import annotations

import asyncio
import functools
import secrets
import time
from collections import Counter
from collections.abc import Hashable
from typing import Any, NamedTuple

from gatelift.gateway.bindings import ProofMemory
from gatelift.gateway.holdings import Holdings, Identified
from gatelift.gateway.honey import HoneyList
from gatelift.gateway.http_responder import Responder, ResponseState
from gatelift.gateway.keeper_link import KeeperLink
from gatelift.gateway.known_prompts import KnownPrompts
from gatelift.gateway.leases import LeaseBook
from gatelift.gateway.overload import Overload, OverloadTerms
from gatelift.gateway.placements import Headers, Placements, PlacementTerms
from gatelift.gateway.recording import Ending, Recorder
from gatelift.gateway.standing import Standing
from gatelift.gateway.upstream_identity import UpstreamIdentity
from gatelift.journal import JournalError, Writer
from gatelift.messages import Outcome, Placement, UpstreamTls
from gatelift.messages.frames import CredentialFrame
from gatelift.safeguards import Suite, suite_key
from gatelift.terms import (
    Category,
    Envelope,
    Posture,
    SafeguardTerms,
    is_within,
    meet_safeguards,
)
from gatelift.trust import Refusal
from gatelift.watch import make_session
from gatelift.wire.http_client import Upstream

__all__ = ["Context", "OpenExchange", "Orphan", "boot_ms", "now_ms"]

_MAX_SUITES = 64
_MAX_SESSIONS = 65_536
_SCOPE_IS_A_LIMIT = SafeguardTerms(postures={Category.AUTONOMY: Posture.BLOCK})


def now_ms() -> int:
    """Return wall-clock time in ms UTC."""
    return time.time_ns() // 1_000_000


def _upstream_headers(key: str | None) -> Headers:
    shown = () if key is None else ((b"authorization", f"Bearer {key}".encode()),)
    return ((b"content-type", b"application/json"), (b"accept", b"*/*"), *shown)


def boot_ms() -> int:
    """Return the boot-time clock in ms: it runs on while the machine sleeps, and never back."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


class Orphan(NamedTuple):
    """A start whose finish could not be written: closed later, in the worst case for the caps."""

    recorder: Recorder
    spent: str
    forwarded: bool


class OpenExchange:
    """An exchange on its way, as far as a stop must know it."""

    __slots__ = ("envelope", "placement", "responder", "stopped_by", "task", "who")

    def __init__(
        self, who: Identified, envelope: Envelope, responder: Responder, task: asyncio.Task[Any]
    ) -> None:
        self.task = task
        self.who = who
        self.envelope = envelope
        self.responder = responder
        self.stopped_by: Refusal | None = None
        self.placement: str | None = None
        """Where it was sent last, null before."""

    def stop(self, refusal: Refusal) -> None:
        """Cut the caller at once, then let the exchange settle."""
        if self.stopped_by is not None:
            return
        self.stopped_by = refusal
        if self.responder.state is ResponseState.STREAMING:
            self.responder.abort()
        self.task.cancel()


class Context:
    """One worker's shared state."""

    def __init__(
        self,
        *,
        holdings: Holdings,
        journal: Writer,
        link: KeeperLink,
        leases: LeaseBook,
        upstream_key: str | None,
        session_secret: bytes,
        identity: UpstreamIdentity,
        honey: HoneyList,
        placement_terms: PlacementTerms | None = None,
        overload_terms: OverloadTerms | None = None,
    ) -> None:
        self.holdings = holdings
        self.journal = journal
        self.link = link
        self.leases = leases
        self.open: set[OpenExchange] = set()
        self.refused: Counter[str] = Counter()
        self.overload = Overload(overload_terms or OverloadTerms())
        self.orphans: list[Orphan] = []
        self.session_secret = session_secret
        self._sessions: dict[tuple[str, str, int, int], str] = {}
        self.honey = honey
        self._honey_minute = (0, 0)
        self._upstream_headers = _upstream_headers(upstream_key)
        self.proofs = ProofMemory()
        self.known_prompts = KnownPrompts(secrets.token_bytes(32))
        self._identity = identity
        self._upstreams: dict[tuple[str, UpstreamTls | None], Upstream] = {}
        self._terms = placement_terms or PlacementTerms()
        self.placements = Placements(
            holdings, client=self.upstream, headers=self.upstream_headers, terms=self._terms
        )
        self._suites: dict[Hashable, Suite] = {}

    @property
    def currency(self) -> str | None:
        """The currency of all that costs, null while no plan says it."""
        bundle = self.holdings.bundle
        prices = None if bundle is None else bundle.plan.prices
        return None if prices is None else prices.currency

    @functools.cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        # Asked once: up to Python 3.11 each question is a system call, as it looks for a fork.
        return asyncio.get_running_loop()

    def open_exchange(
        self, who: Identified, envelope: Envelope, responder: Responder
    ) -> OpenExchange:
        """Note the exchange of the present task as open, until it is discarded from `open`."""
        task = asyncio.current_task(self._loop)
        if task is None:
            raise RuntimeError("an exchange runs inside a task")
        exchange = OpenExchange(who, envelope, responder, task)
        self.open.add(exchange)
        return exchange

    def overloaded(self) -> str | None:
        """Return what this worker has too much of to begin one exchange more, else null."""
        return self.overload.reason(in_flight=len(self.open), waiting_records=self.journal.waiting)

    def suite(self, standing: Standing) -> Suite:
        """Return the safeguards of an effective envelope, built once.

        Tools and agent steps are limits of the scope, so autonomy blocks whatever its posture.
        """
        if standing.suite is None:
            standing.suite = self._suite(standing.envelope)
        return standing.suite

    def _suite(self, envelope: Envelope) -> Suite:
        bundle = self.holdings.bundle
        canaries = bundle.candidate.model_part.canaries if bundle else ()
        terms = meet_safeguards(envelope.safeguards, _SCOPE_IS_A_LIMIT)
        key = suite_key(terms=terms, scope=envelope.scope, canaries=canaries)
        found = self._suites.get(key)
        if found is None:
            if len(self._suites) >= _MAX_SUITES:
                self._suites.clear()
            found = Suite(terms=terms, scope=envelope.scope, canaries=canaries)
            self._suites[key] = found
        return found

    def session(self, grant: str, end_user: str, window_ms: int) -> str:
        """Return the session of an exchange that begins now; made once in each window."""
        at_ms = now_ms()
        key = (grant, end_user, at_ms // window_ms, window_ms)
        found = self._sessions.get(key)
        if found is None:
            if len(self._sessions) >= _MAX_SESSIONS:
                self._sessions.clear()
            found = make_session(grant, end_user, at_ms, window_ms, self.session_secret)
            self._sessions[key] = found
        return found

    def upstream(self, placement: Placement) -> Upstream:
        """Return the client of a placement, made once."""
        found = self._upstreams.get((placement.base_url, placement.tls))
        if found is None:
            sealed, terms = placement.tls, self._terms
            found = Upstream(
                placement.base_url,
                timeouts=terms.timeouts,
                limits=terms.limits,
                tls=functools.partial(self._identity.context, sealed) if sealed else None,
                server_name=sealed.server_name if sealed else None,
            )
            self._upstreams[placement.base_url, sealed] = found
        return found

    def adopt_credential(self, frame: CredentialFrame) -> None:
        """Show a new certificate to sealed placements; connections made with the last one retire."""
        self._identity.adopt(frame)
        self.retire_sealed()

    def expire_credential(self) -> None:
        """Drop a certificate that has ended, and what was connected with it."""
        if self._identity.is_over:
            self._identity.drop()
            self.retire_sealed()

    def retire_sealed(self) -> None:
        """Use no present connection to a sealed placement again."""
        for (_, sealed), upstream in self._upstreams.items():
            if sealed is not None:
                upstream.retire()

    def upstream_headers(self) -> Headers:
        """Return the headers of an upstream request; the credential stays on this host."""
        return self._upstream_headers

    def may_record_honey(self, minute: int, most: int) -> bool:
        """Return whether one more touch of bait may be recorded in this minute."""
        number = self._honey_minute[1] + 1 if self._honey_minute[0] == minute else 1
        self._honey_minute = (minute, number)
        return number <= most

    def recheck(self) -> int:
        """Cut every open exchange that is no longer permitted; return how many."""
        cut = 0
        for exchange in list(self.open):
            refusal = self._refusal(exchange)
            if refusal is not None:
                exchange.stop(refusal)
                cut += 1
        return cut

    def judge_again(self, exchange: OpenExchange, placement: Placement) -> Refusal | None:
        """Judge an exchange before it is sent to `placement`; note a refusal on it and return it."""
        exchange.placement = placement.name
        if exchange.stopped_by is None:
            exchange.stopped_by = self._refusal(exchange)
        return exchange.stopped_by

    def cut_placement(self, name: str, refusal: Refusal) -> None:
        """Cut every open exchange that was sent to a placement."""
        for exchange in list(self.open):
            if exchange.placement == name:
                exchange.stop(refusal)

    def _refusal(self, exchange: OpenExchange) -> Refusal | None:
        now = self.holdings.standing(exchange.who, now_ms(), boot_ms())
        if isinstance(now, Refusal):
            return now
        # The very same is the common case, and far cheaper to see.
        if now.envelope is exchange.envelope or is_within(exchange.envelope, now.envelope):
            return None
        return Refusal(code="stopped", message="an order narrowed this stage: ask again")

    def close_orphans(self) -> None:
        """Finish the exchanges whose end could not be written while the disk was away."""
        orphans, self.orphans = self.orphans, []
        for number, orphan in enumerate(orphans):
            ending = Ending(
                outcome=Outcome.ABORTED, reason="unfinished", upstream=orphan.forwarded, status=503
            )
            try:
                orphan.recorder.write_finish(ending, None, orphan.spent)
            except JournalError:
                self.orphans = orphans[number:]
                raise

    async def close(self) -> None:
        """Close the upstream connections."""
        for upstream in self._upstreams.values():
            await upstream.aclose()
