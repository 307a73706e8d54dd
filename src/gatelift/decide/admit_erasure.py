"""Whether an erasure or a hold may be logged: nothing is erased that must stay, and nothing twice.

Invariants
- No erasure of anything that a standing hold covers. What the log says first counts: a hold that comes
  after an erasure was logged keeps nothing of what that covers.
- An id stands once on the log, an erasure's and a hold's alike, lifted or not.
- An erasure takes the place of earlier ones only where it covers all that they did.

Signatures were checked before (`messages.verify_body`): two people of two sides, but for a hold.
"""

from __future__ import annotations

from gatelift.decide.admit_error import refuse, require_release
from gatelift.decide.state import State
from gatelift.messages import (
    MAX_ERASED,
    Erasure,
    Hold,
    HoldLift,
    HoldReason,
    holds_back,
    supersedes,
)

__all__ = ["check_erasure", "check_hold", "check_hold_lift"]


def check_erasure(state: State, value: Erasure) -> None:
    """Refuse an erasure that a hold stands against, or that does not say what it covers."""
    require_release(state, value.release)
    if value.id in state.erasures:
        refuse("id_taken", f"erasure {value.id[:60]} is on the log: prepare a new one")
    _check_covers(value)
    for hold in state.holds.values():
        if hold.id not in state.lifted_holds and holds_back(hold, value):
            refuse(
                "held",
                f"hold {hold.id[:60]} ({hold.reason.value}) stands on records that this erasure covers: "
                "they stay until it is lifted (`gatelift hold lift`)",
            )
    superseded = {name for held in state.erasures.values() for name in held.supersedes}
    for name in value.supersedes:
        older = state.erasures.get(name)
        if older is None or name in superseded or not supersedes(value, older):
            refuse(
                "not_superseded",
                f"expected an erasure on the log whose records this one covers, got {name[:60]}",
            )


def _check_covers(value: Erasure) -> None:
    origins = [each.origin for each in value.covers]
    if not origins or len(set(origins)) != len(origins):
        refuse("bad_erasure", "expected one range for each requests log that it covers")
    if len(set(value.supersedes)) != len(value.supersedes):
        refuse("bad_erasure", "an erasure is named twice in `supersedes`")
    for each in value.covers:
        if not (0 <= each.first <= each.last and 1 <= each.records <= MAX_ERASED):
            refuse(
                "bad_erasure",
                f"{each.origin[:120]}: expected first <= last and 1 to {MAX_ERASED} records, got "
                f"{each.first} to {each.last} with {each.records}",
            )


def check_hold(state: State, value: Hold) -> None:
    """Refuse a hold that names no incident of the log, or no range that can be."""
    require_release(state, value.release)
    if value.id in state.holds:
        refuse("id_taken", f"hold {value.id[:60]} is on the log: sign a new one")
    if (value.incident is None) != (value.reason is HoldReason.LEGAL):
        refuse("bad_hold", "expected the incident of an incident hold, and none of a legal hold")
    if value.incident is not None and value.incident not in state.incidents:
        refuse("unknown_incident", f"no incident {value.incident[:60]} is on the log")
    for each in value.covers:
        if each.first < 0 or (each.last is not None and each.last < each.first):
            refuse("bad_hold", f"{each.origin[:120]}: expected first <= last, or no last")


def check_hold_lift(state: State, value: HoldLift) -> None:
    """Refuse to lift a hold that does not stand."""
    require_release(state, value.release)
    if value.id not in state.holds or value.id in state.lifted_holds:
        refuse("unknown_hold", f"no hold {value.id[:60]} stands")
