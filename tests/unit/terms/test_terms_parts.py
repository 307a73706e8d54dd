"""Postures, caps and the order of words, by table."""

from __future__ import annotations

import itertools

import pytest

from gatelift.terms import (
    Assurance,
    BlockRule,
    Cap,
    CapsError,
    CapUnit,
    Posture,
    PostureError,
    Sealing,
    Severity,
    Subject,
    Tier,
    Window,
    at_least,
    meet_caps,
    meet_posture,
    normalise_caps,
)

# DESIGN.md section 2: observe -> redact -> cut -> block and observe -> reroute -> block.
PATHS = [
    [Posture.OBSERVE, Posture.REDACT, Posture.CUT, Posture.BLOCK],
    [Posture.OBSERVE, Posture.REROUTE, Posture.BLOCK],
]


@pytest.mark.parametrize("path", PATHS, ids=["by-redact", "by-reroute"])
def test_along_a_path_the_tighter_posture_wins(path):
    for (i, left), (j, right) in itertools.product(enumerate(path), repeat=2):
        assert meet_posture(left, right) is path[max(i, j)]


@pytest.mark.parametrize("other", [Posture.REDACT, Posture.CUT])
def test_postures_on_different_paths_meet_in_block(other):
    assert meet_posture(other, Posture.REROUTE) is Posture.BLOCK
    assert meet_posture(Posture.REROUTE, other) is Posture.BLOCK


def cap(limit, unit=CapUnit.REQUESTS, window=Window.DAY, subject=Subject.STAGE):
    return Cap(subject=subject, unit=unit, window=window, limit=limit)


def test_caps_meet_in_the_union_of_keys_with_the_smaller_limit():
    minute = cap(60, window=Window.MINUTE)
    tokens = cap(5, unit=CapUnit.OUTPUT_TOKENS)
    assert meet_caps((cap(10), minute), (tokens, cap(7))) == normalise_caps(
        (cap(7), minute, tokens)
    )
    assert [each.key for each in meet_caps((cap(10), minute), (tokens,))] == [
        "stage.output_tokens/d",
        "stage.requests/d",
        "stage.requests/min",
    ]


def test_a_cap_stands_once():
    with pytest.raises(CapsError, match=r"stage\.requests/d stands twice"):
        normalise_caps((cap(1), cap(2)))


@pytest.mark.parametrize(
    ("unit", "window"),
    [
        (CapUnit.PARALLEL, Window.DAY),
        (CapUnit.COVERAGE, Window.DAY),
        (CapUnit.REQUESTS, Window.NONE),
        (CapUnit.COST, Window.NONE),
    ],
    ids=["parallel-with-window", "coverage-with-window", "requests-without", "cost-without"],
)
def test_only_parallel_and_coverage_have_no_window(unit, window):
    with pytest.raises(CapsError, match="parallel and coverage take no window"):
        cap(1, unit=unit, window=window)


def test_a_cap_is_not_negative():
    with pytest.raises(CapsError, match="0 or more"):
        cap(-1)


@pytest.mark.parametrize(
    ("id_", "phrases"),
    [
        ("", ("phrase",)),
        ("x" * 201, ("phrase",)),
        ("r", ()),
        ("r", ("phrase",) * 65),
        ("r", ("ab",)),
        ("r", ("  a  ",)),
        ("r", ("x" * 201,)),
        ("r", (" " * 300 + "phrase",)),
    ],
    ids=["no-id", "long-id", "none", "too-many", "short", "blank", "long", "long-blank"],
)
def test_a_block_rule_that_matches_everything_or_nothing_is_refused(id_, phrases):
    with pytest.raises(PostureError):
        BlockRule(id=id_, phrases=phrases)


@pytest.mark.parametrize(
    ("have", "need", "holds"),
    [
        (Assurance.OVERSEEN, Assurance.SELF, True),
        (Assurance.DEV, Assurance.SELF, False),
        (Sealing.OPEN, Sealing.OPEN, True),
        (Tier.PUBLIC, Tier.INTERNAL, True),
        (Severity.SEV_1, Severity.SEV_3, True),
        (Severity.SEV_3, Severity.SEV_3, True),
        (Severity.SEV_4, Severity.SEV_3, False),
    ],
)
def test_at_least_follows_each_list_from_weak_to_strong(have, need, holds):
    assert at_least(have, need) is holds


def test_words_of_two_lists_have_no_order():
    with pytest.raises(TypeError, match="one list"):
        at_least(Assurance.DEV, Sealing.OPEN)
