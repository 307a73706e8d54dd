"""The page says what was announced and who objects, until it is done, and what approvals are bound to."""

from __future__ import annotations

from typing import Any

from gatelift.encoding import Digest, sha256_digest
from gatelift.messages import Condition, EntryKind
from gatelift.trust import ROOT_NOTICE_MS, Announcement, Objection, RootAnnouncement
from gatelift.web import Glance, build_view, render_release
from gatelift.web.model import ReleaseView
from tests.unit.decide.build import Story, assessed
from tests.unit.decide.test_decide_admit import grant

STAGE = "internal"


def view_of(story: Story) -> ReleaseView:
    return build_view(story.state, story.now, Glance())


def announce(story: Story, **changes: Any) -> Digest:
    value: dict[str, Any] = {
        "id": story.id("announcement"),
        "release": "aurora",
        "stage": STAGE,
        "fingerprint": story.world.fingerprint,
        "plan": story.world.plan_digest,
        "envelope": story.world.plan.stage(STAGE).envelope,
        "clears": (),
        "reason": "the campaign is over",
    }
    return story.log(EntryKind.ANNOUNCEMENT, Announcement(**(value | changes)), "operator:olga")


def object_to(story: Story, digest: Digest, grounds: str = "too few agents") -> Digest:
    value = Objection(
        id=story.id("objection"), release="aurora", announcement=digest, grounds=grounds
    )
    return story.log(EntryKind.OBJECTION, value, "overseer:vera")


def test_an_announcement_stands_there_with_its_objections_until_it_is_certified() -> None:
    story = assessed().review_all(STAGE)
    announced_at = story.now + 10
    first = announce(story)
    twin = announce(story, reason="again")
    notice_ms = story.world.plan.stage(STAGE).notice_ms
    (card,) = view_of(story).notices
    assert (card.digest, card.at, card.over_at) == (first, announced_at, announced_at + notice_ms)
    assert card.reason == "the campaign is over"
    object_to(story, twin)
    (card,) = view_of(story).notices
    (against,) = card.objections
    assert (against.grounds, card.over_at) == ("too few agents", against.at + notice_ms)
    page = render_release(view_of(story))
    assert "objects" in page
    assert "too few agents" in page
    story.certify(STAGE)
    assert view_of(story).notices == ()
    assert 'id="announced"' not in render_release(view_of(story))


def test_who_was_admitted_is_blacked_out_of_what_people_write() -> None:
    story = assessed().review_all(STAGE)
    story.certify(STAGE)
    value = grant(story, organisation="acme")
    story.log(EntryKind.GRANT, value, "admissions:ada")
    story.review(STAGE, conditions=(Condition(text="not without Acme", max_organisations=2),))
    object_to(story, announce(story, reason="ACME asked"), "acme is not ready")
    page = render_release(view_of(story)).lower()
    assert "acme" not in page
    (line,) = view_of(story).conditions
    assert line.stage == STAGE
    assert line.conditions == ("not without [name withheld] (at most 2 organisations)",)


def test_a_root_that_is_to_follow_without_the_overseer_stands_there_for_thirty_days() -> None:
    story = assessed()
    envelope = story.world.sign_root(story.world.root_payload(version=2))
    value = RootAnnouncement(
        root=sha256_digest(envelope), envelope=envelope.decode(), reason="it is silent"
    )
    digest = story.log(EntryKind.ROOT_ANNOUNCEMENT, value, "operator:olga")
    object_to(story, digest, "we are here")
    (card,) = view_of(story).notices
    assert card.over_at - card.at == ROOT_NOTICE_MS
    assert [each.grounds for each in card.objections] == ["we are here"]
    assert "without the overseer" in render_release(view_of(story))
