r"""Own grants: an overseer admits itself to a stage, sealed until the first call is made.

    gatelift overseer grant ──► envelope: who, how often, until when │ sealed: stage, principal, key
                                        delivered, logged             opened by the key that is shown

What is delivered and logged says that an overseer may call, how often a day and until when. Which
stage, which principal and which API key is sealed under the key itself, so that nobody can know it
before the first call: neither who carries the envelope, nor who reads the log, nor the host.

    seed    = SHA-256("gatelift/own-call/seed/v1\n"    ‖ API key)
    locator = SHA-256("gatelift/own-call/locator/v1\n" ‖ seed)
    sealed  = ChaCha20-Poly1305(SHA-256("gatelift/own-call/key/v1\n" ‖ seed), nonce 0, grant),
              the grant filled up with spaces to a multiple of 2048 bytes

Invariants
- Signed in the role of overseer alone, and only as far as the root allows it: on each UTC day that it
  touches, all own grants of one organisation together allow at most `own_calls_per_day` requests.
- The locator binds the seed, the seed the sealing key, so an envelope opens to one grant only. Each
  sealing key seals once: the fixed nonce repeats under none.
- The seed opens the envelope to everybody and is not the API key: disclosing hands no key out.
- An opened grant ends with its envelope and is judged as any other, against plan, certificate and orders.

Follows RFC 8439 (ChaCha20-Poly1305).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from gatelift.encoding import (
    Digest,
    decode_json,
    encode_base64,
    encode_json,
    parse_base64,
    sha256_digest,
)
from gatelift.errors import CallerError
from gatelift.trust.dsse import STATEMENT_TYPE, parse_envelope
from gatelift.trust.grant import Grant
from gatelift.trust.quorum import QuorumError, verify_any_of
from gatelift.trust.root import Root, verify_signers
from gatelift.trust.statement import parse_statement, predicate_type

__all__ = [
    "OWN_GRANT",
    "Disclosure",
    "OwnGrant",
    "OwnGrantError",
    "StandingOwnGrant",
    "check_room",
    "locator_of",
    "looks_like_own_grant",
    "open_own_grant",
    "seal_grant",
    "seed_of",
    "verify_own_grant",
]

OWN_GRANT: Final = "own_grant"
_DAY_MS: Final = 86_400_000
_MAX_DAYS: Final = 31
_MAX_DISCLOSE_MS: Final = 90 * _DAY_MS
_MAX_HELD: Final = 256
"""Own grants of one organisation that touch one day: each holds a request at least, so more is noise."""
_PAD_TO: Final = 2048
_MAX_SEALED_CHARS: Final = 16 * 1024
_NONCE: Final = bytes(12)
_SEED: Final = b"gatelift/own-call/seed/v1\n"
_LOCATOR: Final = b"gatelift/own-call/locator/v1\n"
_KEY: Final = b"gatelift/own-call/key/v1\n"


class OwnGrantError(CallerError):
    """An own grant or its disclosure does not hold.

    Codes: `bad_own_grant`, `own_calls_not_allowed`, `own_calls_spent`, `seed_opens_nothing`.
    """

    code = "bad_own_grant"


class OwnGrant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What everybody may read of an own grant. Times in ms UTC.

    The overseer owes its disclosure by `disclose_by`. `sealed` is base64.
    """

    id: str
    release: str
    requests_per_day: int
    not_before: int
    not_after: int
    disclose_by: int
    locator: Digest
    sealed: str


class Disclosure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The opening of an own grant, named by the digest of its body, and what came of the calls.

    `seed` is in base64. `calls` is how many the overseer says it made; `results` are the digests of
    what it published of them.
    """

    release: str
    own_grant: Digest
    seed: str
    calls: int
    results: tuple[Digest, ...]
    note: str


class StandingOwnGrant(msgspec.Struct, frozen=True, kw_only=True):
    """A verified own grant: its envelope's digest, whose it is, and how much a day the root allows."""

    own_grant: OwnGrant
    digest: Digest
    organisation: str
    per_day: int


def _hash(prefix: bytes, data: bytes) -> bytes:
    return hashlib.sha256(prefix + data).digest()


def seed_of(api_key: bytes) -> bytes:
    """Return what opens the own grant of an API key, and is not the key."""
    return _hash(_SEED, api_key)


def locator_of(seed: bytes) -> Digest:
    """Return by what an own grant is found."""
    return Digest("sha256:" + _hash(_LOCATOR, seed).hex())


def seal_grant(grant: Grant, seed: bytes) -> str:
    """Return a grant sealed under a seed, in base64. A seed seals one grant only."""
    text = encode_json(grant)
    text += b" " * (-len(text) % _PAD_TO)
    return encode_base64(ChaCha20Poly1305(_hash(_KEY, seed)).encrypt(_NONCE, text, None))


def open_own_grant(own: OwnGrant, seed: bytes) -> Grant:
    """Return the grant that is sealed in an own grant.

    Raises `OwnGrantError`: `seed_opens_nothing` for another seed, else for what is no such grant.
    """
    if locator_of(seed) != own.locator:
        raise OwnGrantError(
            f"expected the seed of own grant {own.id}, got another one", code="seed_opens_nothing"
        )
    try:
        text = ChaCha20Poly1305(_hash(_KEY, seed)).decrypt(_NONCE, parse_base64(own.sealed), None)
        grant = decode_json(text, Grant)
    except (InvalidTag, CallerError) as error:
        raise OwnGrantError(f"own grant {own.id} holds no grant under its own seed") from error
    if (grant.id, grant.release) != (own.id, own.release) or len(grant.keys) != 1:
        raise OwnGrantError(f"own grant {own.id}: what it seals is another grant, or has many keys")
    if (grant.not_before, grant.not_after) != (own.not_before, own.not_after):
        raise OwnGrantError(
            f"own grant {own.id}: what it seals lasts longer or shorter than it says"
        )
    return grant


def looks_like_own_grant(data: bytes) -> bool:
    """Return whether an envelope says that it is one; nothing of it is verified."""
    try:
        payload = decode_json(parse_envelope(data).unverified_payload(), dict[str, object])
    except CallerError:
        return False
    return payload.get("predicateType") == predicate_type(OWN_GRANT)


def verify_own_grant(data: bytes, root: Root) -> StandingOwnGrant:
    """Return the own grant in an envelope that an overseer signed and the root allows.

    Raises `OwnGrantError`, `DsseError` or `StatementError`.
    """
    payload, signers = verify_signers(data, STATEMENT_TYPE, root)
    own = parse_statement(payload, OWN_GRANT, OwnGrant).predicate
    try:
        by = verify_any_of(signers, frozenset({"overseer"}), "an own grant")
    except QuorumError as error:
        raise OwnGrantError(str(error), code=error.code) from error
    _check_allowed(own, root.own_calls_per_day)
    last_ms = own.not_before + _MAX_DAYS * _DAY_MS
    if not 0 <= own.not_before < own.not_after <= last_ms:
        raise OwnGrantError(
            f"own grant {own.id}: expected an end 1 ms to {_MAX_DAYS} days after its start"
        )
    if not own.not_after <= own.disclose_by <= own.not_after + _MAX_DISCLOSE_MS:
        raise OwnGrantError(
            f"own grant {own.id}: expected its disclosure within 90 days of its end"
        )
    if len(own.sealed) > _MAX_SEALED_CHARS:
        raise OwnGrantError(
            f"own grant {own.id}: expected at most {_MAX_SEALED_CHARS} characters sealed"
        )
    return StandingOwnGrant(
        own_grant=own,
        digest=sha256_digest(data),
        organisation=by.organisation,
        per_day=root.own_calls_per_day,
    )


def _check_allowed(own: OwnGrant, per_day: int) -> None:
    if per_day == 0:
        raise OwnGrantError(
            "the root lets overseers make no calls of their own: it takes the next root to change that",
            code="own_calls_not_allowed",
        )
    if not 1 <= own.requests_per_day <= per_day:
        raise OwnGrantError(
            f"own grant {own.id}: expected 1 to {per_day} requests a day, as the root allows, "
            f"got {own.requests_per_day}",
            code="own_calls_spent",
        )


def check_room(held: Iterable[StandingOwnGrant], asked: StandingOwnGrant) -> None:
    """Return if the root's bound holds with one more own grant beside those held.

    The bound is by UTC day: a grant that touches a day may spend all of its own on it, over or not.
    Raises `OwnGrantError` (`own_calls_spent`), naming the day.
    """
    own = asked.own_grant
    mine = [
        each.own_grant
        for each in held
        if each.organisation == asked.organisation and each.digest != asked.digest
    ]
    for day in _days(own):
        beside = [each for each in mine if day in _days(each)]
        there = sum(each.requests_per_day for each in beside)
        if there + own.requests_per_day > asked.per_day or len(beside) >= _MAX_HELD:
            raise OwnGrantError(
                f"own grant {own.id}: {asked.organisation} holds {there} of {asked.per_day} own calls "
                f"on day {day} since 1970 already, and asks for {own.requests_per_day} more",
                code="own_calls_spent",
            )


def _days(own: OwnGrant) -> range:
    return range(own.not_before // _DAY_MS, (own.not_after - 1) // _DAY_MS + 1)
