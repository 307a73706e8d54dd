"""Whether the people that a stage needs are there: reviews given, quorum and assurance possible.

Invariants
- Of one person's reviews of a stage the newest speaks, in whatever role it was signed.
- A refusal of this plan and candidate blocks until its author approves or withdraws it, also from a
  role that nobody asked; it does not grow old.
- A deputy counts only when it is its turn (`deputies`).
- An approval ends by its own `until`, and when its author withdraws it; what stands bounds a certificate.
- An earlier stage's approval that is gone shuts the gates of wider stages; what it serves goes on.
- An approval counts for a role if it is of this plan, this candidate and all evidence that the gate
  rests on, young enough, newer than the stops on the stage, and given by its own person.
- Assurance is what the root's people could give at best; a certificate's signers are counted when
  it is signed.
"""

from __future__ import annotations

from collections.abc import Iterable

from gatelift.decide.deputies import turn_of
from gatelift.decide.reasons import ReasonCode, reason
from gatelift.decide.state import ReviewEntry, State
from gatelift.encoding import Digest
from gatelift.messages import (
    Bounds,
    Reason,
    Review,
    SpokenReview,
    bounds_of,
    standing_approvals,
)
from gatelift.plan import ReviewDemand, Stage
from gatelift.terms import at_least
from gatelift.trust import UNPROVEN, QuorumError, Root, Signer, assurance_of, verify_quorum

__all__ = [
    "approvals_at",
    "bounds_at",
    "check_earlier_reviews",
    "check_people",
    "check_reviews",
    "newest_reviews",
    "review_stale_from",
]


def review_stale_from(entry: ReviewEntry, max_age_ms: int) -> int:
    """Return the time from which a review is too old, counted from its logging."""
    return entry.at + max_age_ms


def newest_reviews(state: State, stage: str) -> dict[str, ReviewEntry]:
    """Return each person's newest review of a stage, withdrawn ones included."""
    found: dict[str, ReviewEntry] = {}
    for entry in state.reviews:
        if entry.review.stage == stage and entry.review.release == state.release:
            for signer in entry.signers:
                found[signer.person] = entry
    return found


def bounds_at(state: State, stage: str, now_ms: int) -> Bounds:
    """Return what the approvals of a stage that stand leave of a certificate."""
    return bounds_of(approvals_at(state, stage, now_ms))


def approvals_at(state: State, stage: str, now_ms: int) -> tuple[Review, ...]:
    """Return the approvals of a stage that stand at `now_ms`, for the plan and candidate in force."""
    if state.plan_digest is None or state.fingerprint is None:
        return ()
    spoken = (
        SpokenReview(
            review=entry.review,
            digest=entry.digest,
            people=frozenset(signer.person for signer in entry.signers),
        )
        for entry in state.reviews
        if entry.review.release == state.release
    )
    return standing_approvals(
        spoken,
        state.revoked,
        stage=stage,
        plan=state.plan_digest,
        fingerprint=state.fingerprint,
        at_ms=now_ms,
    )


def check_earlier_reviews(state: State, stage: Stage) -> tuple[Reason, ...]:
    """Return why nothing wider than this stage may open: its approval is gone, or it is refused."""
    demand = stage.gate.reviews
    newest = newest_reviews(state, stage.name)
    for person, entry in sorted(newest.items()):
        if _bound(state, entry) and not entry.review.approves and entry.digest not in state.revoked:
            text = f"{person} refuses stage {stage.name}"
            return (reason(ReasonCode.EARLIER_REVIEW_GONE, stage.name, text),)
    for role in demand.roles if demand is not None else ():
        mine = [
            entry
            for entry in newest.values()
            if _bound(state, entry)
            and entry.review.approves
            and any(newest[s.person] is entry and s.role == role for s in entry.signers)
        ]
        if mine and all(entry.digest in state.revoked for entry in mine):
            text = f"{role} withdrew the approval of stage {stage.name}"
            return (reason(ReasonCode.EARLIER_REVIEW_GONE, stage.name, text),)
    return ()


def _bound(state: State, entry: ReviewEntry) -> bool:
    return entry.review.plan == state.plan_digest and entry.review.fingerprint == state.fingerprint


def _weakness(
    state: State,
    entry: ReviewEntry,
    demand: ReviewDemand,
    used: frozenset[Digest],
    after: int,
    now_ms: int,
) -> ReasonCode | None:
    if not entry.review.approves:
        return ReasonCode.REVIEW_MISSING
    if entry.digest in state.revoked:
        return ReasonCode.REVIEW_WITHDRAWN
    if entry.review.until is not None and now_ms >= entry.review.until:
        return ReasonCode.REVIEW_ENDED
    if now_ms >= review_stale_from(entry, demand.max_age_ms):
        return ReasonCode.REVIEW_STALE
    if entry.index <= after:
        return ReasonCode.REVIEW_BEFORE_STOP
    if not _bound(state, entry) or not used <= set(entry.review.evidence):
        return ReasonCode.REVIEW_OTHER_DIGESTS
    return None


def check_reviews(
    state: State,
    stage: Stage,
    demand: ReviewDemand,
    used: Iterable[Digest],
    after: int,
    now_ms: int,
) -> tuple[Reason, ...]:
    """Return why the reviews that a gate asks for are not there; `used` is its evidence."""
    reasons: list[Reason] = []
    newest = newest_reviews(state, stage.name)
    needed = frozenset(used)
    for person, entry in sorted(newest.items()):
        if entry.review.approves or entry.digest in state.revoked or not _bound(state, entry):
            continue
        text = f"{person} refuses stage {stage.name}: {entry.review.note[:200]}"
        reasons.append(reason(ReasonCode.REVIEW_REFUSED, person, text))
    good: list[Signer] = []
    for role in demand.roles:
        turn = None
        if role in demand.deputies:
            turn = turn_of(state, stage.name, demand, role, needed, after, now_ms)
        weak: list[ReasonCode] = []
        strong: list[Signer] = []
        for person, entry in sorted(newest.items()):
            mine = [s for s in entry.signers if s.person == person and s.role == role]
            if mine:
                why = _weakness(state, entry, demand, needed, after, now_ms)
                if why is None and turn is not None and person == demand.deputies[role]:
                    why = None if turn.counts else ReasonCode.DEPUTY_WAITS
                strong.extend(mine if why is None else ())
                weak.extend(() if why is None else (why,))
        good.extend(strong)
        if not strong:
            code = weak[-1] if weak else ReasonCode.REVIEW_MISSING
            text = f"stage {stage.name} wants a review by {role} of all {len(needed)} evidence"
            if turn is not None:
                text += f"; for its deputy {demand.deputies[role]}: {turn.why}"
            reasons.append(reason(code, role, text))
    if not reasons and state.root is not None:
        try:
            verify_quorum(state.root, tuple(good), demand.roles)
        except QuorumError as error:
            reasons.append(reason(ReasonCode.REVIEW_PERSON_TWICE, stage.name, str(error)))
    return tuple(reasons)


def _holders(root: Root, roles: tuple[str, ...], *, proven: bool) -> tuple[Signer, ...]:
    found = []
    for name in roles:
        for kid in root.roles[name].keys if name in root.roles else ():
            person = root.person(root.keys[kid].person)
            if proven and person.proof == UNPROVEN:
                continue
            found.append(
                Signer(key=kid, person=person.id, organisation=person.organisation, role=name)
            )
    return tuple(found)


def _can_sign(root: Root, signers: tuple[Signer, ...], roles: tuple[str, ...]) -> str | None:
    try:
        verify_quorum(root, signers, roles)
    except QuorumError as error:
        return str(error)
    return None


def check_people(root: Root, stage: Stage) -> tuple[Reason, ...]:
    """Return why the root's people cannot sign for a stage at the assurance that it needs."""
    everyone = _holders(root, stage.quorum, proven=False)
    problem = _can_sign(root, everyone, stage.quorum)
    if problem is not None:
        return (reason(ReasonCode.QUORUM_UNFILLABLE, stage.name, problem),)
    proven = _holders(root, stage.quorum, proven=True)
    best = proven if _can_sign(root, proven, stage.quorum) is None else everyone
    have = assurance_of(root, best)
    if at_least(have, stage.assurance):
        return ()
    text = (
        f"stage {stage.name} needs assurance {stage.assurance.value}; the people of "
        f"{', '.join(stage.quorum)} in root {root.version} can give {have.value}"
    )
    return (reason(ReasonCode.ASSURANCE_BELOW, stage.assurance.value, text),)
