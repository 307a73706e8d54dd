"""Verdicts: what a safeguard says it found, and what is to be done about it.

Invariants
- A verdict holds no text of the match: where it stands and which rule saw it, nothing else.
- `action` is always one of `observe`, `cut`, `block`; `cut` only on the answer side.
- Any posture that is not carried out here (`redact`, `reroute`) acts as `block`: closed, not open.

Technique ids: MITRE ATLAS (`AML.T…`) and OWASP Top 10 for LLM applications 2025 (`LLM…`).
"""

from __future__ import annotations

import msgspec

from gatelift.safeguards.parts import PartKind
from gatelift.terms import Band, Category, Posture, Side

__all__ = ["SAFEGUARD_ERROR", "Verdict", "action_of", "error_verdict"]

SAFEGUARD_ERROR = "safeguard_error"
"""The rule of a verdict that says: the safeguard itself failed, so nothing passes."""

_ACTIONS: dict[tuple[Side, Posture], Posture] = {
    (Side.PROMPT, Posture.OBSERVE): Posture.OBSERVE,
    (Side.ANSWER, Posture.OBSERVE): Posture.OBSERVE,
    (Side.ANSWER, Posture.CUT): Posture.CUT,
}


class Verdict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One finding of one rule.

    `span` is (start, end) in characters of the part's stream. On the prompt side the stream is
    the run of neighbouring parts of one kind that begins at part number `index`, joined without
    a separator; on the answer side it is the stream (`part`, channel `index`).
    `score_permille` is 1000 for a rule that is certain of what it matched.
    """

    category: Category
    band: Band
    rule: str
    side: Side
    action: Posture
    part: PartKind
    index: int = 0
    span: tuple[int, int] = (0, 0)
    score_permille: int = 1000
    ids: tuple[str, ...] = ()

    @property
    def stops(self) -> bool:
        """Whether the exchange may not go on."""
        return self.action is not Posture.OBSERVE


def action_of(posture: Posture, side: Side) -> Posture:
    """Return what a posture comes to on a side; whatever is not in the table is `block`."""
    return _ACTIONS.get((side, posture), Posture.BLOCK)


def error_verdict(category: Category, side: Side, part: PartKind, index: int = 0) -> Verdict:
    """Return the verdict of a safeguard that failed: `block`, whatever its posture."""
    return Verdict(
        category=category,
        band=Band.UNRELATED,
        rule=SAFEGUARD_ERROR,
        side=side,
        action=Posture.BLOCK,
        part=part,
        index=index,
    )
