"""The first answers of the page: how the release stands, in a sentence, and five people's questions.

Invariants
- An answer is computed from the same values that the sections below show; it never says more.
- What is not known is said to be not known.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gatelift.decide import Finding
from gatelift.web.formats import counted, instant, number
from gatelift.web.glance import Glance
from gatelift.web.model import (
    Answer,
    IncidentCard,
    LevelLine,
    LogCard,
    Mode,
    NextStage,
    OrderLine,
    ReasonLine,
    Rung,
)

__all__ = ["build_answers", "headline", "release_mode", "summary"]

_SERVED = (Mode.OPEN, Mode.NARROWED)
_HELD = (Mode.STOPPED, Mode.WITHHELD)


def _widest(rungs: Sequence[Rung]) -> Rung | None:
    return next((rung for rung in reversed(rungs) if rung.mode in _SERVED), None)


def release_mode(rungs: Sequence[Rung]) -> Mode:
    """Return how the release as a whole stands."""
    modes = {rung.mode for rung in rungs}
    for mode in (Mode.NARROWED, Mode.OPEN):
        if mode in modes:
            return Mode.NARROWED if modes & {Mode.NARROWED, *_HELD} else mode
    told = (Mode.STOPPED, Mode.WITHHELD, Mode.LAPSED)
    return next((mode for mode in told if mode in modes), Mode.SHUT)


def headline(release: str | None, rungs: Sequence[Rung]) -> str:
    """Return the one sentence on top."""
    if release is None:
        return "No release yet"
    widest = _widest(rungs)
    if widest is not None:
        return f"Open to {widest.audience}"
    match release_mode(rungs):
        case Mode.STOPPED:
            return "Stopped: nobody is served"
        case Mode.WITHHELD:
            return "Withheld: nobody is served"
        case Mode.LAPSED:
            return "Lapsed: nobody is served"
        case _:
            return "Not open to anyone"


def summary(release: str | None, rungs: Sequence[Rung], ahead: NextStage | None) -> str:
    """Return what stands behind the headline, in a sentence or two."""
    if release is None:
        return "No plan was adopted. Nothing can be served without one."
    if not rungs:
        return "The adopted plan cannot be used, so nothing can be served."
    widest = _widest(rungs)
    if widest is None:
        withheld = next((rung for rung in rungs if rung.mode is Mode.WITHHELD), None)
        said = (
            "No certificate stands that orders leave anything of."
            if withheld is None
            else f"Stage {withheld.name} stands, and nodes serve nothing of it: {withheld.withheld}."
        )
    else:
        until = "" if widest.valid_until is None else f" until {instant(widest.valid_until)}"
        said = f"The widest stage that stands is {widest.name}{until}."
        held = [rung.name for rung in rungs if rung.mode in (Mode.NARROWED, Mode.STOPPED)]
        if held:
            said += f" Orders hold down: {', '.join(held)}."
    if ahead is None:
        return said + " The plan has no wider stage."
    verb = "To re-open" if ahead.reopens else "Next is"
    count = len(ahead.reasons)
    why = (
        f"{counted(count, 'thing')} in the way" if count else "its gate is open, signatures are due"
    )
    return f"{said} {verb} {ahead.name}: {why}."


def _who(rungs: Sequence[Rung]) -> Answer:
    widest = _widest(rungs)
    if widest is None:
        answer, detail = "Nobody", "No stage stands."
    else:
        answer = widest.audience[:1].upper() + widest.audience[1:]
        detail = f"Stage {widest.name}; {counted(widest.admitted, 'organisation')} admitted to it."
        if widest.mode is Mode.NARROWED:
            detail += " An order narrows it."
    return Answer(
        question="Who may use it?", answer=answer, detail=detail, href="#stages", alarm=False
    )


def _next(ahead: NextStage | None) -> Answer:
    question = "What blocks the next stage?"
    if ahead is None:
        return Answer(question=question, answer="No stage is next", detail="", href="#stages")
    if ahead.reasons:
        codes = list(dict.fromkeys(each.code.replace("_", " ") for each in ahead.reasons))
        detail = "; ".join(codes[:3]) + (f" and {len(codes) - 3} more" if len(codes) > 3 else "")
        answer = f"{ahead.name}: {len(ahead.reasons)} to go"
    else:
        answer, detail = f"{ahead.name}: the gate is open", "It waits for signatures."
    if ahead.earliest_at is not None and ahead.reasons:
        detail += f". Earliest at this rate: {instant(ahead.earliest_at)}"
    return Answer(question=question, answer=answer, detail=detail, href="#next")


def _wrong(
    glance: Glance,
    orders: Sequence[OrderLine],
    incidents: Sequence[IncidentCard],
    findings: Sequence[Finding],
    broken: Sequence[ReasonLine],
    served: bool,
) -> Answer:
    found = [each.meaning.rstrip(".") for each in broken]
    opened = [each for each in incidents if each.is_open]
    if opened:
        worst = min(each.severity for each in opened).replace("-", "\u2011")
        found.append(f"{counted(len(opened), 'open incident')}, worst {worst}")
    late = sum(clock.overdue for each in opened for clock in each.clocks)
    if late:
        found.append(f"{counted(late, 'reporting deadline')} passed")
    holding = sum(bool(order.holds) for order in orders)
    if holding:
        found.append(f"{counted(holding, 'standing order')}")
    if findings:
        found.append(f"{counted(len(findings), 'finding')} of the watches")
    if not glance.healthy:
        found.append("control does not write")
    if served and not glance.connected:
        found.append("no gateway node is connected, so nothing is served")
    if glance.delayed:
        found.append("the newest head of the log is not cosigned")
    return Answer(
        question="What is wrong now?",
        answer=found[0][:1].upper() + found[0][1:] if found else "Nothing that is watched",
        detail="; ".join(found[1:]) if found else "What could go unseen is listed below.",
        href=_where(bool(broken), bool(opened), bool(holding)),
        alarm=bool(found),
    )


def _where(broken: bool, opened: bool, holding: bool) -> str:
    if broken:
        return "#blocked"
    if opened:
        return "#incidents"
    return "#orders" if holding else "#watches"


def _signing(ahead: NextStage | None) -> Answer:
    question = "Who is asked to sign?"
    if ahead is None:
        return Answer(question=question, answer="Nobody", detail="", href="#next")
    missing = [role for role, given in ahead.reviews if not given]
    if missing:
        answer = f"Reviews: {', '.join(missing)}"
        detail = f"Then the quorum of {ahead.name}: {', '.join(ahead.quorum)}."
    elif ahead.reasons:
        answer = "Nobody yet"
        detail = f"When the gate opens, the quorum of {ahead.name}: {', '.join(ahead.quorum)}."
    else:
        answer, detail = ", ".join(ahead.quorum), f"The certificate of stage {ahead.name}."
    return Answer(question=question, answer=answer, detail=detail, href="#next")


def _check(log: LogCard, levels: Sequence[LevelLine]) -> Answer:
    if log.cosigned_size is None:
        answer, detail = "Not yet", "No head of the log is cosigned."
    else:
        answer = f"{number(log.cosigned_size)} of {number(log.size)} entries cosigned"
        foreign = (
            f"{log.independent} of {counted(log.witnesses, 'witness', 'witnesses')} independent"
        )
        detail = f"{foreign}. Not proved: that labels are right, that no second door exists."
    if levels:
        detail += f" Assurance: {levels[0].level}."
    return Answer(question="Can I check it?", answer=answer, detail=detail, href="#log")


def _mine(rungs: Sequence[Rung]) -> Answer:
    return Answer(
        question="Am I in, and what is left?",
        answer="GET /v1/access with your key",
        detail="The gateway tells you what you may do, what is left of your caps and what is next. "
        "What each stage allows is below."
        if rungs
        else "The gateway tells you, once there is a stage.",
        href="#stages",
    )


def build_answers(
    *,
    glance: Glance,
    rungs: Sequence[Rung],
    ahead: NextStage | None,
    orders: Sequence[OrderLine],
    incidents: Sequence[IncidentCard],
    findings: Sequence[Finding],
    broken: Sequence[ReasonLine],
    log: LogCard,
    levels: Sequence[LevelLine],
) -> tuple[Answer, ...]:
    """Return the answers to the first questions of public, operator, reviewer, caller, auditor."""
    served = _widest(rungs) is not None
    answers = (
        _who(rungs),
        _next(ahead),
        _wrong(glance, orders, incidents, findings, broken, served),
        _signing(ahead),
        _mine(rungs),
        _check(log, levels),
    )
    if rungs:
        return answers
    # Without a plan the sections that they point to are not there.
    return tuple(
        each if each.href == "#log" else msgspec.structs.replace(each, href="#blocked")
        for each in answers
    )
