"""The refusal of an entry, and what nearly every entry requires.

Invariants
- A refusal has a stable code and a sentence, and for a shut gate all of its reasons.
"""

from __future__ import annotations

from typing import NoReturn

from gatelift.decide.stages import stage_names
from gatelift.decide.state import State
from gatelift.encoding import Digest
from gatelift.errors import CallerError
from gatelift.messages import Reason
from gatelift.plan import Plan

__all__ = [
    "AdmitError",
    "refuse",
    "require_candidate",
    "require_plan",
    "require_release",
    "require_stage",
]


class AdmitError(CallerError):
    """An entry may not be logged. `reasons` are the gate's where the code is `gate_shut`."""

    code = "not_admitted"

    def __init__(
        self, message: str, *, code: str | None = None, reasons: tuple[Reason, ...] = ()
    ) -> None:
        super().__init__(message, code=code)
        self.reasons = reasons


def refuse(code: str, message: str) -> NoReturn:
    """Raise `AdmitError`."""
    raise AdmitError(message, code=code)


def require_release(state: State, release: str) -> None:
    """Refuse an entry of another release."""
    if release != state.release:
        refuse(
            "wrong_release", f"this log is of release {state.release!r}, the entry of {release!r}"
        )


def require_plan(state: State) -> Plan:
    """Return the plan in force, or refuse."""
    if state.plan is None:
        refuse("no_plan", "no plan is in force: adopt one first")
    return state.plan


def require_stage(state: State, name: str) -> None:
    """Refuse a stage that the plan does not have."""
    require_plan(state)
    if name not in stage_names(state):
        refuse("unknown_stage", f"expected one of {list(stage_names(state))}, got {name!r}")


def require_candidate(state: State, fingerprint: Digest) -> None:
    """Refuse an entry of another candidate."""
    require_plan(state)
    if fingerprint != state.fingerprint:
        refuse(
            "wrong_candidate",
            f"the release is of candidate {state.fingerprint}, the entry of {fingerprint}",
        )
