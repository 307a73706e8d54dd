"""Commits: what a plan asks to be measured, written down before it is measured.

Invariants
- Limit, margin, confidence and attempts are the plan's; `attempts` may only be raised.
- The metric is the assessment's own, and the data set the digest of its specification.
- A measure is committed with margin 0 and its `below` as limit, as `decide` expects it.
"""

from __future__ import annotations

from decimal import Decimal

from gatelift.assess.data_sets import load_assessment
from gatelift.encoding import Digest
from gatelift.errors import CallerError
from gatelift.messages import Commit
from gatelift.plan import EvidenceDemand, Plan, SafeguardDemand, Threshold

__all__ = ["CommitError", "commit_for", "demand_of", "threshold_of"]


class CommitError(CallerError):
    """The plan does not ask for this, or asks for what this version cannot measure."""

    code = "bad_commit"


def threshold_of(plan: Plan, name: str) -> Threshold:
    """Return a threshold of the plan by name; raises `CommitError`."""
    for threshold in plan.thresholds:
        if threshold.name == name:
            return threshold
    known = [threshold.name for threshold in plan.thresholds]
    raise CommitError(f"expected one of the thresholds {known}, got {name[:60]!r}")


def demand_of(
    plan: Plan, threshold: str, measure: str | None = None
) -> EvidenceDemand | SafeguardDemand:
    """Return what a threshold, or one of its measures by assessment, asks for."""
    found = threshold_of(plan, threshold)
    if measure is None:
        return found.evidence
    for demand in found.unless_ruled_out.evidence:
        if demand.assessment == measure:
            return demand
    known = [demand.assessment for demand in found.unless_ruled_out.evidence]
    raise CommitError(
        f"expected one of the measures {known} of {threshold!r}, got {measure[:60]!r}"
    )


def commit_for(
    plan: Plan,
    threshold: str,
    measure: str | None = None,
    *,
    fingerprint: Digest,
    deadline_ms: int,
    commit_id: str,
    attempts: int | None = None,
) -> Commit:
    """Return the commit to a threshold's evidence, or to that of its measure (an assessment).

    `attempts` raises the plan's number; `deadline_ms` is UTC. Raises `CommitError`, and
    `DataSetError` for an assessment that is not in this version.
    """
    demand = demand_of(plan, threshold, measure)
    data_set = load_assessment(demand.assessment)
    if data_set.assessment.metric != demand.metric:
        raise CommitError(
            f"{demand.assessment} measures {data_set.assessment.metric!r}, the plan asks for "
            f"{demand.metric!r}: correct the plan"
        )
    if isinstance(demand, EvidenceDemand):
        limit, margin, least = demand.limit, demand.margin, demand.attempts
    else:
        limit, margin, least = demand.below, Decimal(0), demand.min_attempts
    wanted = least if attempts is None else attempts
    if wanted < least:
        raise CommitError(f"expected at least the plan's {least} attempts, got {wanted}")
    return Commit(
        id=commit_id,
        fingerprint=fingerprint,
        assessment=demand.assessment,
        metric=demand.metric,
        comparator="below",
        limit=limit,
        margin=margin,
        confidence=demand.confidence,
        attempts=wanted,
        data_set=data_set.digest,
        deadline=deadline_ms,
    )
