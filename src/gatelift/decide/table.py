"""The table that turns what is found into a decision.

The first row that holds decides. Stopping stands above holding, holding above resuming, and the two
rows about the gate exclude each other:

    halt > roll_back > rescope > hold by a watch > resume > advance | hold at a shut gate

Invariants
- The last row always holds: there is always a decision, and without knowledge it is hold.
"""

from __future__ import annotations

import enum
from collections.abc import Collection

import msgspec

from gatelift.terms import DecisionKind

__all__ = ["TABLE", "Fact", "Row", "choose"]


class Fact(enum.StrEnum):
    """What may hold of a release at a moment."""

    STOPPED = "stopped"
    BREACH_HALTS = "breach_halts"
    NOTHING_UP = "nothing_up"
    BREACH_ROLLS_BACK = "breach_rolls_back"
    BREACH_RESCOPES = "breach_rescopes"
    WATCH_HOLDS = "watch_holds"
    REOPENED = "reopened"
    GATE_OPEN = "gate_open"
    ALWAYS = "always"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """If this holds and no row above, this is the decision."""

    fact: Fact
    kind: DecisionKind
    meaning: str


def _row(fact: Fact, kind: DecisionKind, meaning: str) -> Row:
    return Row(fact=fact, kind=kind, meaning=meaning)


TABLE: tuple[Row, ...] = (
    _row(Fact.STOPPED, DecisionKind.HALT, "standing orders leave nothing served"),
    _row(Fact.BREACH_HALTS, DecisionKind.HALT, "a breach demands that nobody is served"),
    _row(Fact.NOTHING_UP, DecisionKind.HALT, "no placement is up, or it is not the candidate"),
    _row(Fact.BREACH_ROLLS_BACK, DecisionKind.ROLL_BACK, "a breach takes a stage to nothing"),
    _row(Fact.BREACH_RESCOPES, DecisionKind.RESCOPE, "a breach lowers a stage's ceiling"),
    _row(Fact.WATCH_HOLDS, DecisionKind.HOLD, "a watch holds promotion"),
    _row(Fact.REOPENED, DecisionKind.RESUME, "a quorum re-opened a stage since the last decision"),
    _row(Fact.GATE_OPEN, DecisionKind.ADVANCE, "the target's gate is open: the quorum may sign"),
    _row(Fact.ALWAYS, DecisionKind.HOLD, "the target's gate is shut, or nothing is wider"),
)


def choose(facts: Collection[Fact]) -> Row:
    """Return the first row whose fact holds."""
    for row in TABLE:
        if row.fact in facts:
            return row
    return TABLE[-1]
