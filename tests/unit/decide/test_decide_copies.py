"""The registry of copies: who may register and close one, and when one is overdue."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gatelift.decide import (
    AdmitError,
    decide,
    exposures_of,
    incidents_due,
    open_copies,
    overdue_copies,
)
from gatelift.encoding import sha256_digest
from gatelift.messages import CopyClosing, CopyEnd, EntryKind, Export
from gatelift.terms import Severity
from tests.support.world import HOUR
from tests.unit.decide.build import PLAN, Story

WEIGHTS = sha256_digest(b"weights")
DOOR, OTHER_DOOR = "the institute", "a cloud in another country"
COPIES_PLAN = PLAN.replace(b"weights: null", f"weights: {WEIGHTS}".encode(), 1).replace(
    b"exposures: []", f'exposures: ["{DOOR}", "{OTHER_DOOR}"]'.encode(), 1
)
BOTH = ("operator:olga", "security:sue")


def story() -> Story:
    assert b'exposures: ["' in COPIES_PLAN
    return Story(COPIES_PLAN).adopt()


def register(told: Story, *signers: str, **changes: Any) -> str:
    value = Export(
        id=told.id("export"),
        release="aurora",
        weights=WEIGHTS,
        manifest=sha256_digest(b"manifest"),
        destination=DOOR,
        purpose="evaluation",
        custodian="the desk",
        expires_at=told.now + HOUR,
    )
    value = msgspec.structs.replace(value, **changes)
    told.log(EntryKind.EXPORT, value, *(signers or BOTH))
    return value.id


def close(told: Story, export: str, *signers: str, **changes: Any) -> None:
    value = CopyClosing(export=export, release="aurora", end=CopyEnd.RETURNED, note="seen")
    told.log(EntryKind.COPY_CLOSED, msgspec.structs.replace(value, **changes), *(signers or BOTH))


@pytest.mark.parametrize(
    ("signers", "code"),
    [
        pytest.param(("operator:olga",), "quorum_unmet", id="the operator alone"),
        pytest.param(("security:sue",), "quorum_unmet", id="security alone"),
        pytest.param(("operator:olga", "safety:sam"), "quorum_unmet", id="another second role"),
    ],
)
def test_a_copy_takes_operator_and_security(signers: tuple[str, ...], code: str) -> None:
    told = story()
    with pytest.raises(AdmitError) as caught:
        register(told, *signers)
    assert caught.value.code == code
    held = register(told)
    with pytest.raises(AdmitError) as caught:
        close(told, held, *signers)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"weights": sha256_digest(b"x")}, "wrong_candidate", id="other weights"),
        pytest.param({"destination": "a friend"}, "exposure_undeclared", id="an undeclared door"),
        pytest.param({"destination": DOOR + " "}, "exposure_undeclared", id="nearly a door"),
        pytest.param({"release": "borealis"}, "wrong_release", id="another release"),
        pytest.param({"purpose": " "}, "bad_export", id="no purpose"),
        pytest.param({"custodian": "a\nb"}, "bad_export", id="a custodian of two lines"),
        pytest.param({"expires_at": 1}, "bad_export", id="an end that has been"),
        pytest.param({"expires_at": 2**52}, "bad_export", id="no end to speak of"),
    ],
)
def test_an_export_is_refused(changes: dict[str, Any], code: str) -> None:
    told = story()
    with pytest.raises(AdmitError) as caught:
        register(told, **changes)
    assert caught.value.code == code
    assert open_copies(told.state) == ()


def test_an_id_is_used_once_and_a_copy_is_closed_once() -> None:
    told = story()
    held = register(told)
    with pytest.raises(AdmitError) as caught:
        register(told, id=held)
    assert caught.value.code == "id_taken"
    close(told, held)
    for name in (held, "export_never"):
        with pytest.raises(AdmitError) as caught:
            close(told, name)
        assert caught.value.code == "unknown_copy"
    assert told.state.copies[held].closing is not None


def test_an_overdue_copy_is_one_incident_until_it_is_closed() -> None:
    told = story()
    held = register(told)
    told.settle()
    told.later(HOUR - 100).settle()
    assert (overdue_copies(told.state, told.now), incidents_due(told.state)) == ((), ())
    told.later(200).settle()
    (due,) = incidents_due(told.state)
    assert (due.severity, due.source) == (Severity.SEV_2, f"watch:copy_overdue:{held}")
    told.act()
    assert incidents_due(told.state) == ()
    assert [each.export.id for each in overdue_copies(told.state, told.now)] == [held]
    close(told, held, end=CopyEnd.DESTROYED)
    assert overdue_copies(told.state, told.now) == ()
    assert [each.is_open for each in told.state.incidents.values()] == [True]


def test_decide_wakes_when_a_copy_is_due() -> None:
    told = story()
    held = register(told)
    _, wake_at = decide(told.state, told.now)
    assert wake_at is not None
    assert wake_at <= told.state.copies[held].export.expires_at


def test_every_declared_door_is_shown_with_its_copies() -> None:
    told = story()
    first, second = register(told), register(told)
    close(told, first)
    found = {
        each.declared: [copy.export.id for copy in each.copies] for each in exposures_of(told.state)
    }
    assert found == {DOOR: [second], OTHER_DOOR: []}
