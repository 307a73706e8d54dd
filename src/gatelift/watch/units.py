"""Counting units: sessions in order of opening, cut into stretches, with what was found in them.

A unit is a session. It belongs to the stage and the certificate of its first start and to the
stretch that was filling when it opened. Of each organisation only the first k units of a stretch
count, blind to verdict, so that one busy organisation cannot drown the others or hide among them.

When is a unit open? Until its session window has passed and its last exchange has finished. Time is
the latest `at` of any record folded so far (each worker writes a beat a second), never the reader's
clock: the counts are a function of the records alone, and a verifier who folds the same entries
finds the same figures, `open` included. If all workers fall silent, units stay open, which is the
safe side: an open unit counts as harmful for widening.

Which starts open a unit? All but those that the model could not answer anyway: at the list of
models, without a certificate, and capped or stopped before they passed the gate. A worker writes such a finish right behind its start, so what follows a start in its
worker's journal decides; a start that ends a batch waits for the worker's next batch (a second at
most). The order of opening is thus known without looking at any verdict, and a place in a stretch
is never taken back.

Invariants
- Same batches in the same order, same observations: no clock, no chance, no order of hashing.
- For every observation: s + open <= n <= units <= the plan's stretch. A unit that is harmful
  already counts in `s` and no longer in `open`.
- A unit that opened in a stretch stays in it; n never falls, s never falls.
- The range of an observation ends at the last entry that changed it: folding all entries up to
  there gives it again.

Does not verify batches, merge the logs of several nodes, or decide anything. A session that starts
again more than `KEPT_MS` after its window has passed (a clock set back) counts as another unit.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from gatelift.encoding import Digest
from gatelift.errors import CallerError
from gatelift.messages import (
    BriefRecord,
    EventCount,
    Finish,
    Observation,
    Outcome,
    Record,
    RecordedVerdict,
    RecordRef,
    StartTerms,
    briefly,
)
from gatelift.plan import HarmCondition, Plan
from gatelift.terms import GENERATING_ENDPOINTS, Category, Side
from gatelift.watch.saved import (
    SavedCounter,
    SavedEvent,
    restore_ranges,
    restore_stretch,
    save_stretch,
)
from gatelift.watch.session import session_window_start_ms
from gatelift.watch.stretch import Place, Ranges, Stretch, StretchKey, Unit

__all__ = ["KEPT_MS", "UnitCounter", "WatchError"]

KEPT_MS = 3_600_000
"""How long a closed session is remembered, so that a late record still finds its unit."""

_NEVER_PAST_THE_GATE = frozenset({Outcome.CAPPED, Outcome.STOPPED})


class WatchError(CallerError):
    """The records do not fit together: a finish without its start, batches out of order."""

    code = "bad_records"


class UnitCounter:
    """Counts the units of one plan's release over batches of records, in the order of the log."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._conditions = tuple(dict.fromkeys(metric.harmful_when for metric in plan.metrics))
        self._filling: dict[tuple[str, Digest], Stretch] = {}
        self._units: dict[str, Unit] = {}
        self._undecided: dict[tuple[str, str], StartTerms] = {}
        self._unanswerable: set[RecordRef] = set()
        self._windows: list[tuple[int, str]] = []
        self._memory: list[tuple[int, str]] = []
        self._events: dict[tuple[str, Category, Side], tuple[int, Ranges]] = {}
        self._observed: dict[StretchKey, tuple[Observation, ...]] = {}
        self._changed: dict[StretchKey, Stretch] = {}
        self._last_index: dict[str, int] = {}
        self._horizon_ms = 0

    @property
    def horizon_ms(self) -> int:
        """The latest `at` of any record so far: the time by which units are closed."""
        return self._horizon_ms

    @classmethod
    def restored(cls, plan: Plan, saved: SavedCounter) -> UnitCounter:
        """Return the counter that `save` was asked of, under the same plan."""
        found = cls(plan)
        for each in saved.stretches:
            stretch, units = restore_stretch(each)
            found._units |= units
            if each.is_filling:
                found._filling[(stretch.stage, stretch.certificate)] = stretch
        found._take_up(saved)
        return found

    def _take_up(self, saved: SavedCounter) -> None:
        self._undecided = {(start.worker, start.run): start for start in saved.undecided}
        self._unanswerable = set(saved.unanswerable)
        self._windows, self._memory = list(saved.windows), list(saved.memory)
        self._events = {
            (each.stage, each.category, each.side): (each.count, restore_ranges(each.ranges))
            for each in saved.events
        }
        self._observed = dict(saved.observed)
        self._last_index = dict(saved.last_index)
        self._horizon_ms = saved.horizon_ms

    def save(self) -> SavedCounter:
        """Return all that it remembers; what is restored from that counts on as this would."""
        self.observations()
        sessions = {id(unit): session for session, unit in self._units.items()}
        filling = list(self._filling.values())
        # Others are full and nothing can change them: their figures stand in `observed`.
        open_ones = {*filling, *(unit.stretch for unit in self._units.values())}
        return SavedCounter(
            stretches=tuple(
                save_stretch(each, sessions, is_filling=each in filling)
                for each in sorted(open_ones, key=lambda each: each.key)
            ),
            undecided=tuple(briefly(start) for start in self._undecided.values()),
            unanswerable=tuple(self._unanswerable),
            windows=self._windows,
            memory=self._memory,
            events=tuple(
                SavedEvent(
                    stage=stage, category=category, side=side, count=count, ranges=ranges.values()
                )
                for (stage, category, side), (count, ranges) in self._events.items()
            ),
            observed=tuple(self._observed.items()),
            last_index=self._last_index,
            horizon_ms=self._horizon_ms,
        )

    def fold(self, records: Sequence[Record | BriefRecord], origin: str, index: int) -> None:
        """Take the records of the batch that is entry `index` of the log `origin`.

        Raises `WatchError` when a finish has no running start or entries do not rise, and
        `SessionError` when a session id is none; the counter is then of no more use.
        """
        if index <= self._last_index.get(origin, -1):
            raise WatchError(f"entry {index} of {origin} came after {self._last_index[origin]}")
        self._last_index[origin] = index
        place = Place(origin, index)
        writer = (records[0].worker, records[0].run) if records else ("", "")
        undecided = self._undecided.pop(writer, None)
        horizon_ms = self._horizon_ms
        for record in records:
            horizon_ms = max(horizon_ms, record.at)
            if isinstance(record, Finish):
                if undecided is not None:
                    start, undecided = undecided, None
                    if _turns_away(record, start):
                        # It was no unit; what was seen of it (bait was touched) is an event all the
                        # same.
                        if record.release == self._plan.name:
                            self._count_events(record, place)
                        continue
                    self._start(start, place)
                self._finish(record, place)
                continue
            if undecided is not None:
                self._start(undecided, place)
                undecided = None
            if isinstance(record, StartTerms):
                undecided = record
        if undecided is not None:
            self._undecided[writer] = undecided
        self._horizon_ms = horizon_ms
        self._close_past(place)
        self._forget_old()

    def observations(self) -> tuple[Observation, ...]:
        """Return every metric's counts for every stretch, cumulative, in order of opening."""
        for stretch in self._changed.values():
            self._observed[stretch.key] = stretch.observe(self._plan)
        self._changed.clear()
        return tuple(seen for each in self._observed.values() for seen in each)

    def events(self) -> tuple[EventCount, ...]:
        """Return in how many exchanges each safeguard spoke, by stage and side, cumulative."""
        return tuple(
            EventCount(
                release=self._plan.name,
                stage=stage,
                category=category,
                side=side,
                count=count,
                ranges=ranges.values(),
            )
            for (stage, category, side), (count, ranges) in self._events.items()
        )

    def _start(self, record: StartTerms, place: Place) -> None:
        if record.release != self._plan.name:
            return
        if record.endpoint not in GENERATING_ENDPOINTS or record.certificate is None:
            self._unanswerable.add(_place_of(record))
            return
        unit = self._units.get(record.session) or self._open(record, record.certificate)
        unit.running += 1
        unit.is_closed = False
        if unit.stretch.touched is not place:
            self._touch(unit.stretch, place)

    def _open(self, record: StartTerms, certificate: Digest) -> Unit:
        end_ms = session_window_start_ms(record.session) + self._plan.session_window_ms
        group = (record.stage, certificate)
        stretch = self._filling.get(group)
        if stretch is None or stretch.opened >= self._plan.stretch:
            number = 0 if stretch is None else stretch.number + 1
            stretch = self._filling[group] = Stretch(record.stage, certificate, number)
            # The place in the order of observations; the counts follow when they are asked for.
            self._observed[stretch.key] = ()
        before = stretch.per_organisation.get(record.organisation, 0)
        counted = before < self._plan.units_per_organisation
        unit = Unit(record.organisation, stretch, counted=counted)
        stretch.per_organisation[record.organisation] = before + 1
        stretch.opened += 1
        stretch.units.append(unit)
        self._units[record.session] = unit
        heapq.heappush(self._windows, (end_ms, record.session))
        return unit

    def _finish(self, record: Finish, place: Place) -> None:
        if record.release != self._plan.name:
            return
        # Asked first whether there is any: to look a place up costs more than the rest of this.
        if self._undecided:
            self._decide_orphan(record, place)
        if self._unanswerable and record.of in self._unanswerable:
            self._unanswerable.discard(record.of)
            self._count_events(record, place)
            return
        unit = self._units.get(record.session)
        if unit is None or unit.running < 1:
            raise WatchError(
                f"finish {record.worker}/{record.run}/{record.seq} has no running start in session "
                f"{record.session[:60]}",
                code="finish_without_start",
            )
        unit.running -= 1
        unit.is_closed = unit.is_past and not unit.running
        if unit.is_closed:
            heapq.heappush(self._memory, (self._horizon_ms + KEPT_MS, record.session))
        if unit.stretch.touched is not place:
            self._touch(unit.stretch, place)
        if record.verdicts:
            for verdict in record.verdicts:
                unit.found.update(c for c in self._conditions if _meets(verdict, c))
            self._count_events(record, place)

    def _decide_orphan(self, record: Finish, place: Place) -> None:
        # A keeper closes the last start of a dead worker, which nothing followed in its own journal.
        writer = (record.of.worker, record.of.run)
        start = self._undecided.get(writer)
        if start is not None and _place_of(start) == record.of:
            del self._undecided[writer]
            self._start(start, place)

    def _count_events(self, record: Finish, place: Place) -> None:
        # A set would make the order of events depend on hashing.
        for category, side in dict.fromkeys((v.category, v.side) for v in record.verdicts):
            key = (record.stage, category, side)
            count, ranges = self._events.get(key, (0, Ranges()))
            ranges.touch(place)
            self._events[key] = (count + 1, ranges)

    def _close_past(self, place: Place) -> None:
        while self._windows and self._windows[0][0] <= self._horizon_ms:
            _, session = heapq.heappop(self._windows)
            unit = self._units[session]
            unit.is_past = True
            # A stream may outlive its session's window: its finish closes the unit then.
            if not unit.running:
                unit.is_closed = True
                heapq.heappush(self._memory, (self._horizon_ms + KEPT_MS, session))
                self._touch(unit.stretch, place)

    def _forget_old(self) -> None:
        while self._memory and self._memory[0][0] <= self._horizon_ms:
            _, session = heapq.heappop(self._memory)
            unit = self._units.get(session)
            if unit is None or not unit.is_closed:
                continue
            del self._units[session]
            stretch = unit.stretch
            stretch.forgotten += 1
            if stretch.forgotten == self._plan.stretch:
                # Nothing can change it any more: the figures stay, the units go.
                self._observed[stretch.key] = stretch.observe(self._plan)
                self._changed.pop(stretch.key, None)
                stretch.units.clear()

    def _touch(self, stretch: Stretch, place: Place) -> None:
        # Once a batch is enough, as all records of one have one place: callers look at `touched`.
        stretch.touched = place
        stretch.ranges.touch(place)
        self._changed[stretch.key] = stretch


def _place_of(record: StartTerms) -> RecordRef:
    return RecordRef(node=record.node, worker=record.worker, run=record.run, seq=record.seq)


def _meets(verdict: RecordedVerdict, condition: HarmCondition) -> bool:
    return (
        condition.safeguard is verdict.category
        and condition.side is verdict.side
        and condition.band in (None, verdict.band)
    )


def _turns_away(record: Finish, start: StartTerms) -> bool:
    return (
        not record.upstream
        and record.outcome in _NEVER_PAST_THE_GATE
        and record.of == _place_of(start)
    )
