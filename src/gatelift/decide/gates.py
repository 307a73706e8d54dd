"""The gate of a stage: every reason why it is shut, or none.

Invariants
- Empty means open; everything that is not known is a reason.
- A threshold that is not ruled out does not shut the gate: it switches on measures, and those must
  be possible and shown to work.
- After a stop that no certificate of the stage has cleared, evidence and reviews must be newer than
  it; the gate may then open, and the certificate clears the stop.
- A latched breach shuts every gate but that of the narrowest stage it stopped and narrower ones. A
  hold by a watch shuts the gates of stages that do not stand; renewing what stands is no promotion.

Deadlines: whatever here turns by time alone is listed by `decide.deadlines`.

Source: DESIGN.md sections 5 and 8.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gatelift.decide.evidence import Judgement, judge_measure, judge_threshold
from gatelift.decide.notice import check_notice
from gatelift.decide.people import check_earlier_reviews, check_people, check_reviews
from gatelift.decide.places import check_places
from gatelift.decide.reasons import ReasonCode, reason
from gatelift.decide.stages import (
    is_ordered,
    narrowest_of,
    stage_names,
    standing_envelope,
    uncleared,
)
from gatelift.decide.state import State
from gatelift.decide.traffic import clearance_count, soak_count, widen_log_e
from gatelift.decide.watching import Watched, watch
from gatelift.encoding import Digest
from gatelift.incidents import open_at_or_above
from gatelift.messages import Figure, Reason
from gatelift.plan import Plan, Stage, Threshold
from gatelift.stats import StatsError, cleared, gate_alpha
from gatelift.terms import DecisionKind, ThresholdVerdict, Tier
from gatelift.trust import demanded_envelope

__all__ = ["Examination", "examine", "gate"]


class Examination(msgspec.Struct, frozen=True, kw_only=True):
    """A gate looked at: why it is shut, what it rests on, and the figures.

    `verdicts` holds the threshold verdicts that could be computed, `evidence` the digests of the
    runs they rest on: a certificate says the same verdicts and lists all of that evidence.
    """

    stage: str
    reasons: tuple[Reason, ...]
    verdicts: dict[str, ThresholdVerdict] = {}
    evidence: tuple[Digest, ...] = ()
    figures: tuple[Figure, ...] = ()


class _Sheet:
    """What is gathered while a gate is examined."""

    def __init__(self) -> None:
        self.reasons: list[Reason] = []
        self.figures: list[Figure] = []
        self.verdicts: dict[str, ThresholdVerdict] = {}
        self.used: set[Digest] = set()

    def shut(self, code: ReasonCode, subject: str, message: str) -> None:
        self.reasons.append(reason(code, subject, message))

    def take(self, judgement: Judgement) -> None:
        self.reasons.extend(judgement.reasons)
        self.figures.extend(judgement.figures)
        self.used.update(judgement.used)


def _thresholds(
    state: State, plan: Plan, stage: Stage, after: int, now_ms: int, sheet: _Sheet
) -> None:
    for threshold in plan.thresholds:
        if threshold.name not in stage.gate.thresholds:
            continue
        try:
            judgement = judge_threshold(state, threshold, after, now_ms)
        except StatsError as error:
            sheet.shut(ReasonCode.FIGURES_UNUSABLE, threshold.name, str(error))
            continue
        sheet.take(judgement)
        if judgement.outcome is None:
            if not judgement.reasons:
                text = f"{threshold.name}: nothing was measured"
                sheet.shut(ReasonCode.EVIDENCE_MISSING, threshold.name, text)
            continue
        sheet.verdicts[threshold.name] = judgement.outcome
        if judgement.outcome is not ThresholdVerdict.RULED_OUT:
            _measures(state, threshold, after, now_ms, sheet)
    audience = demanded_envelope(plan, stage, sheet.verdicts).audience
    decided = set(sheet.verdicts) >= set(stage.gate.thresholds)
    if decided and (audience.tier is Tier.NOBODY or audience.max_organisations == 0):
        text = f"stage {stage.name} met with the measures admits nobody"
        sheet.shut(ReasonCode.MEASURES_IMPOSSIBLE, stage.name, text)


def _measures(state: State, threshold: Threshold, after: int, now_ms: int, sheet: _Sheet) -> None:
    for demand in threshold.unless_ruled_out.evidence:
        try:
            judgement = judge_measure(state, threshold, demand, after, now_ms)
        except StatsError as error:
            sheet.shut(ReasonCode.FIGURES_UNUSABLE, f"{threshold.name}/{demand.metric}", str(error))
            continue
        sheet.take(judgement)
        if not judgement.figures and not judgement.reasons:
            text = f"{threshold.name}/{demand.assessment}: nothing was measured"
            sheet.shut(ReasonCode.EVIDENCE_MISSING, f"{threshold.name}/{demand.assessment}", text)


def _soak(state: State, stage: Stage, now_ms: int, sheet: _Sheet) -> None:
    demand = stage.gate.soak
    if demand is None:
        return
    have = soak_count(state, demand.from_stage, now_ms)
    rows = (
        (ReasonCode.SOAK_TIME, "soak_time_ms", have.time_ms, demand.time_ms, "ms"),
        (ReasonCode.SOAK_SESSIONS, "soak_sessions", have.sessions, demand.sessions, "sessions"),
        (
            ReasonCode.SOAK_ORGANISATIONS,
            "soak_organisations",
            have.organisations,
            demand.organisations,
            "organisations",
        ),
    )
    for code, name, got, want, word in rows:
        sheet.figures.append(
            Figure(name=f"{name}/{demand.from_stage}", value=str(got), n=have.sessions, s=0)
        )
        if got < want:
            text = f"{demand.from_stage} has {got} of {want} {word}"
            sheet.shut(code, demand.from_stage, text)


def _clearances(state: State, plan: Plan, stage: Stage, sheet: _Sheet) -> None:
    for demand in stage.gate.clear:
        try:
            alpha = gate_alpha(plan.false_assurance, plan.clearance_gates())
            have = clearance_count(state, demand.metric, demand.from_stage)
            log_e = widen_log_e(demand.limit, have.n, have.s)
            open_now = cleared(log_e, alpha)
        except StatsError as error:
            sheet.shut(ReasonCode.FIGURES_UNUSABLE, demand.metric, str(error))
            continue
        name = f"widen_log_e/{demand.metric}@{demand.from_stage}"
        sheet.figures.append(Figure(name=name, value=str(log_e), n=have.n, s=have.s))
        if not open_now:
            text = (
                f"{demand.metric} in {demand.from_stage}: {have.s} harmful or open of {have.n} "
                f"units do not show a rate below {demand.limit}; log e {log_e}"
            )
            sheet.shut(ReasonCode.NOT_CLEARED, demand.metric, text)


def _earlier(state: State, plan: Plan, stage: Stage, now_ms: int, sheet: _Sheet) -> None:
    names = stage_names(state)
    place = names.index(stage.name)
    if place == 0:
        return
    before = names[place - 1]
    if standing_envelope(state, before, now_ms) is None:
        sheet.shut(
            ReasonCode.EARLIER_STAGE_MISSING, before, f"stage {before} does not stand at {now_ms}"
        )
    for earlier in plan.stages[:place]:
        sheet.reasons.extend(check_earlier_reviews(state, earlier))
    for name in names[:place]:
        held = uncleared(state, name)
        if held and state.certificates.get(name):
            ids = ", ".join(entry.standing.order.id for entry in held)
            text = f"stage {name} is held down by {ids}"
            sheet.shut(ReasonCode.EARLIER_STAGE_NARROWED, name, text)


def _latches(state: State, stage: Stage, watched: Watched, now_ms: int, sheet: _Sheet) -> None:
    place = stage_names(state).index(stage.name)
    for finding in watched.findings:
        subject = f"{finding.reason.code}:{finding.reason.subject}"
        narrowest = narrowest_of(state, finding.narrow)
        if narrowest is None:
            continue
        if place > narrowest:
            text = f"{finding.reason.message}; stage {stage_names(state)[narrowest]} comes first"
            sheet.shut(ReasonCode.BREACH_LATCHED, subject, text)
        elif place == narrowest and not all(
            is_ordered(state, each, now_ms) for each in finding.narrow
        ):
            text = f"{finding.reason.message}; the order that follows is not on the log yet"
            sheet.shut(ReasonCode.BREACH_LATCHED, subject, text)
    if standing_envelope(state, stage.name, now_ms) is None:
        sheet.reasons.extend(
            finding.reason for finding in watched.findings if finding.kind is DecisionKind.HOLD
        )


def _incidents(state: State, stage: Stage, sheet: _Sheet) -> None:
    demand = stage.gate.incidents
    if demand is None:
        return
    held = open_at_or_above(state.incidents.values(), demand.at_or_above)
    if len(held) > demand.open:
        ids = ", ".join(sorted(incident.id for incident in held)[:5])
        text = (
            f"{len(held)} incidents of {demand.at_or_above.value} or worse are open ({ids}), "
            f"allowed are {demand.open}"
        )
        sheet.shut(ReasonCode.INCIDENTS_OPEN, demand.at_or_above.value, text)


def examine(
    state: State, stage_name: str, now_ms: int, watched: Watched | None = None
) -> Examination:
    """Return the gate of a stage with its reasons, verdicts, evidence and figures at `now_ms`.

    `watched` saves looking again at what the watches see of the same state.
    """
    sheet = _Sheet()
    root, plan = state.root, state.plan
    if root is None:
        sheet.shut(ReasonCode.ROOT_MISSING, "root", "no root is on the log")
    elif now_ms >= root.expires_at:
        text = f"root {root.version} expired at {root.expires_at}"
        sheet.shut(ReasonCode.ROOT_EXPIRED, str(root.version), text)
    if plan is None:
        _no_plan(state, sheet)
        return Examination(stage=stage_name, reasons=tuple(sheet.reasons))
    stage = next((each for each in plan.stages if each.name == stage_name), None)
    if stage is None:
        text = f"expected one of {list(stage_names(state))}, got {stage_name!r}"
        sheet.shut(ReasonCode.UNKNOWN_STAGE, stage_name, text)
        return Examination(stage=stage_name, reasons=tuple(sheet.reasons))
    sheet.reasons.extend(check_places(state, plan, stage))
    _earlier(state, plan, stage, now_ms, sheet)
    _latches(state, stage, watch(state) if watched is None else watched, now_ms, sheet)
    after = max((entry.index for entry in uncleared(state, stage.name)), default=-1)
    _thresholds(state, plan, stage, after, now_ms, sheet)
    if stage.gate.reviews is not None:
        sheet.reasons.extend(
            check_reviews(state, stage, stage.gate.reviews, sheet.used, after, now_ms)
        )
    _incidents(state, stage, sheet)
    _soak(state, stage, now_ms, sheet)
    _clearances(state, plan, stage, sheet)
    if root is not None:
        sheet.reasons.extend(check_people(root, stage))
    envelope = demanded_envelope(plan, stage, sheet.verdicts)
    sheet.reasons.extend(check_notice(state, stage, envelope, now_ms))
    return Examination(
        stage=stage_name,
        reasons=_once(sheet.reasons),
        verdicts=sheet.verdicts,
        evidence=tuple(sorted(sheet.used)),
        figures=tuple(sheet.figures),
    )


def _no_plan(state: State, sheet: _Sheet) -> None:
    if state.plan_problem is None:
        sheet.shut(ReasonCode.PLAN_MISSING, state.release or "release", "no plan was adopted")
    else:
        text = f"the adopted plan cannot be used: {state.plan_problem}"
        sheet.shut(ReasonCode.PLAN_UNREADABLE, str(state.plan_digest), text)


def _once(reasons: Iterable[Reason]) -> tuple[Reason, ...]:
    found: dict[tuple[str, str], Reason] = {}
    for each in reasons:
        found.setdefault((each.code, each.subject), each)
    return tuple(found.values())


def gate(state: State, stage: str, now_ms: int) -> tuple[Reason, ...]:
    """Return every reason why the gate of a stage is shut; empty if it is open."""
    return examine(state, stage, now_ms).reasons
