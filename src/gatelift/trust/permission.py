"""The permission algebra: what one grant may do now.

    permission = that stage's certificate  ⊓  all standing orders  ⊓  the grant,  while status lives

If the certificate of the grant's stage lapsed, the last earlier stage still certified is used, met
with the grant. If nothing stands, the answer is a refusal with its reason.

Invariants
- Pure and total: certificates, orders, grant and time in, `Permission` or `Refusal` out.
- More orders never permit more.
- A missing certificate, an unknown stage or an order that cannot be read ends in a refusal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from gatelift.plan import Plan
from gatelift.terms import Envelope, SafeguardTerms, at_least, meet
from gatelift.trust.certificate import Certificate, VerifiedCertificate
from gatelift.trust.grant import Grant
from gatelift.trust.order import Order, StandingOrder, TargetKind

__all__ = ["Permission", "Refusal", "applies", "permit", "stage_ceiling"]


class Permission(msgspec.Struct, frozen=True, kw_only=True):
    """What may be served: under this certificate, inside this envelope, narrowed by these orders."""

    certificate: VerifiedCertificate
    envelope: Envelope
    orders: tuple[str, ...]


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why nothing may be served. `code` is stable, `message` says what would open it."""

    code: str
    message: str


def _told_apart(orders: Iterable[StandingOrder]) -> frozenset[str]:
    """Return the ids that name exactly one order: a clear of any other id lifts nothing.

    Who holds the control plane could log a harmless order under the id of a stop, and have signers
    clear the one while it lifts the other.
    """
    digests: dict[str, set[str]] = {}
    for standing in orders:
        digests.setdefault(standing.order.id, set()).add(standing.digest)
    return frozenset(name for name, found in digests.items() if len(found) == 1)


def applies(order: Order, stage: str, clears: Iterable[str], now_ms: int) -> bool:
    """Return whether an order on a release or stage stands against a certificate of `stage`."""
    if order.target.kind is TargetKind.RELEASE:
        named = True
    else:
        named = order.target.kind is TargetKind.STAGE and order.target.name == stage
    alive = order.until is None or now_ms < order.until
    return named and alive and order.id not in set(clears)


def _applies_to_grant(order: Order, grant: Grant, public_id: str, now_ms: int) -> bool:
    names: Mapping[TargetKind, str] = {
        TargetKind.ORGANISATION: grant.organisation,
        TargetKind.PRINCIPAL: grant.principal,
        TargetKind.KEY: public_id,
    }
    alive = order.until is None or now_ms < order.until
    return alive and names.get(order.target.kind) == order.target.name


def _narrow(envelope: Envelope, order: Order) -> Envelope | None:
    if order.ceiling is None:
        return None
    narrowed = meet(envelope, order.ceiling)
    return meet(narrowed, Envelope(safeguards=SafeguardTerms(block_rules=order.block_rules)))


def stage_ceiling(
    certificate: Certificate, orders: Iterable[StandingOrder], now_ms: int
) -> tuple[Envelope | None, tuple[str, ...]]:
    """Return what orders on the release and stage leave of a certificate, and which they were."""
    envelope: Envelope | None = certificate.envelope
    applied: list[str] = []
    orders = tuple(orders)
    clears = _told_apart(orders) & set(certificate.clears)
    for standing in orders:
        order = standing.order
        if order.release != certificate.release:
            continue
        if not applies(order, certificate.stage, clears, now_ms):
            continue
        applied.append(order.id)
        envelope = None if envelope is None else _narrow(envelope, order)
    return envelope, tuple(sorted(applied))


def _pick(
    plan: Plan, grant: Grant, certificates: Mapping[str, VerifiedCertificate], now_ms: int
) -> VerifiedCertificate | None:
    names = [stage.name for stage in plan.stages]
    if grant.stage not in names:
        return None
    for name in reversed(names[: names.index(grant.stage) + 1]):
        held = certificates.get(name)
        if held and held.certificate.not_before <= now_ms < held.certificate.not_after:
            return held
    return None


def _stopped_by_name(
    plan: Plan,
    grant: Grant,
    certificates: Mapping[str, VerifiedCertificate],
    orders: tuple[StandingOrder, ...],
    now_ms: int,
) -> Refusal | None:
    """Return the refusal of a grant whose own stage is stopped and has no certificate any more.

    A lapsed certificate falls back to an earlier stage; a stop on the stage does not lapse with it.
    """
    own = certificates.get(grant.stage)
    if own is not None and own.certificate.not_before <= now_ms < own.certificate.not_after:
        return None
    clears = _told_apart(orders) & set(own.certificate.clears if own else ())
    for standing in orders:
        order = standing.order
        if (
            order.release == plan.name
            and order.target.kind is TargetKind.STAGE
            and order.ceiling is None
            and applies(order, grant.stage, clears, now_ms)
        ):
            return Refusal(
                code="stopped",
                message=f"stopped by order {order.id}: a quorum must re-open {grant.stage!r}",
            )
    return None


def _outside(envelope: Envelope, grant: Grant, stage: str) -> Refusal | None:
    """Return why the grant lies outside what is left of the stage's audience, null if inside."""
    if envelope.audience.max_organisations == 0:
        return Refusal(
            code="outside_audience",
            message=f"stage {stage!r} now admits no organisation",
        )
    if not at_least(envelope.audience.tier, grant.tier):
        return Refusal(
            code="outside_audience",
            message=f"stage {stage!r} now admits {envelope.audience.tier.value} only",
        )
    if set(envelope.audience.requires) - set(grant.proofs):
        return Refusal(
            code="grant_lacks_proof",
            message=f"expected proofs {list(envelope.audience.requires)}: ask to be vetted for them",
        )
    return None


def permit(
    plan: Plan,
    certificates: Mapping[str, VerifiedCertificate],
    orders: tuple[StandingOrder, ...],
    grant: Grant,
    public_id: str,
    now_ms: int,
) -> Permission | Refusal:
    """Return what `grant`, shown by its key `public_id`, may do now.

    `certificates` holds the newest verified certificate of each stage; `orders` all standing ones.
    """
    if grant.release != plan.name or not grant.not_before <= now_ms < grant.not_after:
        return Refusal(code="grant_expired", message="the grant is not in force: ask for a new one")
    held = _pick(plan, grant, certificates, now_ms)
    if held is None:
        return Refusal(
            code="no_certificate",
            message=f"no certificate stands for stage {grant.stage!r} or an earlier one",
        )
    stopped = _stopped_by_name(plan, grant, certificates, orders, now_ms)
    if stopped is not None:
        return stopped
    envelope, applied = stage_ceiling(held.certificate, orders, now_ms)
    for standing in orders:
        if envelope is None:
            break
        order = standing.order
        if order.release == plan.name and _applies_to_grant(order, grant, public_id, now_ms):
            applied = (*applied, order.id)
            envelope = _narrow(envelope, order)
    if envelope is None:
        return Refusal(
            code="stopped",
            message=f"stopped by order {', '.join(applied)}: a quorum must re-open it",
        )
    outside = _outside(envelope, grant, held.certificate.stage)
    if outside is not None:
        return outside
    return Permission(certificate=held, envelope=envelope, orders=applied)
