"""The candidate of a dossier as a CycloneDX ML-BOM: what it is made of, measured by, permitted under.

    metadata.component   the release, with where its plan, reviews and certificates lie
    components           the model with its card, and the engine where somebody named it

Invariants
- Only what stands on the log, or in a file that it names by digest, is said. What nobody stated is
  listed as unknown, and left out of the field that it would fill.
- The system prompt stands in it by digest: neither its text nor a planted string is ever written.
- Nobody is named: no signer, no principal, no organisation.
- Serial number and time follow from the log, so the same dossier gives the same bytes.

Follows CycloneDX 1.6 (ECMA-424), `machine-learning-model` and `modelCard`.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any, Final

from gatelift.decide import EvidenceEntry
from gatelift.encoding import Digest
from gatelift.ledger.audit.report import CANNOT_PROVE
from gatelift.ledger.exports.forms import hex_of, instant, judge_run, passes
from gatelift.ledger.exports.verified import VerifiedDossier
from gatelift.messages import EntryKind
from gatelift.plan import Threshold

__all__ = ["make_ml_bom"]

_WEIGHTS: Final = re.compile(r"sha256:[0-9a-f]{64}")
_REFERENCES: Final = {
    EntryKind.CERTIFICATE: "certification-report",
    EntryKind.REVIEW: "risk-assessment",
}


def make_ml_bom(dossier: VerifiedDossier) -> dict[str, Any]:
    """Return the BOM of the dossier's candidate as JSON values."""
    log = dossier.releases.log
    seed = f"{log.origin}\n{log.checkpoint.size}\n{log.checkpoint.root.hex()}\n"
    serial = uuid.UUID(bytes=hashlib.sha256(seed.encode()).digest()[:16], version=5)
    components = [_model(dossier), *_engine(dossier)]
    tool = {"type": "application", "name": "gatelift", "version": version("gatelift")}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "timestamp": instant(dossier.at),
            "tools": {"components": [tool]},
            "component": {
                "type": "application",
                "bom-ref": "release",
                "name": dossier.plan.name,
                "description": f"A release in stages; its log is {log.origin}, "
                f"{log.checkpoint.size} entries here.",
                "externalReferences": list(_logged(dossier)),
            },
        },
        "components": components,
        "dependencies": [
            {"ref": "release", "dependsOn": [each["bom-ref"] for each in components]},
            *({"ref": each["bom-ref"]} for each in components),
        ],
    }


def _logged(dossier: VerifiedDossier) -> Iterator[dict[str, Any]]:
    yield _reference("configuration", dossier.plan_digest, "the release plan")
    for entry in dossier.releases.entries:
        kind = entry.header.kind
        if kind in _REFERENCES:
            comment = f"{kind.value}, entry {entry.index} of the releases log"
            yield _reference(_REFERENCES[kind], entry.header.body, comment)


def _reference(kind: str, digest: Digest, comment: str) -> dict[str, Any]:
    hashes = [{"alg": "SHA-256", "content": hex_of(digest)}]
    url = f"files/sha256/{hex_of(digest)}"
    return {"type": kind, "url": url, "comment": comment, "hashes": hashes}


def _model(dossier: VerifiedDossier) -> dict[str, Any]:
    part, serving = dossier.candidate.model_part, dossier.candidate.serving_part
    found: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": part.model,
        "version": dossier.fingerprint,
        "description": "The candidate, as far as its operator says. Its version is its fingerprint, "
        "the digest of candidate.json. That the server runs it is claimed, not proved.",
    }
    if _WEIGHTS.fullmatch(part.weights or ""):
        found["hashes"] = [{"alg": "SHA-256", "content": (part.weights or "")[7:]}]
    found["externalReferences"] = [
        _reference("configuration", dossier.fingerprint, "candidate.json"),
        *_evidence(dossier),
    ]
    found["modelCard"] = {
        "modelParameters": {
            "task": "text generation",
            "inputs": [{"format": "text"}],
            "outputs": [{"format": "text"}],
        },
        "quantitativeAnalysis": {
            "performanceMetrics": [_metric(dossier, run) for run in dossier.state.evidence]
        },
        "considerations": _considerations(dossier),
    }
    said = {
        "dialect": serving.dialect,
        "sampling": f"temperature {serving.sampling.temperature}, top_p {serving.sampling.top_p}",
        "max_context_tokens": serving.max_context_tokens,
        "max_output_tokens": serving.max_output_tokens,
        "tools": None if serving.tools is None else ", ".join(serving.tools) or "none",
        "system_prompt": part.system_prompt_digest or "none is sent",
    }
    found["properties"] = [
        *(
            {"name": f"gatelift:{name}", "value": str(v)}
            for name, v in said.items()
            if v is not None
        ),
        *({"name": "gatelift:unknown", "value": n} for n in dossier.candidate.unknown_parts()),
    ]
    return found


def _engine(dossier: VerifiedDossier) -> list[dict[str, Any]]:
    engine = dossier.candidate.serving_part.engine
    if engine is None:
        return []
    return [{"type": "application", "bom-ref": "engine", "name": engine}]


def _evidence(dossier: VerifiedDossier) -> Iterator[dict[str, Any]]:
    for run in dossier.state.evidence:
        comment = f"{run.evidence.assessment}, entry {run.index} of the releases log"
        yield _reference("evidence", run.digest, comment)


def _metric(dossier: VerifiedDossier, run: EvidenceEntry) -> dict[str, Any]:
    """Return a run as a metric: a rate of successes, where success is the bad outcome."""
    seen, said = run.evidence, judge_run(dossier.state, run)
    under = f" under {', '.join(seen.under)}" if seen.under else ""
    what = "rules its limit out" if passes(dossier.state, run) else "does not rule its limit out"
    found: dict[str, Any] = {
        "type": f"{seen.assessment}/{seen.metric}",
        "value": f"{seen.s} of {seen.n}; {seen.undetermined} undetermined, {seen.errors} errors",
        "slice": f"stage {seen.stage}{under}; entry {run.index}; {what}",
    }
    if said is not None:
        bounds = {"lowerBound": str(said.lower), "upperBound": str(said.upper)}
        found["confidenceInterval"] = bounds
    return found


def _considerations(dossier: VerifiedDossier) -> dict[str, Any]:
    return {
        "users": [
            f"stage {stage.name}: {stage.envelope.audience.tier.value}"
            for stage in dossier.plan.stages
        ],
        "technicalLimitations": [f"Not proved: {sentence}" for sentence in CANNOT_PROVE],
        "ethicalConsiderations": [
            _risk(dossier, threshold) for threshold in dossier.plan.thresholds
        ],
    }


def _risk(dossier: VerifiedDossier, threshold: Threshold) -> dict[str, str]:
    """Return a threshold with what it switches on, and what the newest certificates say of it."""
    said = []
    for stage in dossier.plan.stages:
        held = dossier.state.newest_certificate(stage.name)
        if held is not None and threshold.name in held.certificate.thresholds:
            verdict = held.certificate.thresholds[threshold.name].value
            said.append(f"{stage.name}: {verdict.replace('_', ' ')}")
    measures = threshold.unless_ruled_out
    demanded = [f"{category.value}: {p.value}" for category, p in measures.safeguards.items()]
    demanded += [f"proof of {name}" for name in measures.audience.requires]
    told = "; ".join(said) or "no certificate says anything of it"
    return {
        "name": f"{threshold.name} ({told})",
        "mitigationStrategy": "Unless it is ruled out: " + (", ".join(demanded) or "nothing more"),
    }
