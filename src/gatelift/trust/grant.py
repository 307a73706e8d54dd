"""Grants: who is admitted, to what, with which keys.

Invariants
- A grant admits the tuple (principal, organisation, project, release, stage, endpoints); a model
  name or a verified identity alone admits nobody.
- The digests of its API keys are inside what admissions signed, so that who holds the control
  plane cannot add a key.
- A grant outside its stage's envelope (tier, proofs, endpoints) is refused, not narrowed.
- Names are pseudonyms; vetting evidence stands by digest.
"""

from __future__ import annotations

import hashlib
import hmac

import msgspec

from gatelift.encoding import Digest, sha256_digest
from gatelift.errors import CallerError
from gatelift.terms import Endpoint, Envelope, Tier, at_least
from gatelift.trust.binding import KeyBinding, check_binding
from gatelift.trust.dsse import STATEMENT_TYPE
from gatelift.trust.quorum import QuorumError, verify_any_of
from gatelift.trust.root import Root, verify_signers
from gatelift.trust.statement import parse_statement

__all__ = [
    "Grant",
    "GrantError",
    "GrantKey",
    "check_grant_within",
    "key_digest",
    "matches_key",
    "split_api_key",
    "verify_grant",
]

_MAX_KEY_CHARS = 200


class GrantError(CallerError):
    """A grant does not hold, or an API key is not one."""

    code = "bad_grant"


class GrantKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An API key by its public id and the SHA-256 of the whole key, and what it is bound to."""

    public_id: str
    digest: Digest
    binding: KeyBinding | None = None


class Grant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Admission of one principal to one stage of one release. Times in ms UTC."""

    id: str
    release: str
    stage: str
    principal: str
    organisation: str
    project: str
    tier: Tier
    endpoints: tuple[Endpoint, ...]
    proofs: tuple[str, ...]
    vetting: Digest | None
    keys: tuple[GrantKey, ...]
    not_before: int
    not_after: int


def verify_grant(data: bytes, root: Root) -> Grant:
    """Return the grant in an envelope signed by admissions; raises `GrantError`, `BindingError`."""
    payload, signers = verify_signers(data, STATEMENT_TYPE, root)
    grant = parse_statement(payload, "grant", Grant).predicate
    try:
        verify_any_of(signers, frozenset({"admissions"}), "a grant")
    except QuorumError as error:
        raise GrantError(str(error), code=error.code) from error
    if grant.not_after <= grant.not_before or not grant.keys:
        raise GrantError(f"grant {grant.id}: expected an expiry after its start and a key")
    for key in grant.keys:
        if key.binding is not None:
            check_binding(key.binding)
    return grant


def check_grant_within(grant: Grant, stage: str, envelope: Envelope) -> None:
    """Return if the grant lies inside the envelope; raises `GrantError` naming what does not."""
    if grant.stage != stage:
        raise GrantError(
            f"grant {grant.id} is for stage {grant.stage!r}, not {stage!r}", code="wrong_stage"
        )
    # Tiers are ordered from nobody to everyone: a grant's tier must not stand above the stage's.
    if not at_least(envelope.audience.tier, grant.tier):
        raise GrantError(
            f"grant {grant.id}: tier {grant.tier.value} is wider than the stage's "
            f"{envelope.audience.tier.value}",
            code="grant_too_wide",
        )
    missing = set(envelope.audience.requires) - set(grant.proofs)
    if missing:
        raise GrantError(
            f"grant {grant.id} lacks {sorted(missing)}: vet the principal, then sign a new grant",
            code="grant_lacks_proof",
        )
    allowed = envelope.scope.endpoints
    if allowed is not None and not set(grant.endpoints) <= set(allowed):
        raise GrantError(
            f"grant {grant.id}: endpoints {sorted(grant.endpoints)} are wider than the stage's "
            f"{sorted(allowed)}",
            code="grant_too_wide",
        )


def key_digest(api_key: str) -> Digest:
    """Return the stored digest of a whole API key."""
    return sha256_digest(api_key.encode("utf-8"))


def split_api_key(api_key: str) -> str:
    """Return the public id of `gl_<public id>_<secret>`; raises `GrantError` without quoting it."""
    parts = api_key.split("_")
    if len(api_key) > _MAX_KEY_CHARS or len(parts) != 3 or parts[0] != "gl" or not all(parts):
        raise GrantError("expected an API key as gl_<public id>_<secret>", code="malformed_key")
    return parts[1]


def matches_key(api_key: str, key: GrantKey) -> bool:
    """Return whether the key is this one, in constant time."""
    presented = "sha256:" + hashlib.sha256(api_key.encode("utf-8")).hexdigest()
    return hmac.compare_digest(presented.encode("ascii"), key.digest.encode("ascii"))
