"""A gate is shut for every reason to be unsure, says which, and opens only when all are gone."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from gatelift.decide import gate
from gatelift.terms import Posture, Sealing, Severity
from gatelift.trust import TargetKind
from tests.support.world import HOUR
from tests.unit.decide.build import Story, assessed, at, begun, codes

DAY = 24 * HOUR


def ready() -> Story:
    """Stage internal could be certified: evidence and review are there."""
    return assessed().review_all("internal")


def soaked() -> Story:
    """Stage researchers could be certified: clean traffic in internal, reviews."""
    return at("internal").serve_clean("internal").review_all("researchers")


def test_with_everything_there_the_gates_are_open() -> None:
    for story, stage in ((begun(), "assess"), (ready(), "internal"), (soaked(), "researchers")):
        assert gate(story.state, stage, story.now) == ()


def _reassess(s: int = 0, **changes: object) -> Callable[[Story], object]:
    def act(story: Story) -> None:
        story.result(story.commit(**changes), s)
        story.review_all("internal")

    return act


def _abandon(story: Story) -> None:
    story.commit(deadline=story.now + 1000)
    story.later(2000)


def _refuse(story: Story) -> None:
    story.review("internal", "overseer:vera", approves=False)


def _revoke_evidence(story: Story) -> None:
    from gatelift.messages import EntryKind, Revocation

    for entry in story.state.evidence:
        value = Revocation(body=entry.digest, reason="wrong")
        story.log(EntryKind.REVOCATION, value, "overseer:vera")


def _revoke_review(story: Story) -> None:
    from gatelift.messages import EntryKind, Revocation

    for entry in story.state.reviews:
        value = Revocation(body=entry.digest, reason="wrong")
        by = entry.signers[0]
        story.log(EntryKind.REVOCATION, value, f"{by.role}:{by.person}")


SHUT: list[tuple[str, str, Callable[[Story], object], set[str]]] = [
    ("placement re-enrolled, not probed", "internal", Story.enrol, {"placement_unprobed"}),
    (
        "placement down",
        "internal",
        lambda s: s.probe(up=False, reason="refused"),
        {"placement_down"},
    ),
    ("three answers changed", "internal", lambda s: s.probe(changed=3), {"drift"}),
    (
        "nothing compares answers",
        "internal",
        lambda s: s.enrol(baseline=None).probe(of=0),
        {"drift_unknown"},
    ),
    (
        "evidence a second too old",
        "internal",
        lambda s: s.later(HOUR),
        {"evidence_stale", "review_stale", "earlier_stage_missing"},
    ),
    ("evidence revoked", "internal", _revoke_evidence, {"evidence_revoked"}),
    ("review withdrawn", "internal", _revoke_review, {"review_withdrawn"}),
    ("a role that nobody asked refuses", "internal", _refuse, {"review_refused"}),
    (
        "review does not know the newest run",
        "internal",
        Story.assess,
        {"review_other_digests"},
    ),
    ("a run is announced and not here", "internal", Story.commit, {"commit_pending"}),
    (
        "an abandoned run leaves the threshold open, its measure unproven",
        "internal",
        _abandon,
        {"evidence_missing"},
    ),
    (
        "a bad run cannot be diluted, its measure is unproven",
        "internal",
        _reassess(s=9),
        {"evidence_missing"},
    ),
    ("an incident is open", "internal", Story.incident, {"incidents_open"}),
    (
        "a stage held down before it",
        "internal",
        lambda s: s.order(TargetKind.STAGE, "assess"),
        {"earlier_stage_missing", "earlier_stage_narrowed"},
    ),
    (
        "an order on the stage itself makes evidence and review old",
        "internal",
        lambda s: s.order(TargetKind.STAGE, "internal"),
        {"evidence_before_stop", "review_before_stop"},
    ),
    (
        "an upstream that answers without our credential",
        "researchers",
        lambda s: s.probe(sealing=Sealing.OPEN),
        {"sealing_below"},
    ),
    (
        "one more harmful unit",
        "researchers",
        lambda s: s.traffic("internal", {"org0": (50, 5)}, stretch=1),
        {"not_cleared"},
    ),
    (
        "open units count as harmful",
        "researchers",
        lambda s: s.traffic("internal", {f"org{k}": (10, 0) for k in range(6)}, unlabelled=9),
        {"not_cleared"},
    ),
]


@pytest.mark.parametrize(
    ("stage", "break_it", "expected"),
    [pytest.param(*case[1:], id=case[0]) for case in SHUT],
)
def test_what_is_missing_shuts_the_gate_and_is_named(
    stage: str, break_it: Callable[[Story], object], expected: set[str]
) -> None:
    story = ready() if stage == "internal" else soaked()
    assert gate(story.state, stage, story.now) == ()
    break_it(story)
    assert codes(gate(story.state, stage, story.now)) == expected


def test_no_gate_opens_before_plan_placement_and_root() -> None:
    story = Story()
    assert codes(gate(story.state, "assess", story.now)) == {"plan_missing"}
    story.adopt()
    assert codes(gate(story.state, "assess", story.now)) == {"placement_missing"}
    story.enrol()
    assert codes(gate(story.state, "assess", story.now)) == {"placement_unprobed"}
    story.probe()
    assert gate(story.state, "assess", story.now) == ()
    assert codes(gate(story.state, "assess", story.now + 2000 * HOUR)) == {"root_expired"}
    assert codes(gate(story.state, "moon", story.now)) == {"unknown_stage"}


def test_an_empty_stage_gives_no_soak() -> None:
    story = at("internal").later(11_000).review_all("researchers")
    assert codes(gate(story.state, "researchers", story.now)) == {
        "soak_sessions",
        "soak_organisations",
        "not_cleared",
    }


def test_soak_time_stops_with_a_stop_and_starts_again_with_a_reopening() -> None:
    story = soaked()
    story.order(TargetKind.STAGE, "internal")
    story.later(DAY // 24 // 4)
    story.assess()
    story.open_stage("internal")
    story.review_all("researchers")
    found = codes(gate(story.state, "researchers", story.now))
    assert found == {"soak_time", "soak_sessions", "soak_organisations", "not_cleared"}


def test_evidence_without_a_commit_never_counts() -> None:
    story = begun()
    story.open_stage("assess")
    story.result("commit_nowhere", admit=False)
    assert "evidence_missing" in codes(gate(story.state, "internal", story.now))


def test_evidence_after_its_deadline_never_counts_and_the_commit_is_a_failure() -> None:
    story = begun()
    story.open_stage("assess")
    commit = story.commit(deadline=story.now + 1000)
    story.later(2000).result(commit, admit=False)
    assert "commit_abandoned" in codes(gate(story.state, "internal", story.now))


def test_parameters_other_than_the_plans_do_not_count() -> None:
    story = begun()
    story.open_stage("assess")
    story.result(story.commit(confidence=Decimal("0.5")))
    found = gate(story.state, "internal", story.now)
    assert "evidence_other_parameters" in codes(found)


def test_evidence_of_another_candidate_is_named_as_such() -> None:
    from gatelift.encoding import sha256_digest

    story = begun()
    story.open_stage("assess")
    other = sha256_digest(b"other")
    story.result("commit_other", admit=False, fingerprint=other)
    assert "evidence_wrong_candidate" in codes(gate(story.state, "internal", story.now))


def test_a_threshold_not_ruled_out_opens_with_measures_that_are_shown_to_work() -> None:
    story = begun()
    story.open_stage("assess")
    story.assess(s=9)
    assert codes(gate(story.state, "internal", story.now)) == {"evidence_missing", "review_missing"}
    story.prove_measure(s=0)
    story.review_all("internal")
    assert gate(story.state, "internal", story.now) == ()
    story.prove_measure(s=20)
    story.review_all("internal")
    assert codes(gate(story.state, "internal", story.now)) == {"measure_unproven"}


def test_a_measure_proved_without_being_in_force_proves_nothing() -> None:
    story = begun()
    story.open_stage("assess")
    story.assess(s=9)
    story.result(story.commit(measure=True), under=("misuse:observe", "leak:cut"))
    found = codes(gate(story.state, "internal", story.now))
    assert found == {"measure_not_in_force", "review_missing"}
    tighter = tuple(f"{name}:{Posture.BLOCK}" for name in ("leak", "misuse"))
    story.result(story.commit(measure=True), under=tighter)
    assert codes(gate(story.state, "internal", story.now)) == {"review_missing"}


def test_revoking_a_bad_run_does_not_help() -> None:
    from gatelift.messages import EntryKind, Revocation

    story = begun()
    story.open_stage("assess")
    bad = story.assess(s=9)
    story.assess(s=0)
    before = codes(gate(story.state, "internal", story.now))
    story.log(EntryKind.REVOCATION, Revocation(body=bad, reason="please"), "safety:sam")
    assert before == codes(gate(story.state, "internal", story.now))
    assert before == {"evidence_missing", "review_missing"}  # the measure's evidence


def test_evidence_and_reviews_newer_than_the_stop_open_the_gate_again() -> None:
    story = ready()
    story.order(TargetKind.STAGE, "internal")
    story.assess()
    assert codes(gate(story.state, "internal", story.now)) == {"review_before_stop"}
    story.review_all("internal")
    assert gate(story.state, "internal", story.now) == ()


def test_old_good_runs_do_not_water_down_a_new_bad_one() -> None:
    story = assessed()
    for _ in range(9):
        story.assess(s=0)
    story.order(TargetKind.STAGE, "internal")
    story.assess(s=9)  # 9 of 660 together, 9 of 60 since the stop
    story.review_all("internal")
    found = gate(story.state, "internal", story.now)
    assert [each.subject for each in found] == ["cyber_uplift/safeguard-red-team"]


def test_new_good_runs_do_not_wash_off_an_old_bad_one() -> None:
    story = assessed()
    story.assess(s=40)  # 40 of 600 together: the bound is above 0.1 - 0.02
    for _ in range(8):
        story.assess(s=0)
    story.review_all("internal")
    assert gate(story.state, "internal", story.now)


def test_a_refusal_is_lifted_by_its_author_alone() -> None:
    story = ready()
    _refuse(story)
    story.review("internal", "security:sue")
    assert codes(gate(story.state, "internal", story.now)) == {"review_refused"}
    story.review("internal", "overseer:vera")
    assert gate(story.state, "internal", story.now) == ()


@pytest.mark.parametrize(
    ("proof", "stage", "missing"),
    [("unproven", "researchers", "self"), ("unproven", "partners", "overseen")],
)
def test_unproven_people_cannot_give_assurance(proof: str, stage: str, missing: str) -> None:
    story = Story(proof=proof).adopt().enrol().probe()
    found = [r for r in gate(story.state, stage, story.now) if r.code == "assurance_below"]
    assert [each.subject for each in found] == [missing]


def test_an_incident_below_the_gates_severity_does_not_shut_it() -> None:
    story = ready()
    story.incident(Severity.SEV_4)
    assert gate(story.state, "internal", story.now) == ()
    story.incident(Severity.SEV_1)
    story.resolve_all()
    assert gate(story.state, "internal", story.now) == ()


def test_every_reason_says_what_opens_it() -> None:
    story = assessed()
    for each in gate(story.state, "public", story.now):
        assert each.message, each
        assert each.opens_with, each
