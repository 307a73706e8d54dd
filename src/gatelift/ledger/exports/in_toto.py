"""What a dossier's log says, as in-toto statements that other people's policy engines read.

    evidence    → https://in-toto.io/attestation/test-result/v0.1
    certificate → https://slsa.dev/verification_summary/v1
    candidate   → https://cyclonedx.org/bom, with the ML-BOM as predicate

Invariants
- A field that a reader does not know is passed over, so everything is monotonic: a run that was revoked,
  came too late or does not rule its limit out is FAILED, and so is a certificate that does not stand at
  the end of the log: expired, replaced, or stopped and not cleared.
- Every statement names, by digest, the signed envelope on the log that it is a view of.
- Times are those of the log, so the same dossier gives the same bytes. Nothing here is signed.

Follows in-toto Attestation Framework v1, its predicate Test Result v0.1, and SLSA VSA v1.
"""

from __future__ import annotations

import re
from typing import Any, Final

from gatelift.decide import EvidenceEntry
from gatelift.encoding import Digest
from gatelift.ledger.audit.authority import CertificateFact
from gatelift.ledger.exports.forms import hex_of, instant, judge_run, passes
from gatelift.ledger.exports.ml_bom import make_ml_bom
from gatelift.ledger.exports.verified import VerifiedDossier
from gatelift.trust import STATEMENT_V1, applies

__all__ = ["make_statements"]

_TEST_RESULT: Final = "https://in-toto.io/attestation/test-result/v0.1"
_SUMMARY: Final = "https://slsa.dev/verification_summary/v1"
_BOM: Final = "https://cyclonedx.org/bom"
_WEIGHTS: Final = re.compile(r"sha256:[0-9a-f]{64}")


def make_statements(dossier: VerifiedDossier) -> dict[str, dict[str, Any]]:
    """Return every statement under a name for its file: `<entry>-<predicate>.json`."""
    found = {
        f"{run.index:06d}-test-result.json": _of_run(dossier, run) for run in dossier.state.evidence
    }
    for entry in dossier.releases.entries:
        fact = dossier.authority.certificates.get(entry.header.body)
        if fact is not None:
            name = f"{entry.index:06d}-verification-summary.json"
            found[name] = _of_certificate(dossier, entry.header.body, fact)
    found["candidate-bom.json"] = _statement(
        dossier, dossier.fingerprint, _BOM, make_ml_bom(dossier)
    )
    return found


def _statement(
    dossier: VerifiedDossier, fingerprint: Digest, kind: str, predicate: dict[str, Any]
) -> dict[str, Any]:
    subjects = [{"name": "candidate.json", "digest": {"sha256": hex_of(fingerprint)}}]
    weights = dossier.candidate.model_part.weights or ""
    if fingerprint == dossier.fingerprint and _WEIGHTS.fullmatch(weights):
        subjects.append({"name": "weights", "digest": {"sha256": weights.removeprefix("sha256:")}})
    return {
        "_type": STATEMENT_V1,
        "subject": subjects,
        "predicateType": kind,
        "predicate": predicate,
    }


def _of_run(dossier: VerifiedDossier, run: EvidenceEntry) -> dict[str, Any]:
    seen, state = run.evidence, dossier.state
    said = judge_run(state, run)
    passed = passes(state, run)
    test = [f"{seen.assessment}/{seen.metric}"]
    evidence = {
        "name": f"evidence {seen.id}",
        "digest": {"sha256": hex_of(run.digest)},
        "mediaType": "application/vnd.dsse.envelope+json",
        "annotations": {
            "log": dossier.releases.log.origin,
            "entry": run.index,
            "n": seen.n,
            "s": seen.s,
            "undetermined": seen.undetermined,
            "errors": seen.errors,
            "upper": None if said is None else str(said.upper),
            "revoked": run.digest in state.revoked,
            "counts": run.usable,
            "tool": f"{seen.tool} {seen.tool_version}",
            "seed": seen.seed,
            "under": list(seen.under),
            "finished": instant(seen.finished),
        },
    }
    results = {"name": "results", "digest": {"sha256": hex_of(seen.results)}}
    predicate = {
        "result": "PASSED" if passed else "FAILED",
        "configuration": [*_configuration(dossier, run), evidence, results],
        "passedTests": test if passed else [],
        "warnedTests": [],
        "failedTests": [] if passed else test,
    }
    return _statement(dossier, seen.fingerprint, _TEST_RESULT, predicate)


def _configuration(dossier: VerifiedDossier, run: EvidenceEntry) -> list[dict[str, Any]]:
    held = dossier.state.commits.get(run.evidence.commit)
    if held is None:
        return []
    commit = held.commit
    body = dossier.releases.entries[held.index].header.body
    terms = {
        "entry": held.index,
        "assessment": commit.assessment,
        "metric": commit.metric,
        "comparator": commit.comparator,
        "limit": str(commit.limit),
        "margin": str(commit.margin),
        "confidence": str(commit.confidence),
        "attempts": commit.attempts,
        "deadline": instant(commit.deadline),
    }
    return [
        {
            "name": f"commit {commit.id}",
            "digest": {"sha256": hex_of(body)},
            "mediaType": "application/vnd.dsse.envelope+json",
            "annotations": terms,
        },
        {"name": "data set", "digest": {"sha256": hex_of(commit.data_set)}},
    ]


def _of_certificate(
    dossier: VerifiedDossier, digest: Digest, fact: CertificateFact
) -> dict[str, Any]:
    value = fact.certificate
    stands = _stands(dossier, digest, fact)
    root = dossier.releases.roots[-1].digest
    levels = {
        "STAGE": value.stage,
        "ASSURANCE": value.levels.assurance.value,
        "SEALING": value.levels.sealing.value,
        "BINDING": value.levels.binding.value,
        "DURABILITY": value.levels.durability.value,
        "UNTIL": instant(value.not_after),
    }
    predicate = {
        "verifier": {"id": f"urn:gatelift:root:{root}"},
        "timeVerified": instant(dossier.at),
        "resourceUri": f"urn:gatelift:release:{value.release}:stage:{value.stage}",
        "policy": {
            "uri": f"urn:gatelift:plan:{value.plan}",
            "digest": {"sha256": hex_of(value.plan)},
        },
        # The certificate first, then all that its signers had in hand.
        "inputAttestations": [
            {"uri": f"urn:gatelift:body:{each}", "digest": {"sha256": hex_of(each)}}
            for each in (digest, *value.evidence)
        ],
        "verificationResult": "PASSED" if stands else "FAILED",
        "verifiedLevels": (
            [f"GATELIFT_{name}_{level}" for name, level in levels.items()] if stands else ["FAILED"]
        ),
    }
    return _statement(dossier, value.fingerprint, _SUMMARY, predicate)


def _stands(dossier: VerifiedDossier, digest: Digest, fact: CertificateFact) -> bool:
    """Return whether a certificate is the newest of its stage, in its window, and under no stop."""
    value, at = fact.certificate, dossier.at
    newest = dossier.state.newest_certificate(value.stage)
    stopped = any(
        held.order.ceiling is None
        and held.order.release == value.release
        and applies(held.order, value.stage, value.clears, at)
        for held in dossier.authority.orders.values()
    )
    in_window = value.not_before <= at < value.not_after
    current = value.plan == dossier.plan_digest and value.fingerprint == dossier.fingerprint
    return newest is not None and newest.digest == digest and in_window and current and not stopped
