"""What a counter of units remembers, as values that can be kept in a file and taken up again.

Invariant: what is restored counts on exactly as what was saved would have: same batches, same
observations, same order.

The counter itself is `units`; whether a saved one may be believed is its keeper's to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from gatelift.encoding import Digest
from gatelift.messages import BriefStart, Observation, RecordRange, RecordRef
from gatelift.plan import HarmCondition
from gatelift.terms import Category, Side
from gatelift.watch.stretch import Ranges, Stretch, StretchKey, Unit

__all__ = [
    "SavedCounter",
    "SavedEvent",
    "SavedStretch",
    "SavedUnit",
    "restore_ranges",
    "restore_stretch",
    "save_stretch",
]


class SavedUnit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A unit; `session` is null once no record can find it any more."""

    session: str | None
    organisation: str
    counted: bool
    found: tuple[HarmCondition, ...]
    running: int
    is_past: bool
    is_closed: bool


class SavedStretch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A stretch that may change still, with all its units in order of opening."""

    stage: str
    certificate: Digest
    number: int
    opened: int
    forgotten: int
    per_organisation: dict[str, int]
    ranges: tuple[RecordRange, ...]
    units: tuple[SavedUnit, ...]
    is_filling: bool


class SavedEvent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """In how many exchanges a safeguard spoke."""

    stage: str
    category: Category
    side: Side
    count: int
    ranges: tuple[RecordRange, ...]


class SavedCounter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of a counter. `windows` and `memory` are heaps of (time in ms, session)."""

    stretches: tuple[SavedStretch, ...]
    undecided: tuple[BriefStart, ...]
    unanswerable: tuple[RecordRef, ...]
    windows: list[tuple[int, str]]
    memory: list[tuple[int, str]]
    events: tuple[SavedEvent, ...]
    observed: tuple[tuple[StretchKey, tuple[Observation, ...]], ...]
    last_index: dict[str, int]
    horizon_ms: int


def save_stretch(
    stretch: Stretch, sessions: Mapping[int, str], *, is_filling: bool
) -> SavedStretch:
    """Return a stretch as a value; `sessions` has those of units that are found, by their `id`."""
    return SavedStretch(
        stage=stretch.stage,
        certificate=stretch.certificate,
        number=stretch.number,
        opened=stretch.opened,
        forgotten=stretch.forgotten,
        per_organisation=stretch.per_organisation,
        ranges=stretch.ranges.values(),
        units=tuple(
            SavedUnit(
                session=sessions.get(id(unit)),
                organisation=unit.organisation,
                counted=unit.counted,
                found=tuple(unit.found),
                running=unit.running,
                is_past=unit.is_past,
                is_closed=unit.is_closed,
            )
            for unit in stretch.units
        ),
        is_filling=is_filling,
    )


def restore_stretch(saved: SavedStretch) -> tuple[Stretch, dict[str, Unit]]:
    """Return the stretch, and those of its units that are found, by session."""
    stretch = Stretch(saved.stage, saved.certificate, saved.number)
    stretch.opened, stretch.forgotten = saved.opened, saved.forgotten
    stretch.per_organisation = dict(saved.per_organisation)
    stretch.ranges = restore_ranges(saved.ranges)
    found: dict[str, Unit] = {}
    for each in saved.units:
        unit = Unit(each.organisation, stretch, counted=each.counted)
        unit.found, unit.running = set(each.found), each.running
        unit.is_past, unit.is_closed = each.is_past, each.is_closed
        stretch.units.append(unit)
        if each.session is not None:
            found[each.session] = unit
    return stretch, found


def restore_ranges(saved: Iterable[RecordRange]) -> Ranges:
    """Return the ranges that these values are of."""
    return Ranges({each.origin: (each.first, each.last) for each in saved})
