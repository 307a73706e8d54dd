"""What was announced in public and not done yet: stages, roots; and on what conditions people approved.

Invariants
- What is said twice stands here once, since the first time; an objection stands whichever it is against.
- The moments are the log's own. A certificate and a root prove by witnesses' time that they were kept.
- An announcement of another plan or candidate opens nothing, and is not shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gatelift.decide import State, approvals_at, objections_to
from gatelift.decide.state import AnnouncementEntry, ObjectionEntry, RootAnnouncementEntry
from gatelift.encoding import Digest
from gatelift.plan import Plan
from gatelift.trust import ROOT_NOTICE_MS
from gatelift.web.model import ConditionLine, NoticeCard, NoticeObjection
from gatelift.web.withheld import Scrubber

__all__ = ["build_conditions", "build_notices"]


def build_notices(state: State, plan: Plan | None, scrub: Scrubber) -> tuple[NoticeCard, ...]:
    """Return what was announced and has not taken effect, the newest first."""
    stages = () if plan is None else _stages(state, plan, scrub)
    cards = [*_roots(state, scrub), *stages]
    return tuple(sorted(cards, key=lambda card: -card.at))


def _stages(state: State, plan: Plan, scrub: Scrubber) -> Iterator[NoticeCard]:
    notice = {stage.name: stage.notice_ms for stage in plan.stages}
    first: dict[str, AnnouncementEntry] = {}
    for entry in state.announcements:
        value = entry.announcement
        in_force = (value.plan, value.fingerprint) == (state.plan_digest, state.fingerprint)
        if in_force and value.stage in notice and not _is_certified(state, entry):
            first.setdefault(value.stage, entry)
    for name, entry in first.items():
        against = objections_to(state, entry.digest)
        yield NoticeCard(
            title=f"Stage {name} is to be certified",
            digest=entry.digest,
            at=entry.at,
            over_at=max([entry.at, *(each.at for each in against)]) + notice[name],
            reason=scrub.text(entry.announcement.reason),
            objections=_objections(against, scrub),
        )


def _is_certified(state: State, entry: AnnouncementEntry) -> bool:
    later = state.certificates.get(entry.announcement.stage, ())
    return any(held.index > entry.index for held in later)


def _roots(state: State, scrub: Scrubber) -> Iterator[NoticeCard]:
    first: dict[Digest, tuple[Digest, RootAnnouncementEntry]] = {}
    for digest, entry in state.root_announcements.items():
        first.setdefault(entry.root, (digest, entry))
    for root, (digest, entry) in first.items():
        twins = {each for each, held in state.root_announcements.items() if held.root == root}
        against = [
            each
            for each in state.objections
            if each.objection.announcement in twins and not each.withdrawn
        ]
        yield NoticeCard(
            title="Another root is to follow without the overseer's signature",
            digest=digest,
            at=entry.at,
            over_at=entry.at + ROOT_NOTICE_MS,
            reason="",
            objections=_objections(against, scrub),
        )


def _objections(entries: Iterable[ObjectionEntry], scrub: Scrubber) -> tuple[NoticeObjection, ...]:
    return tuple(
        NoticeObjection(
            organisation=each.organisation, at=each.at, grounds=scrub.text(each.objection.grounds)
        )
        for each in entries
    )


def build_conditions(state: State, scrub: Scrubber, now_ms: int) -> tuple[ConditionLine, ...]:
    """Return the conditions and ends of all approvals that stand, by stage of the plan."""
    return tuple(
        ConditionLine(
            stage=stage.name,
            until=review.until,
            conditions=tuple(
                scrub.text(each.text)
                + (
                    ""
                    if each.max_organisations is None
                    else f" (at most {each.max_organisations} organisations)"
                )
                for each in review.conditions
            ),
        )
        for stage in (state.plan.stages if state.plan else ())
        for review in approvals_at(state, stage.name, now_ms)
        if review.conditions or review.until is not None
    )
