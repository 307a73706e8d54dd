"""When the answer may change without an entry: the next time to look again.

Invariants
- Whatever in gates and decisions turns by time alone has its moment here, so that a deadline always
  becomes a tick. A moment at which nothing changes is harmless.
"""

from __future__ import annotations

from collections.abc import Iterator

from gatelift.decide.copies import open_copies
from gatelift.decide.deputies import deputy_moments
from gatelift.decide.evidence import stale_from
from gatelift.decide.notice import notice_moments
from gatelift.decide.people import review_stale_from
from gatelift.decide.state import State
from gatelift.decide.traffic import soak_count

__all__ = ["next_deadline"]


def _moments(state: State, now_ms: int) -> Iterator[int]:
    if state.root is not None:
        yield state.root.expires_at
    for certificates in state.certificates.values():
        yield certificates[-1].certificate.not_before
        yield certificates[-1].certificate.not_after
    for promise in state.commits.values():
        if promise.completed_by is None:
            yield promise.commit.deadline + 1
    for entry in state.orders.values():
        if entry.standing.order.until is not None:
            yield entry.standing.order.until
    for copy in open_copies(state):
        yield copy.export.expires_at
    plan = state.plan
    if plan is None:
        return
    yield from notice_moments(state)
    yield from deputy_moments(state)
    ages = {threshold.evidence.max_age_ms for threshold in plan.thresholds}
    ages |= {
        demand.max_age_ms
        for threshold in plan.thresholds
        for demand in threshold.unless_ruled_out.evidence
    }
    for run in state.evidence:
        yield from (stale_from(run, age) for age in ages)
    review_ages = {stage.gate.reviews.max_age_ms for stage in plan.stages if stage.gate.reviews}
    for review in state.reviews:
        yield from (review_stale_from(review, age) for age in review_ages)
        if review.review.until is not None:
            yield review.review.until
    for stage in plan.stages:
        soak = stage.gate.soak
        if soak is not None:
            have = soak_count(state, soak.from_stage, now_ms)
            if have.until_ms is not None and have.time_ms < soak.time_ms:
                yield now_ms + soak.time_ms - have.time_ms


def next_deadline(state: State, now_ms: int) -> int | None:
    """Return the first moment after `now_ms` at which time alone may change the answer."""
    return min((moment for moment in _moments(state, now_ms) if moment > now_ms), default=None)
