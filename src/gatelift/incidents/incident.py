"""One incident as a fold of its opening and its changes.

Invariants
- Severity goes up by one person and down only by two.
- The six times (occurred, detected, aware, discovered, reasonable belief, determined) are kept
  apart, because each regime counts from another. A start that is known moves earlier by one person
  and later only by two, for a later start is a later deadline. No time lies in the future.
- Contained is not resolved: resolution needs containment and a retrospective.
- A resolved incident does not change; what comes later is a new incident.
- A change that breaks a rule is a refusal as a value, and leaves the incident as it was.

Does not: act. Containment is an order; gates ask `open_at_or_above`.

Source: reference/practice.md section 4.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gatelift.encoding import Digest
from gatelift.messages import IncidentChange, IncidentOpening
from gatelift.terms import Severity, at_least

__all__ = [
    "Incident",
    "IncidentRefusal",
    "change_incident",
    "open_at_or_above",
    "open_incident",
]

_STARTS = ("aware_at", "discovered_at", "reasonable_belief_at", "determined_at")


class Incident(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An incident now. Times in ms UTC; null has not happened or is not known."""

    id: str
    release: str
    severity: Severity
    title: str
    source: str
    occurred_at: int | None
    detected_at: int
    aware_at: int | None
    discovered_at: int | None
    reasonable_belief_at: int | None
    determined_at: int | None
    contained_at: int | None = None
    resolved_at: int | None = None
    retrospective: Digest | None = None
    notes: tuple[str, ...] = ()
    logged_at: int
    index: int
    """Index of the entry that opened it."""

    @property
    def is_open(self) -> bool:
        """Whether it still counts against a gate."""
        return self.resolved_at is None


class IncidentRefusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why a change does not hold: a stable code and what would mend it."""

    code: str
    message: str


def open_incident(opening: IncidentOpening, at_ms: int, index: int) -> Incident:
    """Return the incident that an opening logged at `at_ms`, as entry `index`, begins."""
    fields = {name: getattr(opening, name) for name in opening.__struct_fields__}
    return Incident(**fields, logged_at=at_ms, index=index)


def _refuse_severity(
    incident: Incident, change: IncidentChange, people: int
) -> IncidentRefusal | None:
    wanted = change.severity
    if wanted is None or at_least(wanted, incident.severity) or people >= 2:
        return None
    return IncidentRefusal(
        code="severity_down_alone",
        message=f"{incident.id} is {incident.severity.value}; lowering it to {wanted.value} takes "
        f"two people, {people} signed: have a second one sign the same change",
    )


def _refuse_times(
    incident: Incident, change: IncidentChange, people: int, at_ms: int
) -> IncidentRefusal | None:
    for name in (*_STARTS, "contained_at", "resolved_at"):
        came = getattr(change, name)
        held = getattr(incident, name)
        if came is None:
            continue
        if came > at_ms:
            return IncidentRefusal(
                code="time_in_future",
                message=f"{name} {came} lies after now ({at_ms}): say when it happened",
            )
        if held is not None and came > held and people < 2:
            return IncidentRefusal(
                code="time_later_alone",
                message=f"{name} is {held}; moving it later to {came} takes two people",
            )
    return None


def _refuse_resolution(after: Incident) -> IncidentRefusal | None:
    if after.resolved_at is None:
        return None
    if after.contained_at is None or after.contained_at > after.resolved_at:
        return IncidentRefusal(
            code="not_contained",
            message=f"{after.id} cannot be resolved before it is contained: say contained_at",
        )
    if after.retrospective is None:
        return IncidentRefusal(
            code="retrospective_missing",
            message=f"{after.id} cannot be resolved without a retrospective: give its digest",
        )
    return None


def change_incident(
    incident: Incident, change: IncidentChange, people: Iterable[str], at_ms: int
) -> Incident | IncidentRefusal:
    """Return the incident after a change signed by `people`, or why the change does not hold.

    `people` are pseudonyms of the signers; one who signed with two keys is one.
    """
    signed = len(set(people))
    if not incident.is_open:
        return IncidentRefusal(
            code="incident_resolved",
            message=f"{incident.id} is resolved: open a new incident",
        )
    refused = _refuse_severity(incident, change, signed) or _refuse_times(
        incident, change, signed, at_ms
    )
    if refused:
        return refused
    names = ("severity", *_STARTS, "contained_at", "resolved_at", "retrospective")
    came = {name: getattr(change, name) for name in names}
    after = msgspec.structs.replace(
        incident,
        **{name: value for name, value in came.items() if value is not None},
        notes=(*incident.notes, change.note),
    )
    return _refuse_resolution(after) or after


def open_at_or_above(incidents: Iterable[Incident], severity: Severity) -> tuple[Incident, ...]:
    """Return the open incidents that are as bad as `severity` or worse."""
    return tuple(each for each in incidents if each.is_open and at_least(each.severity, severity))
