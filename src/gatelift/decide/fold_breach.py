"""The part of the fold that latches breaches and releases them.

Invariants
- A recorded decision latches the breaches that it gives as reasons, if they demand an order.
- A certificate of stage S releases a breach when it is the first to clear an order of control that
  says what the breach demanded of S or of the release.
- The account of false alarm goes on to its next number only then, and only if a guardrail breached.
- An event counts again from where it stood when its breach was released or its incident resolved.

Does not: decide. Source: DESIGN.md section 8.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

import msgspec

from gatelift.decide.narrowing import OVERALL, consequence, event_subject
from gatelift.decide.reasons import BREACH_CODES, ReasonCode
from gatelift.decide.state import (
    CertificateEntry,
    EventBaseline,
    Latch,
    OrderEntry,
    RecordedDecision,
    State,
)
from gatelift.incidents import Incident
from gatelift.messages import Decision, EntryHeader
from gatelift.stats import Account, Breach, reopen
from gatelift.trust import Certificate, TargetKind

__all__ = ["fold_certificate", "fold_decision", "incident_source", "resolve_event"]


def incident_source(code: str, subject: str) -> str:
    """Return the source of the incident that the machine opens for a cause."""
    return f"watch:{code}:{subject}"


def _event_count(state: State, subject: str) -> int | None:
    for stage in state.plan.stages if state.plan else ():
        for watch in stage.events:
            if event_subject(stage.name, watch) == subject:
                key = (stage.name, watch.event.safeguard, watch.event.side)
                return state.events.get(key, 0)
    return None


def _rebase(state: State, index: int, subject: str) -> State:
    count = _event_count(state, subject)
    if count is None:
        return state
    baselines = {**state.baselines, subject: EventBaseline(count=count, index=index)}
    return msgspec.structs.replace(state, baselines=baselines)


def resolve_event(state: State, index: int, incident: Incident) -> State:
    """Return the state after the incident of an event watch was resolved."""
    head = incident_source(ReasonCode.EVENT_COUNT, "")
    if not incident.source.startswith(head):
        return state
    return _rebase(state, index, incident.source.removeprefix(head))


def fold_decision(state: State, index: int, decision: Decision) -> State:
    """Return the state with a recorded decision and the breaches that it latches."""
    latches = list(state.latches)
    account = state.account
    known = {(latch.code, latch.subject) for latch in latches}
    for each in decision.reasons:
        if state.plan is None or each.code not in BREACH_CODES:
            continue
        if (each.code, each.subject) in known:
            continue
        kind, narrow = consequence(state.plan, each.code, each.subject)
        if not narrow:
            continue
        known.add((each.code, each.subject))
        latches.append(
            Latch(
                code=each.code,
                subject=each.subject,
                kind=kind,
                narrow=narrow,
                message=each.message,
                index=index,
            )
        )
        if account is not None and each.code != ReasonCode.EVENT_COUNT:
            account = _breached(account, index, decision, each.subject)
    return msgspec.structs.replace(
        state,
        latches=tuple(latches),
        account=account,
        last_decision=RecordedDecision(decision=decision, index=index),
    )


def _breached(account: Account, index: int, decision: Decision, subject: str) -> Account:
    metric = None if subject == OVERALL else subject.partition("@")[0]
    if any(breach.metric == metric for breach in account.breaches):
        return account
    name = f"stop_log_e/{OVERALL if metric is None else metric}"
    value = next((figure.value for figure in decision.figures if figure.name == name), "0")
    try:
        log_e = Decimal(value)
    except InvalidOperation:
        log_e = Decimal(0)
    breach = Breach(metric=metric, at=index, log_e=log_e)
    return msgspec.structs.replace(account, breaches=(*account.breaches, breach))


def _answers(entry: OrderEntry, latch: Latch, stage: str) -> bool:
    order = entry.standing.order
    # An older order may answer too: what was ordered already is not ordered again.
    return entry.standing.by.role == "control" and any(
        order.target == each.target
        and order.ceiling == each.ceiling
        and (each.target.kind is TargetKind.RELEASE or each.target.name == stage)
        for each in latch.narrow
    )


def fold_certificate(
    state: State, index: int, header: EntryHeader, certificate: Certificate
) -> State:
    """Return the state with a certificate, and without the breaches that it clears."""
    if certificate.release != state.release:
        return state
    stage = certificate.stage
    held = state.certificates.get(stage, ())
    before = {order for entry in held for order in entry.certificate.clears}
    reopens = frozenset(
        order for order in certificate.clears if order not in before and order in state.orders
    )
    entry = CertificateEntry(
        certificate=certificate, digest=header.body, index=index, at=header.at, reopens=reopens
    )
    after = msgspec.structs.replace(
        state, certificates={**state.certificates, stage: (*held, entry)}
    )
    if not reopens:
        return after
    cleared = [state.orders[order] for order in reopens]
    gone = [
        latch for latch in state.latches if any(_answers(order, latch, stage) for order in cleared)
    ]
    account = after.account
    spent = any(latch.code != ReasonCode.EVENT_COUNT for latch in gone)
    if account is not None and account.breaches and spent:
        account = reopen(account, index)
    after = msgspec.structs.replace(
        after,
        reopenings={**state.reopenings, stage: index},
        latches=tuple(latch for latch in state.latches if latch not in gone),
        account=account,
    )
    for latch in gone:
        if latch.code == ReasonCode.EVENT_COUNT:
            after = _rebase(after, index, latch.subject)
    return after
