"""The page does not call a review given while only a deputy gave it."""

from __future__ import annotations

from gatelift.decide import ReasonCode, examine
from gatelift.decide.reasons import reason
from gatelift.web.ladder import lacking_reviews
from tests.unit.decide.build import assessed


def test_a_deputy_who_waits_has_not_given_the_review() -> None:
    story = assessed().review_all("internal")
    looked = examine(story.state, "internal", story.now)
    assert lacking_reviews(looked.reasons) == frozenset()
    waits = reason(ReasonCode.DEPUTY_WAITS, "safety", "dan approved, sam may still answer")
    ended = reason(ReasonCode.REVIEW_ENDED, "security", "it ended")
    assert lacking_reviews((waits, ended)) == {"safety", "security"}
