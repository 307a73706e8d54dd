"""Folding letter by letter, written out, against the quicker ways that `fold` takes."""

from __future__ import annotations

import re
import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st

from gatelift.safeguards.folding import fold


def letter(char: str) -> str:
    kept = [
        part
        for part in unicodedata.normalize("NFKD", char)
        if not ("\u0300" <= part <= "\u036f" or "\ufe00" <= part <= "\ufe0f")
        and unicodedata.category(part) not in ("Cf", "Cs")
        and (unicodedata.category(part) != "Cc" or part.isspace())
    ]
    return "".join(part.casefold() for part in kept)


ODD = "aZ9_ .,\n\t\r\x00\x08\x0b\x1b\x1c\x1f\x7f\x85\xa0éÉßſKİıΣς“”’—\u200b\u00ad\u0301ﬁ２日ᏸꭰ\u2028\ud800🙂"
TEXTS = st.text(st.sampled_from(ODD) | st.characters(), max_size=40)
ASCII = st.text(st.characters(max_codepoint=127), max_size=40)


@settings(max_examples=300)
@given(TEXTS | ASCII)
def test_a_text_is_folded_letter_by_letter(text: str) -> None:
    assert fold(text).text == "".join(letter(char) for char in text)


@settings(max_examples=300)
@given(TEXTS | ASCII)
def test_words_are_the_longest_stretches_of_letters_and_digits(text: str) -> None:
    folded = fold(text)
    found = re.findall(r"[^\W_]+", "".join(letter(char) for char in text))
    assert folded.words == [word.encode("utf-8", "surrogatepass") for word in found]


@settings(max_examples=300)
@given(TEXTS | ASCII)
def test_a_span_is_told_in_the_letters_it_came_from(text: str) -> None:
    origins = [at for at, char in enumerate(text) for _ in letter(char)]
    folded = fold(text)
    for start, at in enumerate(origins):
        assert folded.span(start, start + 1) == (at, at + 1)
    if origins:
        assert folded.span(0, len(origins)) == (origins[0], origins[-1] + 1)


def test_every_letter_is_folded_the_same_however_many_came_before() -> None:
    for code in range(0, 0x20000, 7):
        assert fold("é" + chr(code)).text == "e" + letter(chr(code))
