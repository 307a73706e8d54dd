"""Caps: a map from (subject, unit, window) to a limit.

Invariants
- Keys are unique and sorted; equal maps are equal values.
- `meet_caps` is the union of keys with the smaller limit, so adding a cap only tightens.
- `parallel` and `coverage` have no window and every other unit has one.
"""

from __future__ import annotations

import itertools
from typing import NewType

import msgspec

from gatelift.errors import CallerError
from gatelift.terms.words import WINDOWLESS, CapUnit, Subject, Window

__all__ = ["Cap", "CapKey", "CapsError", "meet_caps", "normalise_caps"]

CapKey = NewType("CapKey", str)
"""`<subject>.<unit>/<window>`, for example `principal.requests/min`."""


class CapsError(CallerError):
    """A set of caps contradicts itself."""

    code = "bad_caps"


class Cap(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One limit. `limit` counts `unit` in one `window` for each `subject`; cost in micro-units."""

    subject: Subject
    unit: CapUnit
    window: Window
    limit: int

    def __post_init__(self) -> None:
        if (self.unit in WINDOWLESS) != (self.window is Window.NONE):
            raise CapsError(
                f"{self.unit.value} per {self.window.value}: parallel and coverage take no window, "
                "every other unit takes /min, /h or /d"
            )
        if self.limit < 0:
            raise CapsError(f"expected a limit of 0 or more, got {self.limit}")

    @property
    def key(self) -> CapKey:
        """The key under which this cap is counted."""
        return CapKey(f"{self.subject.value}.{self.unit.value}/{self.window.value}")


def normalise_caps(caps: tuple[Cap, ...]) -> tuple[Cap, ...]:
    """Return the caps sorted by key; raises `CapsError` when a key stands twice."""
    ordered = tuple(sorted(caps, key=lambda cap: cap.key))
    for left, right in itertools.pairwise(ordered):
        if left.key == right.key:
            raise CapsError(f"cap {left.key} stands twice: write it once")
    return ordered


def meet_caps(left: tuple[Cap, ...], right: tuple[Cap, ...]) -> tuple[Cap, ...]:
    """Return the union of both maps with the smaller limit for each key."""
    smallest: dict[CapKey, Cap] = {}
    for cap in (*left, *right):
        held = smallest.get(cap.key)
        if held is None or cap.limit < held.limit:
            smallest[cap.key] = cap
    return tuple(smallest[key] for key in sorted(smallest))
