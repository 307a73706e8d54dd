"""The two expressions of a pattern against a reader that knows no regular expressions."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatelift.safeguards.patterns import (
    DIGITS,
    NOT_ALNUM,
    CharSet,
    Element,
    Literal,
    Pattern,
    PatternError,
    PatternSet,
    Run,
)

AB = CharSet(body="ab")


def ways(elements: tuple[Element, ...], text: str, at: int) -> tuple[set[int], bool]:
    """Return (ends of whole matches from `at`, whether the rest of the text is a proper prefix).

    Explores every way of reading, with none of the restrictions that make patterns deterministic.
    """
    ends: set[int] = set()
    open_ = False
    todo = [(0, 0, at)]
    while todo:
        number, used, here = todo.pop()
        if number == len(elements):
            ends.add(here)
            continue
        element = elements[number]
        if isinstance(element, Literal):
            low = high = len(element.text)
        else:
            low, high = element.min_chars, element.max_chars
        if used >= low:
            todo.append((number + 1, 0, here))
        if used < high:
            if here == len(text):
                open_ = open_ or here > at
            elif isinstance(element, Literal):
                wanted = element.text[used]
                same = text[here] == wanted or (
                    element.ignore_case and text[here].lower() == wanted.lower()
                )
                if same:
                    todo.append((number, used + 1, here + 1))
            elif text[here] in ("ab" if element.chars is AB else "0123456789"):
                todo.append((number, used + 1, here + 1))
    return ends, open_


def literal_outside(avoid: str) -> st.SearchStrategy[Literal]:
    first = st.sampled_from([char for char in "abcx1" if char not in avoid])
    return st.builds(
        lambda head, tail, fold: Literal(text=head + tail, ignore_case=fold),
        first,
        st.text("abc1", max_size=3),
        st.booleans(),
    )


@st.composite
def patterns(draw: st.DrawFn) -> Pattern:
    elements: list[Element] = [draw(literal_outside(""))]
    for _ in range(draw(st.integers(0, 2))):
        kind = draw(st.sampled_from(["literal", "fixed", "variable"]))
        if kind == "literal":
            elements.append(draw(literal_outside("")))
        elif kind == "fixed":
            size = draw(st.integers(1, 3))
            chars = draw(st.sampled_from([AB, DIGITS]))
            elements.append(Run(chars=chars, min_chars=size, max_chars=size))
        else:
            low = draw(st.integers(0, 2))
            chars = draw(st.sampled_from([AB, DIGITS]))
            elements.append(Run(chars=chars, min_chars=low, max_chars=low + 2))
            avoid = "abAB" if chars is AB else "1"
            elements.append(draw(literal_outside(avoid)))
    return Pattern(id="p", elements=tuple(elements), left_boundary=False)


@st.composite
def patterns_and_texts(draw: st.DrawFn) -> tuple[Pattern, str]:
    """Draw a pattern and a text that follows it for a while, or all the way."""
    pattern = draw(patterns())
    text = ""
    for element in pattern.elements:
        if isinstance(element, Literal):
            text += element.text
        else:
            some = draw(st.integers(element.min_chars, element.max_chars))
            text += ("a" if element.chars is AB else "1") * some
    kept = len(text) - draw(st.sampled_from([0, 0, 0, 1, 2]))
    before = draw(st.sampled_from(["", "", "a", "x1"]))
    after = draw(st.sampled_from(["", "", "1", "a", "bX"]))
    return pattern, before + text[: max(kept, 0)] + after


@given(patterns_and_texts())
@settings(max_examples=150, deadline=None)
def test_both_expressions_agree_with_an_exhaustive_reader(drawn: tuple[Pattern, str]) -> None:
    pattern, text = drawn
    compiled = PatternSet([pattern])
    for at in range(len(text)):
        ends, open_ = ways(pattern.elements, text, at)
        whole = compiled.full.match(text, at)
        assert (set() if whole is None else {whole.end()}) == ends
        assert (compiled.prefix.match(text, at) is not None) == (open_ and not ends)
        # What is rare in a match is sought first, and nothing is missed by that.
        if compiled.full.search(text, at) is not None:
            assert compiled.needles.search(text, at) is not None


@pytest.mark.parametrize(
    ("text", "whole", "open_"),
    [
        ("k", None, True),
        ("key-", None, True),
        ("key-1", None, True),
        ("key-12", 6, False),
        ("key-123", 6, False),
        ("key-1x", None, False),
        ("ke-", None, False),
    ],
)
def test_a_start_is_open_until_the_match_is_certain(
    text: str, whole: int | None, open_: bool
) -> None:
    elements = (Literal(text="key-"), Run(chars=DIGITS, min_chars=2, max_chars=2))
    compiled = PatternSet([Pattern(id="p", elements=elements)])
    found = compiled.full.match(text)
    assert (None if found is None else found.end()) == whole
    assert (compiled.prefix.match(text) is not None) is open_


def test_a_pattern_that_could_be_read_in_two_ways_is_refused() -> None:
    a = Literal(text="a")
    for elements in (
        (a, Run(chars=AB, min_chars=1, max_chars=3)),
        (a, Run(chars=AB, min_chars=1, max_chars=3), Literal(text="b")),
        (a, Run(chars=AB, min_chars=0, max_chars=3), Literal(text="B", ignore_case=True)),
        (a, Run(chars=AB, min_chars=0, max_chars=1), Run(chars=DIGITS, min_chars=1, max_chars=1)),
        (Run(chars=AB, min_chars=1, max_chars=1),),
        (a, Run(chars=AB, min_chars=3, max_chars=2)),
        (a, Run(chars=NOT_ALNUM, min_chars=600, max_chars=600)),
        (Literal(text=""),),
        (),
    ):
        with pytest.raises(PatternError):
            Pattern(id="bad", elements=elements)


def test_no_pattern_text_shows_in_a_repr() -> None:
    pattern = Pattern(id="canary:0", elements=(Literal(text="tungsten"),))
    assert "tungsten" not in repr(pattern) + repr(pattern.elements[0]) + repr(PatternSet([pattern]))


def test_an_empty_set_matches_and_holds_nothing() -> None:
    empty = PatternSet([])
    assert empty.full.search("anything") is None
    assert empty.needles.search("anything") is None
    assert empty.open_start("anything", 0, 8) == 8
