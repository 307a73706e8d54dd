"""Opening an entry's body: which kind of statement may be signed in which role.

Invariants
- `verify_body` is the only way from body bytes to a value: signature, kind, shape and role.
- A role that is not listed for a kind may not sign it; control may sign only what it counts.
- Root and certificate have their own verification (`trust`); here only their shape is read.
"""

from __future__ import annotations

import msgspec

from gatelift.errors import CallerError
from gatelift.messages.entries import PREDICATES, EntryKind
from gatelift.messages.erasures import ERASERS, HOLDERS, check_two_sides
from gatelift.trust import (
    STATEMENT_TYPE,
    STOP_ROLES,
    Certificate,
    Root,
    RootAnnouncement,
    Signer,
    Statement,
    parse_statement,
    verify_announced_root,
    verify_any_of,
    verify_clear,
    verify_grant,
    verify_order,
    verify_own_grant,
    verify_root,
    verify_signers,
)

__all__ = ["AuthorityError", "Body", "may_sign", "verify_body"]

_PEOPLE = frozenset({"operator", "safety", "security", "overseer"})
_ROLES: dict[EntryKind, frozenset[str]] = {
    EntryKind.PLAN: frozenset({"operator"}),
    EntryKind.PLACEMENT: frozenset({"operator"}),
    EntryKind.PROBE: frozenset({"control"}),
    EntryKind.COMMIT: frozenset({"evaluator", "safety"}),
    EntryKind.EVIDENCE: frozenset({"evaluator", "safety"}),
    EntryKind.REVOCATION: _PEOPLE | {"evaluator"},
    EntryKind.REVIEW: _PEOPLE,
    EntryKind.ANNOUNCEMENT: _PEOPLE,
    EntryKind.OBJECTION: frozenset({"overseer"}),
    EntryKind.ROOT_ANNOUNCEMENT: _PEOPLE,
    EntryKind.CERTIFICATE: _PEOPLE | {"evaluator"},
    EntryKind.GRANT: frozenset({"admissions"}),
    EntryKind.ORDER: STOP_ROLES,
    EntryKind.CLEAR: _PEOPLE | {"admissions"},
    EntryKind.OBSERVATION: frozenset({"control"}),
    EntryKind.EVENT: frozenset({"control"}),
    EntryKind.HEAD: frozenset({"control"}),
    EntryKind.INCIDENT: _PEOPLE | {"control"},
    EntryKind.INCIDENT_CHANGE: _PEOPLE,
    EntryKind.ERASURE: ERASERS,
    EntryKind.HOLD: HOLDERS,
    EntryKind.HOLD_LIFT: ERASERS,
    EntryKind.DECISION: frozenset({"control"}),
    EntryKind.TICK: frozenset({"control"}),
    EntryKind.EXPORT: frozenset({"operator", "security"}),
    EntryKind.COPY_CLOSED: frozenset({"operator", "security"}),
    EntryKind.OWN_GRANT: frozenset({"overseer"}),
    EntryKind.DISCLOSURE: frozenset({"overseer"}),
}
_TWO_SIDED = frozenset({EntryKind.ERASURE, EntryKind.HOLD_LIFT})


class AuthorityError(CallerError):
    """A body of this kind may not be signed by this role."""

    code = "role_not_allowed"


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """A verified body: what it says and who signed it."""

    kind: EntryKind
    value: msgspec.Struct
    signers: tuple[Signer, ...]


def may_sign(kind: EntryKind) -> frozenset[str]:
    """Return the roles that may sign a body of this kind; `root` alone signs roots."""
    return frozenset({"root"}) if kind is EntryKind.ROOT else _ROLES[kind]


def verify_body(kind: EntryKind, data: bytes, root: Root, now_ms: int) -> Body:
    """Return what an entry's body says, signed under `root` by a role that may say it.

    For a root entry `root` is the root in force, which must have signed its successor. Raises the
    error of the part that failed.
    """
    if kind is EntryKind.ROOT:
        return Body(kind=kind, value=verify_root(data, now_ms, root), signers=())
    payload, signers = verify_signers(data, STATEMENT_TYPE, root)
    verify_any_of(signers, _ROLES[kind], f"a {kind.value}")
    value: msgspec.Struct
    match kind:
        case EntryKind.ORDER:
            value = verify_order(data, root).order
        case EntryKind.CLEAR:
            value = verify_clear(data, root)
        case EntryKind.GRANT:
            value = verify_grant(data, root)
        case EntryKind.OWN_GRANT:
            value = verify_own_grant(data, root).own_grant
        case EntryKind.CERTIFICATE:
            value = parse_statement(payload, kind.value, Certificate).predicate
        case _:
            shape: type[msgspec.Struct] = PREDICATES[kind]
            statement: Statement[msgspec.Struct] = parse_statement(payload, kind.value, shape)
            value = statement.predicate
    if isinstance(value, RootAnnouncement):
        verify_announced_root(value, now_ms, root)
    if kind in _TWO_SIDED:
        check_two_sides(signers, f"an entry of kind {kind.value}")
    return Body(kind=kind, value=value, signers=signers)
