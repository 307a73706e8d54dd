"""The bundle: all that a gateway serves from, and the checks that it makes for itself.

Invariants
- A gateway believes nothing because control says so: root, certificates, proofs and grants are
  verified here from bytes, against a root digest that the gateway's host pins.
- A certificate counts only with a proof that it is in the witnessed releases log.
- A certificate that fails is left out with its reason; it never takes another one down.
- A grant outside its stage's plan envelope is left out with its reason.

`read` hands out files by digest; whoever passes it checks that the bytes have that digest.
The order of checks follows DESIGN.md section 6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from gatelift.encoding import Digest, decode_json, sha256_digest
from gatelift.errors import CallerError
from gatelift.messages.entries import EntryKind, Sidecar, UpstreamTls
from gatelift.messages.logged import releases_policy, verify_logged
from gatelift.messages.notice import verify_notice
from gatelift.plan import Candidate, Plan, parse_candidate, parse_plan
from gatelift.trust import (
    Grant,
    Root,
    SigningKey,
    VerifiedCertificate,
    check_grant_within,
    sign_envelope,
    verify_any_of,
    verify_certificate,
    verify_grant,
    verify_root,
    verify_signers,
)

__all__ = [
    "BUNDLE_TYPE",
    "ROSTER_TYPE",
    "Bundle",
    "BundleError",
    "LoggedCertificate",
    "Placement",
    "Rejected",
    "Roster",
    "VerifiedBundle",
    "VerifiedRoster",
    "parse_roster",
    "releases_policy",
    "sign_bundle",
    "sign_roster",
    "verify_bundle",
    "verify_logged",
    "verify_roster",
]

BUNDLE_TYPE = "application/vnd.gatelift.bundle+json"
ROSTER_TYPE = "application/vnd.gatelift.roster+json"


class BundleError(CallerError):
    """A bundle or roster is not what its digest, root or signature say."""

    code = "bad_bundle"


class LoggedCertificate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A certificate by digest, its leaf's bytes and its tlog-proof, both as text."""

    envelope: Digest
    leaf: str
    proof: str


class Placement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An enrolled place where the candidate runs. The credential stays on the gateway's host.

    `enrolment` is the digest of the envelope that enrolled it, for `messages.enrolment`.
    """

    name: str
    base_url: str
    model: str
    baseline: Digest | None
    tls: UpstreamTls | None = None
    sidecar: Sidecar | None = None
    enrolment: Digest | None = None


class Bundle(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a gateway serves from, by digest. Changes rarely; `number` never goes back."""

    release: str
    number: int
    root: Digest
    plan: Digest
    candidate: Digest
    certificates: tuple[LoggedCertificate, ...]
    placements: tuple[Placement, ...]


class Roster(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All grants in force, as signed envelopes in text. `number` never goes back."""

    release: str
    number: int
    grants: tuple[str, ...]


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate or grant that was left out, and why."""

    what: str
    code: str
    message: str


class VerifiedBundle(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle whose every part was verified. `certificates` holds the newest of each stage."""

    bundle: Bundle
    digest: Digest
    root: Root
    plan: Plan
    candidate: Candidate
    certificates: Mapping[str, VerifiedCertificate]
    rejected: tuple[Rejected, ...]
    largest_checkpoint: int


class VerifiedRoster(msgspec.Struct, frozen=True, kw_only=True):
    """Grants by the public id of each of their keys, and those left out."""

    number: int
    by_public_id: Mapping[str, Grant]
    rejected: tuple[Rejected, ...]


def sign_bundle(bundle: Bundle, key: SigningKey) -> bytes:
    """Return the envelope bytes of a bundle."""
    return sign_envelope(msgspec.json.encode(bundle), BUNDLE_TYPE, [key])


def sign_roster(roster: Roster, key: SigningKey) -> bytes:
    """Return the envelope bytes of a roster."""
    return sign_envelope(msgspec.json.encode(roster), ROSTER_TYPE, [key])


def _verify_one(
    logged: LoggedCertificate,
    read: Callable[[Digest], bytes],
    root: Root,
    plan: Plan,
    bundle: Bundle,
    now_ms: int,
) -> tuple[VerifiedCertificate, int]:
    data = read(logged.envelope)
    held = verify_certificate(
        data,
        root=root,
        plan=plan,
        plan_digest=bundle.plan,
        fingerprint=bundle.candidate,
        now_ms=now_ms,
    )
    witnessed = verify_logged(
        EntryKind.CERTIFICATE,
        sha256_digest(data),
        logged.leaf.encode("utf-8"),
        logged.proof.encode("utf-8"),
        releases_policy(root),
    )
    notice_ms = plan.stage(held.certificate.stage).notice_ms
    if notice_ms:
        named = held.certificate.notice
        proofs = b"" if named is None else read(named.proofs)
        verify_notice(held.certificate, notice_ms, proofs, root)
    return held, witnessed.checkpoint.size


def verify_bundle(
    data: bytes, read: Callable[[Digest], bytes], pinned_root: Digest, now_ms: int
) -> VerifiedBundle:
    """Return everything a bundle holds, verified from its bytes against the pinned root.

    Raises `BundleError`, `RootError`, `PlanError` or `DsseError` when the whole does not hold;
    single certificates that do not are listed in `rejected`.
    """
    raw = read(pinned_root)
    if sha256_digest(raw) != pinned_root:
        raise BundleError("the root's bytes are not the pinned ones", code="wrong_root")
    root = verify_root(raw, now_ms)
    payload, signers = verify_signers(data, BUNDLE_TYPE, root)
    verify_any_of(signers, frozenset({"control"}), "a bundle")
    bundle = decode_json(payload, Bundle)
    if bundle.root != pinned_root:
        raise BundleError(
            f"the bundle is for root {bundle.root[:24]}, pinned is {pinned_root[:24]}",
            code="wrong_root",
        )
    plan = parse_plan(read(bundle.plan))
    candidate = parse_candidate(read(bundle.candidate))
    newest: dict[str, VerifiedCertificate] = {}
    rejected: list[Rejected] = []
    largest = 0
    for logged in bundle.certificates:
        try:
            held, size = _verify_one(logged, read, root, plan, bundle, now_ms)
        except CallerError as error:
            rejected.append(Rejected(what=logged.envelope, code=error.code, message=str(error)))
            continue
        largest = max(largest, size)
        stage = held.certificate.stage
        if stage not in newest or held.certificate.sequence > newest[stage].certificate.sequence:
            newest[stage] = held
    return VerifiedBundle(
        bundle=bundle,
        digest=sha256_digest(data),
        root=root,
        plan=plan,
        candidate=candidate,
        certificates=newest,
        rejected=tuple(rejected),
        largest_checkpoint=largest,
    )


def parse_roster(data: bytes, root: Root) -> Roster:
    """Return a roster that control signed; its grants are not verified yet.

    Raises `BundleError`, `EncodingError` or `DsseError`.
    """
    payload, signers = verify_signers(data, ROSTER_TYPE, root)
    verify_any_of(signers, frozenset({"control"}), "a roster")
    return decode_json(payload, Roster)


def verify_roster(data: bytes, root: Root, plan: Plan) -> VerifiedRoster:
    """Return the grants of a roster that admissions signed and the plan's stages admit.

    Raises `BundleError` or `DsseError` when the roster itself does not hold.
    """
    roster = parse_roster(data, root)
    if roster.release != plan.name:
        raise BundleError(f"the roster is of {roster.release!r}, not {plan.name!r}")
    found: dict[str, Grant] = {}
    rejected: list[Rejected] = []
    for text in roster.grants:
        try:
            grant = verify_grant(text.encode("utf-8"), root)
            check_grant_within(grant, grant.stage, plan.stage(grant.stage).envelope)
            for key in grant.keys:
                if key.public_id in found:
                    raise BundleError(
                        f"key {key.public_id} stands in two grants", code="duplicate_key_id"
                    )
                found[key.public_id] = grant
        except CallerError as error:
            what = sha256_digest(text.encode("utf-8"))
            rejected.append(Rejected(what=what, code=error.code, message=str(error)))
    return VerifiedRoster(number=roster.number, by_public_id=found, rejected=tuple(rejected))
