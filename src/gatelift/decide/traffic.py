"""Observations as counts: which stretches a question may look at, and what they add up to.

Invariants
- Stretches come in order of their first appearance on the log; a later observation of a key only
  changes its counts, never its place.
- For stopping, open units are in n and not in s; for widening they are in s.
- A process looks at whole stretches: those whose key first appeared after its start, under
  certificates since the last re-opening of their stage.
- Counts that contradict themselves raise `StatsError`; callers turn that into a shut gate.

Not counted for stopping: stages in which the metric is no guardrail. Stage zero is probed on
purpose, and its harm says nothing of live traffic.

Source: DESIGN.md section 8; reference/statistics.md section 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from functools import lru_cache

import msgspec

from gatelift.decide.narrowing import find_guardrail
from gatelift.decide.stages import in_window, stops_on
from gatelift.decide.state import ObservationEntry, State
from gatelift.encoding import Digest
from gatelift.stats import Counts, StatsError, log_e_stop, log_e_widen

__all__ = [
    "ClearanceCount",
    "SoakCount",
    "account_stretches",
    "clearance_count",
    "harmed_stages",
    "organisation_counts",
    "signal_stretches",
    "soak_count",
    "stop_counts",
    "stop_log_e",
    "widen_log_e",
]

Pairs = tuple[tuple[int, int], ...]


class SoakCount(msgspec.Struct, frozen=True, kw_only=True):
    """What a stage has served since it was last re-opened. `until_ms`: it counts on until then."""

    time_ms: int
    sessions: int
    organisations: int
    until_ms: int | None


class ClearanceCount(msgspec.Struct, frozen=True, kw_only=True):
    """Units since the last re-opening, and those harmful or not yet known."""

    n: int
    s: int


@lru_cache(maxsize=512)
def _cached_stop(limit: Decimal, pairs: Pairs) -> Decimal:
    return log_e_stop(limit, [Counts(n=n, s=s) for n, s in pairs])


@lru_cache(maxsize=512)
def widen_log_e(limit: Decimal, n: int, s: int) -> Decimal:
    """Return ln E of the widening process; remembered, because gates are asked often."""
    return log_e_widen(limit, n, s)


def stop_log_e(limit: Decimal, pairs: Iterable[tuple[int, int]]) -> Decimal:
    """Return ln E of the stopping process over (n, s) of each stretch in order."""
    return _cached_stop(limit, tuple(pairs))


def _since_reopening(state: State, stage: str, entry: ObservationEntry) -> bool:
    index = state.certificate_index(stage, entry.observation.certificate)
    # A certificate that is not on the log is no reason to overlook harm.
    return index is None or index >= state.reopenings.get(stage, -1)


def _counting(state: State, stage: str) -> dict[Digest, int]:
    """Return the certificates under which traffic may open a gate, with their indices.

    Those of this plan and candidate, since the last re-opening; others served something else.
    """
    since = state.reopenings.get(stage, -1)
    return {
        entry.digest: entry.index
        for entry in state.certificates.get(stage, ())
        if entry.index >= since
        and entry.certificate.plan == state.plan_digest
        and entry.certificate.fingerprint == state.fingerprint
    }


def _ordered(entries: Iterable[ObservationEntry]) -> tuple[ObservationEntry, ...]:
    return tuple(sorted(entries, key=lambda each: each.first_index))


def account_stretches(state: State, metric: str) -> tuple[ObservationEntry, ...]:
    """Return the stretches of a guardrail metric that count in the account that is open now."""
    if state.plan is None or state.account is None:
        return ()
    guarded = {
        stage.name for stage in state.plan.stages if find_guardrail(stage, metric) is not None
    }
    opened = state.account.opened_at
    return _ordered(
        entry
        for (name, stage, _, _), entry in state.observations.items()
        if name == metric
        and stage in guarded
        and entry.first_index > opened
        and _since_reopening(state, stage, entry)
    )


def signal_stretches(state: State, metric: str, stage: str) -> tuple[ObservationEntry, ...]:
    """Return the stretches of a signal metric in a stage since its last re-opening."""
    return _ordered(
        entry
        for (name, where, _, _), entry in state.observations.items()
        if name == metric and where == stage and _since_reopening(state, stage, entry)
    )


def stop_counts(state: State, entry: ObservationEntry) -> tuple[int, int]:
    """Return (n, s) of a stretch for stopping, without organisations whose suspension was lifted."""
    seen = entry.observation
    kept = [
        each
        for each in seen.organisations
        if entry.first_index > state.pardons.get(each.organisation, -1)
    ]
    if len(kept) == len(seen.organisations):
        return seen.n, seen.s
    return sum(each.n for each in kept), sum(each.s for each in kept)


def organisation_counts(
    state: State, entries: tuple[ObservationEntry, ...]
) -> dict[str, list[tuple[int, int]]]:
    """Return each organisation's (n, s) in every one of the stretches, zeros where it was not."""
    names = {o.organisation for entry in entries for o in entry.observation.organisations}
    found: dict[str, list[tuple[int, int]]] = {name: [] for name in sorted(names)}
    for entry in entries:
        here = {o.organisation: (o.n, o.s) for o in entry.observation.organisations}
        for name, counts in found.items():
            pardoned = entry.first_index <= state.pardons.get(name, -1)
            counts.append((0, 0) if pardoned else here.get(name, (0, 0)))
    return found


def harmed_stages(entries: Iterable[ObservationEntry]) -> frozenset[str]:
    """Return the stages in which harm was counted."""
    return frozenset(each.observation.stage for each in entries if each.observation.s > 0)


def _stood(state: State, stage: str, now_ms: int) -> tuple[int, int | None]:
    """Return for how long a stage stood since its re-opening, and until when that goes on."""
    counting = _counting(state, stage)
    total, covered, until = 0, 0, None
    for entry in state.certificates.get(stage, ()):
        if entry.digest not in counting:
            continue
        held = entry.certificate
        stops = [
            order.at
            for order in stops_on(state, stage)
            if order.standing.order.ceiling is None and order.standing.order.id not in held.clears
        ]
        start = max(entry.at, held.not_before, covered)
        end = min([held.not_after, now_ms, *stops])
        if end > start:
            total, covered = total + end - start, end
        if not stops and in_window(entry, now_ms):
            until = max(until or 0, held.not_after)
    return total, until


def soak_count(state: State, stage: str, now_ms: int) -> SoakCount:
    """Return what a stage has served since its last re-opening.

    Every metric counts the same units, each up to its own last observation; the largest is nearest.
    """
    time_ms, until = _stood(state, stage, now_ms)
    units: dict[str, int] = {}
    organisations: set[str] = set()
    counting = _counting(state, stage)
    for (metric, where, certificate, _), entry in state.observations.items():
        # Here an unknown certificate counts for nothing: this count opens a gate.
        if where != stage or certificate not in counting:
            continue
        seen = entry.observation
        units[metric] = units.get(metric, 0) + max(0, seen.units)
        organisations |= {each.organisation for each in seen.organisations if each.n > 0}
    return SoakCount(
        time_ms=time_ms,
        sessions=max(units.values(), default=0),
        organisations=len(organisations),
        until_ms=until,
    )


def clearance_count(state: State, metric: str, stage: str) -> ClearanceCount:
    """Return the units of a metric in a stage since its last re-opening, open ones as harmful."""
    n = s = 0
    counting = _counting(state, stage)
    for (name, where, certificate, _), entry in state.observations.items():
        if name != metric or where != stage or certificate not in counting:
            continue
        seen = entry.observation
        if not 0 <= seen.s <= seen.n or seen.open < 0:
            raise StatsError(
                f"observation of {metric} in {stage}: expected 0 <= s <= n and open >= 0, "
                f"got n={seen.n}, s={seen.s}, open={seen.open}"
            )
        # An open unit may be among the harmful already; counting it twice is the safe side.
        n, s = n + seen.n, s + min(seen.n, seen.s + seen.open)
    return ClearanceCount(n=n, s=s)
