"""A worker knows a prompt it has forwarded, keeps nothing readable of it, and forgets on the safe side."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatelift.gateway.dialects import ModelRequest
from gatelift.gateway.known_prompts import MAX_OF_A_COUNTER, MAX_PROMPTS, KnownPrompts
from gatelift.gateway.reservation import CapLine
from gatelift.safeguards import Part, PartKind
from gatelift.terms import CapUnit

LINES = tuple(
    CapLine(counter=name, unit=unit, window_ms=0, limit=10)
    for name, unit in (
        ("principal", CapUnit.COVERAGE),
        ("stage", CapUnit.COVERAGE),
        ("parallel", CapUnit.PARALLEL),
    )
)


def request(*texts: str, kind: PartKind = PartKind.USER, images: int = 0) -> ModelRequest:
    parts = tuple(Part(kind=kind, text=text) for text in texts)
    return ModelRequest(model="m", parts=parts, messages=1, images=images)


def book(**bounds: int) -> KnownPrompts:
    return KnownPrompts(b"s" * 32, **bounds)


def test_a_prompt_is_known_under_the_counters_that_counted_it() -> None:
    known = book()
    digest = known.digest(request("how do tides work"))
    assert known.counters(LINES, digest) == frozenset()
    known.learn(["stage"], digest)
    assert known.counters(LINES, digest) == {"stage"}
    known.learn(["principal", "stage"], digest)
    assert known.counters(LINES, digest) == {"principal", "stage"}
    assert known.counters(LINES, known.digest(request("how do tides work?"))) == frozenset()


@pytest.mark.parametrize(
    "other",
    [
        request("ab", "c"),
        request("abc", ""),
        request("abc "),
        request("abc", kind=PartKind.SYSTEM),
        request("a\nuser 1\nb"),
        ModelRequest(model="m", parts=request("abc").parts, messages=2),
        ModelRequest(
            model="m", parts=request("abc").parts, messages=1, readings=request("abc").parts
        ),
    ],
)
def test_prompts_that_differ_anywhere_are_different(other: ModelRequest) -> None:
    assert book().digest(other) != book().digest(request("abc"))


def test_what_does_not_change_the_prompt_does_not_make_it_new() -> None:
    more = ModelRequest(
        model="m", parts=request("abc").parts, messages=1, max_tokens=9, end_user="u", stream=True
    )
    assert book().digest(more) == book().digest(request("abc"))


def test_a_prompt_with_images_is_always_new() -> None:
    known = book()
    digest = known.digest(request("what is this", images=1))
    known.learn(["stage"], digest)
    assert known.counters(LINES, digest) == frozenset()


def test_a_lone_surrogate_is_a_prompt_like_any_other() -> None:
    assert book().digest(request("\ud800")) is not None


def test_a_full_set_counts_everything_new_as_new_and_keeps_what_it_knows() -> None:
    known = book(most_of_a_counter=2, most=3)
    digests = [known.digest(request(text)) for text in "abcd"]
    for digest in digests[:3]:
        known.learn(["stage"], digest)
    assert [bool(known.counters(LINES, each)) for each in digests] == [True, True, False, False]
    known.learn(["principal"], digests[2])
    known.learn(["principal"], digests[3])  # all counters together are full
    assert known.counters(LINES, digests[2]) == {"principal"}
    assert known.counters(LINES, digests[3]) == frozenset()


def test_the_page_names_the_bounds() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "caps.md").read_text()
    assert (
        f"knows {MAX_OF_A_COUNTER:,} prompts under one counter, or {MAX_PROMPTS:,} in all" in page
    )


def test_what_is_kept_is_worth_nothing_without_the_secret_of_the_process() -> None:
    text = request("a prompt that somebody guesses")
    mine, other = book().digest(text), KnownPrompts(b"t" * 32).digest(text)
    assert mine is not None
    assert mine != other
    assert len(mine) == 16
