"""Which stages stand, which orders hold them down, and which stage comes next.

Invariants
- A stage stands when its newest certificate is in its window and orders leave something of it.
- A stop on the release or a stage holds a stage down until the newest certificate of that stage
  lists it in `clears`; so every later certificate lists it again, and only the first one re-opens.
- A narrowing counts as ordered while control's order for it holds down all that it is meant for.

Does not: ask whether a gate is open.
"""

from __future__ import annotations

from gatelift.decide.state import CertificateEntry, OrderEntry, State
from gatelift.messages import Narrowing
from gatelift.terms import Envelope
from gatelift.trust import StandingOrder, TargetKind, stage_ceiling

__all__ = [
    "clears_for",
    "in_window",
    "is_ordered",
    "narrowest_of",
    "next_sequence",
    "orders_in_force",
    "stage_names",
    "standing_certificate",
    "standing_envelope",
    "stops_on",
    "target_stage",
    "uncleared",
    "widest_stage",
]


def stage_names(state: State) -> tuple[str, ...]:
    """Return the plan's stages in order of exposure; none without a plan."""
    return () if state.plan is None else tuple(stage.name for stage in state.plan.stages)


def in_window(entry: CertificateEntry, now_ms: int) -> bool:
    """Return whether the certificate holds at this time."""
    return entry.certificate.not_before <= now_ms < entry.certificate.not_after


def stops_on(state: State, stage: str) -> tuple[OrderEntry, ...]:
    """Return every logged stop of the release or this stage, lifted or not, in order of logging."""
    return tuple(
        entry
        for entry in state.orders.values()
        if entry.is_stop
        and entry.standing.order.release == state.release
        and (
            entry.standing.order.target.kind is TargetKind.RELEASE
            or entry.standing.order.target.name == stage
        )
    )


def uncleared(state: State, stage: str) -> tuple[OrderEntry, ...]:
    """Return the stops that the newest certificate of this stage does not clear."""
    newest = state.newest_certificate(stage)
    cleared = frozenset(newest.certificate.clears) if newest else frozenset()
    return tuple(each for each in stops_on(state, stage) if each.standing.order.id not in cleared)


def clears_for(state: State, stage: str) -> tuple[str, ...]:
    """Return the ids that the next certificate of this stage has to list in `clears`."""
    return tuple(sorted(entry.standing.order.id for entry in stops_on(state, stage)))


def next_sequence(state: State, stage: str) -> int:
    """Return the sequence of the next certificate of this stage; the first is 1."""
    newest = state.newest_certificate(stage)
    return 1 if newest is None else newest.certificate.sequence + 1


def standing_certificate(state: State, stage: str, now_ms: int) -> CertificateEntry | None:
    """Return the newest certificate of a stage if it is in its window and of this candidate."""
    newest = state.newest_certificate(stage)
    if newest is None or not in_window(newest, now_ms):
        return None
    held = newest.certificate
    same = held.plan == state.plan_digest and held.fingerprint == state.fingerprint
    return newest if same else None


def standing_envelope(state: State, stage: str, now_ms: int) -> Envelope | None:
    """Return what may be served in a stage now, None for nothing."""
    held = standing_certificate(state, stage, now_ms)
    if held is None:
        return None
    orders = [entry.standing for entry in state.orders.values()]
    return stage_ceiling(held.certificate, orders, now_ms)[0]


def widest_stage(state: State, now_ms: int) -> str | None:
    """Return the widest stage that stands, None for none."""
    for name in reversed(stage_names(state)):
        if standing_envelope(state, name, now_ms) is not None:
            return name
    return None


def target_stage(state: State, now_ms: int) -> str | None:
    """Return the stage whose gate comes next: the first one held down, else the next wider.

    The first stage when nothing stands; None when the widest stage stands and nothing is held down.
    """
    names = stage_names(state)
    if not names:
        return None
    widest = widest_stage(state, now_ms)
    if widest is None:
        return names[0]
    upto = names.index(widest) + 1
    for name in names[:upto]:
        if uncleared(state, name):
            return name
    return names[upto] if upto < len(names) else None


def narrowest_of(state: State, narrow: tuple[Narrowing, ...]) -> int | None:
    """Return the index of the narrowest stage that narrowings stop, None if they stop none."""
    names = stage_names(state)
    found = []
    for each in narrow:
        if each.target.kind is TargetKind.RELEASE:
            found.append(0)
        elif each.target.kind is TargetKind.STAGE and each.target.name in names:
            found.append(names.index(each.target.name))
    return min(found, default=None)


def _still_holds(state: State, entry: OrderEntry, now_ms: int) -> bool:
    order = entry.standing.order
    match order.target.kind:
        case TargetKind.RELEASE:
            certified = [name for name in stage_names(state) if state.certificates.get(name)]
            return all(entry in uncleared(state, name) for name in certified)
        case TargetKind.STAGE:
            return entry in uncleared(state, order.target.name)
        case TargetKind.ORGANISATION | TargetKind.PRINCIPAL | TargetKind.KEY:
            alive = order.until is None or now_ms < order.until
            return alive and entry.cleared_index is None


def is_ordered(state: State, narrowing: Narrowing, now_ms: int) -> bool:
    """Return whether an order by control that holds already says what the narrowing asks for."""
    return any(
        entry.standing.by.role == "control"
        and entry.standing.order.target == narrowing.target
        and entry.standing.order.ceiling == narrowing.ceiling
        and _still_holds(state, entry, now_ms)
        for entry in state.orders.values()
    )


def orders_in_force(state: State, now_ms: int) -> tuple[StandingOrder, ...]:
    """Return every logged order but those lifted by a `Clear` or past their `until`.

    Orders on the release or a stage stay: a certificate lifts them for its own stage only.
    """
    return tuple(
        entry.standing
        for entry in state.orders.values()
        if entry.cleared_index is None
        and (entry.standing.order.until is None or now_ms < entry.standing.order.until)
    )
