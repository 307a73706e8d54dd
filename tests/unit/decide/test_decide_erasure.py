"""Which erasures and holds may be logged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from gatelift.encoding import sha256_digest
from gatelift.messages import (
    MAX_ERASED,
    EntryKind,
    ErasedRange,
    Erasure,
    ErasureBasis,
    ErasureError,
    ErasureScope,
    Hold,
    HoldLift,
    HoldReason,
    HoldScope,
)
from gatelift.terms import Severity
from tests.unit.decide.build import assessed, refusal

LOG, OTHER = "test.example/requests/n1/2026-09", "test.example/requests/n2/2026-09"
TWO = ("operator:olga", "safety:sam")


def covers(first: int = 5, last: int = 9, origin: str = LOG, records: int = 4) -> ErasedRange:
    return ErasedRange(
        origin=origin, first=first, last=last, records=records, tombstones=sha256_digest(b"lines")
    )


def erasure(name: str = "erasure_1", **changes: Any) -> Erasure:
    value = Erasure(
        id=name,
        release="aurora",
        basis=ErasureBasis.LEGAL_DUTY,
        scope=ErasureScope.SESSIONS,
        covers=(covers(),),
        supersedes=(),
        at=1,
    )
    return msgspec.structs.replace(value, **changes)


def hold(*scopes: HoldScope, name: str = "hold_1", **changes: Any) -> Hold:
    value = Hold(
        id=name, release="aurora", reason=HoldReason.LEGAL, incident=None, covers=scopes, at=1
    )
    return msgspec.structs.replace(value, **changes)


def scope(first: int, last: int | None, origin: str = LOG) -> HoldScope:
    return HoldScope(origin=origin, first=first, last=last)


@pytest.mark.parametrize(
    "signers",
    [
        ("operator:olga",),
        ("safety:sam",),
        ("operator:olga", "admissions:ada"),
        ("safety:sam", "overseer:vera"),
    ],
)
def test_an_erasure_takes_two_people_of_two_sides(signers: tuple[str, ...]) -> None:
    story = assessed()
    with pytest.raises(ErasureError) as caught:
        story.log(EntryKind.ERASURE, erasure(), *signers)
    assert caught.value.code == "quorum_unmet"
    story.log(EntryKind.ERASURE, erasure(), *TWO)
    assert set(story.state.erasures) == {"erasure_1"}


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (erasure(release="other"), "wrong_release"),
        (erasure(covers=()), "bad_erasure"),
        (erasure(covers=(covers(), covers(20, 30))), "bad_erasure"),
        (erasure(covers=(covers(9, 5),)), "bad_erasure"),
        (erasure(covers=(covers(-1, 5),)), "bad_erasure"),
        (erasure(covers=(covers(records=0),)), "bad_erasure"),
        (erasure(covers=(covers(records=MAX_ERASED + 1),)), "bad_erasure"),
        (erasure(supersedes=("erasure_x",)), "not_superseded"),
    ],
    ids=[
        "another release", "nothing", "a log twice", "backwards", "before the log", "no record",
        "too many", "of nothing before",
    ],
)  # fmt: skip
def test_an_erasure_says_exactly_what_it_covers(value: Erasure, code: str) -> None:
    assert refusal(assessed().log, EntryKind.ERASURE, value, *TWO) == code


HELD: list[tuple[str, tuple[HoldScope, ...], bool]] = [
    ("everything", (), True),
    ("the first batch", (scope(0, 5),), True),
    ("the last batch", (scope(9, 9),), True),
    ("all to come", (scope(9, None),), True),
    ("before", (scope(0, 4),), False),
    ("after", (scope(10, None),), False),
    ("another log", (scope(0, None, OTHER),), False),
    ("one of two", (scope(0, 4), scope(7, 7)), True),
]


@pytest.mark.parametrize(("scopes", "held"), [row[1:] for row in HELD], ids=[r[0] for r in HELD])
def test_nothing_that_a_hold_covers_is_erased(scopes: tuple[HoldScope, ...], held: bool) -> None:
    story = assessed()
    story.log(EntryKind.HOLD, hold(*scopes), "safety:sam")
    if not held:
        story.log(EntryKind.ERASURE, erasure(), *TWO)
        return
    assert refusal(story.log, EntryKind.ERASURE, erasure(), *TWO) == "held"
    lift = HoldLift(id="hold_1", release="aurora", at=2)
    with pytest.raises(ErasureError):
        story.log(EntryKind.HOLD_LIFT, lift, "safety:sam")
    story.log(EntryKind.HOLD_LIFT, lift, *TWO)
    story.log(EntryKind.ERASURE, erasure(), *TWO)
    assert refusal(story.log, EntryKind.HOLD_LIFT, lift, *TWO) == "unknown_hold"


def test_a_hold_is_of_an_incident_of_the_log_or_of_none() -> None:
    story = assessed()
    incident = story.incident(Severity.SEV_2)

    def refused(**changes: Any) -> str:
        return refusal(story.log, EntryKind.HOLD, hold(**changes), "safety:sam")

    assert refused(reason=HoldReason.INCIDENT) == "bad_hold"
    assert refused(incident=incident) == "bad_hold"
    assert refused(reason=HoldReason.INCIDENT, incident="incident_x") == "unknown_incident"
    assert refused(covers=(scope(3, 2),)) == "bad_hold"
    story.log(EntryKind.HOLD, hold(reason=HoldReason.INCIDENT, incident=incident), "safety:sam")
    assert refused() == "id_taken"


WIDER: list[tuple[str, Callable[[], ErasedRange], bool]] = [
    ("the same range", covers, True),
    ("more", lambda: covers(0, 20, records=9), True),
    ("fewer records", lambda: covers(records=3), False),
    ("a later beginning", lambda: covers(6, 9), False),
    ("another log", lambda: covers(origin=OTHER), False),
]


@pytest.mark.parametrize(("make", "may"), [row[1:] for row in WIDER], ids=[r[0] for r in WIDER])
def test_an_erasure_replaces_only_what_it_covers(
    make: Callable[[], ErasedRange], may: bool
) -> None:
    story = assessed()
    story.log(EntryKind.ERASURE, erasure(), *TWO)
    assert refusal(story.log, EntryKind.ERASURE, erasure(), *TWO) == "id_taken"
    second = erasure("erasure_2", covers=(make(),), supersedes=("erasure_1",))
    if not may:
        assert refusal(story.log, EntryKind.ERASURE, second, *TWO) == "not_superseded"
        return
    story.log(EntryKind.ERASURE, second, *TWO)
    third = erasure("erasure_3", covers=(covers(0, 30, records=20),), supersedes=("erasure_1",))
    assert refusal(story.log, EntryKind.ERASURE, third, *TWO) == "not_superseded"
