"""Rules of two parts: a phrase of doing, and soon after it a phrase of what is done.

A rule fires where one of `verbs` stands at most `within` words before one of `objects`, in the
same sentence, unless the words around say that something else is meant:

- `spared_before`: one of the last four words before the verb ("how *attackers* build …");
- a negation directly before the verb ("never write …");
- `spared_between`: a word between verb and object ("write a *report* about …");
- `spared_after`: one of the two words after the object ("… *detection* rule").

Invariants
- Phrases are literal words; between the words of a phrase stand one to three characters that are
  neither letter nor digit. Nothing backtracks; work is linear in the text for fixed rules.
- Text is folded first (`folding`); verdicts speak of offsets in the original.
- One finding a rule, the first: whether a prompt asks, not how often.

Knows no grammar and no meaning. Whoever knows the rules can write around them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

import msgspec

from gatelift.errors import CallerError
from gatelift.safeguards.folding import FoldedText
from gatelift.safeguards.patterns import Branch, first_char_union
from gatelift.terms import Band

__all__ = ["Finding", "NearRule", "PhraseError", "RuleBook", "phrases"]

_WORD = re.compile(r"[^\W_]+")
_END = r"(?![^\W_])"
_GAP = r"[\W_]{1,12}+"
_SENTENCE_END = re.compile(r"[.!?;]+\s")
_CHARS_A_WORD = 16
_LOOK_BEFORE_WORDS = 4
_LOOK_AFTER_WORDS = 2
_NEGATIONS = frozenset({"never", "not", "t"})


class PhraseError(CallerError):
    """A rule has no words to look for."""

    code = "bad_phrase"


class NearRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule of two parts; see the module."""

    id: str
    band: Band
    verbs: tuple[str, ...]
    objects: tuple[str, ...]
    within: int = 8
    spared_before: frozenset[str] = frozenset()
    spared_between: frozenset[str] = frozenset()
    spared_after: frozenset[str] = frozenset()
    ids: tuple[str, ...] = ()


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that fired, and where in the original text."""

    rule: NearRule
    span: tuple[int, int]


def phrases(text: str) -> tuple[str, ...]:
    """Return the phrases of a comma-separated list."""
    return tuple(" ".join(phrase.split()) for phrase in text.split(",") if phrase.strip())


def _expressions(group: Iterable[str]) -> list[Branch]:
    branches = []
    # Longer phrases first: at one place the longest counts.
    for phrase in sorted(group, key=lambda text: (-len(text), text)):
        words = _WORD.findall(phrase)
        if not words:
            raise PhraseError("expected a phrase with a letter or a digit in it")
        first = words[0]
        tail = _GAP.join([re.escape(first[1:]), *(re.escape(word) for word in words[1:])])
        branches.append(Branch(first[0], tail + _END, left_boundary=True))
    return branches


def _word_sets(group: Iterable[str]) -> tuple[frozenset[bytes], ...]:
    """Return the words of each phrase: a text that lacks one of them does not hold the phrase."""
    return tuple(
        frozenset(word.encode("utf-8") for word in _WORD.findall(phrase)) for phrase in group
    )


class _Compiled(msgspec.Struct, frozen=True, kw_only=True):
    rule: NearRule
    verbs: re.Pattern[str]
    objects: re.Pattern[str]
    verb_words: tuple[frozenset[bytes], ...]
    object_words: tuple[frozenset[bytes], ...]


# Once for each rule: the books of one category and of several hold the same ones.
@lru_cache(maxsize=256)
def _compiled(rule: NearRule) -> _Compiled:
    return _Compiled(
        rule=rule,
        verbs=first_char_union(_expressions(rule.verbs)),
        objects=first_char_union(_expressions(rule.objects)),
        verb_words=_word_sets(rule.verbs),
        object_words=_word_sets(rule.objects),
    )


class RuleBook:
    """Rules compiled once. `find` looks at the words of a text, and only then at whole phrases."""

    __slots__ = ("_key_words", "_named_by", "_rules", "_words")

    def __init__(self, rules: Sequence[NearRule]) -> None:
        self._rules = tuple(_compiled(rule) for rule in rules)
        # By the longest word of each phrase of an object: its words, and whose rule it is.
        self._named_by: dict[bytes, list[tuple[frozenset[bytes], int]]] = {}
        for number, compiled in enumerate(self._rules):
            for words in compiled.object_words:
                self._named_by.setdefault(max(words, key=len), []).append((words, number))
        self._key_words = frozenset(self._named_by)
        self._words = frozenset[bytes]().union(
            *(words for each in self._rules for words in (*each.verb_words, *each.object_words))
        )

    @property
    def rules(self) -> tuple[NearRule, ...]:
        """The rules, in their order."""
        return tuple(compiled.rule for compiled in self._rules)

    def find(self, folded: FoldedText) -> tuple[Finding, ...]:
        """Return the first finding of each rule that fires, in the order of the rules."""
        # The words that no phrase has are left where they are: most of them.
        words = self._words.intersection(folded.words)
        seen = self._key_words & words
        if not seen:
            return ()
        numbers = {n for key in seen for phrase, n in self._named_by[key] if phrase <= words}
        findings = []
        for number in sorted(numbers):
            compiled = self._rules[number]
            if not any(verb <= words for verb in compiled.verb_words):
                continue
            span = _first(compiled, folded.text)
            if span is not None:
                findings.append(Finding(rule=compiled.rule, span=folded.span(*span)))
        return tuple(findings)


def _first(compiled: _Compiled, text: str) -> tuple[int, int] | None:
    rule = compiled.rule
    reach = (rule.within + _LOOK_BEFORE_WORDS) * _CHARS_A_WORD
    for found in compiled.objects.finditer(text):
        behind = text[found.end() : found.end() + 3 * _CHARS_A_WORD]
        if _spares(rule.spared_after, behind, first=_LOOK_AFTER_WORDS):
            continue
        begin = max(0, found.start() - reach)
        for verb in compiled.verbs.finditer(text, begin, found.start()):
            between = text[verb.end() : found.start()]
            before = text[max(0, verb.start() - _LOOK_BEFORE_WORDS * _CHARS_A_WORD) : verb.start()]
            if _means_it(rule, before, between):
                return verb.start(), found.end()
    return None


def _means_it(rule: NearRule, before: str, between: str) -> bool:
    if _SENTENCE_END.search(between) is not None:
        return False
    words = _WORD.findall(between)
    if len(words) > rule.within or not rule.spared_between.isdisjoint(words):
        return False
    *_, sentence = _SENTENCE_END.split(before)
    said = _WORD.findall(sentence)[-_LOOK_BEFORE_WORDS:]
    if said and said[-1] in _NEGATIONS:
        return False
    return rule.spared_before.isdisjoint(said)


def _spares(spared: frozenset[str], behind: str, *, first: int) -> bool:
    rest = _SENTENCE_END.split(behind, maxsplit=1)[0]
    return not spared.isdisjoint(_WORD.findall(rest)[:first])
