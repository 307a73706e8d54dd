"""What only grows is logged while there is a budget for it; what could stop is logged at once, always.

Seen to fail: without the budget the second test counts dozens; with the budget asked of what could
stop too, the last waits in vain.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gatelift.control import node_reports
from gatelift.control.node_reports import NodeReports
from gatelift.encoding import sha256_digest
from gatelift.messages import Observation
from gatelift.messages.frames import Counted
from tests.unit.decide.build import begun

BURST = 3


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_reports, "COUNTS_GAP_S", 0.002)
    monkeypatch.setattr(node_reports, "GROWN_GAP_S", 0.01)
    monkeypatch.setattr(node_reports, "GROWN_BURST", BURST)


def counted(units: int, harmful: int = 0) -> Counted:
    seen = Observation(
        release="demo",
        metric="harm",
        stage="assess",
        certificate=sha256_digest(b"certificate"),
        stretch=0,
        n=units,
        s=harmful,
        open=0,
        units=units,
        organisations=(),
        ranges=(),
    )
    return Counted(node="n1", observations=(seen,), events=())


@asynccontextmanager
async def reporting() -> AsyncIterator[tuple[NodeReports, list[Any]]]:
    """Run reports over a state that never takes them up; yields them and what was logged."""
    logged: list[Any] = []
    state = begun().state

    async def submit(drafts: list[Any], expected_size: int | None = None) -> tuple[int, ...]:
        logged.extend(drafts)
        return (0,)

    reports = NodeReports(state=lambda: state, sign=lambda _, value: value, submit=submit)
    works = [asyncio.create_task(reports.run_counts()), asyncio.create_task(reports.run_grown())]
    try:
        yield reports, logged
    finally:
        for work in works:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work


async def grow(reports: NodeReports, seconds: float) -> None:
    until = asyncio.get_running_loop().time() + seconds
    units = 0
    while asyncio.get_running_loop().time() < until:
        units += 1
        reports.take("n1", counted(units))
        await asyncio.sleep(0.002)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 (nobody tells when)
            await asyncio.sleep(0.002)


def test_the_first_growth_is_logged_at_once() -> None:
    async def main() -> None:
        async with reporting() as (reports, logged):
            reports.take("n1", counted(1))
            await until(lambda: len(logged) == 1)

    asyncio.run(main())


def test_under_load_growth_is_logged_as_often_as_the_budget_says() -> None:
    async def main() -> None:
        async with reporting() as (reports, logged):
            await grow(reports, 0.5)
            assert len(logged) == BURST

    asyncio.run(main())


def test_the_budget_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_reports, "GROWN_EACH_S", 0.1)

    async def main() -> None:
        async with reporting() as (reports, logged):
            await grow(reports, 0.2)
            spent = len(logged)
            await grow(reports, 0.5)
            assert spent < len(logged) <= spent + 7

    asyncio.run(main())


def test_what_could_stop_is_logged_without_a_budget() -> None:
    async def main() -> None:
        async with reporting() as (reports, logged):
            await grow(reports, 0.2)
            reports.take("n1", counted(1_000, harmful=1))
            await until(lambda: any(each.s == 1 for each in logged))

    asyncio.run(main())
