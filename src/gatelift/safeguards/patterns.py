"""A small algebra of patterns, from which both the matcher and the hold-back are derived.

A pattern is a sequence of literals and bounded runs. It is *deterministic*: at any start there is
at most one way to read it, so that a start is matched, dead or still open, and walking it takes
one step a character. Two regular expressions are generated from the same elements:

- `full` finds a whole match, cut at the shortest text that makes it certain;
- `prefix` finds a start whose text runs to the end of what is known and is a proper prefix of
  some match: the *prefix closure*.

Why holding back from the leftmost open start suffices. Let T be the text so far and h the leftmost
start that is open at its end. A match that ends later and starts at s < len(T) has T[s:] as a
proper prefix, so s is open and s >= h: no text of a coming match stands before h. A match that
ends within T is found within T. A start that is open now was open at every earlier moment after
it, so h never moves left, and what was released before stays right. Hence no way of cutting a
text into chunks hides a match or releases a character of one, and the hold is at most one
character shorter than the longest pattern.

Invariants
- The first element is a literal: scanning skips to its first character at the speed of C.
- A run of variable length is followed by a literal whose first character is not in the run; the
  last element has a fixed length. This is what makes a pattern deterministic.
- Runs are possessive and lengths are bounded (`MAX_PATTERN_CHARS`): nothing backtracks, and work
  is linear in the text for a fixed set.
- No pattern's text appears in a `repr` or an error: a canary is a secret.

Does not fold Unicode: `ignore_case` means the one-character lower and upper forms of each letter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from gatelift.errors import CallerError

__all__ = [
    "ALNUM",
    "DIGITS",
    "MAX_PATTERN_CHARS",
    "NOT_ALNUM",
    "TOKEN",
    "UPPER_ALNUM",
    "Branch",
    "CharSet",
    "Element",
    "Literal",
    "Pattern",
    "PatternError",
    "PatternSet",
    "Run",
    "first_char_union",
]

MAX_PATTERN_CHARS = 512
# From rare to common in English and code; what is not in it is the rarest of all.
_OFTEN = "zqjx-kvbywgpfmcudlhrsnioate. "
_MAX_ELEMENTS = 64
_MAX_LITERAL_CHARS = 64


def _boundary_before(chars: int) -> str:
    """Return the expression for no letter or digit before the `chars` characters just read.

    Standing behind them, it leaves them in front, where the engine can search for them.
    """
    return rf"(?<![^\W_].{{{chars}}})"


class PatternError(CallerError):
    """A pattern is not deterministic, or not bounded."""

    code = "bad_pattern"


@dataclass(frozen=True, slots=True, kw_only=True)
class CharSet:
    """A set of characters, as the inside of a regular expression's brackets."""

    body: str

    def holds(self, char: str) -> bool:
        """Return whether the set contains `char`."""
        return re.fullmatch(f"[{self.body}]", char, re.DOTALL) is not None


DIGITS = CharSet(body="0-9")
ALNUM = CharSet(body="A-Za-z0-9")
UPPER_ALNUM = CharSet(body="A-Z0-9")
TOKEN = CharSet(body="A-Za-z0-9_-")
NOT_ALNUM = CharSet(body=r"\W_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Literal:
    """Exactly this text."""

    text: str = field(repr=False)
    ignore_case: bool = False

    @property
    def max_chars(self) -> int:
        """The length of the text."""
        return len(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """From `min_chars` to `max_chars` characters of one set."""

    chars: CharSet
    min_chars: int
    max_chars: int


Element: TypeAlias = Literal | Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """A named sequence of elements; with `left_boundary` it may not follow a letter or digit."""

    id: str
    elements: tuple[Element, ...] = field(repr=False)
    left_boundary: bool = True

    def __post_init__(self) -> None:
        if not 1 <= len(self.elements) <= _MAX_ELEMENTS or not isinstance(
            self.elements[0], Literal
        ):
            raise PatternError(
                f"pattern {self.id!r}: expected 1 to {_MAX_ELEMENTS} elements, a literal first"
            )
        for index, element in enumerate(self.elements):
            following = self.elements[index + 1] if index + 1 < len(self.elements) else None
            self._check(element, following)
        if self.max_chars > MAX_PATTERN_CHARS:
            raise PatternError(
                f"pattern {self.id!r}: expected at most {MAX_PATTERN_CHARS} characters, "
                f"got {self.max_chars}"
            )

    def _check(self, element: Element, following: Element | None) -> None:
        if isinstance(element, Literal):
            if not 1 <= len(element.text) <= _MAX_LITERAL_CHARS:
                raise PatternError(
                    f"pattern {self.id!r}: expected literals of 1 to {_MAX_LITERAL_CHARS} "
                    f"characters, got {len(element.text)}"
                )
            return
        if not 0 <= element.min_chars <= element.max_chars or element.max_chars == 0:
            raise PatternError(
                f"pattern {self.id!r}: expected 0 <= min <= max and max > 0 in a run"
            )
        if element.min_chars == element.max_chars:
            return
        if not isinstance(following, Literal) or any(
            element.chars.holds(char) for char in _forms(following, 0)
        ):
            raise PatternError(
                f"pattern {self.id!r}: a run of variable length needs a literal behind it that "
                f"begins outside the run; write a fixed length at the end"
            )

    @property
    def max_chars(self) -> int:
        """The length of the longest match."""
        return sum(element.max_chars for element in self.elements)

    @property
    def first_chars(self) -> tuple[str, ...]:
        """The characters that a match can begin with."""
        first = self.elements[0]
        return _forms(first, 0) if isinstance(first, Literal) else ()

    def full_tail(self) -> str:
        """Return the expression for a whole match after its first literal."""
        return "".join(_whole(element) for element in self.elements[1:])

    def prefix_tail(self) -> str:
        """Return the expression for a proper prefix, up to the end, after its first character."""
        expression = ""
        for index in range(len(self.elements) - 1, -1, -1):
            expression = _open(self.elements[index], skip=1 if index == 0 else 0, behind=expression)
        return expression


def _forms(literal: Literal, at: int) -> tuple[str, ...]:
    char = literal.text[at]
    if not literal.ignore_case:
        return (char,)
    return tuple(sorted(form for form in {char, char.lower(), char.upper()} if len(form) == 1))


def _literal(literal: Literal, start: int, stop: int | None = None) -> str:
    pieces = []
    for at in range(start, len(literal.text) if stop is None else stop):
        forms = [re.escape(form) for form in _forms(literal, at)]
        pieces.append(forms[0] if len(forms) == 1 else f"[{''.join(forms)}]")
    return "".join(pieces)


def _run(run: Run, low: int, high: int) -> str:
    return f"[{run.chars.body}]{{{low},{high}}}+"


def _whole(element: Element) -> str:
    if isinstance(element, Literal):
        return _literal(element, 0)
    return _run(element, element.min_chars, element.max_chars)


def _open(element: Element, *, skip: int, behind: str) -> str:
    """Return `element` broken off at the end of the text, or whole and broken off `behind`.

    `skip` characters of a literal are read already. An empty `behind` marks the last element,
    which may only be broken off: whole, it would be a match and not a prefix of one.
    """
    if isinstance(element, Literal):
        cuts = [_literal(element, skip, stop) + r"\Z" for stop in range(skip, len(element.text))]
        whole = _literal(element, skip)
    else:
        most = element.max_chars if behind else element.max_chars - 1
        cuts = [_run(element, 0, most) + r"\Z"]
        whole = _whole(element)
    branches = [*cuts, whole + behind] if behind else cuts
    # A literal of one character that is the whole pattern has no proper prefix behind its first.
    return f"(?:{'|'.join(branches)})" if branches else "(?!)"


class Branch(NamedTuple):
    """One alternative: its first character, what stands behind it, and the left boundary.

    `lead` is an expression for exactly `lead_chars` characters between the first and the tail.
    """

    first: str
    tail: str
    left_boundary: bool
    lead: str = ""
    lead_chars: int = 0


def first_char_union(branches: Iterable[Branch]) -> re.Pattern[str]:
    """Compile alternatives so that most places in a text are passed over at once.

    Alternatives that begin with plain characters let the engine skip to one of those characters.
    A lead is looked at next, since few places have it; the boundary only then, once for all that
    have no lead. No alternatives never match.
    """
    groups: dict[str, tuple[list[str], list[str]]] = {}
    for branch in branches:
        choices, bounded = groups.setdefault(branch.first, ([], []))
        if not branch.left_boundary:
            choices.append(branch.lead + branch.tail)
        elif branch.lead:
            choices.append(branch.lead + _boundary_before(1 + branch.lead_chars) + branch.tail)
        else:
            bounded.append(branch.tail)
    union = []
    for first in sorted(groups):
        choices, bounded = groups[first]
        if bounded:
            choices.append(f"{_boundary_before(1)}(?:{'|'.join(bounded)})")
        union.append(f"{re.escape(first)}(?:{'|'.join(choices)})")
    return re.compile("|".join(union) or "(?!)", re.DOTALL)


def _needle(pattern: Pattern) -> tuple[tuple[str, ...], str]:
    """Return the rarest character of a pattern's literals, in its forms, and what is around it.

    The second is an expression for what stands before that character and behind it, to be asked
    once it is read: a text without it does not match.
    """
    places = [
        (literal, at)
        for literal in pattern.elements
        if isinstance(literal, Literal)
        for at in range(len(literal.text))
    ]
    literal, at = min(places, key=lambda place: max(map(_OFTEN.find, _forms(*place))))
    return _forms(literal, at), f"(?<={_literal(literal, 0, at + 1)}){_literal(literal, at + 1)}"


def _needles(patterns: Sequence[Pattern]) -> re.Pattern[str]:
    """Compile what a text must hold at least once where any of `patterns` matches in it."""
    return first_char_union(
        Branch(char, around, left_boundary=False)
        for chars, around in map(_needle, patterns)
        for char in chars
    )


class PatternSet:
    """Patterns compiled once, shared by all streams; immutable by convention.

    `full` and `prefix` speak for all patterns, `each` for one at a time, in the given order. Where
    `needles` finds nothing, nothing matches: a key begins with letters of which every text is full,
    so what is rare in it is sought first.
    """

    __slots__ = ("each", "full", "longest", "needles", "patterns", "prefix")

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self.patterns = tuple(patterns)
        self.longest = max((pattern.max_chars for pattern in patterns), default=0)
        self.each = tuple(first_char_union(_whole_branches(pattern)) for pattern in patterns)
        self.needles = _needles(patterns)
        self.full = first_char_union(
            branch for pattern in patterns for branch in _whole_branches(pattern)
        )
        self.prefix = first_char_union(
            Branch(first, pattern.prefix_tail(), pattern.left_boundary)
            for pattern in patterns
            for first in pattern.first_chars
        )

    def open_start(self, text: str, begin: int, end: int) -> int:
        """Return the leftmost start in `text[begin:end]` that is open at `end`, or `end`."""
        if end - begin >= self.longest:
            begin = end - self.longest + 1
        found = self.prefix.search(text, begin, end)
        return end if found is None else found.start()


def _whole_branches(pattern: Pattern) -> list[Branch]:
    head = pattern.elements[0]
    lead = _literal(head, 1) if isinstance(head, Literal) else ""
    chars = len(head.text) - 1 if isinstance(head, Literal) else 0
    return [
        Branch(first, pattern.full_tail(), pattern.left_boundary, lead, chars)
        for first in pattern.first_chars
    ]
