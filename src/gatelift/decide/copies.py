"""The registry of copies: which copies of the weights are known, and which are overdue.

Invariants
- A copy is registered, and closed, by operator and security: two people of two roles.
- It is of the candidate's weights and goes to a door that the plan declares in `exposures`: what the
  plan does not say is not exported.
- A copy that is not closed at its time is overdue, and an incident, until it is closed; closing it
  does not resolve the incident, people do.
- Nothing is forgotten: a closed copy stays in the registry, under another plan too.

It counts what was registered. That nobody made another copy is not shown by it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from gatelift.decide.admit_error import AdmitError, refuse, require_plan, require_release
from gatelift.decide.state import CopyEntry, State
from gatelift.errors import CallerError
from gatelift.messages import Body, CopyClosing, EntryHeader, Export
from gatelift.trust import verify_quorum

__all__ = [
    "COPY_QUORUM",
    "Exposure",
    "check_closing",
    "check_export",
    "exposures_of",
    "fold_closing",
    "fold_export",
    "open_copies",
    "overdue_copies",
]

COPY_QUORUM: Final = ("operator", "security")
_MAX_TEXT: Final = 200
_MAX_MS: Final = 400 * 86_400_000


class Exposure(NamedTuple):
    """A door outside that the plan declares, and the copies that went there and are not back."""

    declared: str
    copies: tuple[CopyEntry, ...]


def check_export(state: State, body: Body, value: Export, now_ms: int) -> None:
    """Refuse a copy that two people did not sign, of other weights, or to where the plan says none."""
    require_release(state, value.release)
    _require_two(state, body, "an export of the weights")
    plan = require_plan(state)
    if value.id in state.copies:
        refuse("id_taken", f"export {value.id} is on the log: draw a new id")
    if value.weights != state.weights:
        refuse(
            "wrong_candidate",
            f"the candidate names weights {state.weights or 'none'}, the export {value.weights}",
        )
    if value.destination not in plan.exposures:
        refuse(
            "exposure_undeclared",
            f"{value.destination[:80]!r} is none of the plan's exposures {list(plan.exposures)}: "
            "declare it there first, so that it is signed for and public",
        )
    for what, text in (("purpose", value.purpose), ("custodian", value.custodian)):
        if not text.strip() or not text.isprintable() or len(text) > _MAX_TEXT:
            refuse("bad_export", f"expected a {what} of one line, 1 to {_MAX_TEXT} characters")
    if not now_ms < value.expires_at <= now_ms + _MAX_MS:
        refuse(
            "bad_export",
            f"expected an end after now ({now_ms}) and within 400 days, got {value.expires_at}",
        )


def check_closing(state: State, body: Body, value: CopyClosing) -> None:
    """Refuse to close what is not open, or by fewer than two people."""
    require_release(state, value.release)
    _require_two(state, body, "the closing of a copy")
    held = state.copies.get(value.export)
    if held is None or held.closing is not None:
        refuse("unknown_copy", f"no copy {value.export} is open")
    if not value.note.strip() or len(value.note) > _MAX_TEXT:
        refuse("bad_closing", f"expected a note of 1 to {_MAX_TEXT} characters: how is it known?")


def _require_two(state: State, body: Body, what: str) -> None:
    if state.root is None:
        refuse("no_root", "no root is on the log: log it first")
    try:
        verify_quorum(state.root, body.signers, COPY_QUORUM)
    except CallerError as error:
        raise AdmitError(f"{what}: {error}", code=error.code) from error


def fold_export(state: State, index: int, header: EntryHeader, value: Export) -> State:
    """Return the state with one more known copy."""
    if value.id in state.copies:
        return state
    entry = CopyEntry(export=value, digest=header.body, index=index, at=header.at, by=header.actor)
    return msgspec.structs.replace(state, copies={**state.copies, value.id: entry})


def fold_closing(state: State, index: int, value: CopyClosing) -> State:
    """Return the state with a copy closed."""
    held = state.copies.get(value.export)
    if held is None or held.closing is not None:
        return state
    entry = msgspec.structs.replace(held, closing=value, closed_index=index)
    return msgspec.structs.replace(state, copies={**state.copies, value.export: entry})


def open_copies(state: State) -> tuple[CopyEntry, ...]:
    """Return the copies that are known to exist, in the order of their registration."""
    return tuple(entry for entry in state.copies.values() if entry.closing is None)


def overdue_copies(state: State, now_ms: int) -> tuple[CopyEntry, ...]:
    """Return the copies that should have been closed by now."""
    return tuple(each for each in open_copies(state) if now_ms >= each.export.expires_at)


def exposures_of(state: State) -> tuple[Exposure, ...]:
    """Return every door that the plan declares, or a known copy went through, with its copies."""
    declared = state.plan.exposures if state.plan else ()
    known = open_copies(state)
    more = (each.export.destination for each in known)
    return tuple(
        Exposure(door, tuple(each for each in known if each.export.destination == door))
        for door in dict.fromkeys((*declared, *more))
    )
