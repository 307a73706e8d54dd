"""What control decides, as it stands on the log: a decision with its reasons and figures, and a tick.

Invariants
- Reasons and figures are the decision's own: a replay must yield the very same.
- A tick says nothing but that time has passed.
"""

from __future__ import annotations

import msgspec

from gatelift.terms import DecisionKind, Envelope
from gatelift.trust import Target

__all__ = ["Decision", "Figure", "Narrowing", "Reason", "Tick"]


class Reason(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why: a stable code, what it is about, a sentence, and what would open or mend it."""

    code: str
    subject: str
    message: str
    opens_with: str


class Figure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A number behind a decision, as decimal text, with the units it was counted over."""

    name: str
    value: str
    n: int
    s: int


class Narrowing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a decision asks control to order. A null ceiling allows nothing."""

    target: Target
    ceiling: Envelope | None
    reason: str


class Decision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What follows from the log up to here. `stage` is the widest stage served, null for none."""

    release: str
    kind: DecisionKind
    stage: str | None
    target: str | None
    reasons: tuple[Reason, ...]
    figures: tuple[Figure, ...]
    narrow: tuple[Narrowing, ...]


class Tick(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A deadline passed; `decide` is to be run again."""

    release: str
