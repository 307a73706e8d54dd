"""However a stream is cut into pieces, the same is found and the same is released."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatelift.safeguards import (
    KEY_PATTERNS,
    Literal,
    Match,
    Pattern,
    PatternSet,
    Run,
    StreamScanner,
    canary_pattern,
)
from gatelift.safeguards.patterns import CharSet

CANARIES = ("amber lantern", "lantern seven", "amber lantern seven nine")
SET = PatternSet([*(canary_pattern(n, text) for n, text in enumerate(CANARIES)), *KEY_PATTERNS])
AWS = "AKIA" + "Q3EGRJ7XM2WKLTVB"
TEXTS = {
    "empty": "",
    "clean": "A quick note on ghosts, glue and Google: nothing here.",
    "canary": "the words are Amber-Lantern, keep them.",
    "over a line": "the words are amber,\n lantern.",
    "at the start": "amber lantern",
    "at the end": "so: AMBER   LANTERN",
    "broken off": "an amber lant",
    "one word alone": "amber is a resin; a lantern is a lamp",
    "false start": "amber amber lamp, amber ambe amber lantern",
    "two overlapping": "amber lantern seven nine",
    "twice": "amber lantern amber lantern",
    "key": f"use {AWS} please",
    "key too late": f"x{AWS}",
    "key after key": f"AKIA{AWS} {AWS}",
    "pem": "-----BEGIN RSA -----BEGIN RSA PRIVATE KEY----- MIIE",
    "nested prefixes": "sk-sk-ant-sk-ant-api03-" + "a-" * 25,
    "unicode": "é amber — lantern 灯 amber\u00a0lantern",
}


def scan(pieces: list[str], patterns: PatternSet = SET) -> tuple[list[str], list[Match]]:
    scanner = StreamScanner(patterns)
    released: list[str] = []
    matches: list[Match] = []
    for piece in pieces:
        out = scanner.feed(piece)
        released.append(out.text)
        matches += out.matches
        assert scanner.held_chars < max(patterns.longest, 1)
        assert scanner.released_chars == sum(map(len, released))
    released.append(scanner.finish().text)
    return released, matches


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_every_split_point_gives_the_same_matches_and_all_of_the_text(text: str) -> None:
    _, whole = scan([text])
    for cut in range(len(text) + 1):
        released, matches = scan([text[:cut], text[cut:]])
        assert matches == whole
        assert "".join(released) == text
    released, matches = scan(list(text))
    assert matches == whole
    assert "".join(released) == text


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_what_is_taken_as_clean_leaves_as_it_would_have_and_is_never_a_match(
    text: str, size: int
) -> None:
    judged, quick = StreamScanner(SET), StreamScanner(SET)
    for start in range(0, len(text), size):
        piece = text[start : start + size]
        out = judged.feed(piece)
        clean = quick.feed_clean(piece)
        if clean is None:
            # Nothing was taken: the judge sees the piece for the first time.
            assert quick.feed(piece) == out
        else:
            assert (clean, ()) == (out.text, out.matches)
        assert quick.held_chars == judged.held_chars
    assert quick.finish() == judged.finish()


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_three_pieces_anywhere_give_the_same_matches(data: st.DataObject) -> None:
    text = " ".join(data.draw(st.lists(st.sampled_from(sorted(TEXTS.values())), max_size=3)))
    first = data.draw(st.integers(0, len(text)))
    second = data.draw(st.integers(first, len(text)))
    _, whole = scan([text])
    released, matches = scan([text[:first], text[first:second], text[second:]])
    assert matches == whole
    assert "".join(released) == text


SMALL = PatternSet(
    [
        Pattern(id="long", elements=(Literal(text="abc"), Literal(text="bcd"))),
        Pattern(id="short", elements=(Literal(text="ca"),), left_boundary=False),
        Pattern(
            id="run",
            elements=(
                Literal(text="a", ignore_case=True),
                Run(chars=CharSet(body=" "), min_chars=0, max_chars=2),
                Literal(text="d"),
            ),
            left_boundary=False,
        ),
    ]
)


@given(st.text("abcdA ", max_size=30), st.data())
@settings(max_examples=150, deadline=None)
def test_random_text_of_few_letters_scans_the_same_in_random_pieces(
    text: str, data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    released_whole, whole = scan([text], SMALL)
    released, matches = scan(pieces, SMALL)
    assert matches == whole
    assert "".join(released) == "".join(released_whole) == text


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_no_character_of_a_match_leaves_before_the_match_is_known(text: str) -> None:
    scanner = StreamScanner(SET)
    left = 0
    for char in text:
        before = left
        out = scanner.feed(char)
        left += len(out.text)
        for match in out.matches:
            assert match.cut <= match.start
            assert before <= match.cut


def test_the_match_that_is_certain_first_says_where_to_stop_before_longer_open_ones() -> None:
    _, matches = scan(["so amber lantern seven nine"])
    found = [(SET.patterns[match.pattern].id, match.start, match.end) for match in matches]
    assert found == [
        ("canary:0", 3, 16),
        ("canary:1", 9, 22),
        ("canary:2", 3, 27),
    ]
    assert [match.cut for match in matches] == [3, 3, 3]


@pytest.mark.parametrize("longest", ["amber.,;lantern", "amber   lantern"])
def test_the_longest_match_is_held_up_to_its_last_character(longest: str) -> None:
    patterns = PatternSet([canary_pattern(0, "amber lantern")])
    assert len(longest) == patterns.longest
    scanner = StreamScanner(patterns)
    assert [scanner.feed(char).text for char in longest[:-1]] == [""] * (len(longest) - 1)
    assert scanner.held_chars == patterns.longest - 1
    assert len(scanner.feed(longest[-1]).matches) == 1


def test_matches_of_one_pattern_that_overlap_count_once() -> None:
    key = "sk-ant-api03-"
    for text in (key + key + "a" * 40, key + "-" + key + "b" * 60):
        for pieces in ([text], list(text)):
            _, matches = scan(pieces)
            assert [(match.start, match.end) for match in matches] == [(0, 53)]


def test_text_that_cannot_begin_a_pattern_is_not_held() -> None:
    scanner = StreamScanner(SET)
    assert scanner.feed("plain words of no interest ").text == "plain words of no interest "
    assert scanner.feed("am").text == ""
    assert scanner.feed("using").text == "amusing"


def test_a_left_boundary_looks_at_the_last_released_character() -> None:
    glued = StreamScanner(SET)
    assert glued.feed("y").text == "y"
    assert glued.feed(AWS).matches == ()
    apart = StreamScanner(SET)
    assert apart.feed("=").text == "="
    assert len(apart.feed(AWS).matches) == 1


def test_a_prefix_of_a_match_at_the_end_of_a_stream_is_released() -> None:
    scanner = StreamScanner(SET)
    assert scanner.feed("an amber lanter").text == "an "
    assert scanner.held_chars == len("amber lanter")
    assert scanner.finish().text == "amber lanter"
    assert scanner.held_chars == 0
