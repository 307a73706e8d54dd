"""What a review must be to be logged, and how far approvals let a certificate go.

Invariants
- A review is of what is in force: this plan, this candidate, evidence that is on the log.
- Conditions and an end are an approval's: a refusal does not grow old and has no exceptions.
- A deputy signs a certificate only when it is its turn to review.
- A certificate stays inside every approval that stands when it is logged, by the log's time.
"""

from __future__ import annotations

from gatelift.decide.admit_error import (
    AdmitError,
    refuse,
    require_candidate,
    require_release,
    require_stage,
)
from gatelift.decide.deputies import turn_of
from gatelift.decide.people import bounds_at
from gatelift.decide.stages import uncleared
from gatelift.decide.state import State
from gatelift.encoding import Digest
from gatelift.messages import (
    MAX_CONDITION_CHARACTERS,
    MAX_CONDITIONS,
    Review,
    ReviewError,
    check_bounds,
)
from gatelift.plan import Stage
from gatelift.trust import Certificate, QuorumError, Signer, verify_quorum

__all__ = ["check_approved_terms", "check_deputies", "check_review"]


def check_review(state: State, value: Review, now_ms: int) -> None:
    """Return if a review may be logged; raises `AdmitError`."""
    require_release(state, value.release)
    require_stage(state, value.stage)
    require_candidate(state, value.fingerprint)
    if value.plan != state.plan_digest:
        refuse("unknown_digest", f"the plan in force is {state.plan_digest}, not {value.plan}")
    if any(entry.review.id == value.id for entry in state.reviews):
        refuse("id_taken", f"review {value.id} is on the log: draw a new id")
    missing = set(value.evidence) - {entry.digest for entry in state.evidence}
    if missing:
        refuse("unknown_digest", f"evidence {sorted(missing)} is not on the log")
    _check_terms(value, now_ms)


def _check_terms(value: Review, now_ms: int) -> None:
    if not value.approves and (value.conditions or value.until is not None):
        refuse(
            "bad_conditions",
            "a refusal has no conditions and no end: withdraw it, or approve with conditions instead",
        )
    if value.until is not None and value.until <= now_ms:
        refuse("bad_conditions", f"the approval ended at {value.until}, now is {now_ms}")
    if len(value.conditions) > MAX_CONDITIONS:
        refuse("bad_conditions", f"expected at most {MAX_CONDITIONS} conditions")
    for condition in value.conditions:
        if not 0 < len(condition.text.strip()) <= len(condition.text) <= MAX_CONDITION_CHARACTERS:
            refuse(
                "bad_conditions",
                f"expected a condition in 1 to {MAX_CONDITION_CHARACTERS} characters: it is published",
            )
        if condition.max_organisations is not None and condition.max_organisations < 1:
            refuse("bad_conditions", "expected at least one organisation: refuse, to admit nobody")


def check_approved_terms(state: State, value: Certificate, now_ms: int) -> None:
    """Return if a certificate stays inside what was approved, with those admitted; raises `AdmitError`."""
    try:
        check_bounds(value, bounds_at(state, value.stage, now_ms))
    except ReviewError as error:
        raise AdmitError(str(error), code=error.code) from error
    most = value.envelope.audience.max_organisations
    there = {
        held.grant.organisation
        for held in state.grants.values()
        if held.grant.stage == value.stage and now_ms < held.grant.not_after
    }
    if most is not None and len(there) > most:
        refuse(
            "organisations_full",
            f"the certificate admits {most} organisations, {len(there)} hold grants of stage "
            f"{value.stage}: end some of them first",
        )


def check_deputies(
    state: State,
    stage: Stage,
    signers: tuple[Signer, ...],
    used: tuple[Digest, ...],
    now_ms: int,
) -> None:
    """Return if a certificate has its quorum without deputies whose turn it is not; raises `AdmitError`."""
    demand, root = stage.gate.reviews, state.root
    if demand is None or root is None or not demand.deputies:
        return
    after = max((entry.index for entry in uncleared(state, stage.name)), default=-1)
    waiting = {}
    for role, person in demand.deputies.items():
        turn = turn_of(state, stage.name, demand, role, frozenset(used), after, now_ms)
        if not turn.counts:
            waiting[role, person] = turn.why
    counted = tuple(each for each in signers if (each.role, each.person) not in waiting)
    try:
        verify_quorum(root, counted, stage.quorum)
    except QuorumError as error:
        causes = "; ".join(
            f"{who} is deputy of {role}: {why}" for (role, who), why in waiting.items()
        )
        refuse("deputy_waits", f"{error}; {causes}")
