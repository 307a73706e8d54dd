"""Observations, counted again from the records that they name.

Control writes what a keeper counted; nobody has to believe either. The same counter is run over the
verified records, and at the end of each observation's ranges it must give the same figures.

Invariants
- Every logged observation and event count is compared, not only the newest: decisions rested on the
  earlier ones too.
- An organisation that was erased is compared by its figures: its name stands in the log, not in records.
- What cannot be counted again is a finding: a range beyond the log, an unknown certificate.

One counter for each plan and node. Observations whose ranges span several nodes are reported as not
recounted: their interleaving is not on record.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from gatelift.encoding import Digest
from gatelift.errors import CallerError
from gatelift.ledger.audit.authority import Authority
from gatelift.ledger.audit.erasures import Erased
from gatelift.ledger.audit.folder import log_name_of
from gatelift.ledger.audit.releases import Releases
from gatelift.ledger.audit.report import Findings
from gatelift.ledger.audit.requests import Batch, node_of
from gatelift.messages import Beat, EventCount, Observation, OrganisationCount, RecordRange
from gatelift.plan import Plan
from gatelift.watch import UnitCounter

__all__ = ["Recount"]

_Counted = Observation | EventCount
_Place = tuple[str, int]


class _Wanted(NamedTuple):
    where: str
    value: _Counted


class _Counter:
    """One plan's counter over one node's logs, and what to compare where."""

    def __init__(self, plan: Plan) -> None:
        self.counter: UnitCounter | None = UnitCounter(plan)
        self.wanted: dict[_Place, list[_Wanted]] = {}


class Recount:
    """Folds verified batches and compares what was logged."""

    def __init__(self, releases: Releases, authority: Authority, findings: Findings) -> None:
        self._authority = authority
        self._findings = findings
        self._root_name = releases.root.name
        self._counters: dict[tuple[Digest, str], _Counter] = {}
        self._aliases: set[str] = set()
        self.compared = 0
        for entry in releases.entries:
            value = entry.body.value
            if isinstance(value, Observation | EventCount):
                with findings.reading(releases.place(entry.index)):
                    self._want(entry.index, releases.place(entry.index), value)

    def note_erased(self, batch: Batch, erased: Erased) -> None:
        """Take the aliases of erased organisations: they are compared by their figures alone."""
        for line in batch.erased:
            record = batch.records[line.i]
            if not isinstance(record, Beat) and erased.hides_organisation(line):
                self._aliases.add(record.organisation)

    def fold(self, batch: Batch) -> None:
        """Take the next batch of a log, in the order of the log."""
        for (_, node), held in self._counters.items():
            if node != batch.entry.node or held.counter is None:
                continue
            try:
                held.counter.fold(batch.records, batch.origin, batch.index)
            except CallerError as error:
                held.counter = None
                self._findings.error("not_countable", batch.where, str(error))
                continue
            wanted = held.wanted.pop((batch.origin, batch.index), None)
            if wanted:
                self._compare(held.counter, wanted)

    def close(self) -> None:
        """Report what could not be compared."""
        for held in self._counters.values():
            for place, wanted in held.wanted.items():
                for each in wanted:
                    self._findings.error(
                        "not_recounted",
                        each.where,
                        f"expected records up to batch {place[1]} of {place[0][:120]}, "
                        "they are not here",
                    )

    def _want(self, index: int, where: str, value: _Counted) -> None:
        fact = self._authority.plan_before(index)
        plan, digest = (None, None) if fact is None else (fact.plan, fact.adoption.plan)
        if isinstance(value, Observation):
            certified = self._authority.certificates.get(value.certificate)
            if certified is not None:
                plan, digest = certified.plan, certified.certificate.plan
            else:
                plan = None
        names = sorted({log_name_of(self._root_name, r.origin) for r in value.ranges})
        nodes = {node_of(name) for name in names}
        if plan is None or digest is None or not names:
            self._findings.error(
                "not_recounted",
                where,
                "it names no certificate, plan or records that are here: nothing backs it",
            )
        elif len(nodes) > 1:
            self._findings.warn("not_recounted", where, "its ranges span several nodes")
        else:
            key = (digest, nodes.pop())
            held = self._counters.setdefault(key, _Counter(plan))
            held.wanted.setdefault(_end_of(value.ranges), []).append(_Wanted(where, value))

    def _compare(self, counter: UnitCounter, wanted: list[_Wanted]) -> None:
        observations = {_key(seen): seen for seen in counter.observations()}
        events = {_key(seen): seen for seen in counter.events()}
        for each in wanted:
            found: _Counted | None
            if isinstance(each.value, Observation):
                found = observations.get(_key(each.value))
            else:
                found = events.get(_key(each.value))
            self.compared += 1
            if found != each.value and not self._is_same_but_erased(each.value, found):
                self._findings.error(
                    "observation_differs", each.where, _difference(each.value, found)
                )

    def _is_same_but_erased(self, logged: _Counted, found: _Counted | None) -> bool:
        """Return whether they differ in no more than names of organisations that were erased."""
        if not isinstance(logged, Observation) or not isinstance(found, Observation):
            return False
        named = {count.organisation for count in logged.organisations}
        renamed = [
            count
            for count in found.organisations
            if count.organisation in self._aliases and count.organisation not in named
        ]
        left = {count.organisation for count in found.organisations}
        whose = [count for count in logged.organisations if count.organisation not in left]
        kept = [count for count in found.organisations if count not in renamed]
        same = [count for count in logged.organisations if count not in whose]
        return (
            bool(renamed)
            and _figures(renamed) == _figures(whose)
            and sorted(kept, key=_name_of) == sorted(same, key=_name_of)
            and msgspec.structs.replace(found, organisations=logged.organisations) == logged
        )


def _name_of(count: OrganisationCount) -> str:
    return count.organisation


def _figures(counts: Iterable[OrganisationCount]) -> list[tuple[int, int, int]]:
    return sorted((count.n, count.s, count.open) for count in counts)


def _end_of(ranges: tuple[RecordRange, ...]) -> _Place:
    # Origins of one node end in the month, so the greatest is the latest log.
    last = max(ranges, key=lambda r: (r.origin, r.last))
    return (last.origin, last.last)


def _key(value: _Counted) -> tuple[object, ...]:
    if isinstance(value, Observation):
        return (value.metric, value.stage, value.certificate, value.stretch)
    return (value.stage, value.category, value.side)


def _difference(logged: _Counted, found: _Counted | None) -> str:
    if found is None:
        return "the records up to the end of its ranges give no such count"
    said, counted = msgspec.structs.asdict(logged), msgspec.structs.asdict(found)
    names = [name for name in said if said[name] != counted[name]]
    shown = ", ".join(f"{n}: logged {said[n]!r}, counted {counted[n]!r}" for n in names)
    return f"the records give other figures: {shown}"
