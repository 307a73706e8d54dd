"""The breaker as a table: what it is, what happens, what it is then."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatelift.gateway.breaker import (
    TABLE,
    Breaker,
    BreakerError,
    BreakerEvent,
    BreakerState,
    BreakerTerms,
)

TERMS = BreakerTerms(failures=3, wait_s=1.0, max_wait_s=5.0)
A, E, L, F = BreakerEvent.ANSWERED, BreakerEvent.ENDED, BreakerEvent.LEFT, BreakerEvent.FAILED
CLOSED, OPEN, HALF_OPEN, TRYING = BreakerState


def play(*each: BreakerEvent, at_s: float = 0.0, breaker: Breaker | None = None) -> Breaker:
    """One exchange after the other, each with the event it ends with."""
    made = breaker or Breaker(TERMS)
    for event in each:
        made.on(event, made.begin(at_s), at_s)
    return made


@pytest.mark.parametrize(
    ("happened", "state"),
    [
        pytest.param((), CLOSED, id="new"),
        pytest.param((F, F), CLOSED, id="two failures"),
        pytest.param((F, F, F), OPEN, id="three failures"),
        pytest.param((F, F, E, F, F), CLOSED, id="a whole answer ends the row"),
        pytest.param((F, F, L, F), OPEN, id="a caller that left does not end the row"),
        pytest.param((F, L, L, L), CLOSED, id="nor does it make it longer"),
        pytest.param((F, F, A, F), OPEN, id="nor does a head alone end it"),
    ],
)
def test_it_opens_after_failures_in_a_row(
    happened: tuple[BreakerEvent, ...], state: BreakerState
) -> None:
    assert play(*happened).state is state


def test_while_open_nothing_is_let_through_until_the_wait_is_over() -> None:
    breaker = play(F, F, F, at_s=10.0)
    assert not breaker.lets_through(10.9)
    assert breaker.waits_s(10.25) == 0.75
    with pytest.raises(BreakerError):
        breaker.begin(10.9)
    assert breaker.lets_through(11.0)


def test_after_the_wait_one_is_let_through_and_no_second() -> None:
    breaker = play(F, F, F)
    begun = breaker.begin(1.0)
    assert breaker.state is TRYING
    assert not breaker.lets_through(100.0)
    breaker.on(A, begun, 1.5)
    assert breaker.state is CLOSED
    assert breaker.lets_through(1.5)


@pytest.mark.parametrize(
    ("event", "state"), [(A, CLOSED), (E, CLOSED), (L, HALF_OPEN), (F, OPEN)], ids=str
)
def test_what_becomes_of_the_trial(event: BreakerEvent, state: BreakerState) -> None:
    assert play(event, at_s=1.0, breaker=play(F, F, F)).state is state


def test_a_trial_whose_caller_left_makes_room_for_the_next_at_once() -> None:
    breaker = play(L, at_s=1.0, breaker=play(F, F, F))
    assert breaker.lets_through(1.0)
    assert play(E, at_s=1.0, breaker=breaker).state is CLOSED


def test_the_wait_doubles_up_to_its_cap_and_begins_anew_after_a_whole_answer() -> None:
    breaker, now_s, waits = play(F, F, F), 0.0, []
    for _ in range(5):
        waits.append(breaker.waits_s(now_s))
        now_s += waits[-1]
        play(F, at_s=now_s, breaker=breaker)
    assert waits == [1.0, 2.0, 4.0, 5.0, 5.0]
    now_s += breaker.waits_s(now_s)
    play(E, F, F, F, at_s=now_s, breaker=breaker)
    assert breaker.waits_s(now_s) == 1.0


def test_after_a_trial_that_was_answered_but_broke_off_it_opens_again_for_longer() -> None:
    breaker = play(F, F, F)
    begun = breaker.begin(1.0)
    breaker.on(A, begun, 1.0)
    breaker.on(F, begun, 2.0)
    assert breaker.state is OPEN
    assert breaker.waits_s(2.0) == 2.0


def test_what_began_before_it_opened_moves_nothing() -> None:
    breaker = Breaker(TERMS)
    early = [breaker.begin(0.0) for _ in range(5)]
    for begun in early[:3]:
        breaker.on(F, begun, 0.0)
    trial = breaker.begin(1.0)
    assert breaker.on(F, early[3], 1.0) is TRYING
    assert breaker.on(E, early[4], 1.0) is TRYING
    assert breaker.on(F, trial, 1.0) is OPEN


def test_a_row_of_one_opens_at_the_first_failure() -> None:
    breaker = Breaker(BreakerTerms(failures=1))
    breaker.on(F, breaker.begin(0.0), 0.0)
    assert breaker.state is OPEN


def test_every_state_is_reached_and_left() -> None:
    reached = {to for moves in TABLE.values() for to in moves.values()}
    assert reached == set(BreakerState)
    assert all(set(moves.values()) - {state} for state, moves in TABLE.items())


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([A, E, L, F]), st.integers(0, 5), st.integers(0, 6)), max_size=60
    )
)
def test_whatever_happens_a_trial_is_alone_and_the_wait_bounded(
    steps: list[tuple[BreakerEvent, int, int]],
) -> None:
    """Any interleaving of exchanges that begin and end: nothing raises and nothing gets stuck."""
    breaker, now_s = Breaker(TERMS), 0.0
    under_way: list[int] = []
    for event, pick, more_s in steps:
        now_s += more_s
        assert breaker.waits_s(now_s) <= TERMS.max_wait_s
        if breaker.lets_through(now_s):
            before = breaker.state
            under_way.append(breaker.begin(now_s))
            assert before is CLOSED or not breaker.lets_through(now_s)
        if pick < len(under_way):
            begun = under_way[pick] if event is A else under_way.pop(pick)
            breaker.on(event, begun, now_s)
    for begun in under_way:
        breaker.on(L, begun, now_s)
    assert breaker.lets_through(now_s + TERMS.max_wait_s)
