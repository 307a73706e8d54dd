"""Replaying a log finds every decision that does not follow, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from gatelift.decide import replay
from gatelift.messages import Body, Decision, EntryKind
from gatelift.terms import DecisionKind
from gatelift.trust import TargetKind
from tests.support.world import HOUR
from tests.unit.decide.build import Entry, Story, at

Groups = list[tuple[Entry, ...]]


def eventful() -> Story:
    """Up to partners, a roll-back, a re-opening, a signal, a halt by a person."""
    story = at("partners")
    story.traffic("partners", {f"org{k}": (8, 3) for k in range(6)})
    story.act()
    story.resolve_all()
    story.assess()
    story.review_all("partners")
    story.certify("partners")
    story.settle()
    story.traffic("partners", {"org0": (20, 14)}, metric="probing_rate")
    story.settle()
    story.later(HOUR).probe()
    story.act()
    story.order(TargetKind.RELEASE, "aurora")
    story.act()
    return story


def test_what_control_recorded_is_what_follows() -> None:
    story = eventful()
    kinds = [each.kind for each in story.decisions]
    assert {DecisionKind.ROLL_BACK, DecisionKind.RESUME, DecisionKind.HALT} <= set(kinds)
    assert replay(story.groups, story.read) == []


def _where(groups: Groups, kind: DecisionKind) -> tuple[int, Decision]:
    for place, group in enumerate(groups):
        value = group[-1][1].value
        if isinstance(value, Decision) and value.kind is kind:
            return place, value
    raise AssertionError(kind)


def _forge(groups: Groups, which: DecisionKind, /, **changes: object) -> None:
    place, value = _where(groups, which)
    header, _ = groups[place][-1]
    forged = msgspec.structs.replace(value, **changes)
    body = Body(kind=EntryKind.DECISION, value=forged, signers=())
    groups[place] = (*groups[place][:-1], (header, body))


def _drop(groups: Groups) -> None:
    place, _ = _where(groups, DecisionKind.RESUME)
    groups[place] = groups[place][:-1]


def _twice(groups: Groups) -> None:
    place, _ = _where(groups, DecisionKind.RESUME)
    groups[place] = (*groups[place], groups[place][-1])


def _alone(groups: Groups) -> None:
    place, _ = _where(groups, DecisionKind.RESUME)
    groups.append((groups[place][-1],))


def _unasked(groups: Groups) -> None:
    place, _ = _where(groups, DecisionKind.HALT)
    # The entry before the last decision again, with the same decision: nothing changed.
    groups.append((groups[place][0], groups[place][-1]))


@pytest.mark.parametrize(
    ("forge", "what"),
    [
        (lambda g: _forge(g, DecisionKind.RESUME, figures=()), "figures"),
        (lambda g: _forge(g, DecisionKind.RESUME, stage="public"), "stage"),
        (lambda g: _forge(g, DecisionKind.ROLL_BACK, narrow=()), "narrow"),
        (lambda g: _forge(g, DecisionKind.ROLL_BACK, kind=DecisionKind.HOLD), "kind"),
        (_drop, "decision missing"),
        (_twice, "decision in the wrong place"),
        (_alone, "decision in the wrong place"),
        (_unasked, "decision too many"),
    ],
)
def test_a_forged_log_is_found_out(forge: Callable[[Groups], None], what: str) -> None:
    story = eventful()
    groups = list(story.groups)
    forge(groups)
    assert what in {each.what for each in replay(groups, story.read)}
