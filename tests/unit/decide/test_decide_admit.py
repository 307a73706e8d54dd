"""What control refuses to log, and with which code."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from gatelift.decide import AdmitError, check_entry
from gatelift.encoding import sha256_digest
from gatelift.messages import Body, EntryKind, PlanAdoption, Revocation, Tick
from gatelift.terms import (
    Assurance,
    Binding,
    Endpoint,
    Envelope,
    Sealing,
    Severity,
    ThresholdVerdict,
    Tier,
)
from gatelift.trust import After, Clear, Grant, GrantKey, TargetKind
from tests.support.world import HOUR
from tests.unit.decide.build import Story, assessed, at, refusal

NOBODY = sha256_digest(b"nobody")


def ready() -> Story:
    return assessed().review_all("internal")


def after(size: int) -> Callable[[Story], dict[str, Any]]:
    return lambda s: {"after": After(origin="test.example/releases", size=size, root="AA==")}


CERTIFICATES: list[tuple[str, Callable[[Story], dict[str, Any]], str]] = [
    ("wider than the plan", lambda s: {"envelope": Envelope()}, "envelope_too_wide"),
    ("of another plan", lambda s: {"plan": NOBODY}, "wrong_plan"),
    ("of another candidate", lambda s: {"fingerprint": NOBODY}, "wrong_candidate"),
    ("of another root", lambda s: {"root_version": 2}, "wrong_root_version"),
    (
        "with a verdict of its own",
        lambda s: {"thresholds": {"cyber_uplift": ThresholdVerdict.REACHED}},
        "wrong_verdicts",
    ),
    ("without its evidence", lambda s: {"evidence": ()}, "evidence_not_listed"),
    (
        "with evidence that nobody logged",
        lambda s: {"evidence": (*s.certificate_value("internal").evidence, NOBODY)},
        "unknown_digest",
    ),
    ("clearing an order that is not there", lambda s: {"clears": ("order_x",)}, "unknown_order"),
    ("out of sequence", lambda s: {"sequence": 2}, "wrong_sequence"),
    ("after a checkpoint to come", lambda s: after(s.state.size + 1)(s), "wrong_after"),
    ("after an empty log", after(0), "wrong_after"),
    ("signed before the evidence", after(5), "after_too_old"),
    (
        "of another log",
        lambda s: {"after": After(origin="else/releases", size=1, root="AA==")},
        "wrong_after",
    ),
    (
        "binding beyond what is measured",
        lambda s: _levels(s, binding=Binding.MEASURED),
        "binding_overstated",
    ),
    ("expired", lambda s: {"not_before": 1, "not_after": 2}, "expired"),
    (
        "longer than the plan allows",
        lambda s: {"not_after": s.now + 7 * HOUR},
        "window_too_long",
    ),
    (
        "assurance beyond its signers",
        lambda s: _levels(s, assurance=Assurance.WITNESSED),
        "assurance_overstated",
    ),
]


def _levels(story: Story, **changes: Any) -> dict[str, Any]:
    levels = story.certificate_value("internal").levels
    return {"levels": msgspec.structs.replace(levels, **changes)}


@pytest.mark.parametrize(
    ("wrong", "code"), [pytest.param(*case[1:], id=case[0]) for case in CERTIFICATES]
)
def test_a_certificate_is_refused(wrong: Callable[[Story], dict[str, Any]], code: str) -> None:
    story = ready()
    assert refusal(story.certify, "internal", **wrong(story)) == code


def test_a_certificate_says_more_sealing_than_probes_show() -> None:
    story = assessed()
    story.probe(sealing=Sealing.OPEN).review_all("internal")
    assert refusal(story.certify, "internal") == "sealing_overstated"


def test_a_verdict_better_than_the_computed_one_is_refused() -> None:
    story = assessed()
    story.assess(s=9)
    story.prove_measure()
    story.review_all("internal")
    said = {"cyber_uplift": ThresholdVerdict.RULED_OUT}
    assert refusal(story.certify, "internal", thresholds=said) == "wrong_verdicts"
    story.certify("internal")


def test_a_certificate_at_a_shut_gate_is_refused_with_every_reason() -> None:
    story = assessed()
    with pytest.raises(AdmitError) as caught:
        story.certify("internal")
    assert caught.value.code == "gate_shut"
    assert [each.code for each in caught.value.reasons] == ["review_missing"]
    assert "have the role review it" in str(caught.value)


def test_a_certificate_that_leaves_a_stop_standing_is_refused() -> None:
    story = ready()
    order = story.order(TargetKind.STAGE, "internal")
    story.assess()
    story.review_all("internal")
    assert refusal(story.certify, "internal", clears=()) == "order_not_cleared"
    story.certify("internal", clears=(order,))
    # The newest certificate alone counts, so a renewal has to say it again.
    assert refusal(story.certify, "internal", clears=()) == "order_not_cleared"


def test_block_rules_alone_need_no_clearing() -> None:
    story = ready()
    story.order(TargetKind.RELEASE, "aurora", ceiling=Envelope())
    story.certify("internal")


def test_half_a_quorum_is_refused() -> None:
    story = ready()
    value = story.certificate_value("internal")
    assert refusal(story.log, EntryKind.CERTIFICATE, value, "operator:olga") == "quorum_unmet"


EVIDENCE: list[tuple[str, dict[str, Any], str]] = [
    ("of another assessment", {"assessment": "other"}, "other_parameters"),
    ("of another metric", {"metric": "other"}, "other_parameters"),
    ("with more attempts than promised", {"n": 61}, "other_parameters"),
    ("with more harm than attempts", {"s": 61}, "other_parameters"),
    ("of another candidate", {"fingerprint": NOBODY}, "wrong_candidate"),
    ("that ended before its commit", {"started": 1, "finished": 2}, "bad_times"),
]


@pytest.mark.parametrize(
    ("wrong", "code"), [pytest.param(*case[1:], id=case[0]) for case in EVIDENCE]
)
def test_evidence_is_refused(wrong: dict[str, Any], code: str) -> None:
    story = assessed()
    commit = story.commit()
    assert refusal(story.result, commit, **wrong) == code


def test_evidence_takes_one_commit_made_before_it_and_in_time() -> None:
    story = assessed()
    assert refusal(story.result, "commit_x") == "no_commit"
    commit = story.commit(deadline=story.now + 1000)
    story.result(commit)
    assert refusal(story.result, commit) == "second_evidence"
    late = story.commit(deadline=story.now + 1000)
    assert refusal(story.later(2000).result, late) == "deadline_passed"
    story.result("commit_y", admit=False)
    assert refusal(story.commit, id="commit_y") == "commit_after_evidence"
    assert refusal(story.commit, id=commit) == "id_taken"


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"comparator": "above"}, "bad_commit"),
        ({"attempts": 0}, "bad_commit"),
        ({"limit": Decimal("NaN")}, "bad_commit"),
        ({"margin": Decimal("0.2")}, "bad_commit"),
        ({"deadline": 1}, "deadline_passed"),
        ({"fingerprint": NOBODY}, "wrong_candidate"),
    ],
)
def test_a_commit_is_refused(wrong: dict[str, Any], code: str) -> None:
    assert refusal(assessed().commit, **wrong) == code


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"plan": NOBODY}, "unknown_digest"),
        ({"fingerprint": NOBODY}, "wrong_candidate"),
        ({"evidence": (NOBODY,)}, "unknown_digest"),
        ({"stage": "moon"}, "unknown_stage"),
        ({"release": "other"}, "wrong_release"),
    ],
)
def test_a_review_is_refused(wrong: dict[str, Any], code: str) -> None:
    wrong = dict(wrong)
    stage = wrong.pop("stage", "internal")
    assert refusal(assessed().review, stage, **wrong) == code


@pytest.mark.parametrize("approves", [False, True], ids=["refusal", "approval"])
def test_nobody_else_withdraws_a_review(approves: bool) -> None:
    story = assessed()
    digest = story.review("internal", "overseer:vera", approves=approves)
    value = Revocation(body=digest, reason="no")
    assert refusal(story.log, EntryKind.REVOCATION, value, "safety:sam") == "review_of_another"
    # Logged all the same, it has no effect.
    story.log(EntryKind.REVOCATION, value, "safety:sam", admit=False)
    assert digest not in story.state.revoked
    story.log(EntryKind.REVOCATION, value, "overseer:vera")
    assert refusal(story.log, EntryKind.REVOCATION, value, "overseer:vera") == "already_revoked"
    unknown = Revocation(body=NOBODY, reason="no")
    assert refusal(story.log, EntryKind.REVOCATION, unknown, "safety:sam") == "unknown_digest"


def test_counts_never_go_back() -> None:
    story = at("internal")
    story.traffic("internal", {"a": (8, 2)})
    assert refusal(story.traffic, "internal", {"a": (7, 2)}) == "goes_back"
    assert refusal(story.traffic, "internal", {"a": (8, 9)}) == "bad_counts"
    assert refusal(story.traffic, "internal", {"a": (8, 2)}, stretch=2) == "stretch_skipped"
    assert refusal(story.traffic, "internal", {"a": (8, 2)}, metric="x") == "unknown_metric"
    unknown = {"certificate": NOBODY}
    assert refusal(story.traffic, "internal", {"a": (1, 0)}, **unknown) == "unknown_certificate"
    story.traffic("internal", {"a": (8, 1)})  # a label was overturned
    story.events("internal", 2)
    assert refusal(story.events, "internal", 1) == "goes_back"


def test_a_running_release_keeps_its_plan() -> None:
    story = assessed()
    assert refusal(story.adopt) == "plan_in_force"
    story.later(2 * HOUR)
    story.adopt()
    value = PlanAdoption(release="x", plan=story.world.plan_digest, candidate=NOBODY)
    assert refusal(story.log, EntryKind.PLAN, value, "operator:olga") == "wrong_release"


def grant(story: Story, **changes: Any) -> Grant:
    story.serial += 1
    value = Grant(
        id=f"grant_{story.serial}",
        release="aurora",
        stage="internal",
        principal="p",
        organisation="org",
        project="x",
        tier=Tier.INTERNAL,
        endpoints=(Endpoint.CHAT,),
        proofs=("identity",),
        vetting=None,
        keys=(GrantKey(public_id=f"k{story.serial}", digest=NOBODY),),
        not_before=story.now,
        not_after=story.now + HOUR,
    )
    return msgspec.structs.replace(value, **changes)


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"tier": Tier.PUBLIC}, "grant_too_wide"),
        ({"proofs": ()}, "grant_lacks_proof"),
        ({"stage": "moon"}, "unknown_stage"),
        ({"not_before": 1, "not_after": 2}, "grant_expired"),
        ({"keys": (GrantKey(public_id="k1", digest=NOBODY),)}, "id_taken"),
        ({"release": "x"}, "wrong_release"),
    ],
)
def test_a_grant_outside_its_stage_is_refused(wrong: dict[str, Any], code: str) -> None:
    story = assessed()
    story.serial = 0
    story.log(EntryKind.GRANT, grant(story), "admissions:ada")
    value = grant(story, **wrong)
    assert refusal(story.log, EntryKind.GRANT, value, "admissions:ada") == code


def test_a_stage_admits_no_more_organisations_than_its_plan() -> None:
    story = assessed()
    for k in range(10):
        story.log(EntryKind.GRANT, grant(story, organisation=f"o{k}"), "admissions:ada")
    story.log(EntryKind.GRANT, grant(story, organisation="o3"), "admissions:ada")
    value = grant(story, organisation="one more")
    assert refusal(story.log, EntryKind.GRANT, value, "admissions:ada") == "organisations_full"


def test_orders_are_logged_once_and_cleared_by_the_right_hand() -> None:
    story = assessed()
    stage = story.order(TargetKind.STAGE, "internal")
    organisation = story.order(TargetKind.ORGANISATION, "org")
    assert refusal(story.order, TargetKind.STAGE, "internal", id=stage, at=1) == "id_taken"
    data = story.world.sign("order", story.state.orders[stage].standing.order, "stop:sam")
    body = Body(kind=EntryKind.ORDER, value=story.state.orders[stage].standing.order, signers=())
    with pytest.raises(AdmitError, match="nothing to do") as caught:
        check_entry(story.state, EntryKind.ORDER, body, data, story.now, story.read)
    assert caught.value.code == "already_logged"

    def clear(*orders: str) -> Any:
        value = Clear(release="aurora", orders=orders, at=story.now)
        return refusal(story.log, EntryKind.CLEAR, value, "admissions:ada", "safety:sam")

    assert clear(stage) == "not_clearable"
    assert clear("order_x") == "unknown_order"
    value = Clear(release="aurora", orders=(organisation,), at=story.now)
    story.log(EntryKind.CLEAR, value, "admissions:ada", "safety:sam")
    assert clear(organisation) == "unknown_order"


def test_incidents_follow_their_rules() -> None:
    story = assessed()
    incident = story.incident(Severity.SEV_2)
    assert refusal(story.incident, source="watch:x") == "source_of_control"
    assert refusal(story.change, incident, severity=Severity.SEV_4) == "severity_down_alone"
    assert refusal(story.change, incident, resolved_at=story.now) == "not_contained"
    assert refusal(story.change, "incident_x") == "unknown_incident"
    story.change(incident, "safety:sam", "overseer:vera", severity=Severity.SEV_4)
    assert story.state.incidents[incident].severity is Severity.SEV_4


def test_probes_come_from_enrolled_nodes_about_enrolled_placements() -> None:
    story = assessed()
    assert refusal(story.probe, node="n9") == "unknown_node"
    assert refusal(story.probe, placement="p9") == "unknown_placement"
    assert refusal(story.probe, changed=17) == "bad_probe"


def test_a_body_of_another_kind_is_refused() -> None:
    story = assessed()
    body = Body(kind=EntryKind.TICK, value=Tick(release="aurora"), signers=())
    with pytest.raises(AdmitError) as caught:
        check_entry(story.state, EntryKind.HEAD, body, b"", story.now, story.read)
    assert caught.value.code == "wrong_kind"
