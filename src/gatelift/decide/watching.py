"""What the watches see: guardrails, signals, events; what each demands, and its incident.

Invariants
- A guardrail metric's process belongs to the account: it survives stages and fingerprints and starts
  anew only with the next account. One crossing acts as its watch says; all together, none alone,
  halt the release.
- An attributable crossing (e-BH names at most half of the organisations and the rest alone does
  not cross) suspends them first; unsure means every stage that guards this metric and in which
  harm was counted.
- A signal may only hold, for as long as it crosses and its stage is not stopped altogether: a stage
  that serves nobody can't show that its rate has fallen, and would hold every re-opening for good.
- An event acts when its count since its baseline reaches the plan's; a hold of an event or a
  suspension lasts until its incident is resolved.
- What latched stays, whatever the counts say later, until a certificate clears it.
- Counts that cannot be used hold.

Source: DESIGN.md section 8; reference/statistics.md sections 0 and 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from gatelift.decide.fold import guardrail_metrics
from gatelift.decide.fold_breach import incident_source
from gatelift.decide.narrowing import (
    OVERALL,
    consequence,
    event_subject,
    find_guardrail,
    metric_subject,
)
from gatelift.decide.reasons import ReasonCode, reason
from gatelift.decide.stages import is_ordered, uncleared
from gatelift.decide.state import EventBaseline, Latch, ObservationEntry, State
from gatelift.decide.traffic import (
    account_stretches,
    harmed_stages,
    organisation_counts,
    signal_stretches,
    stop_counts,
    stop_log_e,
)
from gatelift.messages import Figure, Narrowing, Reason
from gatelift.plan import EventWatch, Plan, Stage
from gatelift.stats import Account, StatsError, attribute, crossed, judge, log_e_overall
from gatelift.terms import DecisionKind, Severity, WatchRole
from gatelift.trust import Target, TargetKind

__all__ = ["Finding", "IncidentDraft", "Watched", "watch"]


class IncidentDraft(msgspec.Struct, frozen=True, kw_only=True):
    """An incident that control is to open, once: the log holds none of this source yet."""

    source: str
    severity: Severity
    title: str


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a watch demands. `narrow` is all of it, ordered already or not."""

    kind: DecisionKind
    reason: Reason
    narrow: tuple[Narrowing, ...] = ()
    draft: IncidentDraft | None = None


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """All findings of a moment and the figures behind them."""

    findings: tuple[Finding, ...]
    figures: tuple[Figure, ...]


class _Metric(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    limit: Decimal
    share: Decimal
    entries: tuple[ObservationEntry, ...]
    log_e: Decimal
    n: int
    s: int


def _figure(name: str, value: object, n: int, s: int) -> Figure:
    return Figure(name=name, value=str(value), n=n, s=s)


def _draft(code: str, subject: str, severity: Severity, message: str) -> IncidentDraft:
    return IncidentDraft(source=incident_source(code, subject), severity=severity, title=message)


def _is_settled(state: State, source: str, since: int) -> bool:
    """Return whether the machine's incident of this source, opened since then, is resolved."""
    mine = [i for i in state.incidents.values() if i.source == source and i.index > since]
    return bool(mine) and not any(incident.is_open for incident in mine)


def _unusable(metric: str, error: StatsError) -> Finding:
    text = f"the counts of {metric} cannot be used: {error}"
    return Finding(kind=DecisionKind.HOLD, reason=reason(ReasonCode.FIGURES_UNUSABLE, metric, text))


def _measure(state: State, account: Account, name: str, limit: Decimal) -> _Metric:
    entries = account_stretches(state, name)
    pairs = [stop_counts(state, entry) for entry in entries]
    return _Metric(
        name=name,
        limit=limit,
        share=account.shares[name],
        entries=entries,
        log_e=stop_log_e(limit, pairs),
        n=sum(n for n, _ in pairs),
        s=sum(s for _, s in pairs),
    )


def _named(state: State, account: Account, metric: _Metric) -> frozenset[str]:
    """Return the organisations that the evidence names, none where the rest crosses as well."""
    counts = organisation_counts(state, metric.entries)
    if not counts:
        return frozenset()
    scores = {name: stop_log_e(metric.limit, pairs) for name, pairs in counts.items()}
    named = attribute(scores, account.false_alarm)
    # Where most are named there is no rest to keep serving: that is a bad stage.
    if 2 * len(named) > len(counts):
        return frozenset()
    others = stop_log_e(
        metric.limit,
        [
            (
                sum(pairs[place][0] for name, pairs in counts.items() if name not in named),
                sum(pairs[place][1] for name, pairs in counts.items() if name not in named),
            )
            for place in range(len(metric.entries))
        ],
    )
    return frozenset() if crossed(others, metric.share, account.false_alarm) else named


def _suspend(state: State, account: Account, metric: _Metric, name: str) -> Finding | None:
    subject = metric_subject(metric.name, name)
    code = ReasonCode.ORGANISATION_SUSPENDED
    counts = organisation_counts(state, metric.entries)[name]
    text = (
        f"{metric.name}: {name} had {sum(s for _, s in counts)} harmful of "
        f"{sum(n for n, _ in counts)} units; the others alone do not cross {metric.limit}"
    )
    narrowing = Narrowing(
        target=Target(kind=TargetKind.ORGANISATION, name=name),
        ceiling=None,
        reason=f"{code.value}:{subject}",
    )
    since = max(account.opened_at, state.pardons.get(name, -1))
    # Suspended, and its incident resolved: calm.
    if is_ordered(state, narrowing, state.at) and _is_settled(
        state, incident_source(code, subject), since
    ):
        return None
    return Finding(
        kind=DecisionKind.HOLD,
        reason=reason(code, subject, text),
        narrow=(narrowing,),
        draft=_draft(code, subject, Severity.SEV_3, text),
    )


def _crossing(state: State, plan: Plan, account: Account, metric: _Metric) -> Iterable[Finding]:
    named = _named(state, account, metric)
    if named:
        for name in sorted(named):
            found = _suspend(state, account, metric, name)
            if found is not None:
                yield found
        return
    code = ReasonCode.GUARDRAIL_BREACH
    harmed = harmed_stages(metric.entries)
    for stage in plan.stages:
        if stage.name not in harmed or find_guardrail(stage, metric.name) is None:
            continue
        subject = metric_subject(metric.name, stage.name)
        kind, narrow = consequence(plan, code, subject)
        text = (
            f"{metric.name} crossed its limit {metric.limit}: {metric.s} harmful of {metric.n} "
            f"units, log e {metric.log_e}"
        )
        yield Finding(
            kind=kind,
            reason=reason(code, subject, text),
            narrow=narrow,
            draft=_draft(code, subject, Severity.SEV_3, text),
        )


def _guardrails(state: State, plan: Plan, account: Account) -> Watched:
    findings: list[Finding] = []
    figures = [_figure("account_number", account.number, 0, 0)]
    limits = guardrail_metrics(plan)
    metrics: dict[str, _Metric] = {}
    for name in account.shares:
        try:
            if name not in limits:
                raise StatsError("the plan no longer guards this metric")
            metric = _measure(state, account, name, limits[name])
            metrics[name] = metric
        except StatsError as error:
            findings.append(_unusable(name, error))
            continue
        figures.append(_figure(f"stop_log_e/{name}", metric.log_e, metric.n, metric.s))
    # A metric that cannot be used holds, and says nothing for or against the others.
    log_es = {
        name: metrics[name].log_e if name in metrics else Decimal(0) for name in account.shares
    }
    judged = judge(msgspec.structs.replace(account, breaches=()), log_es, state.size)
    breached = {breach.metric for breach in judged.breaches}
    overall = log_e_overall([(account.shares[name], log_es[name]) for name in account.shares])
    n, s = sum(m.n for m in metrics.values()), sum(m.s for m in metrics.values())
    figures.append(_figure(f"stop_log_e/{OVERALL}", overall, n, s))
    for name, metric in metrics.items():
        if name in breached:
            try:
                findings.extend(_crossing(state, plan, account, metric))
            except StatsError as error:
                findings.append(_unusable(name, error))
    if breached == {None}:
        code = ReasonCode.ACCOUNT_BREACH
        kind, narrow = consequence(plan, code, OVERALL)
        text = f"all guardrail metrics together crossed: log e {overall}, none of them alone"
        findings.append(
            Finding(
                kind=kind,
                reason=reason(code, OVERALL, text),
                narrow=narrow,
                draft=_draft(code, OVERALL, Severity.SEV_3, text),
            )
        )
    return Watched(findings=tuple(findings), figures=tuple(figures))


def _is_off(state: State, stage: Stage) -> bool:
    stops = uncleared(state, stage.name)
    return any(entry.standing.order.ceiling is None for entry in stops)


def _signals(state: State, plan: Plan, stage: Stage) -> Watched:
    findings, figures = [], []
    for each in stage.watch:
        if each.role is not WatchRole.SIGNAL:
            continue
        subject = metric_subject(each.metric, stage.name)
        try:
            entries = signal_stretches(state, each.metric, stage.name)
            pairs = [(entry.observation.n, entry.observation.s) for entry in entries]
            log_e = stop_log_e(each.limit, pairs)
        except StatsError as error:
            findings.append(_unusable(subject, error))
            continue
        n, s = sum(n for n, _ in pairs), sum(s for _, s in pairs)
        if pairs:
            figures.append(_figure(f"signal_log_e/{subject}", log_e, n, s))
        if crossed(log_e, Decimal(1), plan.false_alarm):
            text = f"{each.metric} crossed {each.limit} in {stage.name}: {s} harmful of {n} units"
            findings.append(
                Finding(
                    kind=DecisionKind.HOLD,
                    reason=reason(ReasonCode.SIGNAL_CROSSED, subject, text),
                )
            )
    return Watched(findings=tuple(findings), figures=tuple(figures))


def _event(state: State, plan: Plan, stage: Stage, each: EventWatch) -> Finding | None:
    code, subject = ReasonCode.EVENT_COUNT, event_subject(stage.name, each)
    total = state.events.get((stage.name, each.event.safeguard, each.event.side), 0)
    baseline = state.baselines.get(subject, EventBaseline())
    if total - baseline.count < each.count:
        return None
    kind, narrow = consequence(plan, code, subject)
    text = (
        f"{each.event.safeguard.value} on the {each.event.side.value} side was seen "
        f"{total - baseline.count} times in {stage.name}; the plan acts at {each.count}"
    )
    return Finding(
        kind=kind,
        reason=reason(code, subject, text),
        narrow=narrow,
        draft=_draft(code, subject, each.severity, text),
    )


def _latched(latch: Latch) -> Finding:
    return Finding(
        kind=latch.kind,
        reason=reason(ReasonCode(latch.code), latch.subject, latch.message),
        narrow=latch.narrow,
    )


def watch(state: State) -> Watched:
    """Return everything that the watches and the latched breaches demand now, each cause once."""
    found = [_latched(latch) for latch in state.latches]
    figures: list[Figure] = []
    plan = state.plan
    if plan is not None:
        if state.account is not None:
            seen = _guardrails(state, plan, state.account)
            found.extend(seen.findings)
            figures.extend(seen.figures)
        for stage in plan.stages:
            if not _is_off(state, stage):
                seen = _signals(state, plan, stage)
                found.extend(seen.findings)
                figures.extend(seen.figures)
            events = (_event(state, plan, stage, each) for each in stage.events)
            found.extend(each for each in events if each is not None)
    causes: dict[tuple[str, str], Finding] = {}
    for each in found:
        key = (each.reason.code, each.reason.subject)
        held = causes.get(key)
        if held is None:
            causes[key] = each
        elif held.draft is None:
            causes[key] = msgspec.structs.replace(held, draft=each.draft)
    return Watched(findings=tuple(causes.values()), figures=tuple(figures))
