"""The safeguards of one effective envelope, as one value with two doors: prompt and answer.

Invariants
- A category without a posture in the terms is not scanned; block rules always are.
- Postures act as in `verdict.action_of`: on a prompt anything but `observe` refuses; on an answer
  `cut` stops and `block` stops and withholds; `redact` and `reroute` act as `block`.
- A band that the scope unlocks is observed instead of stopped. `prohibited` is never unlocked.
- Fails closed: an exception in a safeguard is a `block` verdict, `safeguard_error`, even where
  the posture was `observe`.
- A suite is immutable and holds no state of an exchange: build once for each `suite_key`. That a
  text was read before without a finding (`quiet_texts`) spares reading it again and changes nothing.

What each category sees and misses is said in `cards`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import cache
from itertools import accumulate, groupby
from operator import attrgetter

from gatelift.safeguards.answer import AnswerInspector
from gatelift.safeguards.autonomy import AUTONOMY_IDS, count_steps, prompt_violations
from gatelift.safeguards.block_rules import BlockRuleBook, block_rule_id
from gatelift.safeguards.folding import FoldedText, fold
from gatelift.safeguards.leak import KEY_PATTERNS, canary_pattern
from gatelift.safeguards.misuse import MISUSE_RULE_BOOK
from gatelift.safeguards.parts import Part, PartKind
from gatelift.safeguards.patterns import PatternSet
from gatelift.safeguards.phrases import RuleBook
from gatelift.safeguards.probing import PROBING_RULE_BOOK
from gatelift.safeguards.quiet_texts import QuietTexts
from gatelift.safeguards.verdict import Verdict, action_of, error_verdict
from gatelift.terms import Band, Category, Posture, SafeguardTerms, Scope, Side

__all__ = ["Suite", "refuses", "suite_key"]

UNLOCKABLE = frozenset({Band.HIGH_RISK_DUAL_USE, Band.DUAL_USE})
# An assistant's own refusal in the history names what was asked for: only askers are judged.
_ASKING = frozenset({PartKind.SYSTEM, PartKind.USER})
_BOOKS: tuple[tuple[Category, RuleBook], ...] = (
    (Category.MISUSE, MISUSE_RULE_BOOK),
    (Category.PROBING, PROBING_RULE_BOOK),
)
# A kind that is none fails closed: there is no other way to a kind than through this.
_KINDS: dict[str, PartKind] = {kind: kind for kind in PartKind}
_kind_of = attrgetter("kind")


def suite_key(*, terms: SafeguardTerms, scope: Scope, canaries: tuple[str, ...]) -> Hashable:
    """Return a key that is equal exactly for suites that act alike. Holds canaries: not to log."""
    return (
        tuple(sorted(terms.postures.items())),
        terms.block_rules,
        canaries,
        scope.tools,
        scope.agent_steps,
        scope.unlocked,
    )


def refuses(verdicts: Iterable[Verdict]) -> bool:
    """Return whether any verdict forbids to go on."""
    return any(verdict.stops for verdict in verdicts)


@cache
def _rules_of(categories: tuple[Category, ...]) -> tuple[RuleBook, QuietTexts]:
    """Return all rules of some categories as one book, and the texts that it found nothing in.

    One book looks at the words of a prompt once; all suites with its categories share it.
    """
    books = dict(_BOOKS)
    return RuleBook([rule for name in categories for rule in books[name].rules]), QuietTexts()


class Suite:
    """All safeguards of one effective envelope.

    Raises `CanaryError` or `PhraseError` for a canary or block rule that cannot be enforced: no
    suite, no service.
    """

    __slots__ = (
        "_block_rules",
        "_blocks",
        "_categories",
        "_leak_set",
        "_postures",
        "_quiet",
        "_read_kinds",
        "_rules",
        "_scope",
        "longest_hold_chars",
    )

    def __init__(
        self, *, terms: SafeguardTerms, scope: Scope, canaries: tuple[str, ...] = ()
    ) -> None:
        self._postures = dict(terms.postures)
        self._scope = scope
        self._block_rules = BlockRuleBook(terms.block_rules)
        self._blocks = bool(terms.block_rules)
        books = {category: book for category, book in _BOOKS if category in self._postures}
        self._rules, self._quiet = _rules_of(tuple(books))
        self._categories = {rule.id: name for name, book in books.items() for rule in book.rules}
        # Whatever else is in a prompt, nothing looks at it.
        asking = _ASKING if books else frozenset()
        self._read_kinds = frozenset(PartKind) if terms.block_rules else asking
        planted = [canary_pattern(number, text) for number, text in enumerate(canaries)]
        self._leak_set = PatternSet([*planted, *KEY_PATTERNS])
        self.longest_hold_chars = max(0, self._leak_set.longest - 1)

    def inspect_prompt(self, parts: Sequence[Part]) -> tuple[Verdict, ...]:
        """Return the verdicts on a whole prompt, without the operator's own system prompt."""
        verdicts: list[Verdict] = []
        if Category.AUTONOMY in self._postures:
            verdicts += _closed(Category.AUTONOMY, self._autonomy, parts)
        if self._read_kinds:
            verdicts += _closed(Category.MISUSE, self._read, parts)
        return tuple(verdicts)

    def open_answer(self, parts: Sequence[Part] = ()) -> AnswerInspector:
        """Return the inspector of the answer to the prompt `parts`."""
        return AnswerInspector(
            leak=self._postures.get(Category.LEAK),
            leak_set=self._leak_set,
            autonomy=self._postures.get(Category.AUTONOMY),
            scope=self._scope,
            steps_taken=count_steps(parts),
        )

    def _autonomy(self, parts: Sequence[Part]) -> list[Verdict]:
        violations = prompt_violations(parts, self._scope)
        if not violations:
            return []
        action = action_of(self._postures[Category.AUTONOMY], Side.PROMPT)
        return [
            Verdict(
                category=Category.AUTONOMY,
                band=Band.PLATFORM_ABUSE,
                rule=rule,
                side=Side.PROMPT,
                action=action,
                part=parts[number].kind,
                index=number,
                span=(0, len(parts[number].text)),
                ids=AUTONOMY_IDS,
            )
            for rule, number in violations
        ]

    def _read(self, parts: Sequence[Part]) -> list[Verdict]:
        found: dict[str, Verdict] = {}
        index = 0
        # Neighbours of one kind are joined: a word split over two parts is one to some models.
        for name, group in groupby(parts, key=_kind_of):
            texts = [part.text for part in group]
            kind = _KINDS[name]
            if kind in self._read_kinds:
                for text, breaks in _readings(texts):
                    # Of what block rules say nothing is kept: an order may bring new ones.
                    digest = None if self._blocks else self._quiet.digest(text)
                    if digest in self._quiet:
                        continue
                    verdicts = list(self._verdicts(kind, index, fold(text), breaks))
                    for verdict in verdicts:
                        found.setdefault(verdict.rule, verdict)
                    if not verdicts:
                        self._quiet.learn(digest)
            index += len(texts)
        return list(found.values())

    def _verdicts(
        self, kind: PartKind, index: int, folded: FoldedText, breaks: tuple[int, ...]
    ) -> Iterator[Verdict]:
        for rule, span in self._block_rules.find(folded):
            yield Verdict(
                category=Category.MISUSE,
                band=Band.PLATFORM_ABUSE,
                rule=block_rule_id(rule),
                side=Side.PROMPT,
                action=Posture.BLOCK,
                part=kind,
                index=index,
                span=_without(breaks, span),
            )
        if kind not in _ASKING:
            return
        for finding in self._rules.find(folded):
            category = self._categories[finding.rule.id]
            yield Verdict(
                category=category,
                band=finding.rule.band,
                rule=finding.rule.id,
                side=Side.PROMPT,
                action=self._action(finding.rule.band, self._postures[category]),
                part=kind,
                index=index,
                span=_without(breaks, finding.span),
                ids=finding.rule.ids,
            )

    def _action(self, band: Band, posture: Posture) -> Posture:
        unlocked = self._scope.unlocked
        if band in UNLOCKABLE and (unlocked is None or band in unlocked):
            return Posture.OBSERVE
        return action_of(posture, Side.PROMPT)


def _closed(
    category: Category,
    inspect: Callable[[Sequence[Part]], list[Verdict]],
    parts: Sequence[Part],
) -> list[Verdict]:
    try:
        return inspect(parts)
    except Exception:  # noqa: BLE001  whatever failed, nothing passes: the promise is closed
        return [error_verdict(category, Side.PROMPT, PartKind.USER)]


def _readings(texts: Sequence[str]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Return neighbours with and without a break between them, and the breaks of each reading."""
    if len(texts) == 1:
        return ((texts[0], ()),)
    breaks = tuple(at - 1 for at in accumulate(len(text) + 1 for text in texts[:-1]))
    return ("\n".join(texts), breaks), ("".join(texts), ())


def _without(breaks: tuple[int, ...], span: tuple[int, int]) -> tuple[int, int]:
    """Return a span of the reading with breaks as a span of the parts joined without them."""
    start, end = span
    return (
        start - sum(at < start for at in breaks),
        end - sum(at < end for at in breaks),
    )
