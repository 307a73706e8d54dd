from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatelift.encoding import Digest
from gatelift.messages import Beat, Finish, Outcome, Record, RecordedVerdict, RecordRef, Start
from gatelift.plan import HarmCondition, Metric, Plan, parse_plan
from gatelift.terms import Band, Category, Endpoint, Posture, Side
from gatelift.watch import (
    SavedCounter,
    SessionError,
    UnitCounter,
    WatchError,
    make_session,
    session_window_start_ms,
)
from gatelift.watch.units import KEPT_MS
from tests.support.world import PLAN_FILE

WINDOW_MS = 5_000
SECRET = b"s" * 32
LEAK = HarmCondition(safeguard=Category.LEAK, side=Side.ANSWER)
MISUSE = HarmCondition(safeguard=Category.MISUSE, side=Side.PROMPT, band=Band.PROHIBITED)
CERTIFICATE = Digest("sha256:" + "c" * 64)
ORIGIN = "example/requests/n1/2026-01"


def make_plan(stretch: int = 4, per_organisation: int = 2) -> Plan:
    text = PLAN_FILE.read_bytes()
    return msgspec.structs.replace(
        parse_plan(text),
        session_window_ms=WINDOW_MS,
        stretch=stretch,
        units_per_organisation=per_organisation,
        metrics=(
            Metric(name="leak_rate", of="session", harmful_when=LEAK, labels="rules"),
            Metric(name="misuse_rate", of="session", harmful_when=MISUSE, labels="rules"),
        ),
    )


PLAN = make_plan()


class Desk:
    """Writes the records of one worker, one batch for each call of `fold`."""

    def __init__(self, plan: Plan = PLAN) -> None:
        self.counter = UnitCounter(plan)
        self.seq = 0
        self.entry = 0
        self.batches: list[tuple[Record, ...]] = []

    def fold(self, *records: Record) -> None:
        self.counter.fold(records, ORIGIN, self.entry)
        self.batches.append(records)
        self.entry += 1

    def _next(self) -> dict[str, object]:
        self.seq += 1
        return {"v": 1, "node": "n1", "worker": "w0", "run": "r1", "seq": self.seq - 1}

    def start(
        self,
        user: str,
        at: int = 0,
        *,
        org: str = "o1",
        cert: Digest = CERTIFICATE,
        stage: str = "internal",
    ) -> Start:
        return Start(
            **self._next(),  # type: ignore[arg-type]
            at=at,
            request_id="q",
            release=PLAN.name,
            stage=stage,
            certificate=cert,
            fingerprint=CERTIFICATE,
            grant="g",
            principal="p",
            organisation=org,
            session=make_session("g", user, at, WINDOW_MS, SECRET),
            endpoint=Endpoint.CHAT,
            stream=False,
            request=CERTIFICATE,
            request_bytes=1,
            reserved=(),
        )

    def finish(
        self,
        start: Start,
        at: int = 0,
        *verdicts: tuple[Category, Side, Band],
        outcome: Outcome = Outcome.SERVED,
        upstream: bool = True,
    ) -> Finish:
        return Finish(
            **self._next(),  # type: ignore[arg-type]
            at=at,
            of=RecordRef(node=start.node, worker=start.worker, run=start.run, seq=start.seq),
            request_id="q",
            release=start.release,
            stage=start.stage,
            grant="g",
            organisation=start.organisation,
            session=start.session,
            outcome=outcome,
            reason="",
            upstream=upstream,
            status=200,
            answer=None,
            answer_bytes=0,
            input_tokens=0,
            output_tokens=0,
            spent=(),
            overrun_tokens=0,
            verdicts=tuple(
                RecordedVerdict(category=c, side=s, band=b, rule="r", action=Posture.OBSERVE)
                for c, s, b in verdicts
            ),
        )

    def beat(self, at: int) -> Beat:
        return Beat(**self._next(), at=at, refused={})  # type: ignore[arg-type]

    def figures(self, metric: str = "leak_rate") -> list[tuple[int, int, int, int, int]]:
        return [
            (seen.stretch, seen.n, seen.s, seen.open, seen.units)
            for seen in self.counter.observations()
            if seen.metric == metric
        ]


A_LEAK = (Category.LEAK, Side.ANSWER, Band.PLATFORM_ABUSE)


def test_exchanges_of_one_session_are_one_unit() -> None:
    desk = Desk()
    first, second = desk.start("u"), desk.start("u", 10)
    desk.fold(first, second, desk.finish(first, 20), desk.finish(second, 20))
    assert desk.figures() == [(0, 1, 0, 1, 1)]


def test_a_unit_stays_open_until_its_window_has_passed() -> None:
    desk = Desk()
    start = desk.start("u")
    desk.fold(start, desk.finish(start, 5))
    desk.fold(desk.beat(WINDOW_MS - 1))
    assert desk.figures() == [(0, 1, 0, 1, 1)]
    desk.fold(desk.beat(WINDOW_MS))
    assert desk.figures() == [(0, 1, 0, 0, 1)]


def test_a_unit_with_a_running_stream_stays_open_after_its_window() -> None:
    desk = Desk()
    start = desk.start("u")
    desk.fold(start)
    desk.fold(desk.beat(10 * WINDOW_MS))
    assert desk.figures() == [(0, 1, 0, 1, 1)]
    desk.fold(desk.finish(start, 10 * WINDOW_MS, outcome=Outcome.CUT))
    assert desk.figures() == [(0, 1, 0, 0, 1)]


def test_a_harmful_unit_counts_once_and_is_no_longer_open() -> None:
    desk = Desk()
    for _ in range(2):
        start = desk.start("u")
        desk.fold(start, desk.finish(start, 5, A_LEAK, A_LEAK, outcome=Outcome.CUT))
    assert desk.figures() == [(0, 1, 1, 0, 1)]
    assert desk.figures("misuse_rate") == [(0, 1, 0, 1, 1)]
    assert [(e.category, e.side, e.count) for e in desk.counter.events()] == [
        (Category.LEAK, Side.ANSWER, 2)
    ]


@pytest.mark.parametrize(
    ("verdict", "harmful"),
    [
        ((Category.MISUSE, Side.PROMPT, Band.PROHIBITED), 1),
        ((Category.MISUSE, Side.PROMPT, Band.DUAL_USE), 0),
        ((Category.MISUSE, Side.ANSWER, Band.PROHIBITED), 0),
        ((Category.LEAK, Side.PROMPT, Band.PROHIBITED), 0),
    ],
)
def test_category_side_and_band_must_all_meet_the_metric(
    verdict: tuple[Category, Side, Band], harmful: int
) -> None:
    desk = Desk()
    start = desk.start("u")
    desk.fold(start, desk.finish(start, 5, verdict, outcome=Outcome.REFUSED, upstream=False))
    assert desk.figures("misuse_rate") == [(0, 1, harmful, 1 - harmful, 1)]


def test_a_refused_prompt_opens_a_unit_and_a_capped_or_stopped_one_does_not() -> None:
    desk = Desk()
    refused, capped, stopped = desk.start("a"), desk.start("b"), desk.start("c")
    desk.fold(
        refused,
        desk.finish(refused, 1, outcome=Outcome.REFUSED, upstream=False),
        capped,
        desk.finish(capped, 1, outcome=Outcome.CAPPED, upstream=False),
        stopped,
        desk.finish(stopped, 1, outcome=Outcome.STOPPED, upstream=False),
    )
    assert desk.figures() == [(0, 1, 0, 1, 1)]


def test_a_capped_exchange_that_is_cut_by_the_end_of_a_batch_opens_no_unit() -> None:
    desk = Desk()
    capped = desk.start("b")
    desk.fold(capped)
    desk.fold(desk.finish(capped, 1, outcome=Outcome.CAPPED, upstream=False), desk.beat(2))
    assert desk.figures() == []


def test_the_last_start_of_a_dead_worker_is_a_unit_once_the_keeper_closes_it() -> None:
    desk = Desk()
    lost = desk.start("a")
    desk.fold(lost)
    closing = desk.finish(lost, 9, outcome=Outcome.ABORTED)
    desk.fold(msgspec.structs.replace(closing, worker="keeper", run="k1", seq=0))
    assert desk.figures() == [(0, 1, 0, 1, 1)]


def test_what_the_model_could_not_answer_opens_no_unit() -> None:
    desk = Desk()
    quiet = (Endpoint.MODELS, Endpoint.EMBEDDINGS, Endpoint.COUNT_TOKENS)
    starts = [msgspec.structs.replace(desk.start("a"), endpoint=name) for name in quiet]
    starts.append(msgspec.structs.replace(desk.start("b"), certificate=None))
    desk.fold(*starts, *(desk.finish(start, 1) for start in starts))
    assert desk.figures() == []


def test_a_stream_that_was_stopped_after_the_gate_counts() -> None:
    desk = Desk()
    start = desk.start("a")
    desk.fold(start, desk.finish(start, 1, outcome=Outcome.STOPPED, upstream=True))
    assert desk.figures() == [(0, 1, 0, 1, 1)]


def test_only_the_first_units_of_an_organisation_count_in_each_stretch() -> None:
    desk = Desk()  # stretches of 4, 2 of each organisation
    for number in range(5):
        start = desk.start(f"u{number}")
        desk.fold(start, desk.finish(start, 1, A_LEAK))
    # The third and fourth leak too, but verdicts don't choose who counts.
    assert desk.figures() == [(0, 2, 2, 0, 4), (1, 1, 1, 0, 1)]


def test_stretches_of_two_certificates_and_stages_stand_side_by_side() -> None:
    desk = Desk()
    other = Digest("sha256:" + "d" * 64)
    desk.fold(
        desk.start("a"),
        desk.start("b", cert=other),
        desk.start("c", stage="researchers", org="o2"),
        desk.beat(1),
    )
    assert [
        (o.stage, o.certificate, o.stretch, o.n)
        for o in desk.counter.observations()
        if o.metric == "leak_rate"
    ] == [
        ("internal", CERTIFICATE, 0, 1),
        ("internal", other, 0, 1),
        ("researchers", CERTIFICATE, 0, 1),
    ]


def test_a_session_keeps_the_certificate_it_opened_under() -> None:
    desk = Desk()
    desk.fold(desk.start("a"), desk.start("a", cert=Digest("sha256:" + "d" * 64)), desk.beat(1))
    assert [o.certificate for o in desk.counter.observations()] == [CERTIFICATE, CERTIFICATE]


def test_records_of_another_release_are_not_counted() -> None:
    desk = Desk()
    start = msgspec.structs.replace(desk.start("a"), release="another")
    desk.fold(start, desk.finish(start, 1, A_LEAK))
    assert desk.counter.events() == ()
    assert desk.counter.observations() == ()


def test_a_finish_without_a_start_is_refused() -> None:
    desk = Desk()
    lost = desk.start("a")
    with pytest.raises(WatchError) as caught:
        desk.fold(desk.finish(lost, 1))
    assert caught.value.code == "finish_without_start"


def test_entries_that_do_not_rise_are_refused() -> None:
    desk = Desk()
    desk.fold(desk.beat(1))
    desk.entry = 0
    with pytest.raises(WatchError):
        desk.fold(desk.beat(2))


def test_a_full_and_forgotten_stretch_keeps_its_figures() -> None:
    desk = Desk(make_plan(stretch=2))
    for user in "ab":
        start = desk.start(user)
        desk.fold(start, desk.finish(start, 1, A_LEAK))
    desk.fold(desk.beat(WINDOW_MS))
    before = desk.counter.observations()
    desk.fold(desk.beat(100 * 3_600_000))
    assert desk.counter._units == {}
    assert desk.counter.observations() == before


@pytest.mark.parametrize("text", ["", "5", "05-" + "a" * 24, "5-" + "A" * 24, "-1-" + "a" * 24])
def test_what_is_no_session_id_is_refused(text: str) -> None:
    with pytest.raises(SessionError):
        session_window_start_ms(text)


def test_a_session_names_its_window_and_tells_grants_and_users_apart() -> None:
    at = 3 * WINDOW_MS + 17
    ids = {
        make_session(g, u, at, WINDOW_MS, SECRET) for g, u in [("g", "u"), ("gu", ""), ("g", "")]
    }
    assert len(ids) == 3
    assert {session_window_start_ms(i) for i in ids} == {3 * WINDOW_MS}
    assert make_session("g", "u", at, WINDOW_MS, SECRET) == make_session(
        "g", "u", at + 1, WINDOW_MS, SECRET
    )


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["start", "finish", "leak", "beat"]),
        st.integers(0, 3),
        st.sampled_from(["o1", "o2"]),
    ),
    max_size=40,
)


def _play(steps: list[tuple[str, int, str]]) -> Desk:
    desk, now, running = Desk(), 0, []
    for action, number, org in steps:
        if action == "start":
            running.append(desk.start(f"{org}{number}", now, org=org))
            desk.fold(running[-1])
        elif action == "beat":
            now += number * 2_000
            desk.fold(desk.beat(now))
        elif running:
            found = (A_LEAK,) if action == "leak" else ()
            desk.fold(desk.finish(running.pop(number % len(running)), now, *found))
    desk.fold(desk.beat(now))  # what follows the last start decides about it
    return desk


@given(STEPS)
@settings(max_examples=60, deadline=None)
def test_counts_agree_with_a_recount_from_the_definition(steps: list[tuple[str, int, str]]) -> None:
    desk = _play(steps)
    # Written from the definition: list all sessions in order of opening, then cut and count.
    sessions: dict[str, list[Record]] = {}
    for batch in desk.batches:
        for record in batch:
            if isinstance(record, Start | Finish):
                sessions.setdefault(record.session, []).append(record)
    now = max([0, *(r.at for batch in desk.batches for r in batch)])
    expected = []
    order = list(sessions.items())
    for at in range(0, len(order), 4):
        n = s = opened = 0
        seen: list[str] = []
        for name, records in order[at : at + 4]:
            org = records[0].organisation  # type: ignore[union-attr]
            seen.append(org)
            if seen.count(org) > 2:
                continue
            n += 1
            finishes = [r for r in records if isinstance(r, Finish)]
            if any(f.verdicts for f in finishes):
                s += 1
            elif now < int(name.split("-")[0]) + WINDOW_MS or len(finishes) * 2 < len(records):
                opened += 1
        expected.append((at // 4, n, s, opened, len(order[at : at + 4])))
    assert desk.figures() == expected


@given(STEPS, st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_an_observation_comes_again_from_its_own_ranges(
    steps: list[tuple[str, int, str]], early: int
) -> None:
    desk = _play(steps)
    for seen in desk.counter.observations():
        assert seen.s + seen.open <= seen.n <= seen.units <= 4
        (span,) = seen.ranges
        again = UnitCounter(PLAN)
        for index, batch in enumerate(desk.batches[: span.last + 1]):
            again.fold(batch, ORIGIN, index)
            if index == early:
                again.observations()  # looking early changes nothing
        assert seen in again.observations()


def taken_up(counter: UnitCounter) -> UnitCounter:
    data = msgspec.json.encode(counter.save())
    return UnitCounter.restored(PLAN, msgspec.json.decode(data, type=SavedCounter))


@given(STEPS, st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_a_counter_that_was_kept_counts_on_as_if_it_had_not_been(
    steps: list[tuple[str, int, str]], every: int
) -> None:
    # Seen to fail: without its heaps, its undecided starts, or the order of its observations.
    whole, kept = UnitCounter(PLAN), UnitCounter(PLAN)
    for index, batch in enumerate(_play(steps).batches):
        if index % every == 0:
            kept = taken_up(kept)
        whole.fold(batch, ORIGIN, index)
        kept.fold(batch, ORIGIN, index)
        assert kept.observations() == whole.observations()
        assert kept.events() == whole.events()
        assert kept.save() == whole.save()
    assert kept.horizon_ms == whole.horizon_ms


HONEY = (Category.HONEY, Side.PROMPT, Band.PLATFORM_ABUSE)


@pytest.mark.parametrize("apart", [False, True], ids=["together", "apart"])
def test_bait_that_is_touched_is_an_event_and_no_unit(apart: bool) -> None:
    desk = Desk()
    for number in range(3):
        start = msgspec.structs.replace(desk.start("u", number), certificate=None)
        others = [desk.beat(number)] if apart else []
        end = desk.finish(start, number, HONEY, outcome=Outcome.STOPPED, upstream=False)
        desk.fold(start, *others, end)
    assert desk.counter.observations() == ()
    (event,) = desk.counter.events()
    assert (event.stage, event.category, event.side, event.count) == (
        "internal",
        Category.HONEY,
        Side.PROMPT,
        3,
    )
    assert [(r.first, r.last) for r in event.ranges] == [(0, 2)]
    other = msgspec.structs.replace(desk.start("u", 4), release="another")
    desk.fold(other, desk.finish(other, 4, HONEY, outcome=Outcome.STOPPED, upstream=False))
    assert desk.counter.events()[0].count == 3


def test_what_was_no_unit_is_none_after_the_counter_was_kept() -> None:
    desk = Desk()
    start = msgspec.structs.replace(desk.start("u"), certificate=None)
    desk.fold(start)
    desk.fold(desk.beat(1))
    desk.counter = taken_up(desk.counter)
    desk.fold(desk.finish(start, 2, HONEY, outcome=Outcome.STOPPED, upstream=False))
    assert desk.counter.observations() == ()
    assert desk.counter.events()[0].count == 1


def test_a_closed_session_is_forgotten_after_the_counter_was_kept() -> None:
    desk = Desk()
    start = desk.start("u")
    desk.fold(start, desk.finish(start))
    desk.fold(desk.beat(WINDOW_MS))
    desk.counter = taken_up(desk.counter)
    desk.fold(desk.beat(WINDOW_MS + KEPT_MS))
    again = desk.start("u")  # of a clock that was set back by more than an hour: another unit
    desk.fold(again, desk.finish(again))
    desk.fold(desk.beat(WINDOW_MS + KEPT_MS + 1))
    assert desk.figures()[0][-1] == 2
