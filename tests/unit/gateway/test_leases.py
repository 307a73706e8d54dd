"""A worker never spends more than it was granted, and gives back what it does not use."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatelift.gateway.exchange import TABLE, Event, Exchange, ExchangeError, State
from gatelift.gateway.keeper_link import KeeperUnavailableError
from gatelift.gateway.leases import LeaseBook
from gatelift.gateway.reservation import CapLine, CapLines, Reservation, reservation_of
from gatelift.messages.frames import Denied, Granted, Lease, Want
from gatelift.terms import CapUnit

LIMIT = 20
KEPT = 60_000
"""How long after its end a window is remembered, in ms."""


def want(need: int, like: int = 0) -> Reservation:
    one = Want(counter="c", window=0, until=100, limit=LIMIT, need=need, like=max(need, like))
    return reservation_of(wants=(one,), units=(CapUnit.OUTPUT_TOKENS,))


class Keeper:
    """Grants up to a limit, as the keeper's contract says."""

    def __init__(self) -> None:
        self.granted = 0
        self.draws = 0

    async def draw(self, wants: tuple[Want, ...]) -> Granted | Denied:
        await asyncio.sleep(0)
        self.draws += 1
        (one,) = wants
        amount = min(one.like, LIMIT - self.granted)
        if amount < one.need:
            return Denied(id=1, counter="c", limit=LIMIT, used=self.granted, reserved=0, reset=100)
        self.granted += amount
        return Granted(id=1, leases=(Lease(counter="c", window=0, amount=amount),))

    def release(self, leases: tuple[Lease, ...]) -> None:
        self.granted -= sum(lease.amount for lease in leases)


def test_a_slice_serves_many_requests_without_asking() -> None:
    keeper = Keeper()
    book = LeaseBook(keeper.draw, keeper.release)

    async def play() -> None:
        for _ in range(8):
            assert await book.reserve(want(1, like=8)) is None

    asyncio.run(play())
    assert keeper.draws == 1


def test_what_was_not_spent_comes_back() -> None:
    keeper = Keeper()
    book = LeaseBook(keeper.draw, keeper.release)

    async def play() -> None:
        held = want(10)
        assert await book.reserve(held) is None
        book.settle(held, {CapUnit.OUTPUT_TOKENS: 3})
        assert await book.reserve(want(7)) is None
        assert keeper.granted == 10
        assert book.give_back(("c",)) == ()

    asyncio.run(play())


def test_spending_is_never_booked_above_the_reserve() -> None:
    book = LeaseBook(Keeper().draw, lambda _: None)

    async def play() -> None:
        held = want(5)
        await book.reserve(held)
        book.settle(held, {CapUnit.OUTPUT_TOKENS: 50})
        assert charged(held.spent({CapUnit.OUTPUT_TOKENS: 50})) == [("c", 5)]
        assert book.give_back(("c",)) == ()

    asyncio.run(play())


def charged(written: str) -> list[tuple[str, int]]:
    """Return counters and amounts of charges as a record says them."""
    return [(each["counter"], each["amount"]) for each in json.loads(written)]


def coverage(*needs: int) -> Reservation:
    wants = tuple(
        Want(counter=f"c{n}", window=0, until=0, limit=LIMIT, need=need, like=need)
        for n, need in enumerate(needs)
    )
    return reservation_of(wants=wants, units=(CapUnit.COVERAGE,) * len(needs))


def test_coverage_is_charged_where_the_prompt_is_new_and_never_comes_back() -> None:
    async def draw(wants: tuple[Want, ...]) -> Granted:
        leases = [Lease(counter=w.counter, window=0, amount=w.need) for w in wants]
        return Granted(id=1, leases=tuple(leases))

    book = LeaseBook(draw, lambda _: None)

    async def play() -> None:
        # New to the second counter alone.
        held = coverage(0, 1)
        assert await book.reserve(held) is None
        assert charged(held.charges()) == [("c0", 0), ("c1", 1)]
        assert held.amount(CapUnit.COVERAGE) == 1
        spent = {CapUnit.COVERAGE: 1}
        assert charged(held.spent(spent)) == [("c0", 0), ("c1", 1)]
        book.settle(held, spent)
        book.forget_past(10**15)
        assert [(each.counter, each.amount) for each in book.held()] == [("c1", 1)]
        assert book.give_back(("c0", "c1")) == ()
        for _ in range(2):
            book.forget_past(0)  # nobody waits for it any more
        # Nothing was forwarded, so it is free again.
        denied = coverage(1, 1)
        assert await book.reserve(denied) is None
        book.settle(denied, {CapUnit.COVERAGE: 0})
        assert {each.counter: each.amount for each in book.give_back(("c0", "c1"))} == {
            "c0": 1,
            "c1": 1,
        }

    asyncio.run(play())


def test_coverage_is_drawn_ahead_and_a_known_counter_needs_nothing() -> None:
    lines = tuple(
        CapLine(counter=name, unit=unit, window_ms=0, limit=6_400)
        for name, unit in (
            ("known", CapUnit.COVERAGE),
            ("new", CapUnit.COVERAGE),
            ("p", CapUnit.PARALLEL),
        )
    )
    needs = {CapUnit.COVERAGE: 1, CapUnit.PARALLEL: 1}
    made = CapLines(lines).wanted(needs, 1_700_000_000_000, frozenset({"known"}))
    assert [(w.need, w.like, w.window, w.until) for w in made.wants] == [
        (0, 0, 0, 0),
        (1, 64, 0, 0),
        (1, 1, 0, 0),
    ]
    assert charged(made.charges()) == [("known", 0), ("new", 1)]


def test_a_want_is_of_the_window_and_the_need_of_its_own_request() -> None:
    minute = 60_000
    lines = CapLines((CapLine("c", CapUnit.INPUT_TOKENS, minute, 6_400),))
    asked = [(5, 0), (5, 59_999), (5, minute), (7, minute), (7, 59_999), (5, 0)]
    found = []
    for need, at in asked:
        made = lines.wanted({CapUnit.INPUT_TOKENS: need}, at)
        want = made.wants[0]
        assert made.slots == (("c", want.window, 6_400),)
        found.append((want.need, want.window, want.until))
    assert found == [
        (5, 0, minute),
        (5, 0, minute),
        (5, minute, 2 * minute),
        (7, minute, 2 * minute),
        (7, 0, minute),
        (5, 0, minute),
    ]


def test_what_was_recalled_is_given_back_as_soon_as_it_is_idle() -> None:
    keeper = Keeper()
    book = LeaseBook(keeper.draw, keeper.release)

    async def play() -> None:
        held = want(10)
        assert await book.reserve(held) is None
        assert book.give_back(("c",)) == ()
        book.settle(held, {CapUnit.OUTPUT_TOKENS: 3})
        assert keeper.granted == 3, "somebody waits for it"
        for _ in range(2):
            book.forget_past(0)
        other = want(10)
        assert await book.reserve(other) is None
        book.settle(other, {CapUnit.OUTPUT_TOKENS: 3})
        assert keeper.granted == 13, "nobody has asked for a while"

    asyncio.run(play())


def test_nothing_is_set_aside_while_the_keeper_is_asked() -> None:
    keeper = Keeper()
    book = LeaseBook(keeper.draw, keeper.release)

    async def play() -> None:
        await book.reserve(want(1, like=5))
        asking = asyncio.ensure_future(book.reserve(want(6)))
        await asyncio.sleep(0)
        assert book.give_back(("c",))[0].amount == 4, "what it holds can be recalled"
        keeper.granted -= 4
        assert await asking is None
        assert keeper.granted == 7

    asyncio.run(play())


def test_a_draw_that_fails_leaves_nothing_set_aside() -> None:
    async def fail(_: Any) -> Granted | Denied:
        raise KeeperUnavailableError("away")

    keeper = Keeper()
    book = LeaseBook(keeper.draw, keeper.release)

    async def play() -> None:
        await book.reserve(want(1, like=5))
        book._draw = fail
        with pytest.raises(KeeperUnavailableError):
            await book.reserve(want(9))
        assert book.give_back(("c",))[0].amount == 4

    asyncio.run(play())


def test_a_window_that_ended_is_worth_nothing() -> None:
    book = LeaseBook(Keeper().draw, lambda _: None)

    async def play() -> None:
        held = want(5)
        await book.reserve(held)
        book.forget_past(100 + KEPT)
        book.settle(held, {CapUnit.OUTPUT_TOKENS: 0})
        assert book.held() == ()
        assert book.give_back(("c",)) == ()

    asyncio.run(play())


def test_a_short_step_of_the_clock_finds_a_window_as_it_was() -> None:
    keeper = Keeper()
    book = LeaseBook(keeper.draw, keeper.release)

    async def play() -> None:
        await book.reserve(want(1, like=5))
        book.forget_past(99 + KEPT)
        book.forget_past(50)
        assert book.held()[0].amount == 5
        assert await book.reserve(want(4)) is None
        assert keeper.draws == 1

    asyncio.run(play())


def test_a_window_that_was_forgotten_is_closed_when_the_clock_is_set_back() -> None:
    keeper = Keeper()
    book = LeaseBook(keeper.draw, keeper.release)

    async def play() -> None:
        held = want(5, like=8)
        await book.reserve(held)
        book.forget_past(100 + KEPT)
        book.forget_past(50)
        with pytest.raises(KeeperUnavailableError, match="set back"):
            await book.reserve(want(1))
        assert keeper.draws == 1, "the keeper is not asked"
        book.settle(held, {CapUnit.OUTPUT_TOKENS: 0})
        assert book.held() == ()

    asyncio.run(play())


def test_what_is_granted_of_a_window_that_was_forgotten_meanwhile_goes_back() -> None:
    keeper = Keeper()
    book = LeaseBook(keeper.draw, keeper.release)

    async def play() -> None:
        asking = asyncio.ensure_future(book.reserve(want(3)))
        await asyncio.sleep(0)
        book.forget_past(100 + KEPT)
        with pytest.raises(KeeperUnavailableError):
            await asking
        assert (keeper.draws, keeper.granted) == (1, 0)
        assert book.held() == ()

    asyncio.run(play())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6), st.integers(1, 8)), max_size=30))
def test_spent_never_exceeds_the_cap(plays: list[tuple[int, int, int]]) -> None:
    keeper = Keeper()
    books = [LeaseBook(keeper.draw, keeper.release) for _ in range(2)]
    spent = 0

    async def one(number: int, need: int, use: int, like: int) -> None:
        nonlocal spent
        held = want(need, like)
        book = books[number % 2]
        if await book.reserve(held) is None:
            await asyncio.sleep(0)
            used = {CapUnit.OUTPUT_TOKENS: min(use, need)}
            book.settle(held, used)
            spent += charged(held.spent(used))[0][1]

    async def play() -> None:
        await asyncio.gather(*(one(n, *p) for n, p in enumerate(plays)))

    asyncio.run(play())
    assert spent <= keeper.granted <= LIMIT


def test_the_table_forbids_every_short_cut() -> None:
    for state, moves in TABLE.items():
        for event in Event:
            exchange = Exchange()
            exchange.state = state
            if event in moves:
                exchange.on(event)
            else:
                with pytest.raises(ExchangeError):
                    exchange.on(event)


def test_a_denied_exchange_is_never_forwarded() -> None:
    exchange = Exchange()
    for event in (Event.IDENTIFY, Event.DENY, Event.START):
        exchange.on(event)
    with pytest.raises(ExchangeError):
        exchange.on(Event.FORWARD)
    assert exchange.state is State.STARTED


def test_every_state_reaches_an_end() -> None:
    ends = {state for state, moves in TABLE.items() if not moves}
    reach = set(ends)
    for _ in TABLE:
        reach |= {s for s, moves in TABLE.items() if set(moves.values()) & reach}
    assert reach == set(TABLE)
    assert msgspec.json.encode(sorted(ends))


def test_a_lowered_cap_is_not_served_from_what_was_drawn_before() -> None:
    keeper = Keeper()
    book = LeaseBook(keeper.draw, keeper.release)

    async def play() -> None:
        assert await book.reserve(want(1, like=8)) is None
        lowered = msgspec.structs.replace(want(1).wants[0], limit=0)
        tight = reservation_of(wants=(lowered,), units=(CapUnit.OUTPUT_TOKENS,))
        before = keeper.draws
        await book.reserve(tight)
        assert keeper.draws == before + 1, "the keeper was asked anew"
        assert book.give_back(("c",))[0].amount == 7

    asyncio.run(play())


def test_what_is_at_hand_is_set_aside_whole_or_not_at_all() -> None:
    wants = tuple(
        Want(counter=name, window=0, until=100, limit=LIMIT, need=1, like=1) for name in ("a", "b")
    )
    units = (CapUnit.OUTPUT_TOKENS, CapUnit.OUTPUT_TOKENS)

    async def draw_one(asked: tuple[Want, ...]) -> Granted:
        return Granted(
            id=1, leases=tuple(Lease(counter=w.counter, window=0, amount=w.need) for w in asked)
        )

    book = LeaseBook(draw_one, lambda _: None)
    first, both = reservation_of(wants[:1], units[:1]), reservation_of(wants, units)
    assert asyncio.run(book.reserve(first)) is None
    book.settle(first, {CapUnit.OUTPUT_TOKENS: 0})
    assert not book.take(both)
    assert book.take(first)
    assert not book.take(first)


def test_a_window_that_ends_is_followed_by_one_with_nothing_in_it() -> None:
    minute = 60_000
    lines = CapLines(
        (
            CapLine("m", CapUnit.REQUESTS, minute, 6_400),
            CapLine("d", CapUnit.REQUESTS, 24 * 60 * minute, 6_400),
            CapLine("p", CapUnit.PARALLEL, 0, 4),
        )
    )
    needs = {CapUnit.REQUESTS: 1, CapUnit.PARALLEL: 1}
    begins = 1_700_000_040_000
    day = begins - begins % (24 * 60 * minute)
    for at, window in (
        (begins, begins),
        (begins + minute - 1, begins),
        (begins - 1, begins - minute),
    ):
        slots = lines.wanted(needs, at).slots
        assert slots == (("m", window, 6_400), ("d", day, 6_400), ("p", 0, 4))
    assert lines.wanted(needs, begins + minute).slots[0] == ("m", begins + minute, 6_400)


def test_two_grants_spend_one_balance_of_the_cap_they_share() -> None:
    keeper = Keeper()
    book = LeaseBook(keeper.draw, keeper.release)
    ours, theirs = (
        CapLines((CapLine("c", CapUnit.OUTPUT_TOKENS, 0, LIMIT),)).wanted(
            {CapUnit.OUTPUT_TOKENS: LIMIT}, 0
        )
        for _ in range(2)
    )
    assert asyncio.run(book.reserve(ours)) is None
    assert not book.take(theirs)
    book.settle(ours, {CapUnit.OUTPUT_TOKENS: LIMIT - 1})
    assert not book.take(theirs)
    assert book.left(theirs.slots[0]) is None
    assert keeper.draws == 1


def test_a_reservation_kept_past_its_windows_memory_gives_nothing_back() -> None:
    book = LeaseBook(Keeper().draw, lambda _: None)
    held = want(10)
    assert asyncio.run(book.reserve(held)) is None
    book.forget_past(100 + KEPT)
    book.settle(held, {CapUnit.OUTPUT_TOKENS: 0})
    assert not book.take(held)
    assert book.give_back(("c",)) == ()
