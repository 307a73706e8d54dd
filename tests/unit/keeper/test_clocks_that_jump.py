"""No clock makes a cap serve more: workers' books and a keeper's counts against clocks that jump.

Driven by hand: books (`LeaseBook`), journals as lists, and what a keeper counts (`Charges`, `Counters`).
A draw may be answered late, an exchange may settle late, a journal is read late; workers and keepers
die, links break, and all the while the clock steps back and forth, as often before anybody looks at
it as after. What each window has released is counted apart.

Assumed, as the processes do: a start is written in the same turn as its reserve; a keeper that begins
reads all that is written, and answers nobody before it heard every living worker (`Draws`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Coroutine, Generator
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gatelift.encoding import decode_json, sha256_digest
from gatelift.gateway.keeper_link import KeeperUnavailableError
from gatelift.gateway.leases import LeaseBook
from gatelift.gateway.reservation import CapLine, CapLines, Reservation, reservation_of
from gatelift.keeper.charges import Charges
from gatelift.keeper.counters import Counters, RecallNeeded, Shortage, WorkerRun
from gatelift.messages import Charge, Finish, Outcome, Record, RecordRef, Start
from gatelift.messages.frames import Denied, Granted, Lease, Want
from gatelift.terms import CapUnit, Endpoint

MINUTE, HOUR = 60_000, 3_600_000
LIMIT = 3
HOURLY = "s:principal.output_tokens/h:p"
LINES = CapLines(
    (
        CapLine(HOURLY, CapUnit.OUTPUT_TOKENS, HOUR, LIMIT),
        CapLine("s:stage.output_tokens/min:s", CapUnit.OUTPUT_TOKENS, MINUTE, LIMIT),
    )
)
NOW = 1_000 * HOUR + HOUR - 500
# In one hour and minute; just past both; past both by more than their grace; an hour and two on.
TIMES = [NOW, NOW + 400, NOW + 600, NOW + 2 * MINUTE, NOW + HOUR, NOW + 2 * HOUR]
DIGEST = sha256_digest(b"d")


class Asked:
    """A draw on its way: awaited by its book, answered whenever the test says so."""

    def __init__(self, wants: tuple[Want, ...]) -> None:
        self.wants = wants

    def __await__(self) -> Generator[Asked, Granted | Denied, Granted | Denied]:
        return (yield self)


class Open:
    """An exchange that has reserved and written its start."""

    def __init__(self, held: Reservation, seq: int) -> None:
        self.held = held
        self.seq = seq


class Worker:
    """One run of a worker: its book, its journal, and what is under way."""

    def __init__(self, name: str, number: int) -> None:
        self.run = WorkerRun(name, f"r{number}")
        self.released: list[tuple[Lease, ...]] = []
        self.book = LeaseBook(self._draw, self.released.append)
        self.journal: list[Record] = []
        self.asking: list[tuple[Coroutine[Any, Any, Denied | None], Asked, Reservation]] = []
        self.open: list[Open] = []
        self.linked = False

    async def _draw(self, wants: tuple[Want, ...]) -> Granted | Denied:
        return await Asked(wants)


def charges_of(written: str) -> tuple[Charge, ...]:
    return decode_json(written.encode(), tuple[Charge, ...])


def start_of(worker: Worker, held: Reservation) -> Start:
    return Start(
        v=1,
        node="n1",
        worker=worker.run.worker,
        run=worker.run.run,
        seq=len(worker.journal),
        at=0,
        request_id="q",
        release="aurora",
        stage="s",
        certificate=DIGEST,
        fingerprint=DIGEST,
        grant="g",
        principal="p",
        organisation="o",
        session="x",
        endpoint=Endpoint.CHAT,
        stream=False,
        request=DIGEST,
        request_bytes=1,
        reserved=charges_of(held.charges()),
    )


def finish_of(worker: Worker, one: Open, spent: int) -> Finish:
    return Finish(
        v=1,
        node="n1",
        worker=worker.run.worker,
        run=worker.run.run,
        seq=len(worker.journal),
        at=0,
        of=RecordRef(node="n1", worker=worker.run.worker, run=worker.run.run, seq=one.seq),
        request_id="q",
        release="aurora",
        stage="s",
        grant="g",
        organisation="o",
        session="x",
        outcome=Outcome.SERVED,
        reason="",
        upstream=True,
        status=200,
        answer=None,
        answer_bytes=0,
        input_tokens=0,
        output_tokens=spent,
        spent=charges_of(one.held.spent({CapUnit.OUTPUT_TOKENS: spent})),
        overrun_tokens=0,
        verdicts=(),
    )


class ClocksJump(RuleBasedStateMachine):
    """Two workers, one keeper, one clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.number = 2
        self.workers = [Worker("w0", 0), Worker("w1", 1)]
        self.journals: dict[WorkerRun, list[Record]] = {}
        self.released: Counter[tuple[str, int]] = Counter()
        self.keeper_begins()

    # The clock.

    @rule(
        now=st.sampled_from(TIMES),
        noticed_by=st.lists(st.sampled_from(["w0", "w1", "reads", "drops"]), unique=True),
    )
    def the_clock_shows(self, now: int, noticed_by: list[str]) -> None:
        """Whatever it showed before; those who notice do what they do each second, in any order."""
        self.now = now
        for who in noticed_by:
            if who == "reads":
                for run, journal in self.journals.items():
                    self._read_journal(run, journal)
                self.charges.roll(now)
            elif who == "drops":
                self.counters.roll()
            else:
                self.workers[int(who[1])].book.forget_past(now)

    # The keeper.

    @rule()
    def keeper_begins(self) -> None:
        """It may have been killed, or have seen the clock go back."""
        for worker in self.workers:
            self._break_link(worker)
        self.charges, self.read = Charges(), Counter[WorkerRun]()
        self.counters = Counters(self.charges.past)
        self.charges.roll(self.now)
        for run, journal in self.journals.items():
            self._read_journal(run, journal)
        living = {worker.run for worker in self.workers}
        for run in self.journals.keys() - living:
            self.counters.settle_dead(run, self.charges.charged(run))
        for worker in list(self.workers):
            self._hello(worker)

    def _read_journal(self, run: WorkerRun, journal: list[Record]) -> None:
        for record in journal[self.read[run] :]:
            self.charges.fold([record])
        self.read[run] = len(journal)

    def _hello(self, worker: Worker) -> None:
        if self.now < worker.book.past_ms:
            self._replace(worker)  # `SetBackWatch`: it says no hello, and ends
            return
        worker.linked = True
        self.counters.hello(worker.run, worker.book.held(), self.charges.charged(worker.run))

    def _break_link(self, worker: Worker) -> None:
        worker.linked = False
        for asking, _, _ in worker.asking:
            try:
                asking.throw(KeeperUnavailableError("the keeper went away"))
            except KeeperUnavailableError:
                continue
        worker.asking.clear()

    # Workers.

    @rule(which=st.integers(0, 1))
    def link_breaks_and_comes_back(self, which: int) -> None:
        worker = self.workers[which]
        self._break_link(worker)
        self._hello(worker)

    @rule(which=st.integers(0, 1))
    def worker_dies(self, which: int) -> None:
        self._replace(self.workers[which])

    def _replace(self, worker: Worker) -> None:
        """Settle a worker from its journal; another one takes its place."""
        self._break_link(worker)
        self._read_journal(worker.run, self.journals.get(worker.run, []))
        self.counters.settle_dead(worker.run, self.charges.charged(worker.run))
        self.number += 1
        fresh = Worker(worker.run.worker, self.number)
        self.workers[self.workers.index(worker)] = fresh
        self._hello(fresh)

    @rule(
        which=st.integers(0, 1), need=st.integers(1, 2), more=st.integers(0, 1), late=st.booleans()
    )
    def worker_is_asked(self, which: int, need: int, more: int, *, late: bool) -> None:
        worker = self.workers[which]
        held = LINES.wanted({CapUnit.OUTPUT_TOKENS: need}, self.now)
        wants = tuple(msgspec.structs.replace(want, like=need + more) for want in held.wants)
        held = reservation_of(wants=wants, units=held.units)
        self._go_on(worker, worker.book.reserve(held), held, None)
        while worker.asking and not late:
            self._answer_one(worker, -1)

    @precondition(lambda self: any(worker.asking for worker in self.workers))
    @rule(data=st.data())
    def a_draw_is_answered(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from([w for w in self.workers if w.asking]))
        self._answer_one(worker, data.draw(st.integers(0, len(worker.asking) - 1)))

    def _answer_one(self, worker: Worker, number: int) -> None:
        asking, asked, held = worker.asking.pop(number)
        self._go_on(worker, asking, held, self._answer(worker, asked.wants))

    def _go_on(
        self,
        worker: Worker,
        asking: Coroutine[Any, Any, Denied | None],
        held: Reservation,
        answer: Granted | Denied | None,
    ) -> None:
        try:
            asked = asking.send(answer)
        except StopIteration as ended:
            if ended.value is None:
                worker.open.append(Open(held, len(worker.journal)))
                self._write(worker, start_of(worker, held))
                for want in held.wants:
                    self.released[want.counter, want.window] += want.need
        except KeeperUnavailableError:
            pass
        else:
            if worker.linked:
                worker.asking.append((asking, asked, held))
            else:
                asking.close()
        self._send_back(worker)

    def _answer(self, worker: Worker, wants: tuple[Want, ...]) -> Granted | Denied:
        answer = self.counters.draw(worker.run, wants, self.now)
        if isinstance(answer, RecallNeeded):
            for each in self.workers:
                if each.run in answer.workers:
                    self.counters.release(each.run, each.book.give_back(answer.counters))
            answer = self.counters.draw(worker.run, wants, self.now, recalled=True, exact=True)
        if isinstance(answer, Shortage):
            first = wants[0]
            return Denied(
                id=1, counter=first.counter, limit=LIMIT, used=0, reserved=0, reset=first.until
            )
        assert isinstance(answer, tuple)
        return Granted(id=1, leases=answer)

    @precondition(lambda self: any(worker.open for worker in self.workers))
    @rule(data=st.data(), unspent=st.integers(0, 2))
    def an_exchange_ends(self, data: st.DataObject, unspent: int) -> None:
        worker = data.draw(st.sampled_from([w for w in self.workers if w.open]))
        self.end(worker, data.draw(st.integers(0, len(worker.open) - 1)), unspent)

    def end(self, worker: Worker, number: int, unspent: int) -> None:
        """Finish one of a worker's open exchanges."""
        one = worker.open.pop(number)
        need = one.held.wants[0].need
        spent = max(0, need - unspent)
        self._write(worker, finish_of(worker, one, spent))
        worker.book.settle(one.held, {CapUnit.OUTPUT_TOKENS: spent})
        for want in one.held.wants:
            self.released[want.counter, want.window] -= need - spent
        self._send_back(worker)

    def _write(self, worker: Worker, record: Record) -> None:
        worker.journal.append(record)
        self.journals[worker.run] = worker.journal

    def _send_back(self, worker: Worker) -> None:
        sent, worker.released[:] = list(worker.released), []
        for leases in sent:
            if worker.linked:
                self.counters.release(worker.run, leases)

    @invariant()
    def no_window_has_released_more_than_its_cap(self) -> None:
        assert max(self.released.values(), default=0) <= LIMIT


ClocksJump.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestClocksJump = ClocksJump.TestCase


def ask(story: ClocksJump, which: int, *needs: int) -> None:
    for need in needs:
        story.worker_is_asked(which=which, need=need, more=0, late=False)


def end(story: ClocksJump, which: int, unspent: int = 0) -> None:
    story.end(story.workers[which], 0, unspent)


@pytest.mark.parametrize("noticed_by", [[], ["reads"], ["reads", "drops"]])
def test_a_keeper_grants_nothing_of_a_window_that_it_has_forgotten(noticed_by: list[str]) -> None:
    story = ClocksJump()
    ask(story, 0, 2, 1)
    story.the_clock_shows(NOW + HOUR, ["reads", "drops"])
    story.the_clock_shows(NOW, noticed_by)
    ask(story, 1, 1)
    story.no_window_has_released_more_than_its_cap()


def test_a_keeper_that_forgot_charges_and_not_yet_its_pools_grants_nothing_either() -> None:
    story = ClocksJump()
    ask(story, 0, 2, 1)
    story.the_clock_shows(NOW + HOUR, ["w0", "reads"])
    story.keeper_begins()
    story.the_clock_shows(NOW, [])
    ask(story, 1, 1)
    story.no_window_has_released_more_than_its_cap()


def test_a_book_that_forgot_a_window_takes_no_leases_of_it_that_its_hello_would_hide() -> None:
    """What it spent before stands in its journal, what it would hold now in its book: not in one."""
    story = ClocksJump()
    ask(story, 0, 1)
    end(story, 0)
    story.the_clock_shows(NOW + HOUR, ["w0"])
    story.the_clock_shows(NOW, [])
    ask(story, 0, 2)
    if story.workers[0].open:
        end(story, 0, unspent=1)
    story.keeper_begins()
    ask(story, 1, 1, 1, 1)
    ask(story, 0, 1)
    story.no_window_has_released_more_than_its_cap()
    assert story.released[HOURLY, NOW // HOUR * HOUR] == LIMIT, "and all is served"


def test_a_worker_that_forgot_a_window_says_no_hello_that_leaves_it_out() -> None:
    story = ClocksJump()
    ask(story, 0, 2, 1)
    story.the_clock_shows(NOW + HOUR, ["w0"])
    story.the_clock_shows(NOW, [])
    story.link_breaks_and_comes_back(which=0)
    ask(story, 1, 1)
    story.no_window_has_released_more_than_its_cap()


def test_a_short_step_back_denies_nobody() -> None:
    story = ClocksJump()
    ask(story, 0, 1)
    story.the_clock_shows(NOW + 600, ["w0", "w1", "reads", "drops"])
    ask(story, 0, 1)
    story.the_clock_shows(NOW + 400, ["w0", "w1", "reads", "drops"])
    ask(story, 0, 1)
    ask(story, 1, 1)
    assert story.released[HOURLY, NOW // HOUR * HOUR] == LIMIT
    assert story.released[HOURLY, NOW // HOUR * HOUR + HOUR] == 1
