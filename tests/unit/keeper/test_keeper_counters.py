from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gatelift.keeper.counters import (
    Counters,
    Past,
    RecallNeeded,
    Shortage,
    WorkerRun,
    window_end_ms,
)
from gatelift.keeper.errors import KeeperError
from gatelift.messages.frames import Lease, Want

HOUR = 3_600_000
REQUESTS = "internal:principal.requests/h:p1"
TOKENS = "internal:stage.output_tokens/h:internal"
PARALLEL = "internal:principal.parallel/none:p1"
A, B = WorkerRun("w0", "r1"), WorkerRun("w1", "r1")
COVERAGE = "internal:stage.coverage/none:internal"
LIMITS = {REQUESTS: 10, TOKENS: 40, PARALLEL: 3, COVERAGE: 12}


def want(counter: str, need: int, like: int | None = None, limit: int | None = None) -> Want:
    return Want(
        counter=counter,
        window=0,
        until=0 if counter in {PARALLEL, COVERAGE} else HOUR,
        limit=LIMITS[counter] if limit is None else limit,
        need=need,
        like=need if like is None else like,
    )


def lease(counter: str, amount: int) -> Lease:
    return Lease(counter=counter, window=0, amount=amount)


@pytest.fixture
def counters() -> Counters:
    both = Counters(Past())
    both.hello(A, (), {})
    both.hello(B, (), {})
    return both


def test_a_draw_is_granted_whole_or_not_at_all(counters: Counters) -> None:
    answer = counters.draw(A, [want(REQUESTS, 1), want(PARALLEL, 4)], 0)
    assert answer == Shortage(counter=PARALLEL, window=0, limit=3, spent=0, granted=0, reset=0)
    assert counters.used(REQUESTS, 0) == 0


def test_what_others_hold_is_recalled_before_a_draw_is_denied(counters: Counters) -> None:
    assert isinstance(counters.draw(A, [want(REQUESTS, 10)], 0), tuple)
    assert counters.draw(B, [want(REQUESTS, 1)], 0) == RecallNeeded(
        counters=(REQUESTS,), workers=(A,)
    )
    counters.release(A, [lease(REQUESTS, 1)])
    assert counters.draw(B, [want(REQUESTS, 1)], 0, recalled=True) == (lease(REQUESTS, 1),)
    assert counters.draw(B, [want(REQUESTS, 1)], 0, recalled=True) == Shortage(
        counter=REQUESTS, window=0, limit=10, spent=0, granted=10, reset=HOUR
    )


def test_nobody_is_asked_when_recalling_could_not_help(counters: Counters) -> None:
    counters.draw(A, [want(REQUESTS, 5)], 0)
    assert isinstance(counters.draw(B, [want(REQUESTS, 11)], 0), Shortage)


def test_a_window_that_was_forgotten_is_not_granted_from_when_the_clock_is_set_back() -> None:
    past = Past()
    counters = Counters(past)
    for worker in (A, B):
        counters.hello(worker, (), {})
    counters.hello(A, (), {})
    assert isinstance(counters.draw(A, [want(REQUESTS, 10)], HOUR // 2), tuple)
    past.move(HOUR + 60_000)
    for rolled in (False, True):
        assert counters.draw(A, [want(REQUESTS, 1)], HOUR // 2) == Shortage(
            counter=REQUESTS, window=0, limit=10, spent=10, granted=0, reset=HOUR
        ), f"rolled: {rolled}"
        counters.roll()


def test_a_short_step_back_finds_a_window_as_it_was() -> None:
    past = Past()
    counters = Counters(past)
    for worker in (A, B):
        counters.hello(worker, (), {})
    counters.hello(A, (), {})
    counters.draw(A, [want(REQUESTS, 9)], HOUR - 1)
    past.move(HOUR + 59_999)
    counters.roll()
    assert counters.draw(A, [want(REQUESTS, 1)], HOUR - 1) == (lease(REQUESTS, 1),)
    assert isinstance(counters.draw(A, [want(REQUESTS, 1)], HOUR - 1, recalled=True), Shortage)


def test_slices_shrink_to_the_need_near_the_cap() -> None:
    counters = Counters(Past())
    counters.hello(A, (), {})
    counters.hello(B, (), {})
    sizes = []
    while isinstance(answer := counters.draw(A, [want(TOKENS, 1, 8, limit=100)], 0), tuple):
        sizes.append(answer[0].amount)
    assert sizes[0] == 8  # 100 left, two workers: a share is 12
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-8:] == [1] * 8
    assert sum(sizes) == 100


def test_a_lower_limit_counts_at_once(counters: Counters) -> None:
    counters.draw(A, [want(REQUESTS, 5)], 0)
    lowered = [want(REQUESTS, 1, limit=5)]
    assert isinstance(counters.draw(A, lowered, 0), RecallNeeded)
    assert isinstance(counters.draw(A, lowered, 0, recalled=True), Shortage)


def test_a_worker_is_asked_for_its_own_idle_leases_too(counters: Counters) -> None:
    counters.draw(A, [want(REQUESTS, 10)], 0)
    assert counters.draw(A, [want(REQUESTS, 1)], 0) == RecallNeeded(
        counters=(REQUESTS,), workers=(A,)
    )


def test_a_dead_worker_is_charged_what_its_journal_shows(counters: Counters) -> None:
    counters.draw(A, [want(REQUESTS, 10), want(PARALLEL, 3)], 0)
    counters.settle_dead(A, {(REQUESTS, 0): 7})
    assert (counters.used(REQUESTS, 0), counters.used(PARALLEL, 0)) == (7, 0)


def test_a_hello_is_never_believed_below_the_journal(counters: Counters) -> None:
    counters.hello(A, [lease(REQUESTS, 1), lease(PARALLEL, 2)], {(REQUESTS, 0): 4})
    assert counters.held_by(A, REQUESTS, 0) == 4
    assert counters.held_by(A, PARALLEL, 0) == 2


def test_a_hello_after_a_reconnect_replaces_what_was_granted(counters: Counters) -> None:
    counters.draw(A, [want(REQUESTS, 6)], 0)
    counters.hello(A, [lease(REQUESTS, 2)], {})
    assert counters.used(REQUESTS, 0) == 2


def test_a_window_that_has_passed_is_not_drawn_from() -> None:
    late = HOUR + 60_000
    past = Past()
    counters = Counters(past)
    for worker in (A, B):
        counters.hello(worker, (), {})
    counters.hello(A, (), {})
    assert isinstance(counters.draw(A, [want(REQUESTS, 1)], late - 1), tuple)
    assert isinstance(counters.draw(A, [want(REQUESTS, 1)], late), Shortage)
    past.move(late)
    counters.roll()
    assert counters.used(REQUESTS, 0) == 0
    counters.release(A, [lease(REQUESTS, 1)])  # too late to matter, and no error


@pytest.mark.parametrize(
    "wants",
    [
        [],
        [want(REQUESTS, 1), want(REQUESTS, 1)],
        [want(REQUESTS, 2, 1)],
        [want(REQUESTS, -1)],
        [Want(counter=REQUESTS, window=1, until=HOUR + 1, limit=9, need=1, like=1)],
        [Want(counter=REQUESTS, window=0, until=2 * HOUR, limit=9, need=1, like=1)],
        [Want(counter="requests", window=0, until=HOUR, limit=9, need=1, like=1)],
        [Want(counter=PARALLEL, window=HOUR, until=HOUR, limit=9, need=1, like=1)],
    ],
)
def test_a_draw_that_no_correct_worker_makes_is_refused(
    counters: Counters, wants: list[Want]
) -> None:
    with pytest.raises(KeeperError) as caught:
        counters.draw(A, wants, 0)
    assert caught.value.code == "bad_lease"


def test_a_worker_cannot_give_back_what_it_does_not_hold(counters: Counters) -> None:
    counters.draw(A, [want(REQUESTS, 2)], 0)
    for amount in (3, -1):
        with pytest.raises(KeeperError):
            counters.release(A, [lease(REQUESTS, amount)])


def test_a_draw_before_hello_is_refused() -> None:
    with pytest.raises(KeeperError):
        Counters(Past()).draw(A, [want(REQUESTS, 1)], 0)


@pytest.mark.parametrize(
    ("counter", "window", "end"),
    [
        ("s:principal.requests/min:p", 120_000, 180_000),
        ("s:stage.output_tokens/d:s", 0, 86_400_000),
        ("s:principal.parallel/none:a:b", 0, 0),
        ("s:stage.coverage/none:s", 0, 0),
    ],
)
def test_a_counter_names_its_window(counter: str, window: int, end: int) -> None:
    assert window_end_ms(counter, window) == end


def test_what_was_spent_of_coverage_never_comes_back() -> None:
    age = 400 * 24 * HOUR
    past = Past()
    counters = Counters(past)
    for worker in (A, B):
        counters.hello(worker, (), {})
    counters.draw(A, [want(COVERAGE, 5), want(PARALLEL, 2)], 0)
    counters.settle_dead(A, {(COVERAGE, 0): 4})
    assert (counters.used(COVERAGE, 0), counters.used(PARALLEL, 0)) == (4, 0)
    past.move(age)
    counters.roll()
    assert counters.used(COVERAGE, 0) == 4
    assert counters.draw(B, [want(COVERAGE, 8)], age) == (lease(COVERAGE, 8),)
    assert counters.draw(B, [want(COVERAGE, 1)], age, recalled=True) == Shortage(
        counter=COVERAGE, window=0, limit=12, spent=4, granted=8, reset=0
    )
    # A prompt that is known needs nothing, and is let through at the cap.
    assert counters.draw(B, [want(COVERAGE, 0)], age) == (lease(COVERAGE, 0),)


WORKERS = [WorkerRun(f"w{i}", "r1") for i in range(3)]


class CapHolds(RuleBasedStateMachine):
    """Workers that draw, spend, give back, lose frames, die and come back, against their own books."""

    def __init__(self) -> None:
        super().__init__()
        self.counters = Counters(Past())
        self.balance: dict[tuple[WorkerRun, str], int] = {}
        self.spent: dict[tuple[WorkerRun, str], int] = {}
        self.alive: set[WorkerRun] = set()
        self.gone = dict.fromkeys(LIMITS, 0)

    def _charged(self, worker: WorkerRun) -> dict[tuple[str, int], int]:
        return {(c, 0): self.spent.get((worker, c), 0) for c in LIMITS if c != PARALLEL}

    @rule(worker=st.sampled_from(WORKERS))
    def hello(self, worker: WorkerRun) -> None:
        held = [
            lease(c, self.balance.get((worker, c), 0) + self.spent.get((worker, c), 0))
            for c in LIMITS
        ]
        self.counters.hello(worker, held, self._charged(worker))
        self.alive.add(worker)

    @precondition(lambda self: self.alive)
    @rule(
        data=st.data(),
        asked=st.dictionaries(
            st.sampled_from(list(LIMITS)),
            st.tuples(st.integers(0, 6), st.integers(0, 9)),
            min_size=1,
        ),
        recalled=st.booleans(),
        lost=st.booleans(),
    )
    def draw(
        self, data: st.DataObject, asked: dict[str, tuple[int, int]], recalled: bool, lost: bool
    ) -> None:
        worker = data.draw(st.sampled_from(sorted(self.alive)))
        wants = [want(c, need, need + more) for c, (need, more) in asked.items()]
        answer = self.counters.draw(worker, wants, 0, recalled=recalled)
        if isinstance(answer, tuple) and not lost:
            for got in answer:
                key = (worker, got.counter)
                self.balance[key] = self.balance.get(key, 0) + got.amount
                assert got.amount >= asked[got.counter][0]

    @precondition(lambda self: any(self.balance.values()))
    @rule(data=st.data(), spend=st.booleans())
    def use_or_release(self, data: st.DataObject, spend: bool) -> None:
        worker, counter = data.draw(
            st.sampled_from(sorted(k for k, v in self.balance.items() if v))
        )
        amount = data.draw(st.integers(1, self.balance[worker, counter]))
        if spend:
            self.spent[worker, counter] = self.spent.get((worker, counter), 0) + amount
        elif worker in self.alive:
            self.counters.release(worker, [lease(counter, amount)])
        else:
            return
        self.balance[worker, counter] -= amount

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(sorted(self.alive)))
        self.counters.settle_dead(worker, self._charged(worker))
        self.alive.discard(worker)
        for counter in LIMITS:
            spent = self.spent.pop((worker, counter), 0)
            self.gone[counter] += 0 if counter == PARALLEL else spent
            self.balance.pop((worker, counter), None)

    @invariant()
    def no_cap_is_exceeded(self) -> None:
        for counter, limit in LIMITS.items():
            out = sum(
                books.get((w, counter), 0) for books in (self.balance, self.spent) for w in WORKERS
            )
            assert self.gone[counter] + out <= self.counters.used(counter, 0) <= limit


CapHolds.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestCapHolds = CapHolds.TestCase
