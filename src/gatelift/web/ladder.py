"""The stages as a ladder, the orders that hold them down, and what the next one waits for.

Invariants
- A stage is open only if its certificate is in its window, of this candidate and plan, orders leave
  it, and no node withholds it for what probes show; every other way to stand has its own word.
- The reasons of the next stage are its gate's own, all of them.
"""

from __future__ import annotations

from collections.abc import Iterable

from gatelift.decide import (
    Examination,
    OrderEntry,
    ReasonCode,
    Remaining,
    StagePreview,
    State,
    orders_in_force,
    standing_certificate,
    standing_envelope,
    target_stage,
    uncleared,
    widest_stage,
    withheld_by,
)
from gatelift.messages import Reason
from gatelift.plan import Plan, Stage
from gatelift.terms import Envelope
from gatelift.trust import TargetKind, demanded_envelope, stage_ceiling
from gatelift.web.allowances import TIER_WORDS, changes, describe, describe_observed
from gatelift.web.formats import counted, length, number
from gatelift.web.glance import Glance
from gatelift.web.levels import summarise_levels
from gatelift.web.model import Mode, NextStage, OrderLine, Progress, Rung
from gatelift.web.withheld import PRIVATE_TARGETS, Scrubber

__all__ = [
    "MAX_ORDERS",
    "build_next",
    "build_orders",
    "build_rungs",
    "count_private",
    "lacking_reviews",
    "mode_of",
]

MAX_ORDERS = 20


def mode_of(state: State, stage: str, now_ms: int) -> Mode:
    """Return how a stage stands at `now_ms`."""
    newest = state.newest_certificate(stage)
    if newest is None:
        return Mode.SHUT
    if standing_certificate(state, stage, now_ms) is None:
        return Mode.LAPSED if now_ms >= newest.certificate.not_before else Mode.SHUT
    ceiling = standing_envelope(state, stage, now_ms)
    if ceiling is None:
        return Mode.STOPPED
    if withheld_by(state, newest.certificate) is not None:
        return Mode.WITHHELD
    return Mode.OPEN if ceiling == newest.certificate.envelope else Mode.NARROWED


def _rung(state: State, stage: Stage, glance: Glance, target: str | None, now_ms: int) -> Rung:
    name = stage.name
    held = standing_certificate(state, name, now_ms)
    ceiling = standing_envelope(state, name, now_ms)
    applied: tuple[str, ...] = ()
    if held is not None:
        orders = [entry.standing for entry in state.orders.values()]
        applied = stage_ceiling(held.certificate, orders, now_ms)[1]
    admitted = {
        each.grant.organisation
        for each in state.grants.values()
        if each.grant.stage == name and each.grant.not_before <= now_ms < each.grant.not_after
    }
    newest = state.newest_certificate(name)
    shown = ceiling if ceiling is not None else stage.envelope
    return Rung(
        name=name,
        mode=mode_of(state, name, now_ms),
        is_next=name == target,
        audience=TIER_WORDS[shown.audience.tier],
        admitted=len(admitted),
        valid_from=newest.certificate.not_before if newest else None,
        valid_until=newest.certificate.not_after if newest else None,
        signed_by=glance.signers.get(newest.index, ()) if newest else (),
        levels=summarise_levels(newest.certificate.levels) if newest else "",
        clears=len(newest.certificate.clears) if newest else 0,
        orders=applied,
        withheld=None if held is None else withheld_by(state, held.certificate),
        terms=(*describe(shown), *describe_observed(stage.observe)),
    )


def build_rungs(state: State, glance: Glance, now_ms: int) -> tuple[Rung, ...]:
    """Return every stage of the plan in order of exposure."""
    target = target_stage(state, now_ms)
    stages = state.plan.stages if state.plan else ()
    return tuple(_rung(state, stage, glance, target, now_ms) for stage in stages)


def _progress(left: Remaining) -> Progress:
    if left.what.startswith("ms of "):
        need = length(left.need) if left.need is not None else "no number"
        return Progress(
            label=left.what.removeprefix("ms of ").capitalize() + " time",
            have=left.have,
            need=left.need,
            have_text=length(left.have),
            need_text=need,
            in_ms=left.in_ms,
        )
    return Progress(
        label=left.what[:1].upper() + left.what[1:],
        have=left.have,
        need=left.need,
        have_text=number(left.have),
        need_text="more than any number" if left.need is None else number(left.need),
        in_ms=left.in_ms,
    )


def _quorum(state: State, roles: tuple[str, ...]) -> tuple[str, ...]:
    known = state.root.roles if state.root else {}
    people = {name: role.threshold for name, role in known.items()}
    return tuple(
        f"{name} ({people[name]} people)" if people.get(name, 1) > 1 else name for name in roles
    )


def lacking_reviews(reasons: Iterable[Reason]) -> frozenset[str]:
    """Return the roles whose review a gate still waits for; a deputy out of turn gave none."""
    return frozenset(
        each.subject
        for each in reasons
        if each.code.startswith("review_") or each.code == ReasonCode.DEPUTY_WAITS
    )


def build_next(
    state: State, plan: Plan, looked: Examination, ahead: StagePreview, scrub: Scrubber, now_ms: int
) -> NextStage:
    """Return what stands between here and the stage whose gate was looked at."""
    stage = plan.stage(looked.stage)
    widest = widest_stage(state, now_ms)
    now = standing_envelope(state, widest, now_ms) if widest else None
    then: Envelope = demanded_envelope(plan, stage, looked.verdicts)
    lacking = lacking_reviews(looked.reasons)
    general = any(each.code == "review_person_twice" for each in looked.reasons)
    roles = stage.gate.reviews.roles if stage.gate.reviews else ()
    reopens = bool(uncleared(state, stage.name)) and bool(state.certificates.get(stage.name))
    return NextStage(
        name=stage.name,
        reopens=reopens,
        reasons=tuple(scrub.reason(each) for each in looked.reasons),
        quorum=_quorum(state, stage.quorum),
        reviews=tuple((role, role not in lacking and not general) for role in roles),
        progress=tuple(_progress(each) for each in ahead.remaining),
        earliest_at=ahead.earliest_at,
        why_unknown=None if ahead.why_unknown is None else ahead.why_unknown.replace("_", " "),
        changes=changes(now, then),
        compared_with=widest,
    )


def _holds(state: State, entry: OrderEntry, now_ms: int) -> tuple[str, ...]:
    plan = state.plan
    if plan is None:
        return ()
    order = entry.standing.order
    whole = order.target.kind is TargetKind.RELEASE
    names = [s.name for s in plan.stages if whole or s.name == order.target.name]
    if not entry.is_stop:
        in_force = entry.standing in orders_in_force(state, now_ms)
        cleared = {
            name
            for name in names
            if (newest := state.newest_certificate(name)) is not None
            and order.id in newest.certificate.clears
        }
        return tuple(name for name in names if in_force and name not in cleared)
    held = [name for name in names if entry in uncleared(state, name)]
    # A stage that was never certified is not held down by anything but that.
    return tuple(name for name in held if state.certificates.get(name)) or tuple(
        held if not any(state.certificates.get(name) for name in names) else ()
    )


def _effect(entry: OrderEntry) -> str:
    order = entry.standing.order
    if order.ceiling is None:
        return "nothing may be served"
    parts = []
    if order.ceiling != Envelope():
        parts.append("a lower ceiling")
    if order.block_rules:
        parts.append(counted(len(order.block_rules), "further block rule"))
    return " and ".join(parts) or "no change"


def build_orders(state: State, scrub: Scrubber, now_ms: int) -> tuple[OrderLine, ...]:
    """Return the orders on the release and its stages, newest first, those that hold before others."""
    lines = []
    for entry in reversed(state.orders.values()):
        order, by = entry.standing.order, entry.standing.by
        if order.target.kind in PRIVATE_TARGETS:
            continue
        whole = order.target.kind is TargetKind.RELEASE
        lines.append(
            OrderLine(
                id=order.id,
                at=entry.at,
                by=f"{by.role}:{by.person}",
                target="the whole release" if whole else f"stage {order.target.name}",
                effect=_effect(entry),
                reasons=tuple(scrub.text(each) for each in order.reasons),
                holds=_holds(state, entry, now_ms),
                until=order.until,
            )
        )
    return tuple(sorted(lines, key=lambda line: not line.holds))


def count_private(state: State, now_ms: int) -> int:
    """Return how many orders on single organisations, principals or keys are in force."""
    return sum(
        standing.order.target.kind in PRIVATE_TARGETS for standing in orders_in_force(state, now_ms)
    )
