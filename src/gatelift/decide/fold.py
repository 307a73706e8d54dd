"""One entry of the releases log onto the state.

Invariants
- Pure, and total over entries that were verified (`messages.verify_body`) and admitted
  (`decide.admit`); an entry that does not fit changes nothing but `size` and `at`.
- What narrows takes effect by being there; what widens only if it keeps its own rule even here: what
  people said is taken back by themselves alone (`fold_words`), an incident changes by its rules alone.
- Breaches latch from recorded decisions. A certificate that clears the orders that followed
  releases them, and opens the next account of false alarm if a guardrail had breached.

`read` is asked for two files only, by digest: the plan and the candidate of an adoption.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import TypeVar

import msgspec

from gatelift.decide.copies import fold_closing, fold_export
from gatelift.decide.fold_breach import fold_certificate, fold_decision, resolve_event
from gatelift.decide.fold_words import fold_words
from gatelift.decide.own_calls import fold_disclosure, fold_own_grant
from gatelift.decide.stages import narrowest_of
from gatelift.decide.state import (
    CommitEntry,
    EvidenceEntry,
    GrantEntry,
    ObservationEntry,
    OrderEntry,
    ProbeEntry,
    State,
)
from gatelift.encoding import Digest
from gatelift.errors import CallerError
from gatelift.incidents import IncidentRefusal, change_incident, open_incident
from gatelift.messages import (
    Body,
    Commit,
    CopyClosing,
    Decision,
    EntryHeader,
    Erasure,
    EventCount,
    Evidence,
    Export,
    Head,
    Hold,
    HoldLift,
    IncidentChange,
    IncidentOpening,
    Observation,
    PlacementEnrolment,
    PlanAdoption,
    Probe,
    Review,
    Revocation,
)
from gatelift.plan import Candidate, Plan, parse_candidate, parse_plan
from gatelift.stats import Account, open_account
from gatelift.terms import WatchRole
from gatelift.trust import (
    STOP_ROLES,
    Announcement,
    Certificate,
    Clear,
    Disclosure,
    Grant,
    Objection,
    Order,
    OwnGrant,
    Root,
    RootAnnouncement,
    StandingOrder,
    TargetKind,
)

__all__ = ["completes", "fold", "guardrail_metrics"]

K = TypeVar("K")
V = TypeVar("V")
Read = Callable[[Digest], bytes]

# Checking a plan takes a hundred times as long as any other entry, and replays meet the same one.
_parse_plan = lru_cache(maxsize=4)(parse_plan)


def fold(state: State, index: int, header: EntryHeader, body: Body, read: Read) -> State:
    """Return the state after entry `index`.

    `read` returns the bytes of a file by digest; what it raises passes through.
    """
    base = msgspec.structs.replace(state, size=index + 1, at=max(state.at, header.at))
    value = body.value
    match value:
        case Root():
            return msgspec.structs.replace(
                base,
                root=value,
                root_digest=header.body,
                root_index=index,
                root_announcements={},
            )
        case PlanAdoption():
            return _plan(base, index, header, value, read)
        case PlacementEnrolment():
            return _placement(base, header, value)
        case Probe():
            return _probe(base, header, value)
        case Commit():
            return _commit(base, index, header, value)
        case Evidence():
            return _evidence(base, index, header, value)
        case Announcement() | RootAnnouncement() | Objection() | Revocation() | Review():
            return fold_words(base, index, header, body, value)
        case Certificate():
            return fold_certificate(base, index, header, value)
        case Grant():
            grant = GrantEntry(grant=value, digest=header.body, index=index)
            return msgspec.structs.replace(base, grants=put(base.grants, value.id, grant))
        case Order():
            return _order(base, index, header, body, value)
        case Clear():
            return _clear(base, index, value)
        case Observation():
            return _observation(base, index, value)
        case EventCount():
            return _event(base, value)
        case Head():
            return msgspec.structs.replace(
                base, heads=put(base.heads, value.origin, value.checkpoint)
            )
        case IncidentOpening():
            return _incident(base, index, header, value)
        case IncidentChange():
            return _incident_change(base, index, header, body, value)
        case Erasure():
            return msgspec.structs.replace(base, erasures=put(base.erasures, value.id, value))
        case Hold():
            return msgspec.structs.replace(base, holds=put(base.holds, value.id, value))
        case HoldLift():
            return msgspec.structs.replace(base, lifted_holds=base.lifted_holds | {value.id})
        case Export():
            return fold_export(base, index, header, value)
        case CopyClosing():
            return fold_closing(base, index, value)
        case OwnGrant():
            return fold_own_grant(base, index, header, body, value)
        case Disclosure():
            return fold_disclosure(base, index, value)
        case Decision():
            return fold_decision(base, index, value)
        case _:
            return base


def put(held: Mapping[K, V], key: K, value: V) -> dict[K, V]:
    """Return a copy of a mapping with one more or one other value."""
    return {**held, key: value}


def guardrail_metrics(plan: Plan) -> dict[str, Decimal]:
    """Return each guardrail metric with its limit, sorted by name."""
    found = {
        watch.metric: watch.limit
        for stage in plan.stages
        for watch in stage.watch
        if watch.role is WatchRole.GUARDRAIL
    }
    return {name: found[name] for name in sorted(found)}


def _account(state: State, plan: Plan, candidate: Candidate, index: int) -> Account | None:
    metrics = guardrail_metrics(plan)
    if not metrics:
        return None
    part = candidate.model_part
    held = state.account
    fresh = open_account(
        release=plan.name,
        weights=part.weights or f"claimed:{part.model}",
        metrics=tuple(metrics),
        false_alarm=plan.false_alarm,
        opened_at=index,
    )
    if held is None:
        return fresh
    same_limits = state.plan is not None and guardrail_metrics(state.plan) == metrics
    if held.weights == fresh.weights and held.false_alarm == fresh.false_alarm and same_limits:
        return held
    # Another metric, limit or model is another hypothesis; the number says how often.
    return msgspec.structs.replace(fresh, number=held.number + 1)


def _plan(state: State, index: int, header: EntryHeader, value: PlanAdoption, read: Read) -> State:
    if state.release not in (None, value.release):
        return state
    try:
        plan = _parse_plan(read(value.plan))
        candidate = parse_candidate(read(value.candidate))
    except CallerError as error:
        return msgspec.structs.replace(
            state,
            release=value.release,
            plan=None,
            plan_digest=value.plan,
            plan_index=index,
            plan_entry=header.body,
            plan_problem=f"{error.code}: {error}",
            fingerprint=None,
            weights=None,
        )
    after = msgspec.structs.replace(
        state,
        release=value.release,
        plan=plan,
        plan_digest=value.plan,
        plan_index=index,
        plan_entry=header.body,
        plan_problem=None,
        fingerprint=value.candidate,
        weights=candidate.model_part.weights,
        account=_account(state, plan, candidate, index),
    )
    # No certificate could ever release a breach of a stage that is no more; orders still stand.
    kept = tuple(each for each in after.latches if narrowest_of(after, each.narrow) is not None)
    return msgspec.structs.replace(after, latches=kept)


def _placement(state: State, header: EntryHeader, value: PlacementEnrolment) -> State:
    # What was probed before may have been another server: it is unknown until probed again.
    probes = {key: held for key, held in state.probes.items() if key[1] != value.name}
    return msgspec.structs.replace(
        state,
        placements=put(state.placements, value.name, value),
        enrolments=put(state.enrolments, value.name, header.body),
        probes=probes,
    )


def _probe(state: State, header: EntryHeader, value: Probe) -> State:
    entry = ProbeEntry(probe=value, at=header.at)
    key = (value.node, value.placement)
    return msgspec.structs.replace(state, probes=put(state.probes, key, entry))


def _commit(state: State, index: int, header: EntryHeader, value: Commit) -> State:
    finite = all(each.is_finite() for each in (value.limit, value.margin, value.confidence))
    if value.id in state.commits or not finite:
        return state
    entry = CommitEntry(commit=value, index=index, at=header.at, by=header.actor)
    return msgspec.structs.replace(state, commits=put(state.commits, value.id, entry))


def completes(entry: CommitEntry | None, evidence: Evidence, at_ms: int) -> bool:
    """Return whether evidence logged at `at_ms` is the promised result of the commit."""
    if entry is None or entry.completed_by is not None or at_ms > entry.commit.deadline:
        return False
    commit = entry.commit
    same = (commit.fingerprint, commit.assessment, commit.metric) == (
        evidence.fingerprint,
        evidence.assessment,
        evidence.metric,
    )
    made = evidence.n + evidence.undetermined + evidence.errors
    counts = 0 <= evidence.s <= evidence.n and evidence.undetermined >= 0 and evidence.errors >= 0
    return same and counts and made <= commit.attempts


def _evidence(state: State, index: int, header: EntryHeader, value: Evidence) -> State:
    commit = state.commits.get(value.commit)
    usable = completes(commit, value, header.at)
    entry = EvidenceEntry(
        evidence=value, digest=header.body, index=index, at=header.at, usable=usable
    )
    commits = state.commits
    if usable and commit is not None:
        done = msgspec.structs.replace(commit, completed_by=header.body)
        commits = put(commits, value.commit, done)
    return msgspec.structs.replace(state, evidence=(*state.evidence, entry), commits=commits)


def _order(state: State, index: int, header: EntryHeader, body: Body, value: Order) -> State:
    if value.id in state.orders or not body.signers:
        return state
    by = next((s for s in body.signers if s.role in STOP_ROLES), body.signers[0])
    standing = StandingOrder(order=value, digest=header.body, by=by)
    entry = OrderEntry(standing=standing, index=index, at=header.at)
    return msgspec.structs.replace(state, orders=put(state.orders, value.id, entry))


def _clear(state: State, index: int, value: Clear) -> State:
    orders, pardons = dict(state.orders), dict(state.pardons)
    for order_id in value.orders:
        entry = orders.get(order_id)
        if value.release != state.release or entry is None or entry.cleared_index is not None:
            continue
        order = entry.standing.order
        if order.target.kind in (TargetKind.RELEASE, TargetKind.STAGE):
            continue
        orders[order_id] = msgspec.structs.replace(entry, cleared_index=index)
        if entry.standing.by.role == "control" and order.target.kind is TargetKind.ORGANISATION:
            pardons[order.target.name] = index
    return msgspec.structs.replace(state, orders=orders, pardons=pardons)


def _observation(state: State, index: int, value: Observation) -> State:
    if value.release != state.release:
        return state
    key = (value.metric, value.stage, value.certificate, value.stretch)
    held = state.observations.get(key)
    first = index if held is None else held.first_index
    entry = ObservationEntry(observation=value, first_index=first)
    return msgspec.structs.replace(state, observations=put(state.observations, key, entry))


def _event(state: State, value: EventCount) -> State:
    if value.release != state.release:
        return state
    key = (value.stage, value.category, value.side)
    count = max(value.count, state.events.get(key, 0))
    return msgspec.structs.replace(state, events=put(state.events, key, count))


def _incident(state: State, index: int, header: EntryHeader, value: IncidentOpening) -> State:
    if value.id in state.incidents:
        return state
    incident = open_incident(value, header.at, index)
    return msgspec.structs.replace(state, incidents=put(state.incidents, value.id, incident))


def _incident_change(
    state: State, index: int, header: EntryHeader, body: Body, value: IncidentChange
) -> State:
    incident = state.incidents.get(value.id)
    if incident is None:
        return state
    people = {signer.person for signer in body.signers}
    after = change_incident(incident, value, people, header.at)
    if isinstance(after, IncidentRefusal):
        return state
    changed = msgspec.structs.replace(state, incidents=put(state.incidents, value.id, after))
    return changed if after.is_open else resolve_event(changed, index, after)
