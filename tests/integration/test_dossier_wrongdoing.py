"""Deployments that did wrong and signed it: every byte is genuine, and the audit still finds it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from gatelift.encoding import encode_base64, sha256_digest
from gatelift.ledger.audit import AuditReport
from gatelift.ledger.verify import verify_dossier
from gatelift.messages import EntryKind, Outcome, Probe, Revocation, Tick
from gatelift.terms import Cap, CapUnit, Envelope, Scope, Sealing, Subject, Window
from gatelift.tlog import MemoryTree
from gatelift.trust import After, QuorumError
from tests.integration.dossier_deployment import SECOND, Deployment, put, put_log
from tests.support.world import HOUR

Scene = Callable[[Deployment], object]


def opened(deployment: Deployment) -> Deployment:
    deployment.begin()
    deployment.certify()
    deployment.grant()
    return deployment


def closed(deployment: Deployment) -> None:
    if deployment.pending:
        deployment.commit()
    deployment.head()


def audit_of(tmp_path: Path, scene: Scene, *, limit: int = 200) -> AuditReport:
    deployment = Deployment(tmp_path / "deployment")
    deployment.requests_limit = limit
    scene(deployment)
    deployment.export(tmp_path / "dossier")
    deployment.put_records(tmp_path / "dossier")
    return verify_dossier(
        tmp_path / "dossier",
        anchor_root=deployment.world.root_digest,
        policy=None,
        now_ms=deployment.now,
    )


def errors(report: AuditReport) -> set[str]:
    return {finding.code for finding in report.errors}


def with_scene(scene: Scene) -> Scene:
    def told(deployment: Deployment) -> None:
        opened(deployment)
        scene(deployment)
        closed(deployment)

    return told


def after_stop(deployment: Deployment) -> None:
    deployment.order()
    deployment.now += 12 * SECOND
    deployment.served()


def outlived(deployment: Deployment) -> None:
    start = deployment.start()
    deployment.order()
    deployment.now += 30 * SECOND
    deployment.finish(start)


def stopped_by_lower_ceiling(deployment: Deployment) -> None:
    deployment.order(ceiling=Envelope(scope=Scope(output_tokens=10)))
    deployment.now += 12 * SECOND
    deployment.served()


def lower_cap_by_order(deployment: Deployment) -> None:
    cap = Cap(subject=Subject.PRINCIPAL, unit=CapUnit.REQUESTS, window=Window.MINUTE, limit=2)
    deployment.order(ceiling=Envelope(caps=(cap,)))
    deployment.now += 60 * SECOND
    for _ in range(3):
        deployment.served()


def many(deployment: Deployment) -> None:
    for _ in range(6):
        deployment.served()


def many_with_open_ones(deployment: Deployment) -> None:
    for _ in range(4):
        deployment.served()
    deployment.start()
    deployment.start()


def twice_finished(deployment: Deployment) -> None:
    start = deployment.start()
    deployment.finish(start)
    deployment.finish(start)


def omitted(deployment: Deployment) -> None:
    deployment.served()
    deployment.commit()
    deployment.seqs["w0", "r0"] += 2
    deployment.served()


def repeated_numbers(deployment: Deployment) -> None:
    deployment.served()
    deployment.commit()
    deployment.seqs["w0", "r0"] -= 1
    deployment.beat()


def finished_as_another(deployment: Deployment) -> None:
    deployment.finish(deployment.start(), organisation="other.example")


def closed_by_another(deployment: Deployment) -> None:
    start = deployment.start()
    deployment.commit()
    deployment.finish(start, run=("w1", "r9"))
    deployment.commit(("w1", "r9"))


def spent_more(deployment: Deployment) -> None:
    start = deployment.start()
    spent = tuple(msgspec.structs.replace(c, amount=33) for c in start.reserved)
    deployment.finish(start, spent=spent)


def charged_less(deployment: Deployment) -> None:
    start = deployment.start()
    spent = tuple(msgspec.structs.replace(c, amount=0) for c in start.reserved)
    deployment.finish(start, spent=spent)


def charged_to_another(deployment: Deployment) -> None:
    start = deployment.start()
    reserved = tuple(
        msgspec.structs.replace(c, counter=c.counter.replace("principal-g1", "principal-g2"))
        for c in start.reserved
    )
    deployment.pending["w0", "r0"][-1] = start = msgspec.structs.replace(start, reserved=reserved)
    deployment.finish(start)


def charged_to_past(deployment: Deployment) -> None:
    start = deployment.start()
    reserved = tuple(
        msgspec.structs.replace(c, window=c.window - 86_400_000) for c in start.reserved
    )
    deployment.pending["w0", "r0"][-1] = start = msgspec.structs.replace(start, reserved=reserved)
    deployment.finish(start)


def expired(deployment: Deployment) -> None:
    deployment.now += 2 * HOUR
    deployment.served()


def inflated(deployment: Deployment) -> None:
    deployment.served()
    deployment.commit()
    # More units seen than there were: a gate would open sooner.
    seen = deployment.counter.observations()[0]
    counted = tuple(msgspec.structs.replace(c, n=c.n + 9) for c in seen.organisations)
    deployment.observe(n=seen.n + 9, units=seen.units + 9, organisations=counted)


def observed_beyond(deployment: Deployment) -> None:
    deployment.served()
    deployment.commit()
    seen = deployment.counter.observations()[0]
    far = tuple(msgspec.structs.replace(r, last=r.last + 50) for r in seen.ranges)
    deployment.observe(ranges=far)


def forged_decision(deployment: Deployment) -> None:
    deployment.log(EntryKind.TICK, Tick(release="aurora"), "control:machine")
    deployment.settle(stage=None, figures=())


def other_history(deployment: Deployment) -> None:
    deployment.served()
    deployment.commit()
    deployment.head(note=deployment.requests_note([b"another batch"]))


def longer_history(deployment: Deployment) -> None:
    deployment.served()
    deployment.commit()
    more = [*deployment.batches, b"more"]
    deployment.head(note=deployment.requests_note(more))


def traversal(deployment: Deployment) -> None:
    deployment.served()
    deployment.commit()
    deployment.head(origin="test.example/requests/../../2026-09")


def past_order(deployment: Deployment) -> None:
    deployment.order()
    deployment.certify(admit=False, clears=())


def one_signer(deployment: Deployment) -> None:
    deployment.certify("operator:olga", admit=False)


def too_wide(deployment: Deployment) -> None:
    deployment.certify(admit=False, envelope=Envelope())


def after_nothing(deployment: Deployment) -> None:
    root = encode_base64(MemoryTree([b"another log"]).root())
    deployment.certify(after=After(origin="test.example/releases", size=1, root=root))


def shut_gate(deployment: Deployment) -> None:
    # Signed and logged although the gate of stage zero is shut: no placement is up any more.
    probe = Probe(
        node="n1", placement="p1", sealing=Sealing.DECLARED, changed=0, of=16, up=False, reason="x"
    )
    deployment.log(EntryKind.PROBE, probe, "control:machine")
    deployment.settle()
    deployment.certify(admit=False)


def unknown_revocation(deployment: Deployment) -> None:
    value = Revocation(body=sha256_digest(b"nothing"), reason="x")
    deployment.log(EntryKind.REVOCATION, value, "safety:sam", admit=False)
    deployment.settle()


def header_change(index: int, **changes: object) -> Scene:
    def scene(deployment: Deployment) -> None:
        opened(deployment)
        deployment.headers[index] = msgspec.structs.replace(deployment.headers[index], **changes)

    return scene


WRONG: list[tuple[str, Scene, str]] = [
    ("served after a stop", with_scene(after_stop), "served_under_stop"),
    ("a stream outlived a stop", with_scene(outlived), "outlived_stop"),
    ("served above a lowered ceiling", with_scene(stopped_by_lower_ceiling), "outside_envelope"),
    ("over a cap lowered by an order", with_scene(lower_cap_by_order), "cap_exceeded"),
    ("finished twice", with_scene(twice_finished), "finish_without_start"),
    ("records omitted", with_scene(omitted), "sequence_gap"),
    ("numbers used twice", with_scene(repeated_numbers), "sequence_overlap"),
    ("finish of another organisation", with_scene(finished_as_another), "finish_differs"),
    ("closed by another worker", with_scene(closed_by_another), "foreign_finish"),
    ("spent above reserve", with_scene(spent_more), "spent_above_reserved"),
    ("charged too little", with_scene(charged_less), "charged_too_little"),
    ("charged to another principal", with_scene(charged_to_another), "bad_charge"),
    ("charged to another window", with_scene(charged_to_past), "bad_charge"),
    (
        "cap not charged",
        with_scene(lambda d: d.finish(d.start(reserved=()))),
        "cap_not_charged",
    ),
    ("served without certificate", with_scene(lambda d: d.finish(d.start(certificate=None))),
     "no_certificate"),
    ("under a certificate never logged", with_scene(
        lambda d: d.finish(d.start(certificate=sha256_digest(b"secret deal")))
    ), "no_certificate"),
    ("for another candidate", with_scene(
        lambda d: d.finish(d.start(fingerprint=sha256_digest(b"other weights")))
    ), "wrong_certificate"),
    ("after the certificate expired", with_scene(expired), "outside_window"),
    ("longer than the stage allows", with_scene(lambda d: d.served(output_tokens=65)),
     "outside_envelope"),
    ("without a grant", with_scene(lambda d: d.finish(d.start(grant="g9"))), "no_grant"),
    ("observation inflated", with_scene(inflated), "observation_differs"),
    ("observation of records to come", with_scene(observed_beyond), "not_recounted"),
    ("decision altered", with_scene(forged_decision), "decision_differs"),
    ("another history anchored", with_scene(other_history), "split_view"),
    ("end of the log withheld", with_scene(longer_history), "log_truncated"),
    ("a head that climbs out of its folder", with_scene(traversal), "bad_name"),
    ("certificate past an order", with_scene(past_order), "granted_over_order"),
    ("certificate by one person", with_scene(one_signer), "quorum_unmet"),
    ("certificate too wide", with_scene(too_wide), "envelope_too_wide"),
    ("certificate after another log", with_scene(after_nothing), "wrong_after"),
    ("certificate through a shut gate", with_scene(shut_gate), "not_admissible"),
    ("revocation of nothing", with_scene(unknown_revocation), "not_admissible"),
    ("time went back", header_change(3, at=1), "time_went_back"),
    ("other signers named", header_change(3, actor=("overseer:vera",)), "actor_mismatch"),
    ("size of a body", header_change(3, body_bytes=1), "body_size"),
    ("transaction left open", header_change(-1, end=False), "group_open"),
]  # fmt: skip


def other_body(deployment: Deployment) -> None:
    first, second = deployment.headers[1], deployment.headers[2]
    deployment.headers[2] = msgspec.structs.replace(
        second, body=first.body, body_bytes=first.body_bytes
    )


@pytest.mark.parametrize(
    ("scene", "code"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG]
)
def test_a_signed_wrong_is_found(tmp_path: Path, scene: Scene, code: str) -> None:
    report = audit_of(tmp_path, scene)
    assert code in errors(report), report.findings
    assert report.exit_code == 1


def test_the_same_scenes_told_rightly_hold(tmp_path: Path) -> None:
    def scene(deployment: Deployment) -> None:
        opened(deployment)
        deployment.serve_some()
        deployment.observe()
        closed(deployment)

    report = audit_of(tmp_path, scene)
    assert report.findings == ()
    assert report.exit_code == 0


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
        report = verify_dossier(
            tmp_path / "dossier", anchor_root=anchor, policy=None, now_ms=deployment.now
        )
        assert report.findings == ()
        assert (first != second, report.exit_code) == (True, 0)


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
