"""What stands between here and each stage: what blocks, who must sign, what remains, what is unseen.

Invariants
- Reasons are the gate's own; nothing is promised that the gate would not grant.
- A date is given only for what can be counted, at the present rate, on clean traffic; where it is
  not known the preview says why.
- Blindness is stated for every guardrail metric, also where all is calm.

Does not: guess how long people take. Source: DESIGN.md section 8; reference/statistics.md.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from gatelift.decide.fold import guardrail_metrics
from gatelift.decide.gates import examine
from gatelift.decide.reasons import ReasonCode
from gatelift.decide.stages import standing_certificate, standing_envelope
from gatelift.decide.state import State
from gatelift.decide.traffic import account_stretches, clearance_count, soak_count, stop_counts
from gatelift.decide.watching import watch
from gatelift.messages import Reason
from gatelift.plan import Plan, Stage
from gatelift.stats import (
    Counts,
    Delay,
    StatsError,
    blind_rate,
    delays,
    gate_alpha,
    units_to_clear,
    unseen_bound,
)
from gatelift.terms import Envelope

__all__ = ["Blindness", "Preview", "Remaining", "StagePreview", "preview"]

_DAY_MS = 86_400_000
_BLIND_CONFIDENCE = Decimal("0.95")
_FACTORS = (2, 3, 10)
_COUNTABLE = frozenset(
    {
        ReasonCode.SOAK_TIME,
        ReasonCode.SOAK_SESSIONS,
        ReasonCode.SOAK_ORGANISATIONS,
        ReasonCode.NOT_CLEARED,
    }
)


class Remaining(msgspec.Struct, frozen=True, kw_only=True):
    """Something countable: `have` of `need` `what`. `need` is null if no number would do.

    `in_ms` is when it is there at the present rate, null if that is not known.
    """

    what: str
    have: int
    need: int | None
    in_ms: int | None


class StagePreview(msgspec.Struct, frozen=True, kw_only=True):
    """One stage: does it stand, what blocks it, who must sign, from when at the earliest."""

    stage: str
    standing: bool
    envelope: Envelope | None
    not_after: int | None
    blocked_by: tuple[Reason, ...]
    must_sign: tuple[str, ...]
    remaining: tuple[Remaining, ...]
    earliest_at: int | None
    why_unknown: str | None


class Blindness(msgspec.Struct, frozen=True, kw_only=True):
    """What could go unseen of one guardrail metric, at this traffic.

    `unseen_bound` is the rate that the units so far still allow (95%, at any time); nothing between
    the limit and `blind_rate` is found by waiting; `delays` are for multiples of the limit.
    """

    metric: str
    limit: Decimal
    n: int
    s: int
    unseen_bound: Decimal
    blind_rate: Decimal
    units_per_day: int
    delays: tuple[Delay, ...]


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """The whole release at a moment. `account_number` counts the openings of the account."""

    release: str
    at: int
    stages: tuple[StagePreview, ...]
    blindness: tuple[Blindness, ...]
    account_number: int
    problems: tuple[Reason, ...]


def _wait_ms(missing: int, have: int, elapsed_ms: int) -> int | None:
    if missing <= 0:
        return 0
    if have <= 0 or elapsed_ms <= 0:
        return None
    return -(-missing * elapsed_ms // have)


def _soak(state: State, stage: Stage, now_ms: int) -> list[Remaining]:
    soak = stage.gate.soak
    if soak is None:
        return []
    have = soak_count(state, soak.from_stage, now_ms)
    left = soak.time_ms - have.time_ms
    enough = have.organisations >= soak.organisations
    return [
        Remaining(
            what="ms of soak",
            have=have.time_ms,
            need=soak.time_ms,
            # Time runs on only while the stage stands.
            in_ms=0 if left <= 0 else (None if have.until_ms is None else left),
        ),
        Remaining(
            what="sessions",
            have=have.sessions,
            need=soak.sessions,
            in_ms=_wait_ms(soak.sessions - have.sessions, have.sessions, have.time_ms),
        ),
        Remaining(
            what="organisations",
            have=have.organisations,
            need=soak.organisations,
            in_ms=0 if enough else None,
        ),
    ]


def _clearances(state: State, plan: Plan, stage: Stage, now_ms: int) -> list[Remaining]:
    found = []
    for clear in stage.gate.clear:
        what = f"units to clear {clear.metric}"
        try:
            have = clearance_count(state, clear.metric, clear.from_stage)
            alpha = gate_alpha(plan.false_assurance, plan.clearance_gates())
            need = units_to_clear(clear.limit, alpha, have.s)
        except StatsError:
            found.append(Remaining(what=what, have=0, need=None, in_ms=None))
            continue
        elapsed = soak_count(state, clear.from_stage, now_ms).time_ms
        wait = None if need is None else _wait_ms(need - have.n, have.n, elapsed)
        found.append(Remaining(what=what, have=have.n, need=need, in_ms=wait))
    return found


def _earliest(
    reasons: tuple[Reason, ...], remaining: list[Remaining], now_ms: int
) -> tuple[int | None, str | None]:
    waiting = sorted({each.code for each in reasons if each.code not in _COUNTABLE})
    if waiting:
        return None, f"it waits for more than traffic: {', '.join(waiting)}"
    unknown = [each.what for each in remaining if each.in_ms is None]
    if unknown:
        return None, f"no rate to go by for: {', '.join(unknown)}"
    return now_ms + max((each.in_ms or 0 for each in remaining), default=0), None


def _blindness(state: State, plan: Plan, now_ms: int) -> list[Blindness]:
    found: list[Blindness] = []
    account = state.account
    for metric, limit in guardrail_metrics(plan).items():
        entries = account_stretches(state, metric)
        pairs = [stop_counts(state, entry) for entry in entries]
        n, s = sum(n for n, _ in pairs), sum(s for _, s in pairs)
        elapsed = sum(
            soak_count(state, stage.name, now_ms).time_ms
            for stage in plan.stages
            if any(watch.metric == metric for watch in stage.watch)
        )
        per_day = n * _DAY_MS // elapsed if elapsed > 0 else 0
        share = Decimal(1) if account is None else account.shares.get(metric, Decimal(1))
        rates = [rate for rate in (limit * factor for factor in _FACTORS) if rate <= 1]
        try:
            history = [Counts(n=n, s=s) for n, s in pairs]
            bound = unseen_bound(n, s, _BLIND_CONFIDENCE)
            slow = (
                delays(
                    rates,
                    limit=limit,
                    false_alarm=plan.false_alarm,
                    units_per_day=per_day,
                    weight=share,
                    history=history,
                )
                if per_day > 0
                else ()
            )
        except StatsError:
            # Counts that cannot be used bound nothing: everything could go unseen.
            bound, slow = Decimal(1), ()
        found.append(
            Blindness(
                metric=metric,
                limit=limit,
                n=n,
                s=s,
                unseen_bound=bound,
                blind_rate=blind_rate(limit),
                units_per_day=per_day,
                delays=slow,
            )
        )
    return found


def preview(state: State, now_ms: int) -> Preview:
    """Return what is missing for every stage at `now_ms`, and what could go unseen."""
    plan, watched = state.plan, watch(state)
    stages: list[StagePreview] = []
    for stage in plan.stages if plan is not None else ():
        if plan is None:
            break
        reasons = examine(state, stage.name, now_ms, watched).reasons
        remaining = _soak(state, stage, now_ms) + _clearances(state, plan, stage, now_ms)
        earliest, why = _earliest(reasons, remaining, now_ms)
        held = standing_certificate(state, stage.name, now_ms)
        envelope = standing_envelope(state, stage.name, now_ms)
        if envelope is not None:
            earliest, why = None, "it stands"
        stages.append(
            StagePreview(
                stage=stage.name,
                standing=envelope is not None,
                envelope=envelope,
                not_after=None if held is None else held.certificate.not_after,
                blocked_by=reasons,
                must_sign=stage.quorum,
                remaining=tuple(remaining),
                earliest_at=earliest,
                why_unknown=why,
            )
        )
    return Preview(
        release=state.release or "",
        at=now_ms,
        stages=tuple(stages),
        blindness=tuple(_blindness(state, plan, now_ms)) if plan is not None else (),
        account_number=0 if state.account is None else state.account.number,
        problems=() if plan is not None else examine(state, "", now_ms, watched).reasons,
    )
