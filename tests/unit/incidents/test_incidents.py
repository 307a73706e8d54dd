"""Severity goes up alone and down by two; resolution is earned; every clock counts from its own."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gatelift.encoding import sha256_digest
from gatelift.incidents import (
    DUTIES,
    Incident,
    IncidentRefusal,
    StartEvent,
    change_incident,
    clocks,
    open_at_or_above,
    open_incident,
)
from gatelift.messages import IncidentChange, IncidentOpening
from gatelift.terms import Severity

HOUR = 3_600_000
DAY = 24 * HOUR
T = 1_790_000_000_000
LEARNT = sha256_digest(b"what we learnt")


def incident(severity: Severity = Severity.SEV_2, **changes: Any) -> Incident:
    opening = IncidentOpening(
        id="incident_1",
        release="aurora",
        severity=severity,
        title="it leaked",
        source="person",
        occurred_at=None,
        detected_at=T,
        aware_at=None,
        discovered_at=None,
        reasonable_belief_at=None,
        determined_at=None,
    )
    return open_incident(msgspec.structs.replace(opening, **changes), T, 7)


def change(before: Incident, people: str = "sam", **changes: Any) -> Incident | IncidentRefusal:
    value = IncidentChange(
        id=before.id,
        severity=None,
        aware_at=None,
        discovered_at=None,
        reasonable_belief_at=None,
        determined_at=None,
        contained_at=None,
        resolved_at=None,
        retrospective=None,
        note="seen",
    )
    return change_incident(
        before, msgspec.structs.replace(value, **changes), people.split(), T + DAY
    )


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("lowered alone", {"severity": Severity.SEV_3}, "severity_down_alone"),
    (
        "lowered by one person with two keys",
        {"severity": Severity.SEV_3, "people": "sam sam"},
        "severity_down_alone",
    ),
    ("a time to come", {"aware_at": T + 2 * DAY}, "time_in_future"),
    ("a start moved later alone", {"discovered_at": T + 9}, "time_later_alone"),
    ("resolved, not contained", {"resolved_at": T, "retrospective": LEARNT}, "not_contained"),
    (
        "contained after it was resolved",
        {"resolved_at": T, "contained_at": T + 1, "retrospective": LEARNT},
        "not_contained",
    ),
    (
        "resolved, nothing learnt",
        {"resolved_at": T, "contained_at": T},
        "retrospective_missing",
    ),
]


@pytest.mark.parametrize(
    ("changes", "code"), [pytest.param(*case[1:], id=case[0]) for case in REFUSED]
)
def test_a_change_is_refused(changes: dict[str, Any], code: str) -> None:
    refused = change(incident(discovered_at=T), **changes)
    assert isinstance(refused, IncidentRefusal)
    assert refused.code == code
    assert refused.message


@pytest.mark.parametrize(
    "changes",
    [
        {"severity": Severity.SEV_1},
        {"severity": Severity.SEV_3, "people": "sam vera"},
        {"discovered_at": T - 9},
        {"discovered_at": T + 9, "people": "sam vera"},
        {"aware_at": T},
        {"contained_at": T},
        {"contained_at": T, "resolved_at": T, "retrospective": LEARNT},
    ],
)
def test_a_change_holds(changes: dict[str, Any]) -> None:
    after = change(incident(discovered_at=T), **changes)
    assert isinstance(after, Incident)
    for name in set(changes) - {"people"}:
        assert getattr(after, name) == changes[name]
    assert after.notes == ("seen",)


def test_contained_is_still_open_and_resolved_is_final() -> None:
    contained = change(incident(), contained_at=T)
    assert isinstance(contained, Incident)
    assert contained.is_open
    resolved = change(contained, resolved_at=T, retrospective=LEARNT)
    assert isinstance(resolved, Incident)
    assert not resolved.is_open
    again = change(resolved, severity=Severity.SEV_1)
    assert isinstance(again, IncidentRefusal)
    assert again.code == "incident_resolved"


def test_only_open_ones_as_bad_or_worse_are_counted() -> None:
    made = [incident(severity) for severity in Severity]
    resolved = msgspec.structs.replace(made[0], resolved_at=T)
    found = open_at_or_above([*made, resolved], Severity.SEV_2)
    assert [each.severity for each in found] == [Severity.SEV_1, Severity.SEV_2]


# Hours from each start, by hand from reference/practice.md R30 and sections 3 and 4.
EXPECTED = {
    ("eu-cop", StartEvent.AWARE): {48, 120, 240, 360},
    ("eu-cop", StartEvent.RESOLVED): {1440},
    ("sb53", StartEvent.DISCOVERED): {24, 360},
    ("ny-raise", StartEvent.DETERMINED_OR_BELIEVED): {24, 72},
}


def test_the_duties_are_those_of_the_source() -> None:
    found: dict[tuple[str, StartEvent], set[int]] = {}
    for duty in DUTIES:
        found.setdefault((duty.regime, duty.starts_with), set()).add(duty.within_ms // HOUR)
        assert duty.modelled_on
    assert found == EXPECTED


def test_each_clock_counts_from_its_own_event_and_an_unknown_start_is_unknown() -> None:
    seen = {
        (clock.regime, clock.duty): clock
        for clock in clocks(incident(Severity.SEV_1, aware_at=T), T + 3 * DAY)
    }
    infrastructure = seen["eu-cop", "critical infrastructure disrupted"]
    assert infrastructure.deadline == T + 2 * DAY
    assert infrastructure.overdue
    assert infrastructure.left_ms == -DAY
    assert not seen["eu-cop", "death of a person"].overdue
    state = seen["sb53", "report to the Office of Emergency Services"]
    assert (state.started_at, state.deadline, state.left_ms, state.overdue) == (
        None,
        None,
        None,
        False,
    )


def test_of_two_starts_the_earlier_counts() -> None:
    made = incident(determined_at=T + HOUR, reasonable_belief_at=T)
    found = [clock for clock in clocks(made, T) if clock.regime == "ny-raise"]
    assert [clock.deadline for clock in found] == [T + 72 * HOUR]


def test_severity_says_which_clocks_may_run() -> None:
    counts = [len(clocks(incident(severity), T)) for severity in Severity]
    assert counts == [9, 5, 0, 0]
