"""Safeguards: pure checks on prompts, answers and tool calls, incremental and closed on failure.

`Suite` is what the exchange holds: `inspect_prompt` for a whole prompt, `open_answer` for an
answer that streams in any pieces. The scanners underneath are rules of our own that anybody can
read and replay; `cards` says of each what it sees and what it misses.
"""

from gatelift.safeguards.answer import AnswerInspector, AnswerStep, StreamError
from gatelift.safeguards.cards import BLOCK_RULES_CARD, CARDS, Card
from gatelift.safeguards.leak import KEY_PATTERNS, CanaryError, canary_pattern
from gatelift.safeguards.parts import Part, PartKind
from gatelift.safeguards.patterns import CharSet, Literal, Pattern, PatternError, PatternSet, Run
from gatelift.safeguards.phrases import PhraseError
from gatelift.safeguards.scanner import Match, Release, StreamScanner
from gatelift.safeguards.suite import Suite, refuses, suite_key
from gatelift.safeguards.verdict import SAFEGUARD_ERROR, Verdict, action_of

__all__ = [
    "BLOCK_RULES_CARD",
    "CARDS",
    "KEY_PATTERNS",
    "SAFEGUARD_ERROR",
    "AnswerInspector",
    "AnswerStep",
    "CanaryError",
    "Card",
    "CharSet",
    "Literal",
    "Match",
    "Part",
    "PartKind",
    "Pattern",
    "PatternError",
    "PatternSet",
    "PhraseError",
    "Release",
    "Run",
    "StreamError",
    "StreamScanner",
    "Suite",
    "Verdict",
    "action_of",
    "canary_pattern",
    "refuses",
    "suite_key",
]
