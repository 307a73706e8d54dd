"""Tightening an envelope from the command line: postures and block phrases, nothing looser.

Invariant: what comes out lies within what went in (`meet`), whatever was written.
"""

from __future__ import annotations

from gatelift.cli.errors import InputError
from gatelift.terms import BlockRule, Category, Envelope, Posture, SafeguardTerms, meet

__all__ = ["block_rule", "narrowed"]

_WITH_POSTURE = frozenset(category.value for category in Category if category is not Category.HONEY)


def block_rule(rule_id: str, phrases: tuple[str, ...]) -> BlockRule:
    """Return a rule that refuses prompts with any of the phrases."""
    return BlockRule(id=rule_id, phrases=phrases)


def narrowed(
    envelope: Envelope, postures: tuple[str, ...], rules: tuple[BlockRule, ...]
) -> Envelope:
    """Return the envelope met with `category=posture` pairs and block rules."""
    wanted: dict[Category, Posture] = {}
    for text in postures:
        name, equals, value = text.partition("=")
        if not equals or name not in _WITH_POSTURE or value not in set(Posture):
            raise InputError(
                f"expected --posture as category=posture with a category of "
                f"{sorted(_WITH_POSTURE)} and a posture of {[p.value for p in Posture]}, "
                f"got {text[:60]!r}"
            )
        wanted[Category(name)] = Posture(value)
    return meet(envelope, Envelope(safeguards=SafeguardTerms(postures=wanted, block_rules=rules)))
