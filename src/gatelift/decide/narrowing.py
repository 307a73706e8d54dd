"""What a breach does: from its cause, through the plan, to narrowings.

Invariants
- The same plan, code and subject give the same narrowings, at any time; so a latch can be folded
  from a recorded decision's reasons alone.
- Rescope lowers a stage to the scope and caps of the named earlier stage and touches nothing else;
  roll-back takes the stage and every wider one to nothing; halt the release.
- A cause that the plan does not know narrows nothing; it is not silently another one.

Source: DESIGN.md sections 3 and 8.
"""

from __future__ import annotations

from gatelift.decide.reasons import ReasonCode
from gatelift.messages import Narrowing
from gatelift.plan import BreachAction, EventWatch, MetricWatch, Plan, Stage
from gatelift.terms import DecisionKind, Envelope, WatchRole
from gatelift.trust import Target, TargetKind

__all__ = ["OVERALL", "consequence", "event_subject", "find_guardrail", "metric_subject"]

OVERALL = "overall"
_KINDS: dict[BreachAction, DecisionKind] = {
    BreachAction.HOLD: DecisionKind.HOLD,
    BreachAction.RESCOPE: DecisionKind.RESCOPE,
    BreachAction.ROLL_BACK: DecisionKind.ROLL_BACK,
    BreachAction.HALT: DecisionKind.HALT,
}


def metric_subject(metric: str, where: str) -> str:
    """Return the subject of a reason about a metric in a stage or of an organisation."""
    return f"{metric}@{where}"


def event_subject(stage: str, watch: EventWatch) -> str:
    """Return the subject that names one event watch of one stage."""
    event = watch.event
    band = "" if event.band is None else f"/{event.band.value}"
    return f"{event.safeguard.value}/{event.side.value}{band}>={watch.count}@{stage}"


def find_guardrail(stage: Stage, metric: str) -> MetricWatch | None:
    """Return the guardrail watch of a metric in a stage."""
    for watch in stage.watch:
        if watch.metric == metric and watch.role is WatchRole.GUARDRAIL:
            return watch
    return None


def _narrow(
    plan: Plan, stage: Stage, action: BreachAction, rescope_to: str | None, cause: str
) -> tuple[DecisionKind, tuple[Narrowing, ...]]:
    def on_stage(name: str, ceiling: Envelope | None) -> Narrowing:
        target = Target(kind=TargetKind.STAGE, name=name)
        return Narrowing(target=target, ceiling=ceiling, reason=cause)

    if action is BreachAction.RESCOPE and rescope_to is not None:
        lower = plan.stage(rescope_to).envelope
        ceiling = Envelope(scope=lower.scope, caps=lower.caps)
        return DecisionKind.RESCOPE, (on_stage(stage.name, ceiling),)
    match action:
        case BreachAction.HOLD:
            return DecisionKind.HOLD, ()
        case BreachAction.HALT:
            target = Target(kind=TargetKind.RELEASE, name=plan.name)
            return DecisionKind.HALT, (Narrowing(target=target, ceiling=None, reason=cause),)
        case BreachAction.ROLL_BACK | BreachAction.RESCOPE:
            # A rescope to nowhere cannot be done as written: the tighter action is taken.
            wider = plan.stages[plan.stage_index(stage.name) :]
            return DecisionKind.ROLL_BACK, tuple(on_stage(each.name, None) for each in wider)


def consequence(plan: Plan, code: str, subject: str) -> tuple[DecisionKind, tuple[Narrowing, ...]]:
    """Return what a breach demands under the plan: its kind and its narrowings."""
    cause = f"{code}:{subject}"
    if code == ReasonCode.ACCOUNT_BREACH:
        return _narrow(plan, plan.stages[0], BreachAction.HALT, None, cause)
    for stage in plan.stages:
        if code == ReasonCode.GUARDRAIL_BREACH:
            for watch in stage.watch:
                if metric_subject(watch.metric, stage.name) != subject:
                    continue
                if watch.role is WatchRole.GUARDRAIL:
                    return _narrow(plan, stage, watch.on_breach, watch.rescope_to, cause)
        elif code == ReasonCode.EVENT_COUNT:
            for event in stage.events:
                if event_subject(stage.name, event) == subject:
                    return _narrow(plan, stage, event.on_breach, None, cause)
    return DecisionKind.HOLD, ()
