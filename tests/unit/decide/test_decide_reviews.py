"""Conditions, ends and withdrawals of approvals: what they do to gates, certificates and grants."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gatelift.decide import AdmitError, gate, standing_certificate
from gatelift.decide.deadlines import next_deadline
from gatelift.messages import Condition, EntryKind, Revocation
from gatelift.terms import Audience, Envelope, meet
from tests.unit.decide.build import HOUR, Story, assessed, at, codes, refusal
from tests.unit.decide.test_decide_admit import grant

FEW = Condition(text="a handful, named in advance", max_organisations=2)


def approved(**terms: Any) -> Story:
    story = assessed()
    story.review("internal", "safety:sam", **terms)
    return story


def narrowed(story: Story, most: int | None) -> Envelope:
    audience = Audience(max_organisations=most)
    return meet(story.certificate_value("internal").envelope, Envelope(audience=audience))


def admit(story: Story, organisation: str) -> None:
    value = grant(story, organisation=organisation)
    story.log(EntryKind.GRANT, value, "admissions:ada")


def take_back(story: Story, digest: Any, by: str = "safety:sam") -> None:
    story.log(EntryKind.REVOCATION, Revocation(body=digest, reason="no longer sure"), by)


def test_nobody_certifies_for_longer_than_the_approval_lasts() -> None:
    story = approved(until=assessed().now + HOUR // 2)
    assert refusal(story.certify, "internal") == "outlives_approval"
    (entry,) = story.state.reviews
    story.certify("internal", not_after=entry.review.until)


def test_nobody_certifies_wider_than_the_narrowest_condition() -> None:
    story = approved(conditions=(FEW,))
    story.review(
        "internal", "security:sue", conditions=(Condition(text="one", max_organisations=1),)
    )
    for most in (None, 2):
        story_now = story.fork()
        code = refusal(story_now.certify, "internal", envelope=narrowed(story, most))
        assert code == "exceeds_condition"
    story.certify("internal", envelope=narrowed(story, 1))


def test_a_certificate_that_was_approved_for_few_admits_few() -> None:
    story = approved(conditions=(FEW,))
    story.certify("internal", envelope=narrowed(story, 2))
    for number in range(2):
        admit(story, f"org{number}.example")
    code = refusal(admit, story, "third.example")
    assert code == "organisations_full"


def test_with_more_admitted_than_was_approved_nothing_is_certified() -> None:
    story = assessed()
    for number in range(3):
        admit(story, f"org{number}.example")
    story.review("internal", "safety:sam", conditions=(FEW,))
    code = refusal(story.certify, "internal", envelope=narrowed(story, 2))
    assert code == "organisations_full"


def test_an_approval_that_ended_counts_no_more_and_the_gate_says_what_opens_it() -> None:
    end = assessed().now + HOUR // 2
    story = approved(until=end)
    assert gate(story.state, "internal", end - 1) == ()
    (found,) = gate(story.state, "internal", end)
    assert (found.code, found.subject) == ("review_ended", "safety")
    assert "reviews again" in found.opens_with
    assert next_deadline(story.state, end - 1) == end


def test_an_approval_that_ended_binds_no_later_certificate() -> None:
    story = approved(until=assessed().now + HOUR // 10)
    story.later(HOUR // 5).review("internal", "security:sue")
    story.review("internal", "safety:sam")
    story.certify("internal")


BAD: list[tuple[str, dict[str, Any]]] = [
    ("a refusal with conditions", {"approves": False, "conditions": (FEW,)}),
    ("a refusal that ends by itself", {"approves": False, "until": 2**52}),
    ("an end that is past", {"until": 1}),
    ("a condition without words", {"conditions": (Condition(text="  "),)}),
    ("a condition that is a book", {"conditions": (Condition(text="x" * 501),)}),
    ("nobody at all", {"conditions": (Condition(text="x", max_organisations=0),)}),
    ("too many conditions", {"conditions": (FEW,) * 17}),
]


@pytest.mark.parametrize("terms", [row[1] for row in BAD], ids=[row[0] for row in BAD])
def test_such_terms_are_refused(terms: dict[str, Any]) -> None:
    assert refusal(approved, **terms) == "bad_conditions"


def test_the_author_alone_withdraws_and_the_gate_shuts() -> None:
    story = assessed()
    digest = story.review("internal", "safety:sam")
    assert refusal(take_back, story, digest, "overseer:vera") == "review_of_another"
    assert gate(story.state, "internal", story.now) == ()
    take_back(story, digest)
    assert codes(gate(story.state, "internal", story.now)) == {"review_withdrawn"}
    assert refusal(story.certify, "internal") == "gate_shut"


def test_no_older_approval_revives_behind_a_withdrawn_one() -> None:
    story = assessed()
    story.review("internal", "safety:sam")
    take_back(story, story.review("internal", "safety:sam"))
    assert codes(gate(story.state, "internal", story.now)) == {"review_withdrawn"}


def test_under_a_standing_certificate_nothing_widens_and_nothing_is_renewed() -> None:
    story = at("internal").serve_clean("internal").review_all("researchers")
    assert gate(story.state, "researchers", story.now) == ()
    digest = story.state.reviews[0].digest
    take_back(story, digest)
    # What stands is served on until it ends; an order is what stops it.
    assert standing_certificate(story.state, "internal", story.now) is not None
    assert codes(gate(story.state, "internal", story.now)) >= {"review_withdrawn"}
    assert codes(gate(story.state, "researchers", story.now)) == {"earlier_review_gone"}
    with pytest.raises(AdmitError, match="gate"):
        story.certify("internal")


def test_a_refusal_of_what_stands_holds_wider_stages_until_its_author_approves() -> None:
    story = at("internal").serve_clean("internal").review_all("researchers")
    story.review("internal", "overseer:vera", approves=False)
    assert codes(gate(story.state, "researchers", story.now)) == {"earlier_review_gone"}
    story.review("internal", "overseer:vera")
    assert gate(story.state, "researchers", story.now) == ()


def test_a_review_keeps_its_terms_through_its_bytes() -> None:
    story = approved(conditions=(FEW,), until=assessed().now + HOUR)
    (entry,) = story.state.reviews
    assert msgspec.json.decode(
        msgspec.json.encode(entry.review), type=type(entry.review)
    ).conditions == (FEW,)
