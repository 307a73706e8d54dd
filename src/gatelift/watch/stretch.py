"""A stretch: the units of one stage and certificate that opened one after the other.

Invariants
- s + open <= n <= units for every observation; a unit that was found harmful counts in `s` and no
  longer in `open`.
- Only units marked `counted` stand in n; that mark is set at opening and never changed.
- A range of entries only grows.

Does not know when a unit opens or closes: `units` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from gatelift.encoding import Digest
from gatelift.messages import Observation, OrganisationCount, RecordRange
from gatelift.plan import HarmCondition, Metric, Plan

__all__ = ["Place", "Ranges", "Stretch", "StretchKey", "Unit"]

StretchKey = tuple[str, Digest, int]
"""Stage, certificate and number of the stretch."""


class Place(NamedTuple):
    """A batch entry: the log and the index in it."""

    origin: str
    entry: int


class Ranges:
    """Which entries touched something, as one range for each log."""

    __slots__ = ("_by_origin",)

    def __init__(self, by_origin: Mapping[str, tuple[int, int]] | None = None) -> None:
        self._by_origin = dict(by_origin or {})

    def touch(self, place: Place) -> None:
        """Stretch the range of the place's log up to it."""
        first, _ = self._by_origin.get(place.origin, (place.entry, 0))
        self._by_origin[place.origin] = (first, place.entry)

    def values(self) -> tuple[RecordRange, ...]:
        """Return the ranges, logs in order of their first touch."""
        return tuple(
            RecordRange(origin=origin, first=first, last=last)
            for origin, (first, last) in self._by_origin.items()
        )


class Unit:
    """One session. `found` holds the conditions that were met, `running` its unfinished exchanges."""

    __slots__ = ("counted", "found", "is_closed", "is_past", "organisation", "running", "stretch")

    def __init__(self, organisation: str, stretch: Stretch, *, counted: bool) -> None:
        self.organisation = organisation
        self.stretch = stretch
        self.counted = counted
        self.found: set[HarmCondition] = set()
        self.running = 0
        self.is_past = False
        self.is_closed = False


class Stretch:
    """The units of one stage, certificate and stretch, as long as one of them can change."""

    __slots__ = (
        "certificate",
        "forgotten",
        "number",
        "opened",
        "per_organisation",
        "ranges",
        "stage",
        "touched",
        "units",
    )

    def __init__(self, stage: str, certificate: Digest, number: int) -> None:
        self.stage = stage
        self.certificate = certificate
        self.number = number
        self.opened = 0
        self.forgotten = 0
        self.units: list[Unit] = []
        self.per_organisation: dict[str, int] = {}
        self.ranges = Ranges()
        self.touched: Place | None = None
        """Where it was last touched."""

    @property
    def key(self) -> StretchKey:
        """What names it."""
        return (self.stage, self.certificate, self.number)

    def observe(self, plan: Plan) -> tuple[Observation, ...]:
        """Return one observation for each metric of the plan, as the units stand now."""
        ranges = self.ranges.values()
        return tuple(self._observe_metric(plan.name, metric, ranges) for metric in plan.metrics)

    def _observe_metric(
        self, release: str, metric: Metric, ranges: tuple[RecordRange, ...]
    ) -> Observation:
        tallies: dict[str, _Tally] = {}
        for unit in self.units:
            if unit.counted:
                tally = tallies.setdefault(unit.organisation, _Tally())
                tally.n += 1
                if metric.harmful_when in unit.found:
                    tally.s += 1
                elif not unit.is_closed:
                    tally.open += 1
        organisations = tuple(
            OrganisationCount(organisation=name, n=tally.n, s=tally.s, open=tally.open)
            for name, tally in sorted(tallies.items())
        )
        return Observation(
            release=release,
            metric=metric.name,
            stage=self.stage,
            certificate=self.certificate,
            stretch=self.number,
            n=sum(count.n for count in organisations),
            s=sum(count.s for count in organisations),
            open=sum(count.open for count in organisations),
            units=self.opened,
            organisations=organisations,
            ranges=ranges,
        )


class _Tally:
    """Counts of one organisation while they are made."""

    __slots__ = ("n", "open", "s")

    def __init__(self) -> None:
        self.n = self.s = self.open = 0
