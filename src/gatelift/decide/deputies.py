"""Deputies: who may review in a principal's place, and from when.

Invariants
- A deputy is a person whom the root names in the role; the plan holds this one back, and can give nobody
  a role. Without a plan's word every holder of a role counts at once.
- A deputy counts only once the stage was asked for on the log (an announcement of this stage, plan and
  candidate), all evidence that the gate rests on was there, and `answer_by` has passed since without a
  word of enough principals. The newest announcement counts, so that asking again is asking anew.
- Any review is a word, a refusal and a withdrawal too; an approval that was withdrawn stays one for good.
- Silence approves nothing: it lets another person speak. Refusals and conditions of a deputy hold at once.

Moments are the log's own, as those of every other deadline here. That so much time has passed is proved
beside this: a plan gives a stage with deputies public notice of at least `answer_by` (`plan.review_checks`),
and a notice counts by the witnesses' time, at every gateway and in both verifiers.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet

import msgspec

from gatelift.decide.state import AnnouncementEntry, ReviewEntry, State
from gatelift.encoding import Digest
from gatelift.plan import ReviewDemand

__all__ = ["Turn", "deputy_moments", "turn_of"]


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a role's deputy counts now, and why in words; `from_ms` is null where no time decides."""

    counts: bool
    why: str
    from_ms: int | None = None


def turn_of(
    state: State,
    stage: str,
    demand: ReviewDemand,
    role: str,
    used: AbstractSet[Digest],
    after: int,
    now_ms: int,
) -> Turn:
    """Return whether the deputy of a role counts; `after` is the entry of the newest stop."""
    held = state.root.roles.get(role) if state.root is not None else None
    if demand.answer_by_ms is None or held is None or state.root is None:
        return Turn(counts=False, why=f"the root has no role {role}")
    principals = {state.root.keys[key].person for key in held.keys} - {demand.deputies[role]}
    if not principals:
        return Turn(counts=False, why=f"role {role} has no principal beside its deputy")
    ask = _asked(state, stage, after)
    if ask is None:
        return Turn(counts=False, why=f"nobody asked for stage {stage}: announce it")
    spoken = _spoken(state, stage, principals, ask.index)
    if len(spoken) >= held.threshold:
        return Turn(counts=False, why=f"{', '.join(sorted(spoken))} answered in role {role}")
    known = [entry.at for entry in state.evidence if entry.digest in used]
    from_ms = max([ask.at, *known]) + demand.answer_by_ms
    why = f"asked in entry {ask.index}, {role} answers by {from_ms}"
    return Turn(counts=now_ms >= from_ms, why=why, from_ms=from_ms)


def _asked(state: State, stage: str, after: int) -> AnnouncementEntry | None:
    terms = (stage, state.fingerprint, state.plan_digest)
    found = [e for e in state.announcements if e.announcement.terms == terms and e.index > after]
    return found[-1] if found else None


def _spoken(state: State, stage: str, principals: AbstractSet[str], asked: int) -> set[str]:
    newest: dict[str, ReviewEntry] = {}
    for entry in state.reviews:
        review = entry.review
        same = (review.plan, review.fingerprint) == (state.plan_digest, state.fingerprint)
        if review.stage == stage and review.release == state.release and same:
            newest |= dict.fromkeys((signer.person for signer in entry.signers), entry)
    return {
        person
        for person, entry in newest.items()
        if person in principals and (entry.index > asked or entry.digest in state.revoked)
    }


def deputy_moments(state: State) -> Iterator[int]:
    """Yield the moments at which a deputy may begin to count."""
    demands = [stage.gate.reviews for stage in state.plan.stages] if state.plan else []
    waits = {each.answer_by_ms for each in demands if each is not None}
    for wait_ms in waits:
        if wait_ms is not None:
            yield from (entry.at + wait_ms for entry in state.announcements)
            yield from (entry.at + wait_ms for entry in state.evidence)
