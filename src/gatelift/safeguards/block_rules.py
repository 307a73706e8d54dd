"""Block rules from a plan or an order: literal phrases that refuse a prompt.

Invariants
- A phrase matches whole words, whatever their case, accents, zero-width characters or the amount
  of white space between them (`folding`), and nothing else: its characters are never syntax.
- Whole words are asked for only where the phrase begins or ends in a script that writes spaces;
  elsewhere (from Thai upwards in Unicode) the phrase matches anywhere.
- A rule with a phrase that folds to nothing is refused, not skipped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from gatelift.safeguards.folding import FoldedText, fold
from gatelift.safeguards.patterns import Branch, first_char_union
from gatelift.safeguards.phrases import PhraseError
from gatelift.terms import BlockRule

__all__ = ["BlockRuleBook", "block_rule_id"]

_SPACED_SCRIPTS_END = 0x0E00


def block_rule_id(rule: BlockRule) -> str:
    """Return the rule name that a verdict carries."""
    return f"block_rule:{rule.id}"


def _is_word_edge(char: str) -> bool:
    return char.isalnum() and ord(char) < _SPACED_SCRIPTS_END


def _branch(rule: BlockRule, phrase: str) -> Branch:
    pieces = fold(phrase).text.split()
    if not pieces:
        raise PhraseError(
            f"block rule {rule.id[:60]!r}: a phrase is empty once invisible characters are removed"
        )
    text = r"\s++".join(re.escape(piece) for piece in pieces)
    first, last = pieces[0][0], pieces[-1][-1]
    # `text` begins with the escaped first character, which the union writes itself.
    tail = text[len(re.escape(first)) :]
    right = r"(?![^\W_])" if _is_word_edge(last) else ""
    return Branch(first, tail + right, left_boundary=_is_word_edge(first))


class BlockRuleBook:
    """Block rules compiled once."""

    __slots__ = ("_rules",)

    def __init__(self, rules: Sequence[BlockRule]) -> None:
        self._rules = tuple(
            (rule, first_char_union(_branch(rule, phrase) for phrase in rule.phrases))
            for rule in rules
        )

    def find(self, folded: FoldedText) -> tuple[tuple[BlockRule, tuple[int, int]], ...]:
        """Return each rule that matches, with the first place in the original text."""
        if not self._rules:
            return ()
        found = []
        for rule, expression in self._rules:
            match = expression.search(folded.text)
            if match is not None:
                found.append((rule, folded.span(*match.span())))
        return tuple(found)
