"""Certificates: permission for one stage of one release, up to its envelope.

Invariants
- A certificate is signed by the quorum that the plan names for its stage, by distinct people.
- It binds release, stage, candidate fingerprint, plan digest, envelope, all evidence, the orders
  it clears, the levels it stands on and a recent checkpoint it was signed after.
- Its envelope lies inside the stage's, and inside the measures of every threshold that is not
  ruled out.
- It ends no later than the root that its signers stand in.
- Its levels are said and checked: no higher assurance than its signers give.

Inclusion in the log, public notice and standing orders are checked beside this (`messages.bundle`,
`messages.notice`, `permission`).
The order of checks follows DESIGN.md section 6.
"""

from __future__ import annotations

import msgspec

from gatelift.encoding import Digest, sha256_digest
from gatelift.errors import CallerError
from gatelift.plan import Plan, Stage
from gatelift.terms import (
    Assurance,
    Audience,
    Binding,
    Durability,
    Envelope,
    SafeguardTerms,
    Sealing,
    ThresholdVerdict,
    at_least,
    is_within,
    meet,
)
from gatelift.trust.dsse import STATEMENT_TYPE
from gatelift.trust.notice import Notice
from gatelift.trust.quorum import QuorumError, verify_quorum
from gatelift.trust.root import Root, Signer, assurance_of, verify_signers
from gatelift.trust.statement import Statement, parse_statement

__all__ = [
    "After",
    "Certificate",
    "CertificateError",
    "Levels",
    "VerifiedCertificate",
    "binding_holds",
    "demanded_envelope",
    "sealing_holds",
    "verify_certificate",
]


class CertificateError(CallerError):
    """A certificate does not permit what it is shown for."""

    code = "bad_certificate"


class After(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A checkpoint of the releases log that existed when the certificate was written."""

    origin: str
    size: int
    root: str


class Levels(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What stands behind the certificate, said and never implied."""

    assurance: Assurance
    sealing: Sealing
    binding: Binding
    durability: Durability


class Certificate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Permission for one stage. Times in ms UTC; `clears` are order ids its signers saw."""

    release: str
    stage: str
    fingerprint: Digest
    plan: Digest
    root_version: int
    envelope: Envelope
    thresholds: dict[str, ThresholdVerdict]
    evidence: tuple[Digest, ...]
    clears: tuple[str, ...]
    after: After
    levels: Levels
    status_ttl_ms: int
    sequence: int
    not_before: int
    not_after: int
    notice: Notice | None = None


class VerifiedCertificate(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate whose signatures and terms hold, with the digest of its envelope bytes."""

    certificate: Certificate
    digest: Digest
    signers: tuple[Signer, ...]


def demanded_envelope(plan: Plan, stage: Stage, verdicts: dict[str, ThresholdVerdict]) -> Envelope:
    """Return the stage's envelope met with the measures of every threshold not ruled out."""
    envelope = stage.envelope
    for threshold in plan.thresholds:
        if threshold.name not in stage.gate.thresholds:
            continue
        if verdicts.get(threshold.name) is ThresholdVerdict.RULED_OUT:
            continue
        measures = threshold.unless_ruled_out
        envelope = meet(
            envelope,
            Envelope(
                audience=Audience(
                    tier=measures.audience.tier,
                    max_organisations=measures.audience.max_organisations,
                    requires=measures.audience.requires,
                ),
                safeguards=SafeguardTerms(postures=measures.safeguards),
            ),
        )
    return envelope


def _check_binding(
    statement: Statement[Certificate], plan: Plan, plan_digest: Digest, fingerprint: Digest
) -> Stage:
    certificate = statement.predicate
    if certificate.fingerprint != fingerprint or fingerprint not in {
        s.digest for s in statement.subjects
    }:
        raise CertificateError(
            f"certificate is for candidate {certificate.fingerprint[:24]}, "
            f"this one is {fingerprint[:24]}: assess and certify this candidate",
            code="wrong_candidate",
        )
    if certificate.release != plan.name or certificate.plan != plan_digest:
        raise CertificateError(
            f"certificate is for plan {certificate.plan[:24]} of {certificate.release!r}, "
            f"not {plan_digest[:24]} of {plan.name!r}",
            code="wrong_plan",
        )
    for stage in plan.stages:
        if stage.name == certificate.stage:
            return stage
    raise CertificateError(f"the plan has no stage {certificate.stage!r}", code="wrong_stage")


def _check_terms(certificate: Certificate, plan: Plan, stage: Stage) -> None:
    missing = set(stage.gate.thresholds) - set(certificate.thresholds)
    if missing:
        raise CertificateError(
            f"certificate says nothing of thresholds {sorted(missing)}", code="threshold_missing"
        )
    if not is_within(certificate.envelope, stage.envelope):
        raise CertificateError(
            f"the certificate's envelope is wider than stage {stage.name!r} of the plan",
            code="envelope_too_wide",
        )
    if not is_within(certificate.envelope, demanded_envelope(plan, stage, certificate.thresholds)):
        raise CertificateError(
            "a threshold is not ruled out and its measures are not in the envelope: "
            "certify an envelope that holds them",
            code="measures_missing",
        )
    if certificate.status_ttl_ms != plan.trust.status_ttl_ms:
        raise CertificateError(
            f"expected the plan's status_ttl of {plan.trust.status_ttl_ms} ms, "
            f"got {certificate.status_ttl_ms} ms",
            code="wrong_status_ttl",
        )


def _check_levels(
    certificate: Certificate, stage: Stage, root: Root, signers: tuple[Signer, ...]
) -> None:
    have = assurance_of(root, signers)
    said = certificate.levels.assurance
    if not at_least(have, said):
        raise CertificateError(
            f"certificate says assurance {said.value}, its signers give {have.value}",
            code="assurance_overstated",
        )
    if not at_least(said, stage.assurance):
        raise CertificateError(
            f"stage {stage.name!r} needs assurance {stage.assurance.value}, "
            f"the certificate has {said.value}",
            code="assurance_below",
        )
    if not at_least(certificate.levels.sealing, stage.sealing):
        raise CertificateError(
            f"stage {stage.name!r} needs sealing {stage.sealing.value}, "
            f"the certificate has {certificate.levels.sealing.value}",
            code="sealing_below",
        )
    if not at_least(certificate.levels.binding, stage.binding):
        raise CertificateError(
            f"stage {stage.name!r} needs binding {stage.binding.value}, "
            f"the certificate has {certificate.levels.binding.value}",
            code="binding_below",
        )


def binding_holds(certificate: Certificate, seen: Binding) -> bool:
    """Return whether a certificate may still be served from where this binding is seen.

    Never from less than it says, whatever the plan asks for: who signed `measured` signed that.
    """
    return at_least(seen, certificate.levels.binding)


def sealing_holds(certificate: Certificate, stage: Stage, seen: Sealing) -> bool:
    """Return whether a certificate may still be served from where probes show this sealing.

    Never from less than it says, except in a stage of which the plan asks for no sealing at all.
    """
    return stage.sealing is Sealing.OPEN or at_least(seen, certificate.levels.sealing)


def _check_window(certificate: Certificate, stage: Stage, root: Root, now_ms: int) -> None:
    length = certificate.not_after - certificate.not_before
    if not 0 < length <= stage.certificate_ms:
        raise CertificateError(
            f"expected a certificate of at most {stage.certificate_ms} ms, got {length} ms",
            code="window_too_long",
        )
    if certificate.not_after > root.expires_at:
        raise CertificateError(
            f"certificate ends at {certificate.not_after}, after its root at {root.expires_at}: "
            "certify for shorter, or have the root's successor signed first",
            code="outlives_root",
        )
    if now_ms < certificate.not_before:
        raise CertificateError(
            f"certificate holds from {certificate.not_before}, it is {now_ms}",
            code="not_yet_valid",
        )
    if now_ms >= certificate.not_after:
        raise CertificateError(
            f"certificate expired at {certificate.not_after}: have the quorum renew it",
            code="expired",
        )


def verify_certificate(
    data: bytes,
    *,
    root: Root,
    plan: Plan,
    plan_digest: Digest,
    fingerprint: Digest,
    now_ms: int,
) -> VerifiedCertificate:
    """Return the certificate in an envelope if it permits this candidate under this plan now.

    Raises `CertificateError`, `QuorumError` or `DsseError`, each with its own code.
    """
    payload, signers = verify_signers(data, STATEMENT_TYPE, root)
    statement = parse_statement(payload, "certificate", Certificate)
    certificate = statement.predicate
    stage = _check_binding(statement, plan, plan_digest, fingerprint)
    try:
        verify_quorum(root, signers, stage.quorum)
    except QuorumError as error:
        raise CertificateError(str(error), code=error.code) from error
    _check_terms(certificate, plan, stage)
    _check_levels(certificate, stage, root, signers)
    _check_window(certificate, stage, root, now_ms)
    return VerifiedCertificate(certificate=certificate, digest=sha256_digest(data), signers=signers)
