"""Orders: signed instructions that only subtract, and what lifts them.

Invariants
- An order acts by its one signature alone, whoever delivers it; it is logged afterwards.
- Orders commute and are idempotent: their meet is their effect, in any order of arrival.
- An order on a release or a stage is lifted for a stage only by a certificate that lists it in
  `clears`; one on an organisation, principal or key by a `Clear` of admissions and a second role,
  or by its own signed `until`.
- A ceiling of null allows nothing.
"""

from __future__ import annotations

import contextlib
import enum

import msgspec

from gatelift.encoding import Digest, sha256_digest
from gatelift.errors import CallerError
from gatelift.terms import BlockRule, Envelope
from gatelift.trust.dsse import STATEMENT_TYPE
from gatelift.trust.quorum import QuorumError, verify_any_of
from gatelift.trust.root import Root, Signer, verify_signers
from gatelift.trust.statement import parse_statement

__all__ = [
    "STOP_ROLES",
    "Clear",
    "Order",
    "OrderError",
    "StandingOrder",
    "Target",
    "TargetKind",
    "verify_clear",
    "verify_order",
]

STOP_ROLES = frozenset(
    {"operator", "safety", "security", "overseer", "admissions", "stop", "control"}
)


class OrderError(CallerError):
    """An order or clear does not hold."""

    code = "bad_order"


class TargetKind(enum.StrEnum):
    """What an order narrows."""

    RELEASE = "release"
    STAGE = "stage"
    ORGANISATION = "organisation"
    PRINCIPAL = "principal"
    KEY = "key"


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an order narrows, by name; a key by its public id."""

    kind: TargetKind
    name: str


class Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Lower the ceiling of a target. Times in ms UTC; `until` null stands until it is lifted."""

    id: str
    release: str
    target: Target
    ceiling: Envelope | None
    block_rules: tuple[BlockRule, ...] = ()
    reasons: tuple[str, ...]
    at: int
    until: int | None = None


class Clear(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Lift orders on organisations, principals or keys, by id."""

    release: str
    orders: tuple[str, ...]
    at: int


class StandingOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A verified order with the digest of its envelope and who gave it."""

    order: Order
    digest: Digest
    by: Signer


def verify_order(data: bytes, root: Root, *earlier: Root) -> StandingOrder:
    """Return the order in an envelope, signed by anyone who may stop.

    A stop outlives the key that gave it: one that `root` does not know may hold by one of the `earlier`
    roots, which the caller has verified. Raises `OrderError`, `DsseError` or `StatementError`, as `root`
    judged it.
    """
    try:
        return _verify_order(data, root)
    except CallerError:
        for each in earlier:
            with contextlib.suppress(CallerError):
                return _verify_order(data, each)
        raise


def _verify_order(data: bytes, root: Root) -> StandingOrder:
    payload, signers = verify_signers(data, STATEMENT_TYPE, root)
    order = parse_statement(payload, "order", Order).predicate
    try:
        by = verify_any_of(signers, STOP_ROLES, "an order")
    except QuorumError as error:
        raise OrderError(str(error), code=error.code) from error
    if not order.reasons:
        raise OrderError("an order says why: expected at least one reason, got none")
    if order.until is not None and order.target.kind in (TargetKind.RELEASE, TargetKind.STAGE):
        raise OrderError(
            "an order on a release or stage is lifted by a certificate, not by time: leave out until"
        )
    return StandingOrder(order=order, digest=sha256_digest(data), by=by)


def verify_clear(data: bytes, root: Root) -> Clear:
    """Return a clear signed by admissions and a second role, two people; raises `OrderError`."""
    payload, signers = verify_signers(data, STATEMENT_TYPE, root)
    clear = parse_statement(payload, "clear", Clear).predicate
    admissions = {s.person for s in signers if s.role == "admissions"}
    others = {s.person for s in signers if s.role in {"operator", "safety", "security", "overseer"}}
    if not admissions or not others or len(others | admissions) < 2:
        raise OrderError(
            "a clear takes admissions and a second person of operator, safety, security or "
            f"overseer, got {sorted({s.role for s in signers})}",
            code="quorum_unmet",
        )
    return clear
