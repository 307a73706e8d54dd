"""Caps through a real keeper process: barriers, kills of workers and of the keeper."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatelift.messages import Finish, Outcome, Start
from tests.integration.keeper_house import House, end_all

LIMIT = 50


@pytest.fixture(autouse=True)
def _nothing_left_running() -> Iterator[None]:
    yield
    end_all()


@pytest.mark.parametrize("unit", ["requests", "cost", "coverage"])
def test_a_barrier_of_three_workers_is_served_exactly_the_cap(tmp_path: Path, unit: str) -> None:
    async def main() -> None:
        house = House(tmp_path / "d")
        await house.start(control=False)
        workers = [
            house.spawn_worker(f"w{n}", requests=40, limit=LIMIT, unit=unit) for n in range(3)
        ]
        for worker in workers:
            await asyncio.to_thread(worker.ready)
        for worker in workers:
            worker.go()
        results = [await asyncio.to_thread(worker.until_done) for worker in workers]
        for worker in workers:
            await asyncio.to_thread(worker.leave)
        await asyncio.sleep(0.5)
        await house.close()
        assert sum(served for served, _ in results) == LIMIT
        assert sum(denied for _, denied in results) == 120 - LIMIT
        assert Counter(house.logged()) == Counter(house.batches())

    asyncio.run(main())


@pytest.mark.parametrize("unit", ["requests", "cost", "coverage"])
@pytest.mark.parametrize("victim", ["worker", "keeper", "both"])
def test_exactly_the_cap_is_charged_after_a_kill_in_the_middle(
    tmp_path: Path, victim: str, unit: str
) -> None:
    async def main() -> None:
        house = House(tmp_path / "d")
        await house.start(control=False)
        first = house.spawn_worker("w0", requests=20, limit=LIMIT, think_s=60, unit=unit)
        await asyncio.to_thread(first.ready)
        first.go()
        for _ in range(10):
            await asyncio.to_thread(first.line)  # ten are being served, none has finished
        if victim != "worker":
            house.kill_keeper()
        if victim != "keeper":
            first.kill()
        if victim != "worker":
            house.start_keeper()
        second = house.spawn_worker("w1", requests=80, limit=LIMIT, unit=unit)
        await asyncio.to_thread(second.ready)
        await asyncio.sleep(0.6)
        second.go()
        served, _ = await asyncio.to_thread(second.until_done)
        await asyncio.to_thread(second.leave)
        if victim == "keeper":
            first.kill()
        await asyncio.sleep(0.6)
        await house.close()
        begun = [r for r in house.records("w0") if isinstance(r, Start)]
        assert len(begun) >= 10
        # What the kill caught between its write and its commit stands in no log, and counts in full.
        assert len(begun) + house.uncommitted("w0") + served == LIMIT
        closed = [r for r in house.records("keeper") if isinstance(r, Finish)]
        assert {r.of.seq for r in closed} == {r.seq for r in begun}
        assert len(closed) == len(begun)
        assert all(r.outcome is Outcome.ABORTED and r.spent for r in closed)
        assert Counter(house.logged()) == Counter(house.batches())

    asyncio.run(main())


def test_a_keeper_that_begins_anew_still_knows_all_coverage_that_was_ever_spent(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        house = House(tmp_path / "d")
        await house.start(control=False)
        for number, expected in enumerate((20, 20, LIMIT - 40, 0)):
            worker = house.spawn_worker(f"w{number}", requests=20, limit=LIMIT, unit="coverage")
            await asyncio.to_thread(worker.ready)
            await asyncio.sleep(0.6)
            worker.go()
            served, _ = await asyncio.to_thread(worker.until_done)
            assert served == expected
            await asyncio.to_thread(worker.leave)
            await asyncio.sleep(0.3)
            house.kill_keeper()
            house.start_keeper()
        await house.worker()
        await house.close()

    asyncio.run(main())


def test_an_orphan_is_closed_once_however_often_the_keeper_dies(tmp_path: Path) -> None:
    async def main() -> None:
        house = House(tmp_path / "d")
        await house.start(control=False)
        worker = house.spawn_worker("w0", requests=5, limit=LIMIT, think_s=60)
        await asyncio.to_thread(worker.ready)
        worker.go()
        for _ in range(5):
            await asyncio.to_thread(worker.line)
        worker.kill()
        for _ in range(3):
            await asyncio.sleep(0.15)
            house.kill_keeper()
            house.start_keeper()
        await house.worker()
        await asyncio.sleep(0.6)
        await house.close()
        closed = [r.of.seq for r in house.records("keeper") if isinstance(r, Finish)]
        assert sorted(closed) == [0, 1, 2, 3, 4]
        assert Counter(house.logged()) == Counter(house.batches())

    asyncio.run(main())


def test_a_keeper_that_begins_anew_grants_nothing_before_every_living_worker_has_spoken(
    tmp_path: Path,
) -> None:
    """A dead run is settled at the same time: the keeper's own last one."""

    async def main() -> None:
        house = House(tmp_path / "d")
        await house.start(control=False)
        first = house.spawn_worker("w0", requests=LIMIT, limit=LIMIT, think_s=60)
        await asyncio.to_thread(first.ready)
        first.go()
        for _ in range(LIMIT):
            await asyncio.to_thread(first.line)  # the whole cap is being served
        os.kill(first.process.pid, signal.SIGSTOP)
        house.kill_keeper()
        house.start_keeper()
        second = house.spawn_worker("w1", requests=1, limit=LIMIT)
        await asyncio.to_thread(second.ready)
        second.go()
        said = asyncio.create_task(asyncio.to_thread(second.line))
        await asyncio.sleep(0.5)
        assert not said.done(), "who spoke first is not answered"
        os.kill(first.process.pid, signal.SIGCONT)
        assert await said == {"denied": 0}
        first.kill()
        second.kill()
        await house.close()

    asyncio.run(main())


def test_a_run_that_a_clock_set_back_has_named_lives_and_the_one_before_it_is_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name sorts first. Both the dead run and the living one count, and neither is waited for."""

    async def main() -> None:
        house = House(tmp_path / "d")
        await house.start(control=False)
        first = house.spawn_worker("w0", requests=10, limit=LIMIT, think_s=60)
        await asyncio.to_thread(first.ready)
        first.go()
        for _ in range(10):
            await asyncio.to_thread(first.line)
        first.kill()
        monkeypatch.setenv("RUN_BACK_MS", "3600000")
        again = house.spawn_worker("w0", requests=10, limit=LIMIT, think_s=60)
        monkeypatch.delenv("RUN_BACK_MS")
        await asyncio.to_thread(again.ready)
        again.go()
        for _ in range(10):
            await asyncio.to_thread(again.line)
        house.kill_keeper()
        house.start_keeper()
        second = house.spawn_worker("w1", requests=LIMIT, limit=LIMIT)
        await asyncio.to_thread(second.ready)
        second.go()
        late = asyncio.get_running_loop().call_later(20, second.process.kill)
        served, denied = await asyncio.to_thread(second.until_done)
        late.cancel()
        assert (served, denied) == (LIMIT - 20, 20)
        again.kill()
        await asyncio.to_thread(second.leave)
        await asyncio.sleep(0.6)
        await house.close()
        closed = [r for r in house.records("keeper") if isinstance(r, Finish)]
        assert len(closed) == 20

    asyncio.run(main())
