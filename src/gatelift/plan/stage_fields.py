"""Field tables of a stage: envelope, gate, watches, quorum, levels.

Invariants
- Every part of the envelope must be written out: there is no silent default of a permission.
- What this version does not enforce is refused by name.

Source: DESIGN.md section 5.
"""

from __future__ import annotations

from collections.abc import Mapping

from gatelift.plan.field_kinds import (
    AGE,
    COUNT,
    DAY_MS,
    DEPUTIES,
    HARM,
    NAME_TEXT,
    ONE_LINE,
    ORGANISATIONS,
    POSTURES,
    RATE,
    REMOVE,
    REQUIRES,
    ROLES,
    SEVERITY,
    TIERS,
    not_enforced,
)
from gatelift.plan.kinds import Duration, Flag, OrWord, Whole, Word
from gatelift.plan.model import BreachAction, RefusalForm
from gatelift.plan.money_fields import CostLimits
from gatelift.plan.shapes import CapLimits, Field, ListOf, Record
from gatelift.terms import (
    WINDOWLESS,
    Assurance,
    Band,
    Binding,
    CapUnit,
    Endpoint,
    Sealing,
    Subject,
    WatchRole,
)

__all__ = ["STAGE"]

_UNLOCKED = Word(
    words=tuple(band for band in Band if band is not Band.PROHIBITED),
    refused={"prohibited": "the band prohibited is never unlocked"},
)
_BREACHES = (BreachAction.HOLD, BreachAction.ROLL_BACK, BreachAction.HALT)
_UNIT_SAYS = {
    CapUnit.PARALLEL: "requests at a time",
    CapUnit.COST: "money in a window, in the currency of prices",
    CapUnit.COVERAGE: "distinct prompts, for ever",
}


def _caps(units: tuple[CapUnit, ...], unenforced: Mapping[str, str]) -> Record:
    one = Record(
        title="caps of one subject",
        fields=tuple(
            Field(
                name=unit,
                kind=CostLimits()
                if unit is CapUnit.COST
                else CapLimits(windowed=unit not in WINDOWLESS),
                says=_UNIT_SAYS.get(unit, f"{unit} in a window"),
                required=False,
            )
            for unit in units
        ),
        unenforced=unenforced,
    )
    return Record(
        title="caps",
        fields=tuple(
            Field(name=subject, kind=one, says=f"limits for each {subject}", required=False)
            for subject in Subject
        ),
    )


_CAPS = _caps(tuple(CapUnit), {})
# Records hold commitments to prompts, which nobody can compare: no report could count coverage.
_OBSERVED_CAPS = _caps(
    tuple(unit for unit in CapUnit if unit is not CapUnit.COVERAGE), {"coverage": REMOVE}
)
_OBSERVE = Record(
    title="observe",
    fields=(
        Field(
            name="caps",
            kind=_OBSERVED_CAPS,
            says="tighter caps, counted in a report",
            required=False,
        ),
        Field(
            name="safeguards",
            kind=POSTURES,
            says="tighter postures, counted in a report",
            required=False,
        ),
    ),
)

_SCOPE = Record(
    title="scope",
    fields=(
        Field(
            name="endpoints",
            kind=ListOf(
                kind=Word(
                    words=tuple(Endpoint),
                ),
                low=1,
                unique=True,
            ),
            says="what may be called",
        ),
        Field(
            name="tools",
            kind=OrWord(word="none", value=(), kind=ListOf(kind=ONE_LINE, low=1, unique=True)),
            says="tools that a request may offer, or none",
        ),
        Field(name="agent_steps", kind=Whole(low=0, high=1_000), says="tool steps of a session"),
        Field(
            name="context_tokens", kind=Whole(low=1, high=100_000_000), says="tokens in, a request"
        ),
        Field(
            name="output_tokens", kind=Whole(low=1, high=10_000_000), says="tokens out, a request"
        ),
        Field(name="logprobs", kind=Flag(), says="whether log probabilities may be asked for"),
        Field(
            name="images",
            kind=Flag(),
            says="whether prompts may hold images, which no safeguard reads; false if left out",
            required=False,
        ),
        Field(
            name="unlocked",
            kind=ListOf(kind=_UNLOCKED, unique=True),
            says="use bands that are open",
        ),
    ),
)

_GATE = Record(
    title="gate",
    fields=(
        Field(
            name="thresholds",
            kind=ListOf(kind=NAME_TEXT, unique=True),
            says="thresholds that are ruled out, or whose measures are in force",
            required=False,
        ),
        Field(
            name="reviews",
            kind=Record(
                title="reviews",
                fields=(
                    Field(name="roles", kind=ROLES, says="one approving review from each"),
                    Field(name="max_age", kind=AGE, says="how old a review may be"),
                    Field(
                        name="deputies",
                        kind=DEPUTIES,
                        says="people of the root, by role, who count only after answer_by",
                        required=False,
                    ),
                    Field(
                        name="answer_by",
                        kind=AGE,
                        says="how long a role may be silent, once asked, before its deputy counts",
                        required=False,
                    ),
                ),
            ),
            says="signed human judgements",
            required=False,
        ),
        Field(
            name="incidents",
            kind=Record(
                title="incidents",
                fields=(
                    Field(name="open", kind=Whole(low=0, high=1_000), says="most that may be open"),
                    Field(name="at_or_above", kind=SEVERITY, says="counted from this severity"),
                ),
            ),
            says="open incidents that are tolerated",
            required=False,
        ),
        Field(
            name="soak",
            kind=Record(
                title="soak",
                fields=(
                    Field(name="from", kind=NAME_TEXT, says="an earlier stage"),
                    Field(
                        name="time",
                        kind=Duration(low_ms=0, high_ms=365 * DAY_MS),
                        says="how long it has served",
                    ),
                    Field(name="sessions", kind=COUNT, says="how many sessions"),
                    Field(
                        name="organisations",
                        kind=Whole(low=1, high=1_000_000),
                        says="from how many organisations",
                    ),
                ),
            ),
            says="what an earlier stage must have served",
            required=False,
        ),
        Field(
            name="clear",
            kind=ListOf(
                kind=Record(
                    title="clearance",
                    fields=(
                        Field(name="metric", kind=NAME_TEXT, says="a metric of this plan"),
                        Field(name="limit", kind=RATE, says="its rate must be shown to lie below"),
                        Field(
                            name="from", kind=NAME_TEXT, says="by the traffic of this earlier stage"
                        ),
                    ),
                )
            ),
            says="metrics that live traffic must clear",
            required=False,
        ),
    ),
)

_WATCH = Record(
    title="watch",
    fields=(
        Field(name="metric", kind=NAME_TEXT, says="a metric of this plan"),
        Field(name="limit", kind=RATE, says="the rate that must not be exceeded"),
        Field(
            name="role",
            kind=Word(words=tuple(WatchRole)),
            says="a guardrail may narrow, a signal may only hold",
        ),
        Field(
            name="on_breach",
            kind=Word(words=tuple(BreachAction)),
            says="what a breach does; a guardrail must say it, a signal holds",
            required=False,
        ),
        Field(
            name="to",
            kind=NAME_TEXT,
            says="for rescope: the earlier stage whose scope and caps become the ceiling",
            required=False,
        ),
    ),
    unenforced={
        "event": "it under events:",
        "against": REMOVE,
        "ratio": REMOVE,
    },
)
_EVENT = Record(
    title="event watch",
    fields=(
        Field(name="event", kind=HARM, says="the verdict that is counted"),
        Field(name="count", kind=COUNT, says="at this many it acts"),
        Field(
            name="on_breach",
            kind=Word(
                words=_BREACHES,
                refused={"rescope": "an event has no stage to rescope to"},
            ),
            says="what it does",
        ),
        Field(name="severity", kind=SEVERITY, says="severity of the incident that it opens"),
    ),
)

STAGE = Record(
    title="stage",
    fields=(
        Field(name="name", kind=NAME_TEXT, says="the stage's name"),
        Field(
            name="audience",
            kind=Record(
                title="audience",
                fields=(
                    Field(name="tier", kind=TIERS, says="widest tier that is admitted"),
                    Field(
                        name="max_organisations",
                        kind=ORGANISATIONS,
                        says="most organisations; none for no limit (public only)",
                    ),
                    Field(name="requires", kind=REQUIRES, says="proofs that every grant carries"),
                    Field(
                        name="safety_identifier",
                        kind=Flag(),
                        says="whether every request must name its end user; false if left out",
                        required=False,
                    ),
                ),
                unenforced={"auth": REMOVE},
            ),
            says="who may be admitted",
        ),
        Field(name="scope", kind=_SCOPE, says="what may be asked for"),
        Field(
            name="caps",
            kind=_CAPS,
            says="how much, per principal, organisation, audience and stage",
        ),
        Field(name="safeguards", kind=POSTURES, says="postures of the safeguards"),
        Field(
            name="retention",
            kind=Record(
                title="retention",
                fields=(
                    Field(
                        name="content",
                        kind=OrWord(
                            word="none",
                            value=0,
                            kind=Duration(low_ms=DAY_MS, high_ms=3650 * DAY_MS),
                        ),
                        says="how long content is kept, in whole days, or none",
                    ),
                    Field(
                        name="training",
                        kind=Word(words=("never", "allowed")),
                        says="whether content may be trained on",
                    ),
                ),
            ),
            says="what is kept of the content",
        ),
        Field(
            name="quorum",
            kind=ROLES,
            says="roles that sign this stage's certificate; the plan's if left out",
            required=False,
        ),
        Field(
            name="notice",
            kind=Duration(low_ms=0, high_ms=365 * DAY_MS),
            says="public notice of this stage's certificates; the plan's if left out, none for the first",
            required=False,
        ),
        Field(
            name="assurance",
            kind=Word(words=tuple(Assurance)),
            says="who stands behind it, at least",
        ),
        Field(
            name="sealing",
            kind=Word(words=tuple(Sealing), refused=not_enforced("attested")),
            says="whether the upstream may have another door, at least",
        ),
        Field(
            name="binding",
            kind=Word(words=tuple(Binding), refused=not_enforced("attested")),
            says="what shows that these weights answer, at least; claimed if left out",
            required=False,
        ),
        Field(
            name="certificate",
            kind=Duration(low_ms=1_000, high_ms=31 * DAY_MS),
            says="how long a certificate of this stage lasts",
        ),
        Field(
            name="refusal",
            kind=Word(words=tuple(RefusalForm)),
            says="how callers read what a safeguard refused or withheld; error if left out",
            required=False,
        ),
        Field(name="gate", kind=_GATE, says="what must hold to enter; {} asks nothing"),
        Field(
            name="watch", kind=ListOf(kind=_WATCH), says="metrics that are watched", required=False
        ),
        Field(
            name="observe",
            kind=_OBSERVE,
            says="recorded, not enforced; evaluators and internal only",
            required=False,
        ),
        Field(
            name="events", kind=ListOf(kind=_EVENT), says="events that are counted", required=False
        ),
    ),
    unenforced={"weights": REMOVE},
)
