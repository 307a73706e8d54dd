"""Deployments that did wrong and signed it: every byte is genuine, and the audit still finds it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from gatelift.encoding import sha256_digest
from gatelift.ledger.audit import AuditReport
from gatelift.ledger.verify import verify_dossier
from gatelift.messages import EntryKind, Outcome
from gatelift.trust import QuorumError
from tests.integration.dossier_deployment import SECOND, Deployment, put, put_log
from tests.support import misdeeds_own as own
from tests.support.misdeeds import MISDEEDS, Misdeed, Scene, closed, opened, with_scene
from tests.support.misdeeds_reviews import inside_an_approval
from tests.support.verifiers import by_file, by_package


def told(tmp_path: Path, scene: Scene, *, limit: int = 200) -> Deployment:
    deployment = Deployment(tmp_path / "deployment")
    deployment.requests_limit = limit
    scene(deployment)
    deployment.export(tmp_path / "dossier")
    deployment.put_records(tmp_path / "dossier")
    return deployment


def audit_of(tmp_path: Path, scene: Scene, *, limit: int = 200) -> AuditReport:
    deployment = told(tmp_path, scene, limit=limit)
    return verify_dossier(
        tmp_path / "dossier",
        anchor_root=deployment.world.root_digest,
        policy=None,
        now_ms=deployment.now,
    )


def errors(report: AuditReport) -> set[str]:
    return {finding.code for finding in report.errors}


def many(deployment: Deployment) -> None:
    for _ in range(6):
        deployment.served()


def many_with_open_ones(deployment: Deployment) -> None:
    for _ in range(4):
        deployment.served()
    deployment.start()
    deployment.start()


def other_body(deployment: Deployment) -> None:
    first, second = deployment.headers[1], deployment.headers[2]
    deployment.headers[2] = msgspec.structs.replace(
        second, body=first.body, body_bytes=first.body_bytes
    )


@pytest.mark.parametrize("row", MISDEEDS, ids=[row.what for row in MISDEEDS])
def test_a_signed_wrong_is_found(tmp_path: Path, row: Misdeed) -> None:
    deployment = told(tmp_path, row.scene)
    asked = {"root": deployment.world.root_digest, "now_ms": deployment.now}
    answer = by_package(tmp_path / "dossier", **asked)
    assert row.code in answer.errors, answer.said
    assert answer.exit_code == 1
    # The one file finds it by the same code, or says that it does not judge such things.
    answer = by_file(tmp_path / "dossier", **asked)
    assert row.by_file in answer.errors if row.by_file else row.code not in answer.errors
    assert answer.exit_code == (1 if answer.errors else 0), answer.said
    assert answer.said["not_judged"]


def test_certificates_inside_what_was_approved_hold_by_both(tmp_path: Path) -> None:
    deployment = told(tmp_path, with_scene(inside_an_approval))
    asked = {"root": deployment.world.root_digest, "now_ms": deployment.now}
    for verify in (by_package, by_file):
        answer = verify(tmp_path / "dossier", **asked)
        assert not answer.errors, answer.said
    certificates = [h for h in deployment.headers if h.kind is EntryKind.CERTIFICATE]
    assert len(certificates) == 3


def test_the_same_scenes_told_rightly_hold(tmp_path: Path) -> None:
    def scene(deployment: Deployment) -> None:
        opened(deployment)
        deployment.serve_some()
        deployment.observe()
        closed(deployment)

    deployment = told(tmp_path, scene)
    for verify in (by_package, by_file):
        answer = verify(
            tmp_path / "dossier", root=deployment.world.root_digest, now_ms=deployment.now
        )
        assert (answer.exit_code, answer.errors, answer.warnings) == (0, set(), set()), answer.said


@pytest.mark.parametrize("disclosed", [True, False])
def test_own_calls_told_rightly_hold(tmp_path: Path, *, disclosed: bool) -> None:
    deployment = told(tmp_path, with_scene(lambda d: own.rightly(d, disclosed=disclosed)))
    for verify in (by_package, by_file):
        answer = verify(
            tmp_path / "dossier", root=deployment.world.root_digest, now_ms=deployment.now
        )
        assert (answer.exit_code, answer.errors, answer.warnings) == (0, set(), set()), answer.said


@pytest.mark.parametrize("scene", [many, many_with_open_ones])
def test_a_cap_holds_at_its_limit_and_one_more_is_found(tmp_path: Path, scene: Scene) -> None:
    at_limit = audit_of(tmp_path / "at", with_scene(scene), limit=6)
    above = audit_of(tmp_path / "above", with_scene(scene), limit=5)
    assert errors(at_limit) == set()
    assert errors(above) == {"cap_exceeded"}


def test_an_exchange_before_an_order_could_arrive_is_no_fault(tmp_path: Path) -> None:
    def scene(deployment: Deployment) -> None:
        deployment.order()
        deployment.now += 10 * SECOND
        deployment.served()

    assert errors(audit_of(tmp_path, with_scene(scene))) == set()


def test_an_exchange_that_is_open_is_reported_and_no_error(tmp_path: Path) -> None:
    report = audit_of(tmp_path, with_scene(lambda d: d.start()))
    assert [f.code for f in report.findings] == ["open_start"]
    assert report.counts["exchanges_open"] == 1


def test_batches_beyond_the_newest_head_are_reported(tmp_path: Path) -> None:
    def scene(deployment: Deployment) -> None:
        with_scene(lambda d: d.served())(deployment)
        deployment.denied(Outcome.CAPPED)
        deployment.commit()

    report = audit_of(tmp_path, scene)
    assert [f.code for f in report.findings] == ["not_anchored"]
    assert report.exit_code == 0


def test_an_entry_with_the_body_of_another_kind_is_not_exported(tmp_path: Path) -> None:
    deployment = opened(Deployment(tmp_path / "deployment"))
    other_body(deployment)
    with pytest.raises(QuorumError):
        deployment.export(tmp_path / "dossier")
    assert not list(tmp_path.glob("*dossier*"))


def test_batches_that_no_journal_holds_are_listed_and_missed(tmp_path: Path) -> None:
    deployment = opened(Deployment(tmp_path / "deployment"))
    deployment.served()
    closed(deployment)
    deployment.frames.clear()
    summary = deployment.export(tmp_path / "dossier")
    assert summary.manifest.missing == ("test.example/requests/n1/2026-09#0",)
    report = verify_dossier(
        tmp_path / "dossier",
        anchor_root=deployment.world.root_digest,
        policy=None,
        now_ms=deployment.now,
    )
    assert "record_missing" in errors(report)


def rotated(deployment: Deployment) -> None:
    opened(deployment)
    deployment.served()
    closed(deployment)
    deployment.rotate()
    deployment.certify()
    deployment.served()
    deployment.observe()
    closed(deployment)


def test_a_log_that_outlives_its_root_holds_under_both(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path / "deployment")
    first = deployment.world.root_digest
    rotated(deployment)
    second = sha256_digest(deployment.files[deployment.state.root_digest or first])
    deployment.export(tmp_path / "dossier")
    for anchor in (first, second):
        for verify in (by_package, by_file):
            answer = verify(tmp_path / "dossier", root=anchor, now_ms=deployment.now)
            assert (answer.exit_code, answer.errors, answer.warnings) == (0, set(), set())
    assert first != second


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"version": 3}, "not_successor"), ({"name": "other.example"}, "not_successor")],
)
def test_a_root_that_does_not_follow_is_found(
    tmp_path: Path, changes: dict[str, object], code: str
) -> None:
    deployment = Deployment(tmp_path / "deployment")
    opened(deployment)
    deployment.export(tmp_path / "dossier")
    before = deployment.world.root
    deployment.rotate(**changes)
    deployment.world.root = before
    put_log(tmp_path / "dossier/releases", deployment.leaves(), deployment.releases_note())
    body = deployment.headers[-1 if deployment.headers[-1].kind is EntryKind.ROOT else -2].body
    put(
        tmp_path / "dossier/files/sha256" / body.removeprefix("sha256:"),
        deployment.files[body],
    )
    report = verify_dossier(
        tmp_path / "dossier",
        anchor_root=deployment.world.root_digest,
        policy=None,
        now_ms=deployment.now,
    )
    assert code in errors(report)


def test_records_and_runs_go_on_over_the_end_of_a_month(tmp_path: Path) -> None:
    deployment = opened(Deployment(tmp_path / "deployment"))
    deployment.served("one")
    start = deployment.start("two")
    deployment.commit()
    deployment.head()
    deployment.next_month()
    deployment.finish(start)
    deployment.served("three")
    deployment.commit()
    deployment.head()
    deployment.observe()
    deployment.export(tmp_path / "dossier")
    report = verify_dossier(
        tmp_path / "dossier",
        anchor_root=deployment.world.root_digest,
        policy=None,
        now_ms=deployment.now,
    )
    assert report.findings == ()
    assert (report.counts["requests_logs"], report.counts["exchanges"]) == (2, 3)
