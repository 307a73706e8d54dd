"""Who was permitted what, and when, by the releases log alone: plans, certificates, orders, grants.

Invariants
- A certificate counts only if it verified at its entry's time against the plan in force there, and
  the checkpoint that it was signed after is of this log.
- No certificate outlives an approval that stood when it was logged, or exceeds its conditions.
- No certificate may have been granted past a stop that stood against its stage uncleared.
- A copy of the weights is known once operator and security signed for it, until both say it is gone.
- An order binds an exchange that started `status ttl + 1 s` after the order was logged. Before that
  nobody can say whether it had arrived; after it, a gateway that still served broke its contract.

Times are compared with a second of slack: control and nodes may run on different machines.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import NamedTuple

from gatelift.decide import COPY_QUORUM
from gatelift.encoding import Digest, parse_base64
from gatelift.errors import CallerError
from gatelift.ledger.audit.folder import Folder
from gatelift.ledger.audit.notices import Notices
from gatelift.ledger.audit.own_calls import OwnFact, OwnFacts
from gatelift.ledger.audit.releases import Releases, ReleasesEntry
from gatelift.ledger.audit.report import Findings
from gatelift.ledger.following.approvals import Approvals
from gatelift.messages import CopyClosing, EntryKind, Export, PlanAdoption, Start
from gatelift.plan import Plan, parse_candidate, parse_plan
from gatelift.terms import Envelope, SafeguardTerms, meet
from gatelift.trust import (
    Certificate,
    CertificateError,
    Clear,
    Disclosure,
    Grant,
    Order,
    OwnGrant,
    TargetKind,
    VerifiedCertificate,
    applies,
    verify_certificate,
    verify_order,
    verify_own_grant,
    verify_quorum,
)

__all__ = ["SLACK_MS", "Authority", "CertificateFact", "OrderFact", "read_authority"]

SLACK_MS = 1_000
_STAGE_KINDS = frozenset({TargetKind.RELEASE, TargetKind.STAGE})


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFact:
    """A plan in force from entry `index` on."""

    index: int
    adoption: PlanAdoption
    plan: Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFact:
    """A logged certificate that held, with the plan it was judged by."""

    held: VerifiedCertificate
    at: int
    plan: Plan

    @property
    def certificate(self) -> Certificate:
        """What it permits."""
        return self.held.certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFact:
    """A logged order; `cleared_at` is when a `Clear` of it was logged."""

    order: Order
    at: int
    cleared_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyFact:
    """A registered copy of the weights, where it stands, and whether it was closed."""

    export: Export
    place: str
    is_closed: bool


class _Standing(NamedTuple):
    binding: tuple[OrderFact, ...]
    possible: tuple[OrderFact, ...]


class Authority:
    """What the releases log says of permission, asked by exchange."""

    def __init__(self) -> None:
        self.plans: list[PlanFact] = []
        self.certificates: dict[Digest, CertificateFact] = {}
        self.orders: dict[str, OrderFact] = {}
        self.grants: dict[str, list[tuple[int, Grant]]] = {}
        self.own = OwnFacts()
        self.notices = Notices()
        self.approvals = Approvals()
        self.copies: dict[str, CopyFact] = {}
        self._envelopes: dict[tuple[Digest, tuple[str, ...]], Envelope | None] = {}
        self._turns: list[int] = []
        self._standings: dict[tuple[Digest, str, str, int, int], _Standing] = {}

    def plan_before(self, index: int) -> PlanFact | None:
        """Return the plan in force before entry `index`."""
        return next((fact for fact in reversed(self.plans) if fact.index < index), None)

    def grant_of(self, start: Start) -> Grant | None:
        """Return the logged grant that an exchange was admitted by."""
        for logged_at, grant in reversed(self.grants.get(start.grant, ())):
            if (
                logged_at - SLACK_MS <= start.at
                and grant.principal == start.principal
                and grant.organisation == start.organisation
                and grant.release == start.release
                and grant.not_before - SLACK_MS <= start.at < grant.not_after + SLACK_MS
            ):
                return grant
        own = self.own_of(start)
        return None if own is None else own.grant

    def own_of(self, start: Start) -> OwnFact | None:
        """Return the overseer's own grant that an exchange was admitted by."""
        return self.own.of(start)

    def binding_orders(
        self, fact: CertificateFact, start: Start, grant: Grant | None, at_ms: int
    ) -> tuple[OrderFact, ...]:
        """Return the orders that had to be obeyed at `at_ms`, in the order they were logged."""
        if not self.orders:
            return ()
        return self._standing(fact, start, grant, at_ms).binding

    def any_orders(
        self, fact: CertificateFact, start: Start, grant: Grant | None
    ) -> tuple[OrderFact, ...]:
        """Return the orders that may have been obeyed by `start.at`, logged by then or not."""
        if not self.orders:
            return ()
        return self._standing(fact, start, grant, start.at).possible

    def _standing(
        self, fact: CertificateFact, start: Start, grant: Grant | None, at_ms: int
    ) -> _Standing:
        """Return the orders of one kind of exchange at a time: the same between any two turns."""
        turn = bisect_right(self._turns, at_ms)
        key = (fact.held.digest, start.organisation, start.principal, id(grant), turn)
        found = self._standings.get(key)
        if found is None:
            ttl_ms = fact.certificate.status_ttl_ms
            standing = [o for o in self.orders.values() if _stands(o, fact, start, grant, at_ms)]
            found = self._standings[key] = _Standing(
                tuple(held for held in standing if held.at + ttl_ms + SLACK_MS < at_ms),
                tuple(held for held in standing if held.order.at <= at_ms + SLACK_MS),
            )
        return found

    def close(self) -> None:
        """Note the times at which it changes which orders stand; call it once all entries are in."""
        turns: set[int] = set()
        ttls = {fact.certificate.status_ttl_ms for fact in self.certificates.values()}
        for held in self.orders.values():
            turns |= {held.at + ttl_ms + SLACK_MS + 1 for ttl_ms in ttls}
            turns.add(held.order.at - SLACK_MS)
            if held.order.until is not None:
                turns |= {held.order.until, held.order.until - SLACK_MS}
            if held.cleared_at is not None:
                turns.add(held.cleared_at - SLACK_MS)
        self._turns = sorted(turns)

    def envelope(self, fact: CertificateFact, orders: tuple[OrderFact, ...]) -> Envelope | None:
        """Return what orders leave of a certificate's envelope; none when one stops it."""
        if not orders:
            return fact.certificate.envelope
        key = (fact.held.digest, tuple(held.order.id for held in orders))
        if key not in self._envelopes:
            self._envelopes[key] = _narrowed(fact.certificate.envelope, orders)
        return self._envelopes[key]


def _narrowed(envelope: Envelope, orders: tuple[OrderFact, ...]) -> Envelope | None:
    for held in orders:
        if held.order.ceiling is None:
            return None
        rules = Envelope(safeguards=SafeguardTerms(block_rules=held.order.block_rules))
        envelope = meet(meet(envelope, held.order.ceiling), rules)
    return envelope


def _stands(
    held: OrderFact, fact: CertificateFact, start: Start, grant: Grant | None, at_ms: int
) -> bool:
    order, certificate = held.order, fact.certificate
    if order.release != certificate.release:
        return False
    if order.target.kind in _STAGE_KINDS:
        return applies(order, certificate.stage, certificate.clears, at_ms)
    if order.until is not None and at_ms >= order.until - SLACK_MS:
        return False
    if held.cleared_at is not None and at_ms >= held.cleared_at - SLACK_MS:
        return False
    match order.target.kind:
        case TargetKind.ORGANISATION:
            return order.target.name == start.organisation
        case TargetKind.PRINCIPAL:
            return order.target.name == start.principal
        case TargetKind.KEY:
            # A record does not say which key was shown; with one key there is no doubt.
            keys = () if grant is None else tuple(key.public_id for key in grant.keys)
            return keys == (order.target.name,)
        case _:
            return False


def read_authority(folder: Folder, releases: Releases, findings: Findings) -> Authority:
    """Return what the log says of permission; what does not hold is a finding and left out."""
    authority = Authority()
    for entry in releases.entries:
        where = releases.place(entry.index)
        with findings.reading(where):
            _take(folder, releases, entry, authority, findings)
    authority.close()
    return authority


def _take(
    folder: Folder,
    releases: Releases,
    entry: ReleasesEntry,
    authority: Authority,
    findings: Findings,
) -> None:
    value = entry.body.value
    authority.notices.take(entry)
    authority.approvals.take(entry.header.body, value, entry.body.signers)
    match value:
        case PlanAdoption():
            plan = parse_plan(folder.read_digest(value.plan))
            parse_candidate(folder.read_digest(value.candidate))
            authority.plans.append(PlanFact(index=entry.index, adoption=value, plan=plan))
        case Certificate():
            _take_certificate(folder, releases, entry, value, authority, findings)
        case Order():
            standing = verify_order(entry.data, releases.root_at(entry.index))
            fact = OrderFact(order=standing.order, at=entry.header.at, cleared_at=None)
            # The first logging of an order counts: a repetition cannot move its time.
            authority.orders.setdefault(value.id, fact)
        case Clear():
            for order_id in value.orders:
                held = authority.orders.get(order_id)
                if held is not None and held.cleared_at is None:
                    authority.orders[order_id] = replace(held, cleared_at=entry.header.at)
        case Export():
            root = releases.root_at(entry.index)
            verify_quorum(root, entry.body.signers, COPY_QUORUM)
            copy = CopyFact(export=value, place=releases.place(entry.index), is_closed=False)
            authority.copies.setdefault(value.id, copy)
        case CopyClosing():
            verify_quorum(releases.root_at(entry.index), entry.body.signers, COPY_QUORUM)
            if value.export in authority.copies:
                held_copy = authority.copies[value.export]
                authority.copies[value.export] = replace(held_copy, is_closed=True)
        case OwnGrant():
            sealed = verify_own_grant(entry.data, releases.root_at(entry.index))
            authority.own.take_grant(sealed, releases.place(entry.index))
        case Disclosure():
            by = {s.organisation for s in entry.body.signers if s.role == "overseer"}
            authority.own.take_disclosure(value, frozenset(by))
        case Grant():
            authority.grants.setdefault(value.id, []).append((entry.header.at, value))
        case _:
            pass


def _take_certificate(
    folder: Folder,
    releases: Releases,
    entry: ReleasesEntry,
    value: Certificate,
    authority: Authority,
    findings: Findings,
) -> None:
    where = releases.place(entry.index)
    plan = authority.plan_before(entry.index)
    if entry.header.kind is not EntryKind.CERTIFICATE or plan is None:
        raise CertificateError("expected a plan on the log before any certificate", code="no_plan")
    held = verify_certificate(
        entry.data,
        root=releases.root_at(entry.index),
        plan=plan.plan,
        plan_digest=plan.adoption.plan,
        fingerprint=plan.adoption.candidate,
        # It may be logged before its window opens; being served under is judged by exchange.
        now_ms=max(entry.header.at, value.not_before),
    )
    _check_after(releases, entry, value)
    authority.notices.check(folder, releases, entry, value, plan.plan)
    authority.approvals.check(value, entry.header.at)
    for order in authority.orders.values():
        # An order that only adds block rules rides along; one that lowers the ceiling is a stop.
        is_stop = order.order.ceiling != Envelope()
        if is_stop and applies(order.order, value.stage, value.clears, entry.header.at):
            findings.error(
                "granted_over_order",
                where,
                f"the certificate of stage {value.stage!r} was granted while order "
                f"{order.order.id} stood against it; expected it among `clears`",
            )
    fact = CertificateFact(held=held, at=entry.header.at, plan=plan.plan)
    authority.certificates[held.digest] = fact


def _check_after(releases: Releases, entry: ReleasesEntry, value: Certificate) -> None:
    after = value.after
    if after.origin != releases.log.origin or not 0 <= after.size <= entry.index:
        raise CertificateError(
            f"expected a checkpoint of {releases.log.origin} before entry {entry.index}, "
            f"got size {after.size} of {after.origin[:80]!r}",
            code="wrong_after",
        )
    try:
        root = parse_base64(after.root)
    except CallerError as error:
        raise CertificateError(f"in `after`: {error}", code="wrong_after") from error
    if root != releases.log.root_at(after.size):
        raise CertificateError(
            f"the checkpoint it was signed after is not of this log at size {after.size}",
            code="wrong_after",
        )
