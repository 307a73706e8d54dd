"""Grants: who is admitted, to what, with which keys.

Invariants
- A grant admits the tuple (principal, organisation, project, release, stage, endpoints); a model
  name or a verified identity alone admits nobody.
- The digests of its API keys are inside what admissions signed, so that who holds the control
  plane cannot add a key.
- A grant may name a private endpoint by the digest of its path segment: then its keys are taken
  there only, and no other grant's keys are. The segment is drawn at random and shown once.
- A grant outside its stage's envelope (tier, proofs, endpoints) is refused, not narrowed.
- A key that another gateway made (a carried key) is known by the digest of its whole text: its
  public id is made from that digest. It comes for at most 90 days.
- Names are pseudonyms; vetting evidence stands by digest.
"""

from __future__ import annotations

import hashlib
import hmac
import re

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
    "MAX_CARRIED_MS",
    "Grant",
    "GrantError",
    "GrantKey",
    "carried_key",
    "check_grant_within",
    "is_segment",
    "key_digest",
    "matches_endpoint",
    "matches_key",
    "public_id_of",
    "split_api_key",
    "verify_grant",
]

MAX_CARRIED_MS = 90 * 24 * 3_600_000
"""How long a key from elsewhere is admitted at most: time to hand out one of ours."""

_MAX_KEY_CHARS = 200
_MIN_CARRIED_CHARS = 16
_OURS = "gl_"
_CARRIED = "sha256-"
# 128 bits of the digest: nobody finds two keys with one public id.
_CARRIED_HEX = 32
_SEGMENT = re.compile(r"[a-z2-7]{32}")


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
    private_endpoint: Digest | None = None


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
    _check_carried(grant)
    return grant


def _check_carried(grant: Grant) -> None:
    carried = [key for key in grant.keys if key.public_id.startswith(_CARRIED)]
    if any(carried_key(key.digest) != key for key in carried):
        raise GrantError(f"grant {grant.id}: a carried key's public id is not made of its digest")
    if carried and grant.not_after - grant.not_before > MAX_CARRIED_MS:
        raise GrantError(
            f"grant {grant.id}: a key from elsewhere comes for 90 days at most; hand out a key of "
            "ours for longer",
            code="carried_too_long",
        )


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


def carried_key(digest: Digest) -> GrantKey:
    """Return what a grant says of a key that another gateway made, of which only the digest is known."""
    return GrantKey(
        public_id=_CARRIED + digest.removeprefix("sha256:")[:_CARRIED_HEX], digest=digest
    )


def public_id_of(api_key: str) -> str:
    """Return the public id under which a grant would hold a key, ours or a carried one.

    Raises `GrantError` without quoting the key. For a carried key the time taken depends on its
    length alone: it is looked up by a digest of the whole of it.
    """
    if api_key.startswith(_OURS):
        return split_api_key(api_key)
    if not _MIN_CARRIED_CHARS <= len(api_key) <= _MAX_KEY_CHARS:
        raise GrantError("expected an API key as gl_<public id>_<secret>", code="malformed_key")
    return carried_key(key_digest(api_key)).public_id


def matches_key(api_key: str, key: GrantKey) -> bool:
    """Return whether the key is this one, in constant time."""
    presented = "sha256:" + hashlib.sha256(api_key.encode("utf-8")).hexdigest()
    return hmac.compare_digest(presented.encode("ascii"), key.digest.encode("ascii"))


def is_segment(text: str) -> bool:
    """Return whether a text has the form of a private endpoint's path segment: 160 bits in base32."""
    return _SEGMENT.fullmatch(text) is not None


def matches_endpoint(segment: str | None, grant: Grant) -> bool:
    """Return whether the grant's keys are taken at this private endpoint, null for the plain one.

    Constant time in the segment.
    """
    if grant.private_endpoint is None or segment is None:
        return grant.private_endpoint is None and segment is None
    presented = "sha256:" + hashlib.sha256(segment.encode("utf-8")).hexdigest()
    return hmac.compare_digest(
        presented.encode("ascii"), grant.private_endpoint.encode("utf-8", "replace")
    )
