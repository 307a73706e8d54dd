"""What was measured, seen and went wrong: thresholds, watches, assessments, incidents, objections.

Invariants
- A verdict stands with its n; what was not measured is said to be undetermined and counts as
  reached.
- What could go unseen stands beside every guardrail, also where all is calm.
- A run that was promised and not completed is shown as such.
"""

from __future__ import annotations

from gatelift.decide import Blindness, CommitEntry, Examination, State
from gatelift.incidents import Incident, clocks
from gatelift.plan import EventWatch, Plan, Threshold
from gatelift.stats import Delay
from gatelift.terms import ThresholdVerdict
from gatelift.web.formats import length, number, share
from gatelift.web.model import (
    AssessmentLine,
    ClockLine,
    EventLine,
    GuardrailLine,
    IncidentCard,
    ObjectionLine,
    ThresholdLine,
)
from gatelift.web.withheld import Scrubber

__all__ = [
    "MAX_ASSESSMENTS",
    "MAX_INCIDENTS",
    "build_assessments",
    "build_events",
    "build_guardrails",
    "build_incidents",
    "build_objections",
    "build_thresholds",
]

MAX_ASSESSMENTS = 20
MAX_INCIDENTS = 20
_SUSPENSION = "organisation_suspended"
_VERDICTS = {
    ThresholdVerdict.RULED_OUT: ("ruled out", "The dangerous level is not reached."),
    ThresholdVerdict.CANNOT_RULE_OUT: (
        "cannot be ruled out",
        "Counts as reached: the measures are in force.",
    ),
    ThresholdVerdict.REACHED: ("reached", "The measures are in force."),
}


def _measures(threshold: Threshold) -> tuple[str, ...]:
    wants = threshold.unless_ruled_out
    found = [f"{category}: {posture}" for category, posture in wants.safeguards.items()]
    found += [f"every caller proves {each}" for each in wants.audience.requires]
    found += [
        f"{demand.assessment}: {demand.metric} shown below {share(demand.below)}"
        for demand in wants.evidence
    ]
    return tuple(found)


def build_thresholds(plan: Plan, looked: tuple[Examination, ...]) -> tuple[ThresholdLine, ...]:
    """Return each threshold as the first gate that asks for it and knows a verdict sees it."""
    lines = []
    for threshold in plan.thresholds:
        demand = threshold.evidence
        verdict = next(
            (each.verdicts[threshold.name] for each in looked if threshold.name in each.verdicts),
            None,
        )
        name = f"upper/{threshold.name}"
        figure = next((f for each in looked for f in each.figures if f.name == name), None)
        word, meaning = _VERDICTS[verdict] if verdict else ("undetermined", "Counts as reached.")
        lines.append(
            ThresholdLine(
                name=threshold.name,
                verdict=word,
                meaning=meaning,
                alarm=verdict is not ThresholdVerdict.RULED_OUT,
                n=figure.n if figure and verdict else None,
                counted=figure.s if figure and verdict else None,
                upper=share(type(demand.limit)(figure.value)) if figure and verdict else "unknown",
                bound=share(demand.limit - demand.margin),
                measures=_measures(threshold),
            )
        )
    return tuple(lines)


def _delay(each: Delay) -> str:
    start = f"at a steady rate of {share(each.rate)}: "
    if each.units is None:
        return start + "never, by waiting"
    text = f"after about {number(each.units)} more units"
    if each.duration_ms is not None:
        text += f", some {length(each.duration_ms)} at this traffic"
    if each.harmful_units is not None:
        text += f", {number(each.harmful_units)} of them harmful"
    return start + text


def build_guardrails(blindness: tuple[Blindness, ...]) -> tuple[GuardrailLine, ...]:
    """Return what each guardrail metric saw and what it would miss."""
    return tuple(
        GuardrailLine(
            metric=each.metric,
            limit=share(each.limit),
            n=each.n,
            s=each.s,
            unseen=share(each.unseen_bound),
            blind=share(each.blind_rate),
            delays=tuple(_delay(delay) for delay in each.delays),
        )
        for each in blindness
    )


def _event(watch: EventWatch) -> str:
    event = watch.event
    band = f", {event.band.value.replace('_', ' ')}" if event.band else ""
    return f"{event.safeguard.value} in the {event.side.value}{band}"


def build_events(state: State, plan: Plan) -> tuple[EventLine, ...]:
    """Return every event watch with its count since the event was last settled."""
    lines = []
    for stage in plan.stages:
        for watch in stage.events:
            event = watch.event
            total = state.events.get((stage.name, event.safeguard, event.side), 0)
            settled = [
                held.count
                for subject, held in state.baselines.items()
                if subject.startswith(f"{event.safeguard.value}/{event.side.value}")
                and subject.endswith(f">={watch.count}@{stage.name}")
            ]
            lines.append(
                EventLine(
                    event=_event(watch),
                    stage=stage.name,
                    seen=max(0, total - max(settled, default=0)),
                    acts_at=watch.count,
                    action=watch.on_breach.value.replace("_", " "),
                )
            )
    return tuple(lines)


def _incident(incident: Incident, scrub: Scrubber, now_ms: int) -> IncidentCard:
    status = "resolved" if not incident.is_open else "open"
    if incident.is_open and incident.contained_at is not None:
        status = "contained, not resolved"
    private = _SUSPENSION in incident.source
    return IncidentCard(
        id=incident.id,
        severity=incident.severity.value,
        title="A metric named one organisation" if private else scrub.text(incident.title),
        status=status,
        is_open=incident.is_open,
        times=(
            ("occurred", incident.occurred_at),
            ("detected", incident.detected_at),
            ("aware", incident.aware_at),
            ("discovered", incident.discovered_at),
            ("reasonable belief", incident.reasonable_belief_at),
            ("determined", incident.determined_at),
            ("contained", incident.contained_at),
            ("resolved", incident.resolved_at),
        ),
        clocks=tuple(
            ClockLine(
                duty=f"{clock.regime}: {clock.duty}",
                modelled_on=clock.modelled_on,
                counts_from=clock.starts_with.value.replace("_at", "").replace("_", " "),
                deadline=clock.deadline,
                left_ms=clock.left_ms,
                overdue=clock.overdue,
            )
            for clock in clocks(incident, now_ms)
        ),
    )


def build_incidents(state: State, scrub: Scrubber, now_ms: int) -> tuple[IncidentCard, ...]:
    """Return all incidents, open ones first, the newest first among them."""
    newest_first = sorted(state.incidents.values(), key=lambda each: -each.index)
    cards = [_incident(each, scrub, now_ms) for each in newest_first]
    return tuple(sorted(cards, key=lambda card: not card.is_open))


def build_objections(state: State, scrub: Scrubber) -> tuple[ObjectionLine, ...]:
    """Return every refusing review that was not withdrawn, newest first."""
    lines = []
    for entry in reversed(state.reviews):
        review = entry.review
        if review.approves or entry.digest in state.revoked:
            continue
        later = any(
            other.index > entry.index
            and other.review.stage == review.stage
            and {s.person for s in other.signers} & {s.person for s in entry.signers}
            for other in state.reviews
        )
        same = review.plan == state.plan_digest and review.fingerprint == state.fingerprint
        lines.append(
            ObjectionLine(
                by=", ".join(f"{s.role}:{s.person}" for s in entry.signers),
                stage=review.stage,
                at=entry.at,
                note=scrub.text(review.note),
                applies=same and not later,
            )
        )
    return tuple(lines)


def _assessment(state: State, entry: CommitEntry, now_ms: int) -> AssessmentLine:
    promise = entry.commit
    result = next((e for e in state.evidence if e.digest == entry.completed_by), None)
    other = promise.fingerprint != state.fingerprint
    if result is None:
        late = now_ms > promise.deadline
        return AssessmentLine(
            name=promise.assessment,
            metric=promise.metric,
            at=entry.at,
            promised=promise.attempts,
            n=None,
            s=None,
            left_out=promise.attempts if late else 0,
            status="abandoned: every attempt counts as failed" if late else "under way",
            alarm=late,
        )
    run = result.evidence
    made = run.n + run.undetermined + run.errors
    status = "completed" if result.usable else "does not count"
    if result.digest in state.revoked:
        status = "revoked: its bad outcomes still count"
    return AssessmentLine(
        name=run.assessment,
        metric=run.metric,
        at=result.at,
        promised=promise.attempts,
        n=run.n,
        s=run.s,
        left_out=run.undetermined + run.errors + max(0, promise.attempts - made),
        status=f"{status}; of another candidate" if other else status,
        alarm=status != "completed",
    )


def build_assessments(state: State, now_ms: int) -> tuple[AssessmentLine, ...]:
    """Return every run that was promised, the newest first, with its result if there is one."""
    entries = sorted(state.commits.values(), key=lambda entry: -entry.index)
    return tuple(_assessment(state, entry, now_ms) for entry in entries)
