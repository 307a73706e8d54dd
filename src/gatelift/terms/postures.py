"""Postures and block rules: the safeguards part of an envelope.

Invariants
- Postures tighten along observe, redact, cut, block and along observe, reroute, block.
- The meet of two postures that neither path orders is `block`, the tightest.
- A category without a posture is looser than any posture: its safeguard is not there.
- Block rules hold literal words only, so that a rule from outside can neither run slowly nor
  match less than it says; more rules are tighter.
- Postures, rules and phrases are sorted on construction, so equal terms are equal bytes.
"""

from __future__ import annotations

import msgspec

from gatelift.errors import CallerError
from gatelift.terms.words import Category, Posture

__all__ = ["BlockRule", "PostureError", "SafeguardTerms", "meet_posture", "meet_safeguards"]

_TIGHTER_OR_EQUAL: dict[Posture, frozenset[Posture]] = {
    Posture.OBSERVE: frozenset(Posture),
    Posture.REDACT: frozenset({Posture.REDACT, Posture.CUT, Posture.BLOCK}),
    Posture.CUT: frozenset({Posture.CUT, Posture.BLOCK}),
    Posture.REROUTE: frozenset({Posture.REROUTE, Posture.BLOCK}),
    Posture.BLOCK: frozenset({Posture.BLOCK}),
}
_MAX_PHRASES = 64
_MIN_PHRASE_CHARS = 3
_MAX_PHRASE_CHARS = 200


class PostureError(CallerError):
    """A block rule would match everything, nothing or more than it may hold."""

    code = "bad_block_rule"


class BlockRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Refuse a prompt that holds any of the phrases, whole words, whatever their case.

    `phrases` are 1 to 64 literal phrases of 3 to 200 characters, kept sorted and once each.
    """

    id: str
    phrases: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.id) <= _MAX_PHRASE_CHARS:
            raise PostureError(
                f"expected a block rule's id of 1 to {_MAX_PHRASE_CHARS} characters, "
                f"got {self.id[:60]!r}"
            )
        if not 1 <= len(self.phrases) <= _MAX_PHRASES:
            raise PostureError(
                f"block rule {self.id[:60]!r}: expected 1 to {_MAX_PHRASES} phrases, "
                f"got {len(self.phrases)}"
            )
        for phrase in self.phrases:
            if len(phrase.strip()) < _MIN_PHRASE_CHARS or len(phrase) > _MAX_PHRASE_CHARS:
                raise PostureError(
                    f"block rule {self.id[:60]!r}: expected phrases of {_MIN_PHRASE_CHARS} to "
                    f"{_MAX_PHRASE_CHARS} characters, got {phrase[:60]!r}"
                )
        msgspec.structs.force_setattr(self, "phrases", tuple(sorted(set(self.phrases))))


class SafeguardTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which safeguards are in force and what they do. Empty means none: the loosest."""

    postures: dict[Category, Posture] = {}
    block_rules: tuple[BlockRule, ...] = ()

    def __post_init__(self) -> None:
        # Words become members of their list, whoever built this value.
        ordered = {Category(name): Posture(self.postures[name]) for name in sorted(self.postures)}
        rules = {(rule.id, rule.phrases): rule for rule in self.block_rules}
        msgspec.structs.force_setattr(self, "postures", ordered)
        msgspec.structs.force_setattr(
            self, "block_rules", tuple(rules[key] for key in sorted(rules))
        )


def meet_posture(left: Posture, right: Posture) -> Posture:
    """Return the loosest posture that is at least as tight as both."""
    if right in _TIGHTER_OR_EQUAL[left]:
        return right
    if left in _TIGHTER_OR_EQUAL[right]:
        return left
    return Posture.BLOCK


def meet_safeguards(left: SafeguardTerms, right: SafeguardTerms) -> SafeguardTerms:
    """Return the union of categories at their tighter postures and the union of block rules."""
    postures = dict(left.postures)
    for category, posture in right.postures.items():
        held = postures.get(category)
        postures[category] = posture if held is None else meet_posture(held, posture)
    return SafeguardTerms(postures=postures, block_rules=(*left.block_rules, *right.block_rules))
