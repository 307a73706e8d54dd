"""Deputies: they speak only in the silence of whom they stand for, once the stage was asked for."""

from __future__ import annotations

import msgspec
import pytest

from gatelift.decide import examine, gate
from gatelift.decide.admit_review import check_approved_terms, check_deputies
from gatelift.decide.deadlines import next_deadline
from gatelift.encoding import Digest
from gatelift.messages import Condition, EntryKind, Revocation
from gatelift.plan import PlanError, parse_plan
from gatelift.trust import STATEMENT_TYPE, Announcement, verify_signers
from tests.support import world
from tests.unit.decide.build import PLAN, Story, codes, refusal

WAIT = 30 * 60_000
SAFETY = b"reviews: {roles: [safety], max_age: 1h}"
WITH = b"reviews: {roles: [safety], max_age: 2h, deputies: {safety: dan}, answer_by: 30min}"
NOTICED = PLAN.replace(b"    certificate: 6h\n", b"    certificate: 6h\n    notice: 30min\n", 1)
DAN, SAM = "safety:dan", "safety:sam"


@pytest.fixture
def story(monkeypatch: pytest.MonkeyPatch) -> Story:
    monkeypatch.setitem(world.PEOPLE, "safety", ["sam", "dan"])
    assert PLAN.count(SAFETY) == 1
    found = Story(NOTICED.replace(SAFETY, WITH)).adopt().enrol().probe()
    found.certify("assess")
    found.assess()
    return found


def ask(story: Story) -> Digest:
    plan = story.world.plan
    value = Announcement(
        id=story.id("announcement"),
        release="aurora",
        stage="internal",
        fingerprint=story.world.fingerprint,
        plan=story.world.plan_digest,
        envelope=plan.stage("internal").envelope,
        clears=(),
        reason="we are ready",
    )
    return story.log(EntryKind.ANNOUNCEMENT, value, "operator:olga")


def reasons(story: Story) -> set[str]:
    return reviewed(story, story.now)


def reviewed(story: Story, at_ms: int) -> set[str]:
    """Return what the gate says of reviews; the stage's notice, as long, runs beside it."""
    return codes(gate(story.state, "internal", at_ms)) - {"not_announced", "notice_running"}


def signed_by(story: Story, safety: str) -> None:
    """Ask what control asks of a certificate's signers, beside its notice."""
    world, stage = story.world, story.world.plan.stage("internal")
    data = world.sign("certificate", story.certificate_value("internal"), "operator:olga", safety)
    _, signers = verify_signers(data, STATEMENT_TYPE, world.root)
    used = examine(story.state, "internal", story.now).evidence
    check_deputies(story.state, stage, signers, used, story.now)


def test_a_deputy_counts_after_the_silence_and_not_before(story: Story) -> None:
    story.review("internal", DAN)
    assert reasons(story) == {"deputy_waits"}  # nobody asked: time alone makes it nobody's turn
    assert reviewed(story, story.now + WAIT + 1) == {"deputy_waits"}
    ask(story)
    asked = story.now
    assert reviewed(story, asked + WAIT - 1) == {"deputy_waits"}
    assert next_deadline(story.state, asked + WAIT - 1) == asked + WAIT
    assert gate(story.state, "internal", asked + WAIT) == ()


def test_silence_alone_approves_nothing(story: Story) -> None:
    ask(story)
    story.later(WAIT + 1)
    (found,) = gate(story.state, "internal", story.now)
    assert (found.code, found.subject) == ("review_missing", "safety")
    assert "dan" in found.message


def test_the_principal_needs_no_date(story: Story) -> None:
    story.review("internal", SAM)
    assert reasons(story) == set()


@pytest.mark.parametrize("approves", [True, False], ids=["withdrew", "refuses"])
def test_a_principal_who_spoke_is_not_spoken_for(story: Story, approves: bool) -> None:
    ask(story)
    digest = story.review("internal", SAM, approves=approves)
    if approves:
        story.log(EntryKind.REVOCATION, Revocation(body=digest, reason="no"), SAM)
    story.later(WAIT + 1).review("internal", DAN)
    expected = "review_withdrawn" if approves else "review_refused"
    assert expected in reasons(story)
    assert gate(story.state, "internal", story.now) != ()
    # Asking again does not make a withdrawal unsaid.
    ask(story)
    story.later(WAIT + 1)
    assert expected in reasons(story)


def test_evidence_that_came_later_begins_the_time_anew(story: Story) -> None:
    ask(story)
    story.later(WAIT - 1_000).assess()
    came = story.now
    story.review("internal", DAN)
    assert reviewed(story, came + WAIT - 1) == {"deputy_waits"}
    assert gate(story.state, "internal", came + WAIT) == ()


def test_a_deputy_signs_no_certificate_before_the_turn(story: Story) -> None:
    story.review("internal", SAM)
    assert refusal(signed_by, story, DAN) == "deputy_waits"
    signed_by(story, SAM)


def test_control_asks_that_of_every_certificate(story: Story) -> None:
    story.review("internal", SAM)
    # Its notice takes proofs, which are asked for first: without it, by the same plan.
    plan = story.world.plan
    stages = tuple(msgspec.structs.replace(stage, notice_ms=0) for stage in plan.stages)
    story.state = msgspec.structs.replace(
        story.state, plan=msgspec.structs.replace(plan, stages=stages)
    )
    value = story.certificate_value("internal")
    signed = (EntryKind.CERTIFICATE, value, "operator:olga")
    assert refusal(story.log, *signed, DAN) == "deputy_waits"
    story.log(*signed, SAM)


def test_in_its_turn_a_deputy_reviews_and_signs(story: Story) -> None:
    ask(story)
    story.later(WAIT + 1).review("internal", DAN)
    signed_by(story, DAN)


def test_a_deputys_refusal_and_conditions_hold_at_once(story: Story) -> None:
    few = (Condition(text="few", max_organisations=1),)
    story.review("internal", DAN, conditions=few)
    story.review("internal", SAM)
    value = story.certificate_value("internal")
    assert refusal(check_approved_terms, story.state, value, story.now) == "exceeds_condition"
    story.review("internal", DAN, approves=False)
    assert reasons(story) == {"review_refused"}


def test_a_role_with_no_principal_has_no_deputy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(world.PEOPLE, "safety", ["dan"])
    found = Story(NOTICED.replace(SAFETY, WITH)).adopt().enrol().probe()
    found.assess()
    ask(found)
    found.later(WAIT + 1).review("internal", DAN)
    assert "deputy_waits" in codes(gate(found.state, "internal", found.now))


WRONG = [
    (b"deputies: {safety: dan}", "without a date"),
    (b"answer_by: 5d", "silence approves nothing"),
    (b"deputies: {security: dan}, answer_by: 5min", "no review by security"),
    (b"deputies: {admissions: dan}, answer_by: 5min", "expected a role"),
    (b"deputies: {safety: dan}, answer_by: 0s", "answer_by"),
    (b"deputies: {safety: dan}, answer_by: 31min", "no witness would prove"),
]


@pytest.mark.parametrize(("words", "said"), WRONG, ids=[row[1] for row in WRONG])
def test_a_plan_that_names_half_of_it_is_refused(words: bytes, said: str) -> None:
    data = NOTICED.replace(SAFETY, SAFETY[:-1] + b", " + words + b"}")
    with pytest.raises(PlanError, match=said):
        parse_plan(data)
