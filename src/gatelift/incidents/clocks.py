"""Deadlines of reporting duties, as data: each regime counts from its own event.

Invariants
- A clock whose start is not known is shown as unknown, never as not running.
- A duty is listed as soon as the severity may start it: severity and reportability are two
  questions, and a person with the facts answers the second.
- Rows are modelled on a public text, with its source; they claim no compliance and are no advice.

Does not: file anything, know what was filed, or count the four-week interim reports of the EU code,
which run from a filing.

Source: reference/practice.md R30, the pack rows of section 3 and the table of section 4.
"""

from __future__ import annotations

import enum

import msgspec

from gatelift.incidents.incident import Incident
from gatelift.terms import Severity, at_least

__all__ = ["DUTIES", "Clock", "Duty", "StartEvent", "clocks"]

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS

_EU = "EU General-Purpose AI Code of Practice, Safety and Security chapter, Measure 9.3"
_CA = "California SB 53, Bus. & Prof. Code 22757.13"
_NY = "New York RAISE Act, Gen. Bus. Law 1420-1429, in force 2027-01-01"


class StartEvent(enum.StrEnum):
    """What a clock counts from; of two the earlier one that is known."""

    AWARE = "aware_at"
    DISCOVERED = "discovered_at"
    DETERMINED_OR_BELIEVED = "determined_at or reasonable_belief_at"
    RESOLVED = "resolved_at"


class Duty(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One duty of one regime: who it may apply to, from when, for how long."""

    regime: str
    duty: str
    at_or_above: Severity
    starts_with: StartEvent
    within_ms: int
    modelled_on: str


class Clock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A duty against one incident. `started_at` and `deadline` null: the start is unknown."""

    regime: str
    duty: str
    starts_with: StartEvent
    started_at: int | None
    deadline: int | None
    left_ms: int | None
    overdue: bool
    modelled_on: str


def _duty(regime: str, text: str, severity: Severity, start: StartEvent, ms: int, on: str) -> Duty:
    return Duty(
        regime=regime,
        duty=text,
        at_or_above=severity,
        starts_with=start,
        within_ms=ms,
        modelled_on=on,
    )


_S1, _S2 = Severity.SEV_1, Severity.SEV_2
_AWARE, _FOUND = StartEvent.AWARE, StartEvent.DISCOVERED
_BELIEF, _RESOLVED = StartEvent.DETERMINED_OR_BELIEVED, StartEvent.RESOLVED

DUTIES: tuple[Duty, ...] = (
    _duty("eu-cop", "critical infrastructure disrupted", _S1, _AWARE, 2 * _DAY_MS, _EU),
    _duty("eu-cop", "cyber breach or weights out", _S2, _AWARE, 5 * _DAY_MS, _EU),
    _duty("eu-cop", "death of a person", _S1, _AWARE, 10 * _DAY_MS, _EU),
    _duty("eu-cop", "health, rights, property or environment", _S2, _AWARE, 15 * _DAY_MS, _EU),
    _duty("eu-cop", "final report after resolution", _S2, _RESOLVED, 60 * _DAY_MS, _EU),
    _duty("sb53", "imminent risk of death or injury", _S1, _FOUND, 24 * _HOUR_MS, _CA),
    _duty("sb53", "report to the Office of Emergency Services", _S2, _FOUND, 15 * _DAY_MS, _CA),
    _duty("ny-raise", "imminent risk of death or injury", _S1, _BELIEF, 24 * _HOUR_MS, _NY),
    _duty("ny-raise", "report to the state's office", _S2, _BELIEF, 72 * _HOUR_MS, _NY),
)


def _start(incident: Incident, event: StartEvent) -> int | None:
    match event:
        case StartEvent.AWARE:
            return incident.aware_at
        case StartEvent.DISCOVERED:
            return incident.discovered_at
        case StartEvent.RESOLVED:
            return incident.resolved_at
        case StartEvent.DETERMINED_OR_BELIEVED:
            known = [
                at
                for at in (incident.determined_at, incident.reasonable_belief_at)
                if at is not None
            ]
            return min(known, default=None)


def clocks(incident: Incident, now_ms: int) -> tuple[Clock, ...]:
    """Return the clock of every duty that this incident's severity may start."""
    found = []
    for duty in DUTIES:
        if not at_least(incident.severity, duty.at_or_above):
            continue
        started = _start(incident, duty.starts_with)
        deadline = None if started is None else started + duty.within_ms
        found.append(
            Clock(
                regime=duty.regime,
                duty=duty.duty,
                starts_with=duty.starts_with,
                started_at=started,
                deadline=deadline,
                left_ms=None if deadline is None else deadline - now_ms,
                overdue=deadline is not None and now_ms > deadline,
                modelled_on=duty.modelled_on,
            )
        )
    return tuple(found)
