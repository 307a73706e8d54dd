"""The announcement that a stage's next certificate rides on, and the objections that hold it.

Invariants
- An announcement counts only for what stands on the log now: this candidate, this plan, at least the
  envelope that the gate would give, all orders that the certificate must clear.
- Objections that were logged and not withdrawn are named by the next certificate, all of them.
- Moments here are the log's own. They say when a gate may open at the earliest; a certificate proves by
  cosignatures that it did (`messages.notice`), at its admission and in every gateway.

Source: DESIGN.md sections 1 (promise 3) and 5.
"""

from __future__ import annotations

from collections.abc import Iterator

from gatelift.decide.reasons import ReasonCode, reason
from gatelift.decide.stages import clears_for
from gatelift.decide.state import AnnouncementEntry, ObjectionEntry, State
from gatelift.encoding import Digest
from gatelift.messages import Reason
from gatelift.plan import Stage
from gatelift.terms import Envelope
from gatelift.trust import NoticeError, check_announced

__all__ = ["announced", "check_notice", "notice_moments", "objections_to"]


def announced(state: State, stage: Stage, envelope: Envelope) -> AnnouncementEntry | None:
    """Return the earliest announcement that covers a certificate of this envelope, if there is one."""
    plan, digest, fingerprint = state.plan, state.plan_digest, state.fingerprint
    if plan is None or digest is None or fingerprint is None:
        return None
    for entry in state.announcements:
        try:
            check_announced(
                entry.announcement,
                release=plan.name,
                stage=stage.name,
                fingerprint=fingerprint,
                plan=digest,
                envelope=envelope,
                clears=clears_for(state, stage.name),
            )
        except NoticeError:
            continue
        return entry
    return None


def objections_to(state: State, announcement: Digest) -> tuple[ObjectionEntry, ...]:
    """Return what stands against an announcement or a twin of it, in order of logging.

    Twins are of one stage, candidate and plan: who says a thing twice is not rid of an objection.
    """
    terms_of = {each.digest: each.announcement.terms for each in state.announcements}
    terms = terms_of.get(announcement)
    return tuple(
        entry
        for entry in state.objections
        if terms is not None
        and terms_of.get(entry.objection.announcement) == terms
        and not entry.withdrawn
    )


def check_notice(state: State, stage: Stage, envelope: Envelope, now_ms: int) -> Iterator[Reason]:
    """Yield why the notice of a stage is not over at `now_ms`."""
    if not stage.notice_ms:
        return
    if state.root is not None and state.root.witness_quorum == 0:
        text = f"stage {stage.name} takes notice, and the root asks for no witness"
        yield reason(ReasonCode.NOTICE_UNPROVABLE, stage.name, text)
    entry = announced(state, stage, envelope)
    if entry is None:
        text = f"stage {stage.name} takes {stage.notice_ms} ms of public notice"
        yield reason(ReasonCode.NOT_ANNOUNCED, stage.name, text)
        return
    ends_at = entry.at + stage.notice_ms
    if now_ms < ends_at:
        text = f"announced in entry {entry.index} at {entry.at}, over at {ends_at}"
        yield reason(ReasonCode.NOTICE_RUNNING, stage.name, text)
    for each in objections_to(state, entry.digest):
        held_until = each.at + stage.notice_ms
        if now_ms < held_until:
            text = (
                f"{each.organisation} objected in entry {each.index}: {each.objection.grounds}; "
                f"it holds until {held_until}"
            )
            yield reason(ReasonCode.OBJECTION_HOLDS, each.organisation, text)


def notice_moments(state: State) -> Iterator[int]:
    """Yield the moments at which a notice or the hold of an objection is over."""
    plan = state.plan
    notices = {stage.notice_ms for stage in plan.stages if stage.notice_ms} if plan else set()
    for notice_ms in notices:
        yield from (entry.at + notice_ms for entry in state.announcements)
        yield from (entry.at + notice_ms for entry in state.objections)
