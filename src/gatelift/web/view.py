"""The view of a release: the folded state and its preview, made into what the page shows.

Invariants
- Pure: the same state, time and glance give the same view.
- Everything here is public (`withheld`); the candidate's prompt, canaries and placements' addresses
  are never read into it.
- Total: an empty log, an unreadable plan and a missing candidate each give a page that says so.

Does not: decide. Reasons, verdicts and dates are `decide`'s own.
"""

from __future__ import annotations

from typing import Final

from gatelift.decide import (
    Examination,
    Preview,
    ReasonCode,
    State,
    examine,
    exposures_of,
    open_commitments,
    open_copies,
    overdue_copies,
    preview,
    standing_certificate,
    target_stage,
    watch,
    widest_stage,
)
from gatelift.plan import Candidate
from gatelift.trust import BEACON
from gatelift.web.announced import build_conditions, build_notices
from gatelift.web.answers import build_answers, headline, release_mode, summary
from gatelift.web.findings import (
    MAX_ASSESSMENTS,
    MAX_INCIDENTS,
    build_assessments,
    build_events,
    build_guardrails,
    build_incidents,
    build_objections,
    build_thresholds,
)
from gatelift.web.formats import instant, number, share
from gatelift.web.glance import Glance
from gatelift.web.ladder import (
    MAX_ORDERS,
    build_next,
    build_orders,
    build_rungs,
    count_private,
)
from gatelift.web.levels import describe_levels
from gatelift.web.model import (
    CandidateCard,
    DecisionLine,
    ExposureLine,
    LevelLine,
    LogCard,
    NextStage,
    ReleaseView,
    Term,
)
from gatelift.web.withheld import Scrubber

__all__ = ["build_view", "certificate_entries"]

_BROKEN = frozenset(
    {
        ReasonCode.ROOT_MISSING,
        ReasonCode.ROOT_EXPIRED,
        ReasonCode.PLAN_MISSING,
        ReasonCode.PLAN_UNREADABLE,
        ReasonCode.PLACEMENT_MISSING,
        ReasonCode.PLACEMENT_DOWN,
        ReasonCode.DRIFT,
        ReasonCode.FIGURES_UNUSABLE,
    }
)
"""Reasons that are not work ahead but something that does not work."""


def certificate_entries(state: State) -> frozenset[int]:
    """Return the entries of every stage's newest certificate: whose signers the page names."""
    return frozenset(held[-1].index for held in state.certificates.values() if held)


_MAX_PROMISES: Final = 30


def _facts(candidate: Candidate) -> tuple[Term, ...]:
    model, serving = candidate.model_part, candidate.serving_part
    tools = serving.tools
    rows = (
        ("Model", model.model),
        ("Weights", model.weights or "not stated"),
        ("System prompt", "none" if model.system_prompt is None else "one is sent; not shown here"),
        ("Engine", serving.engine or "not stated"),
        ("Dialect", serving.dialect),
        (
            "Sampling",
            f"temperature {serving.sampling.temperature}, top_p {serving.sampling.top_p}",
        ),
        ("Tools", "no limit" if tools is None else ", ".join(tools) or "none"),
        ("Longest context", _tokens(serving.max_context_tokens)),
        ("Longest answer", _tokens(serving.max_output_tokens)),
    )
    return tuple(Term(name=name, text=text) for name, text in rows)


def _tokens(limit: int | None) -> str:
    return "no limit" if limit is None else f"{number(limit)} tokens"


def _candidate(state: State, candidate: Candidate | None) -> CandidateCard | None:
    if state.fingerprint is None:
        return None
    return CandidateCard(
        fingerprint=state.fingerprint,
        facts=None if candidate is None else _facts(candidate),
        unknown=()
        if candidate is None
        else tuple(part.split(".")[-1].replace("_", " ") for part in candidate.unknown_parts()),
        exposures=_exposures(state),
        copies=len(open_copies(state)),
    )


def _exposures(state: State) -> tuple[ExposureLine, ...]:
    late = overdue_copies(state, state.at)
    return tuple(
        ExposureLine(
            door=each.declared,
            copies=tuple(
                f"one for {copy.export.purpose}, "
                f"{'OVERDUE since' if copy in late else 'due back'} {instant(copy.export.expires_at)}"
                for copy in each.copies
            ),
        )
        for each in exposures_of(state)
    )


def _log(state: State, glance: Glance) -> LogCard:
    root, cosigned = state.root, glance.cosigned
    return LogCard(
        size=state.size,
        cosigned_size=cosigned[0] if cosigned else None,
        root_hash=cosigned[1] if cosigned else None,
        origin=cosigned[2] if cosigned else None,
        root_digest=state.root_digest,
        root_version=root.version if root else None,
        root_expires_at=root.expires_at if root else None,
        witnesses=len(root.witnesses) if root else 0,
        independent=sum(each.independent for each in root.witnesses) if root else 0,
        quorum=root.witness_quorum if root else 0,
        beacon=root.roles[BEACON].threshold if root and BEACON in root.roles else 0,
        delayed=glance.delayed,
        requests_logs=len(state.heads),
    )


def _levels(state: State, now_ms: int) -> tuple[str | None, tuple[LevelLine, ...]]:
    stage = widest_stage(state, now_ms)
    held = standing_certificate(state, stage, now_ms) if stage else None
    if held is None:
        return None, ()
    return stage, describe_levels(state, held.certificate.levels)


def _decisions(glance: Glance, scrub: Scrubber) -> tuple[DecisionLine, ...]:
    return tuple(
        DecisionLine(
            index=each.index,
            at=each.at,
            kind=each.decision.kind.value.replace("_", " "),
            stage=each.decision.stage,
            reasons=tuple(scrub.reason(found) for found in each.decision.reasons),
        )
        for each in glance.decisions
    )


def _coming(
    state: State,
    looked: dict[str, Examination],
    ahead: Preview,
    target: str | None,
    scrub: Scrubber,
    now_ms: int,
) -> NextStage | None:
    if state.plan is None or target is None:
        return None
    mine = next(each for each in ahead.stages if each.stage == target)
    return build_next(state, state.plan, looked[target], mine, scrub, now_ms)


def build_view(state: State, now_ms: int, glance: Glance) -> ReleaseView:
    """Return the page of `state` at `now_ms`, with what was read beside it in `glance`."""
    plan, scrub, watched = state.plan, Scrubber(state), watch(state)
    ahead = preview(state, now_ms)
    target = target_stage(state, now_ms)
    looked: dict[str, Examination] = {
        stage.name: examine(state, stage.name, now_ms, watched)
        for stage in (plan.stages if plan else ())
    }
    rungs = build_rungs(state, glance, now_ms)
    coming = _coming(state, looked, ahead, target, scrub, now_ms)
    asked = ([looked[target]] if target else []) + list(looked.values())
    orders, incidents = build_orders(state, scrub, now_ms), build_incidents(state, scrub, now_ms)
    runs = build_assessments(state, now_ms)
    # What is overdue is never among what is left out before the rest.
    owed = sorted(open_commitments(state, now_ms), key=lambda each: not each.overdue)
    shut = looked[target].reasons if target else ahead.problems
    broken = [each for each in shut if each.code in _BROKEN]
    level_stage, levels = _levels(state, now_ms)
    log = _log(state, glance)
    return ReleaseView(
        release=state.release,
        at=now_ms,
        mode=release_mode(rungs),
        headline=headline(state.release, rungs),
        summary=summary(state.release, rungs, coming),
        answers=build_answers(
            glance=glance,
            rungs=rungs,
            ahead=coming,
            orders=orders,
            incidents=incidents,
            findings=watched.findings,
            broken=tuple(scrub.reason(each) for each in broken),
            log=log,
            levels=levels,
        ),
        problems=tuple(scrub.reason(each) for each in ahead.problems),
        candidate=_candidate(state, glance.candidate),
        plan_digest=state.plan_digest,
        level_stage=level_stage,
        levels=levels,
        rungs=rungs,
        next=coming,
        thresholds=build_thresholds(plan, tuple(asked)) if plan else (),
        guardrails=build_guardrails(ahead.blindness),
        events=build_events(state, plan) if plan else (),
        false_alarm=share(plan.false_alarm) if plan else "",
        resumes=max(0, ahead.account_number - 1),
        orders=orders[:MAX_ORDERS],
        orders_left_out=max(0, len(orders) - MAX_ORDERS),
        private_orders=count_private(state, now_ms),
        notices=build_notices(state, plan, scrub),
        conditions=build_conditions(state, scrub, now_ms),
        objections=build_objections(state, scrub),
        incidents=incidents[:MAX_INCIDENTS],
        incidents_left_out=max(0, len(incidents) - MAX_INCIDENTS),
        assessments=runs[:MAX_ASSESSMENTS],
        assessments_left_out=max(0, len(runs) - MAX_ASSESSMENTS),
        promises=tuple(owed[:_MAX_PROMISES]),
        promises_left_out=max(0, len(owed) - _MAX_PROMISES),
        decisions=_decisions(glance, scrub),
        log=log,
    )
