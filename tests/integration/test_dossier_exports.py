"""A dossier in other people's formats: by their own schemas, from logged bytes, and never kinder."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf import json_format
from in_toto_attestation.predicates.test_result.v0 import test_result_pb2
from in_toto_attestation.predicates.vsa.v1.vsa_pb2 import VerificationSummary
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementShape

from gatelift.encoding import Digest, sha256_digest
from gatelift.ledger.archive import write_archive
from gatelift.ledger.exports import (
    ExportError,
    VerifiedDossier,
    make_ml_bom,
    make_statements,
    open_verified,
)
from gatelift.messages import Commit, EntryKind, Evidence, Review, Revocation
from tests.integration.dossier_deployment import Deployment
from tests.support.tampering_rows import ANY_BYTES
from tests.support.world import HOUR, PLAN_FILE, World

RESULTS = b'{"rows":[]}'
DATA_SET = b'{"prompts":[]}'
PROMPT = "Be helpful. The password is [[canary: violet heron]]."


def hexes(digest: str) -> str:
    return digest.removeprefix("sha256:")


def measured(deployment: Deployment, name: str, s: int = 0, n: int = 60, **changes: Any) -> Digest:
    """Commit to a run of the plan's threshold, and log what it gave."""
    world = deployment.world
    commit = Commit(
        id=f"commit-{name}",
        fingerprint=world.fingerprint,
        assessment="cyber-proxy",
        metric="end_to_end_success",
        comparator="below",
        limit=Decimal("0.1"),
        margin=Decimal("0.02"),
        confidence=Decimal("0.95"),
        attempts=60,
        data_set=sha256_digest(DATA_SET),
        deadline=deployment.now + HOUR,
    )
    deployment.log(EntryKind.COMMIT, commit, "evaluator:eve")
    deployment.settle()
    value = Evidence(
        id=f"evidence-{name}",
        commit=commit.id,
        fingerprint=world.fingerprint,
        assessment=commit.assessment,
        metric=commit.metric,
        n=n,
        s=s,
        undetermined=0,
        errors=0,
        tool="tests",
        tool_version="1",
        seed="seed",
        stage="assess",
        started=deployment.now + 1,
        finished=deployment.now + 5,
        results=sha256_digest(RESULTS),
        under=(),
    )
    value = msgspec.structs.replace(value, **changes)
    digest = deployment.log(EntryKind.EVIDENCE, value, "evaluator:eve")
    deployment.settle()
    return digest


def story(deployment: Deployment) -> None:
    """Four runs, three certificates of one stage, a stop of the last."""
    deployment.files |= {sha256_digest(data): data for data in (RESULTS, DATA_SET)}
    deployment.begin()
    deployment.certify()
    measured(deployment, "clean")
    measured(deployment, "dirty", s=9)
    revoked = measured(deployment, "revoked")
    deployment.log(
        EntryKind.REVOCATION, Revocation(body=revoked, reason="wrong data"), "safety:sam"
    )
    review = Review(
        id="review-1",
        release="aurora",
        stage="assess",
        approves=True,
        plan=deployment.world.plan_digest,
        fingerprint=deployment.world.fingerprint,
        evidence=(),
        note="fine",
    )
    deployment.log(EntryKind.REVIEW, review, "safety:sam")
    deployment.settle()
    deployment.certify()


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., VerifiedDossier]:
    monkeypatch.setattr("tests.support.world.PROMPT", PROMPT)
    deployment = Deployment(tmp_path / "deployment", World())

    def tell(*more: Callable[[Deployment], object]) -> VerifiedDossier:
        story(deployment)
        for scene in more:
            scene(deployment)
        deployment.export(tmp_path / "dossier")
        return open_verified(
            tmp_path / "dossier",
            anchor_root=deployment.world.root_digest,
            policy=None,
            now_ms=deployment.now,
        )

    return tell


def by_kind(statements: dict[str, dict[str, Any]], word: str) -> list[dict[str, Any]]:
    return [value for name, value in sorted(statements.items()) if word in name]


# -- by their own schemas -------------------------------------------------------------------------


@pytest.mark.parametrize("version", [SchemaVersion.V1_6, SchemaVersion.V1_7])
def test_the_bom_is_valid_by_the_schema_of_cyclonedx(
    told: Callable[..., VerifiedDossier], version: SchemaVersion
) -> None:
    bom = make_ml_bom(told()) | {"specVersion": version.to_version()}
    problem = JsonStrictValidator(version).validate_str(json.dumps(bom))
    assert problem is None, problem
    # The validator can refuse: a field of ours that the schema does not know is a problem.
    bom["components"][0]["modelCard"]["stage"] = "assess"
    assert JsonStrictValidator(version).validate_str(json.dumps(bom)) is not None


def test_statements_are_valid_by_the_shapes_of_in_toto(
    told: Callable[..., VerifiedDossier],
) -> None:
    shapes = {
        "https://in-toto.io/attestation/test-result/v0.1": test_result_pb2.TestResult,
        "https://slsa.dev/verification_summary/v1": VerificationSummary,
    }
    statements = make_statements(told())
    seen = set()
    for value in statements.values():
        text = json.dumps(value)
        statement = json_format.Parse(text, StatementShape())  # an unknown field is an error
        Statement.copy_from_pb(statement).validate()
        kind = value["predicateType"]
        seen.add(kind)
        if kind in shapes:
            predicate = dict(value["predicate"])
            # SLSA's text has a list of levels here, in-toto's published shape a single text.
            levels = predicate.pop("verifiedLevels", [])
            assert all(re.fullmatch(r"GATELIFT_[A-Z]+_\S+|FAILED", level) for level in levels)
            json_format.Parse(json.dumps(predicate), shapes[kind]())
            with pytest.raises(json_format.ParseError):
                json_format.Parse(json.dumps({**predicate, "stage": "assess"}), shapes[kind]())
        else:
            problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(
                json.dumps(value["predicate"])
            )
            assert problem is None
    assert seen == {*shapes, "https://cyclonedx.org/bom"}


# -- what they say --------------------------------------------------------------------------------


def test_only_a_run_that_counts_and_rules_its_limit_out_has_passed(
    told: Callable[..., VerifiedDossier],
) -> None:
    dossier = told()
    runs = by_kind(make_statements(dossier), "test-result")
    said = {
        next(c["name"] for c in run["predicate"]["configuration"] if "evidence" in c["name"]): run[
            "predicate"
        ]
        for run in runs
    }
    assert {name: run["result"] for name, run in said.items()} == {
        "evidence evidence-clean": "PASSED",
        "evidence evidence-dirty": "FAILED",
        "evidence evidence-revoked": "FAILED",
    }
    assert said["evidence evidence-clean"]["passedTests"] == ["cyber-proxy/end_to_end_success"]
    assert said["evidence evidence-dirty"]["failedTests"] == ["cyber-proxy/end_to_end_success"]
    # By a table of binomial bounds: of 60 with none, the upper bound is 1 - 0.05^(1/60) = 0.0487.
    evidence = said["evidence evidence-clean"]["configuration"][2]
    assert Decimal(evidence["annotations"]["upper"]).quantize(Decimal("0.0001")) == Decimal(
        "0.0487"
    )


def test_every_statement_names_the_signed_bytes_that_it_is_a_view_of(
    told: Callable[..., VerifiedDossier], tmp_path: Path
) -> None:
    dossier = told()
    fingerprint = hexes(dossier.fingerprint)
    for name, value in make_statements(dossier).items():
        assert value["subject"][0] == {"name": "candidate.json", "digest": {"sha256": fingerprint}}
        predicate = value["predicate"]
        if "test-result" in name:
            digest = next(
                c["digest"]["sha256"] for c in predicate["configuration"] if "evidence" in c["name"]
            )
        elif "summary" in name:
            digest = predicate["inputAttestations"][0]["digest"]["sha256"]
        else:
            continue
        envelope = json.loads((tmp_path / "dossier/files/sha256" / digest).read_bytes())
        signed = json.loads(base64.b64decode(envelope["payload"]))
        entry = dossier.releases.entries[int(name[:6])]
        assert hexes(entry.header.body) == digest
        assert signed["predicateType"] == f"urn:gatelift:{entry.header.kind.value}:v1"


def order(deployment: Deployment) -> None:
    deployment.order()


def later(deployment: Deployment) -> None:
    deployment.now += 2 * HOUR
    deployment.grant()


@pytest.mark.parametrize(
    ("scenes", "results"),
    [
        ((), ["FAILED", "PASSED"]),
        ((order,), ["FAILED", "FAILED"]),
        ((order, lambda d: d.certify()), ["FAILED", "FAILED", "PASSED"]),
        ((later,), ["FAILED", "FAILED"]),
    ],
    ids=["newest", "stopped", "re-opened", "expired"],
)
def test_only_a_certificate_that_stands_at_the_end_of_the_log_has_passed(
    told: Callable[..., VerifiedDossier],
    scenes: tuple[Callable[[Deployment], object], ...],
    results: list[str],
) -> None:
    summaries = [s["predicate"] for s in by_kind(make_statements(told(*scenes)), "summary")]
    assert [each["verificationResult"] for each in summaries] == results
    for each in summaries:
        stands = each["verificationResult"] == "PASSED"
        assert ("GATELIFT_STAGE_assess" in each["verifiedLevels"]) == stands
        assert not any(level.startswith("SLSA_") for level in each["verifiedLevels"])


def test_the_bom_says_the_measured_rates_and_what_is_unknown(
    told: Callable[..., VerifiedDossier],
) -> None:
    dossier = told()
    bom = make_ml_bom(dossier)
    model = bom["components"][0]
    assert (model["type"], model["version"]) == ("machine-learning-model", dossier.fingerprint)
    assert "hashes" not in model, "nobody stated the weights"
    unknown = [p["value"] for p in model["properties"] if p["name"] == "gatelift:unknown"]
    assert "model_part.weights" in unknown
    metrics = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert [m["value"] for m in metrics] == [
        "0 of 60; 0 undetermined, 0 errors",
        "9 of 60; 0 undetermined, 0 errors",
        "0 of 60; 0 undetermined, 0 errors",
    ]
    assert ["does not" in m["slice"] for m in metrics] == [False, True, True]
    risk = model["modelCard"]["considerations"]["ethicalConsiderations"][0]
    assert risk["name"].startswith("cyber_uplift")
    assert "misuse: block" in risk["mitigationStrategy"]


def test_weights_that_were_stated_are_a_hash_and_a_subject(tmp_path: Path) -> None:
    weights = "sha256:" + "ab" * 32
    text = PLAN_FILE.read_text().replace("weights: null", f"weights: {weights}", 1)
    deployment = Deployment(tmp_path / "deployment", World(plan_bytes=text.encode()))
    story(deployment)
    deployment.export(tmp_path / "dossier")
    dossier = open_verified(
        tmp_path / "dossier", anchor_root=None, policy=None, now_ms=deployment.now
    )
    assert make_ml_bom(dossier)["components"][0]["hashes"][0]["content"] == "ab" * 32
    for value in make_statements(dossier).values():
        assert value["subject"][1] == {"name": "weights", "digest": {"sha256": "ab" * 32}}


# -- what they must not say -----------------------------------------------------------------------


def test_neither_prompt_nor_canary_nor_anybodys_name_is_exported(
    told: Callable[..., VerifiedDossier],
) -> None:
    dossier = told()
    assert dossier.candidate.model_part.canaries == ("violet heron",)
    text = json.dumps([make_ml_bom(dossier), make_statements(dossier)])
    for secret in ("violet heron", "Be helpful", "olga", "safety:", "lab.example", "evals.example"):
        assert secret not in text, secret
    assert '"sam"' not in text
    assert '"eve"' not in text


def test_the_same_dossier_gives_the_same_bytes_as_folder_and_archive(
    told: Callable[..., VerifiedDossier], tmp_path: Path
) -> None:
    dossier = told()
    write_archive(tmp_path / "dossier", tmp_path / "dossier.tar")
    again = open_verified(
        tmp_path / "dossier.tar",
        anchor_root=None,
        policy=None,
        now_ms=dossier.at + HOUR,
    )
    assert (dossier.authenticated, again.authenticated) == (True, False)
    assert make_statements(again) == make_statements(dossier)


@pytest.mark.parametrize(
    "row",
    [
        r
        for r in ANY_BYTES
        if r.code in {"root_mismatch", "wrong_bytes", "quorum_not_met"} and "batch" not in r.what
    ],
    ids=lambda row: row.what,
)
def test_nothing_is_exported_from_a_log_that_does_not_hold(tmp_path: Path, row: Any) -> None:
    deployment = Deployment(tmp_path / "deployment")
    deployment.tell()
    deployment.export(tmp_path / "dossier")
    row.change(tmp_path / "dossier", deployment)
    with pytest.raises(ExportError) as caught:
        open_verified(
            tmp_path / "dossier",
            anchor_root=deployment.world.root_digest,
            policy=None,
            now_ms=deployment.now,
        )
    assert f"[{row.code}]" in str(caught.value)


def test_a_foreign_root_is_refused(told: Callable[..., VerifiedDossier], tmp_path: Path) -> None:
    dossier = told()
    with pytest.raises(ExportError, match="wrong_root"):
        open_verified(
            tmp_path / "dossier",
            anchor_root=Digest("sha256:" + "0" * 64),
            policy=None,
            now_ms=dossier.at,
        )
