"""What the CLI and the page are shown of the state: the same objects under the same words.

Invariants
- Everything is derived from the folded state and from what is out; nothing is remembered.
- No grant, key, prompt or name: actors are pseudonyms, organisations are counted. Witnesses stand
  with their organisation, as in the root.
"""

from __future__ import annotations

import msgspec

from gatelift.control.beacons import BeaconReport
from gatelift.control.bundles import Outgoing
from gatelift.control.copy_views import CopyView, view_copies
from gatelift.control.keepers import NodeSeen
from gatelift.control.overseer_views import OwnGrantView, view_own_grants
from gatelift.control.publisher import Cosigned
from gatelift.control.stage_views import StageView, view_stages
from gatelift.control.witness_client import WitnessReport
from gatelift.decide import Commitment, State, open_commitments
from gatelift.encoding import Digest
from gatelift.incidents import Clock, Incident, clocks
from gatelift.messages import (
    Commit,
    Decision,
    Evidence,
    Observation,
    PlacementEnrolment,
    Probe,
    Review,
)
from gatelift.plan import parse_candidate
from gatelift.terms import Category, Side
from gatelift.trust import Order, Root
from gatelift.wire.files import FileStore

__all__ = ["StateView", "view_state"]


class OrderView(msgspec.Struct, frozen=True, kw_only=True):
    """An order, who gave it, and the entry of the clear that lifted it."""

    order: Order
    digest: Digest
    by: str
    index: int
    at: int
    cleared_index: int | None


class IncidentView(msgspec.Struct, frozen=True, kw_only=True):
    """An incident with the clocks that its severity may start."""

    incident: Incident
    open: bool
    clocks: tuple[Clock, ...]


class CommitView(msgspec.Struct, frozen=True, kw_only=True):
    """A promise of a run; `completed_by` is the evidence that kept it."""

    commit: Commit
    index: int
    at: int
    completed_by: Digest | None


class EvidenceView(msgspec.Struct, frozen=True, kw_only=True):
    """Evidence. `usable`: the result of a promise made before it; `revoked` counts against it."""

    evidence: Evidence
    digest: Digest
    index: int
    at: int
    usable: bool
    revoked: bool


class ReviewView(msgspec.Struct, frozen=True, kw_only=True):
    """A review and who signed it, as `<role>:<person>`."""

    review: Review
    digest: Digest
    index: int
    at: int
    by: tuple[str, ...]
    revoked: bool


class ProbeView(msgspec.Struct, frozen=True, kw_only=True):
    """The newest probe of a placement from a node."""

    probe: Probe
    at: int


class MetricTotal(msgspec.Struct, frozen=True, kw_only=True):
    """One metric in one stage over all its stretches."""

    metric: str
    stage: str
    n: int
    s: int
    open: int
    units: int
    organisations: int


class EventTotal(msgspec.Struct, frozen=True, kw_only=True):
    """How often a safeguard spoke in a stage."""

    stage: str
    category: Category
    side: Side
    count: int


class DecisionView(msgspec.Struct, frozen=True, kw_only=True):
    """The newest recorded decision and its entry."""

    decision: Decision
    index: int


class CheckpointView(msgspec.Struct, frozen=True, kw_only=True):
    """The newest cosigned head; `root` in hex, times in ms UTC.

    `confirmed_at` is since when a quorum of witnesses confirms it, `fresh_until` when nodes take it for
    frozen; both are null where the root asks for no witness.
    """

    size: int
    root: str
    note: str
    confirmed_at: int | None
    fresh_until: int | None


class StateView(msgspec.Struct, frozen=True, kw_only=True):
    """The whole release now. Times in ms UTC."""

    release: str | None
    at: int
    size: int
    root_version: int | None
    root_digest: Digest | None
    plan_digest: Digest | None
    plan_entry: Digest | None
    plan_problem: str | None
    fingerprint: Digest | None
    unknown_parts: tuple[str, ...]
    checkpoint: CheckpointView | None
    witness_problem: str | None
    witnesses: tuple[WitnessReport, ...]
    beacons: tuple[BeaconReport, ...]
    bundle_number: int | None
    roster_number: int | None
    last_decision: DecisionView | None
    stages: tuple[StageView, ...]
    placements: tuple[PlacementEnrolment, ...]
    probes: tuple[ProbeView, ...]
    orders: tuple[OrderView, ...]
    incidents: tuple[IncidentView, ...]
    copies: tuple[CopyView, ...]
    own_grants: tuple[OwnGrantView, ...]
    commitments: tuple[Commitment, ...]
    commits: tuple[CommitView, ...]
    evidence: tuple[EvidenceView, ...]
    reviews: tuple[ReviewView, ...]
    metrics: tuple[MetricTotal, ...]
    events: tuple[EventTotal, ...]
    heads: dict[str, str]
    account_number: int | None
    status_number: int | None
    status_signed_at: int | None
    node: str | None
    node_connected: bool


def view_state(
    state: State,
    files: FileStore,
    *,
    now_ms: int,
    head: Cosigned | None,
    witness_problem: str | None,
    witnesses: tuple[WitnessReport, ...],
    beacons: tuple[BeaconReport, ...],
    out: Outgoing,
    status: tuple[int, int] | None,
    node: NodeSeen,
) -> StateView:
    """Return the summary at `now_ms`; `status` is the last one's number and time."""
    return StateView(
        release=state.release,
        at=now_ms,
        size=state.size,
        root_version=state.root.version if state.root else None,
        root_digest=state.root_digest,
        plan_digest=state.plan_digest,
        plan_entry=state.plan_entry,
        plan_problem=state.plan_problem,
        fingerprint=state.fingerprint,
        unknown_parts=_unknown_parts(state, files),
        checkpoint=_checkpoint(head, state.root),
        witness_problem=witness_problem,
        witnesses=witnesses,
        beacons=beacons,
        bundle_number=out.bundle.number if out.bundle else None,
        roster_number=out.roster.number if out.roster else None,
        last_decision=_decision(state),
        stages=view_stages(state, now_ms),
        placements=tuple(state.placements.values()),
        probes=tuple(ProbeView(probe=held.probe, at=held.at) for held in state.probes.values()),
        orders=_orders(state),
        incidents=tuple(
            IncidentView(incident=each, open=each.is_open, clocks=clocks(each, now_ms))
            for each in state.incidents.values()
        ),
        copies=view_copies(state, now_ms),
        own_grants=view_own_grants(state),
        commitments=open_commitments(state, now_ms),
        commits=_commits(state),
        evidence=_evidence(state),
        reviews=_reviews(state),
        metrics=_metrics(state),
        events=tuple(
            EventTotal(stage=stage, category=category, side=side, count=count)
            for (stage, category, side), count in state.events.items()
        ),
        heads=state.heads,
        account_number=state.account.number if state.account else None,
        status_number=status[0] if status else None,
        status_signed_at=status[1] if status else None,
        node=node.name,
        node_connected=node.is_connected,
    )


def _unknown_parts(state: State, files: FileStore) -> tuple[str, ...]:
    digest = state.fingerprint
    return parse_candidate(files.get(digest)).unknown_parts() if digest else ()


def _checkpoint(head: Cosigned | None, root: Root | None) -> CheckpointView | None:
    if head is None:
        return None
    note = head.note.decode("utf-8")
    return CheckpointView(
        size=head.size,
        root=head.checkpoint.root.hex(),
        note=note,
        confirmed_at=head.confirmed_at,
        fresh_until=head.confirmed_at + root.witness_max_age_ms
        if root is not None and head.confirmed_at is not None
        else None,
    )


def _decision(state: State) -> DecisionView | None:
    last = state.last_decision
    return DecisionView(decision=last.decision, index=last.index) if last else None


def _orders(state: State) -> tuple[OrderView, ...]:
    return tuple(
        OrderView(
            order=each.standing.order,
            digest=each.standing.digest,
            by=f"{each.standing.by.role}:{each.standing.by.person}",
            index=each.index,
            at=each.at,
            cleared_index=each.cleared_index,
        )
        for each in state.orders.values()
    )


def _commits(state: State) -> tuple[CommitView, ...]:
    return tuple(
        CommitView(commit=c.commit, index=c.index, at=c.at, completed_by=c.completed_by)
        for c in state.commits.values()
    )


def _evidence(state: State) -> tuple[EvidenceView, ...]:
    return tuple(
        EvidenceView(
            evidence=each.evidence,
            digest=each.digest,
            index=each.index,
            at=each.at,
            usable=each.usable,
            revoked=each.digest in state.revoked,
        )
        for each in state.evidence
    )


def _reviews(state: State) -> tuple[ReviewView, ...]:
    return tuple(
        ReviewView(
            review=each.review,
            digest=each.digest,
            index=each.index,
            at=each.at,
            by=tuple(f"{s.role}:{s.person}" for s in each.signers),
            revoked=each.digest in state.revoked,
        )
        for each in state.reviews
    )


def _metrics(state: State) -> tuple[MetricTotal, ...]:
    held: dict[tuple[str, str], list[Observation]] = {}
    for (metric, stage, _, _), entry in state.observations.items():
        held.setdefault((metric, stage), []).append(entry.observation)
    return tuple(
        MetricTotal(
            metric=metric,
            stage=stage,
            n=sum(each.n for each in found),
            s=sum(each.s for each in found),
            open=sum(each.open for each in found),
            units=sum(each.units for each in found),
            organisations=len({o.organisation for each in found for o in each.organisations}),
        )
        for (metric, stage), found in held.items()
    )
