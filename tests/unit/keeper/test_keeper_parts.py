from __future__ import annotations

import msgspec
import pytest

from gatelift.encoding import Digest, sha256_digest
from gatelift.keeper.charges import Charges
from gatelift.keeper.counters import WorkerRun
from gatelift.keeper.drift import PlacementState
from gatelift.keeper.errors import KeeperError
from gatelift.keeper.reports import fit_counts
from gatelift.messages import (
    Charge,
    Finish,
    Observation,
    OrganisationCount,
    Outcome,
    RecordRef,
    Start,
)
from gatelift.terms import Endpoint, Sealing

HOUR = 3_600_000
COUNTER = "internal:stage.output_tokens/h:internal"
COVERAGE = "internal:stage.coverage/none:internal"
COST = "internal:stage.cost/d:internal"
DIGEST = Digest("sha256:" + "a" * 64)
RUN = WorkerRun("w0", "r1")


def start(seq: int, reserved: int, window: int = 0, counter: str = COUNTER) -> Start:
    return Start(
        v=1,
        node="n1",
        worker="w0",
        run="r1",
        seq=seq,
        at=0,
        request_id="q",
        release="aurora",
        stage="internal",
        certificate=DIGEST,
        fingerprint=DIGEST,
        grant="g",
        principal="p",
        organisation="o",
        session="0-" + "a" * 24,
        endpoint=Endpoint.CHAT,
        stream=False,
        request=DIGEST,
        request_bytes=1,
        reserved=(Charge(counter=counter, window=window, amount=reserved),),
    )


def finish(of: Start, spent: int, *, worker: str = "w0", run: str = "r1") -> Finish:
    return Finish(
        v=1,
        node="n1",
        worker=worker,
        run=run,
        seq=99,
        at=0,
        of=RecordRef(node="n1", worker=of.worker, run=of.run, seq=of.seq),
        request_id="q",
        release="aurora",
        stage="internal",
        grant="g",
        organisation="o",
        session=of.session,
        outcome=Outcome.SERVED,
        reason="",
        upstream=True,
        status=200,
        answer=None,
        answer_bytes=0,
        input_tokens=0,
        output_tokens=0,
        spent=(msgspec.structs.replace(of.reserved[0], amount=spent),),
        overrun_tokens=0,
        verdicts=(),
    )


def test_a_running_start_is_charged_in_full_and_a_finished_one_what_it_spent() -> None:
    charges = Charges()
    first, second = start(0, 100), start(1, 50)
    for record in (first, second, finish(first, 30)):
        charges.fold([record])
    assert charges.charged(RUN) == {(COUNTER, 0): 80}
    assert charges.orphans(RUN) == (second,)


def test_an_orphan_that_the_keeper_closes_stays_charged_to_its_run() -> None:
    charges = Charges()
    lost = start(0, 100)
    charges.fold([lost])
    charges.fold([finish(lost, 100, worker="keeper", run="k1")])
    assert charges.charged(RUN) == {(COUNTER, 0): 100}
    assert charges.orphans(RUN) == ()


def test_charges_of_a_window_that_is_over_are_forgotten() -> None:
    charges = Charges()
    old = start(0, 100)
    charges.fold([old])
    charges.fold([finish(old, 100)])
    charges.roll(HOUR + 59_999)
    assert charges.charged(RUN) == {(COUNTER, 0): 100}
    charges.roll(HOUR + 60_000)
    assert charges.charged(RUN) == {}


def test_charges_that_are_forgotten_do_not_come_back_with_the_clock() -> None:
    charges = Charges()
    charges.roll(HOUR + 60_000)
    charges.roll(HOUR // 2)
    charges.fold([start(0, 100)])
    assert charges.charged(RUN) == {}
    assert charges.past.covers(HOUR), "which is what a grant goes by"


def test_a_start_that_no_batch_covers_is_charged_once() -> None:
    charges = Charges()
    first, second = start(0, 100), start(1, 50)
    charges.fold([first])
    assert charges.charged(RUN, [first, second]) == {(COUNTER, 0): 150}
    assert charges.charged(RUN, [second]) == {(COUNTER, 0): 150}
    assert Charges().charged(RUN, [first]) == {(COUNTER, 0): 100}


def test_coverage_is_charged_for_ever_and_cost_in_its_window() -> None:
    charges = Charges()
    known, new, open_one = (start(n, 1, counter=COVERAGE) for n in range(3))
    paid = start(3, 500, counter=COST)
    for record in (known, new, open_one, paid, finish(known, 0), finish(new, 1), finish(paid, 125)):
        charges.fold([record])
    assert charges.charged(RUN) == {(COVERAGE, 0): 2, (COST, 0): 125}
    # A keeper that begins anew a year later folds the same journals.
    year = 365 * 24 * HOUR
    charges.roll(year)
    assert charges.charged(RUN) == {(COVERAGE, 0): 2}
    assert charges.spent(RUN, (COVERAGE, 0)) == 1
    again = Charges()
    again.roll(year)
    for record in (known, new, open_one, paid, finish(known, 0), finish(new, 1), finish(paid, 125)):
        again.fold([record])
    assert again.charged(RUN) == {(COVERAGE, 0): 2}
    later = (start(8, 1, counter=COVERAGE), start(9, 500, counter=COST))
    assert again.charged(RUN, later) == {(COVERAGE, 0): 3}


def test_a_run_that_was_settled_and_closed_is_forgotten() -> None:
    charges = Charges()
    one = start(0, 1, counter=COVERAGE)
    for record in (one, finish(one, 1)):
        charges.fold([record])
    charges.forget(RUN)
    charges.forget(RUN)
    assert (charges.runs, charges.charged(RUN)) == ((), {})


def test_a_finish_of_nothing_is_refused() -> None:
    with pytest.raises(KeeperError) as caught:
        Charges().fold([finish(start(0, 1), 1)])
    assert caught.value.code == "bad_journal"


SAME, OTHER = sha256_digest(b"same"), sha256_digest(b"other")


def placement(probes: int = 4, closes_at: int = 2) -> PlacementState:
    state = PlacementState("n1", "here", (SAME,) * probes, closes_at)
    for number in range(probes):
        state.answered(number, SAME)
    state.passed()
    state.tried(None)
    return state


def test_a_placement_is_down_until_every_probe_has_passed() -> None:
    state = PlacementState("n1", "here", (SAME,) * 4, 2)
    state.answered(0, SAME)
    assert not state.up
    assert placement().up


def test_drift_closes_at_the_plans_count_and_latches() -> None:
    state = placement()
    state.answered(0, OTHER)
    assert state.up
    assert state.probe().changed == 1
    state.answered(1, OTHER)
    assert (state.up, state.reason) == (False, "drift")
    for number in range(4):
        state.answered(number, SAME)
    state.passed()
    state.failed("unreachable")
    assert (state.up, state.reason) == (False, "drift")


def test_an_odd_answer_that_is_not_repeated_mends_itself() -> None:
    state = placement()
    state.answered(0, OTHER)
    state.answered(0, SAME)
    state.answered(1, OTHER)
    assert state.up


def test_two_failures_in_a_row_close_and_one_does_not() -> None:
    state = placement()
    state.failed("unreachable")
    state.answered(0, SAME)
    state.failed("unreachable")
    assert state.up
    state.failed("unreachable")
    assert (state.up, state.reason) == (False, "unreachable")


def test_a_probe_that_the_baseline_lacks_counts_as_changed() -> None:
    state = PlacementState("n1", "here", (SAME,), 1)
    state.answered(1, SAME)
    assert state.is_drifted


def test_sealing_that_is_not_known_is_told_as_open() -> None:
    state = placement()
    assert (state.probe().sealing, state.probe().reason) == (Sealing.OPEN, "sealing_unknown")
    state.tried(Sealing.DECLARED)
    assert (state.probe().sealing, state.probe().reason) == (Sealing.DECLARED, "")


def test_a_placement_is_down_until_its_door_was_tried() -> None:
    state = PlacementState("n1", "here", (SAME,), 1)
    state.answered(0, SAME)
    state.passed()
    assert (state.up, state.reason) == (False, "starting")
    state.tried(None)
    assert state.up
    for _ in range(2):
        state.failed("unreachable")
    state.tried(Sealing.DECLARED)
    assert (state.up, state.reason) == (False, "unreachable"), "a door opens no silent placement"


def test_a_door_is_open_at_once_and_unknown_after_three_silences() -> None:
    state = placement()
    state.tried(Sealing.SEALED)
    for _ in range(2):
        state.tried(None)
        assert state.probe().sealing is Sealing.SEALED
    state.tried(None)
    assert (state.probe().sealing, state.probe().reason) == (Sealing.OPEN, "sealing_unknown")
    state.tried(Sealing.SEALED)
    state.tried(None)
    assert state.probe().sealing is Sealing.SEALED, "they are counted anew"
    state.tried(Sealing.OPEN)
    assert (state.probe().sealing, state.probe().reason) == (Sealing.OPEN, "")


def observation(stretch: int) -> Observation:
    return Observation(
        release="aurora",
        metric="leak_rate",
        stage="internal",
        certificate=DIGEST,
        stretch=stretch,
        n=50,
        s=0,
        open=0,
        units=50,
        organisations=tuple(
            OrganisationCount(organisation=f"organisation-{n}", n=1, s=0, open=0) for n in range(50)
        ),
        ranges=(),
    )


def test_counts_that_do_not_fit_lose_the_oldest_first() -> None:
    few = tuple(observation(n) for n in range(3))
    assert fit_counts("n1", few, ()).observations == few
    many = tuple(observation(n) for n in range(600))
    kept = fit_counts("n1", many, ()).observations
    assert 100 < len(kept) < 600
    assert kept == many[-len(kept) :]
