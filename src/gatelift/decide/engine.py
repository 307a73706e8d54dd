"""The decision: what follows from the state now, why, and when to look again.

Invariants
- Total and deterministic: every state and time gives a decision; the same give the same.
- `stage` is the widest stage served, `target` the stage whose gate comes next.
- `narrow` lists only what control has not ordered yet; control acts on it every time, recorded or
  not, so that a crash between decision and order loses nothing.
- `changed` looks at kind and at (code, subject) of the reasons; progress in figures alone is no new
  decision. Every narrowing has a reason of its own subject, so a new one is always recorded.

Source: DESIGN.md section 8.
"""

from __future__ import annotations

import msgspec

from gatelift.decide.deadlines import next_deadline
from gatelift.decide.gates import Examination, examine
from gatelift.decide.places import check_up
from gatelift.decide.reasons import ReasonCode, reason
from gatelift.decide.stages import (
    is_ordered,
    stage_names,
    standing_certificate,
    target_stage,
    uncleared,
    widest_stage,
)
from gatelift.decide.state import State
from gatelift.decide.table import Fact, choose
from gatelift.decide.watching import Finding, Watched, watch
from gatelift.messages import Decision, Figure, Narrowing, Reason
from gatelift.terms import DecisionKind
from gatelift.trust import TargetKind

__all__ = ["changed", "decide"]

_WATCH_FACTS: dict[DecisionKind, Fact] = {
    DecisionKind.HALT: Fact.BREACH_HALTS,
    DecisionKind.ROLL_BACK: Fact.BREACH_ROLLS_BACK,
    DecisionKind.RESCOPE: Fact.BREACH_RESCOPES,
    DecisionKind.HOLD: Fact.WATCH_HOLDS,
}
_NARROWS_STAGES = frozenset({DecisionKind.RESCOPE, DecisionKind.ROLL_BACK})
_GATE_ROWS = frozenset({Fact.GATE_OPEN, Fact.ALWAYS, Fact.REOPENED})


def _order_reasons(state: State, stage: str) -> list[Reason]:
    return [
        reason(
            ReasonCode.ORDER_STANDING,
            entry.standing.order.id,
            f"order {entry.standing.order.id} by {entry.standing.by.role} holds down stage {stage}: "
            + "; ".join(entry.standing.order.reasons)[:200],
        )
        for entry in uncleared(state, stage)
    ]


def _stopped(state: State, now_ms: int) -> list[Reason]:
    """Return the orders that leave nothing served, if no stage stands."""
    names = stage_names(state)
    if not names or widest_stage(state, now_ms) is not None:
        return []
    held = [name for name in names if standing_certificate(state, name, now_ms) is not None]
    if held:
        return [each for name in held for each in _order_reasons(state, name)]
    # Certificates may lapse under a halt of the release: it stays one until it is cleared.
    halts = {
        entry.standing.order.id
        for entry in uncleared(state, names[0])
        if entry.standing.order.target.kind is TargetKind.RELEASE
        and entry.standing.order.ceiling is None
    }
    return [each for each in _order_reasons(state, names[0]) if each.subject in halts]


def _reopened(state: State) -> list[Reason]:
    since = -1 if state.last_decision is None else state.last_decision.index
    return [
        reason(
            ReasonCode.REOPENED,
            stage,
            f"stage {stage} was re-opened by entry {index}"
            + ("" if state.account is None else f"; account number {state.account.number}"),
        )
        for stage, index in state.reopenings.items()
        if index > since
    ]


def _is_moot(state: State, finding: Finding, now_ms: int) -> bool:
    """Return whether a breach's stages serve nobody anyway, by orders that others gave.

    It stays latched, and the gates of those stages say so; it no longer says what the release does.
    """
    if finding.kind not in _NARROWS_STAGES or not finding.narrow:
        return False
    own = [(each.target, each.ceiling) for each in finding.narrow]
    for each in finding.narrow:
        if each.target.kind is not TargetKind.STAGE or not is_ordered(state, each, now_ms):
            return False
        orders = [entry.standing.order for entry in uncleared(state, each.target.name)]
        if not any(o.ceiling is None and (o.target, o.ceiling) not in own for o in orders):
            return False
    return True


def _facts(
    state: State, watched: Watched, looked: Examination | None, stage: str | None, now_ms: int
) -> dict[Fact, list[Reason]]:
    facts: dict[Fact, list[Reason]] = {}

    def add(fact: Fact, reasons: list[Reason]) -> None:
        if reasons:
            facts.setdefault(fact, []).extend(reasons)

    add(Fact.STOPPED, _stopped(state, now_ms))
    for finding in watched.findings:
        if not _is_moot(state, finding, now_ms):
            add(_WATCH_FACTS[finding.kind], [finding.reason])
    if stage is not None:
        add(Fact.NOTHING_UP, list(check_up(state)))
    add(Fact.REOPENED, _reopened(state))
    if looked is not None and not looked.reasons:
        text = f"everything that stage {looked.stage} asks for is there"
        add(Fact.GATE_OPEN, [reason(ReasonCode.GATE_OPEN, looked.stage, text)])
    return facts


def _shut(state: State, looked: Examination | None, target: str | None) -> list[Reason]:
    if looked is not None and target is None:
        return list(looked.reasons)
    if looked is None or target is None:
        widest = stage_names(state)[-1]
        text = f"stage {widest} is the widest of the plan"
        return [reason(ReasonCode.NOTHING_WIDER, widest, text)]
    return [*_order_reasons(state, target), *looked.reasons]


def _reasons(
    state: State,
    facts: dict[Fact, list[Reason]],
    row: Fact,
    looked: Examination | None,
    target: str | None,
) -> tuple[Reason, ...]:
    if row is Fact.ALWAYS:
        found = _shut(state, looked, target)
    elif row in _GATE_ROWS:
        found = facts[row]
    else:
        # Every cause that acts is named, not only the strongest: each may have to be latched.
        found = [each for fact, held in facts.items() if fact not in _GATE_ROWS for each in held]
        if row is Fact.WATCH_HOLDS:
            found += _shut(state, looked, target)
        found += facts.get(Fact.GATE_OPEN, [])
    once: dict[tuple[str, str], Reason] = {}
    for each in found:
        once.setdefault((each.code, each.subject), each)
    return tuple(once.values())


def _new_narrowings(
    state: State, findings: tuple[Finding, ...], now_ms: int
) -> tuple[Narrowing, ...]:
    found: dict[bytes, Narrowing] = {}
    for finding in findings:
        for each in finding.narrow:
            if not is_ordered(state, each, now_ms):
                key = msgspec.json.encode((each.target, each.ceiling))
                found.setdefault(key, each)
    return tuple(found.values())


def decide(state: State, now_ms: int) -> tuple[Decision, int | None]:
    """Return the decision at `now_ms` and the next moment to decide at if nothing is logged."""
    watched = watch(state)
    target = target_stage(state, now_ms)
    stage = widest_stage(state, now_ms)
    # Without a plan there is no stage to ask about, and the gate says why.
    asked = target if stage_names(state) else ""
    looked = None if asked is None else examine(state, asked, now_ms, watched)
    facts = _facts(state, watched, looked, stage, now_ms)
    row = choose(facts)
    kind = row.kind
    figures: tuple[Figure, ...] = watched.figures + (looked.figures if looked else ())
    decision = Decision(
        release=state.release or "",
        kind=kind,
        stage=None if kind is DecisionKind.HALT else stage,
        target=target,
        reasons=_reasons(state, facts, row.fact, looked, target),
        figures=figures,
        narrow=_new_narrowings(state, watched.findings, now_ms),
    )
    return decision, next_deadline(state, now_ms)


def changed(previous: Decision | None, new: Decision) -> bool:
    """Return whether a decision is to be recorded: its kind or set of reasons is another."""
    if previous is None:
        return True

    def marks(decision: Decision) -> frozenset[tuple[str, str]]:
        return frozenset((each.code, each.subject) for each in decision.reasons)

    return previous.kind is not new.kind or marks(previous) != marks(new)
