"""Status: the short-lived word without which no certificate serves.

Invariants
- A status answers nonces. A gateway counts its life from the moment it asked, on its own boot-time
  clock, so that no two clocks are ever compared and a replayed status is worth nothing.
- It names the standing certificates and orders by digest: a reader that lacks one of the orders,
  or holds a logged and uncleared one that is not named, refuses the status.
- Its number and epoch never go back.
- Where the root has a beacon, its organisations signed the same bytes (`beacon`).

Silence closes: after `ttl_ms` without a fresh status a gateway refuses everything.
"""

from __future__ import annotations

import msgspec

from gatelift.encoding import Digest, decode_json
from gatelift.errors import CallerError
from gatelift.terms import Severity
from gatelift.trust.beacon import check_beacon
from gatelift.trust.dsse import sign_envelope
from gatelift.trust.keys import SigningKey
from gatelift.trust.quorum import verify_any_of
from gatelift.trust.root import Root, Signer, verify_signers

__all__ = [
    "MAX_NONCES",
    "STATUS_TYPE",
    "Status",
    "StatusError",
    "sign_status",
    "verify_proposal",
    "verify_status",
]

STATUS_TYPE = "application/vnd.gatelift.status+json"
MAX_NONCES = 1024


class StatusError(CallerError):
    """A status is forged, replayed or goes back."""

    code = "bad_status"


class Status(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What stands now. Times in ms UTC, for people only; life is counted from the asking.

    `incidents` are the severities of those open now, for callers to be told; they permit nothing.
    """

    release: str
    certificates: tuple[Digest, ...]
    orders: tuple[Digest, ...]
    bundle: Digest
    roster_number: int
    roster: Digest
    checkpoint: str
    number: int
    nonces: tuple[str, ...]
    epoch: int
    signed_at: int
    ttl_ms: int
    incidents: tuple[Severity, ...] = ()


def sign_status(status: Status, key: SigningKey) -> bytes:
    """Return the envelope bytes of a status."""
    return sign_envelope(msgspec.json.encode(status), STATUS_TYPE, [key])


def verify_status(
    data: bytes, root: Root, *, nonce: str | None = None, last: Status | None = None
) -> Status:
    """Return the status signed by control that answers `nonce` and does not go back behind `last`.

    Raises `StatusError` with code `not_answered` or `went_back`, or `DsseError`, or `QuorumError`
    (`beacon_silent` where the root's beacon did not sign too).
    A null `nonce` skips the freshness check: only for a reader that relays and never serves.
    """
    payload, signers = verify_signers(data, STATUS_TYPE, root)
    check_beacon(root, signers)
    return _judge(payload, signers, nonce, last)


def verify_proposal(data: bytes, root: Root, *, last: Status | None = None) -> Status:
    """Return the status that control signed and a beacon is asked to sign; raises as `verify_status`.

    It keeps nothing alive: whoever serves or relays calls `verify_status`.
    """
    payload, signers = verify_signers(data, STATUS_TYPE, root)
    return _judge(payload, signers, None, last)


def _judge(
    payload: bytes, signers: tuple[Signer, ...], nonce: str | None, last: Status | None
) -> Status:
    verify_any_of(signers, frozenset({"control"}), "a status")
    status = decode_json(payload, Status)
    if len(status.nonces) > MAX_NONCES or status.ttl_ms <= 0:
        raise StatusError(f"expected at most {MAX_NONCES} nonces and a ttl above 0")
    if nonce is not None and nonce not in status.nonces:
        raise StatusError(
            "the status does not answer our nonce: it may be old", code="not_answered"
        )
    if last is not None and (status.epoch, status.number) < (last.epoch, last.number):
        raise StatusError(
            f"status {status.epoch}/{status.number} is older than {last.epoch}/{last.number}",
            code="went_back",
        )
    return status
