"""Promise 5 with wrong clocks: the wall clock of every process is set on by hours and back again.

Attacked here: the windows that a clock closes and opens again, the keeper that begins anew amid it, and a
clock that stands before the witness's word. The clock is a small C library's that is preloaded into the
deployment's processes (`hostile`), save its witness: that is another organisation's machine.

In a deployment of its own: clocks that are set back leave its log ahead of its time, and control waits
until it is caught up.

Seen to fail: with `keeper.counters` granting from a window that it had forgotten, a clock set back by
an hour gave ten requests more (red). With `keeper.node` answering draws as soon as any dead run was
settled, the keeper that begins anew after the clock went back granted one or two requests more before
the other workers had said what they hold (red in about one run of five; `test_keeper_caps` stops a
worker meanwhile, and is red each time). With `ledger.following` taking a head that was confirmed in
what it thinks is the future, a host an hour behind served on (red).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.promises.hostile import Machine
from tests.promises.outside import Deployment, say, wait_for
from tests.promises.siege import ask, write_plan
from tests.support.upstream import ScriptedUpstream

HOUR = 3600
REQUESTS = 25
TEXT = "what time is it"


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    found = ScriptedUpstream(["word "] * 8, delay_s=0.005, key="upstream-key-of-all-times")
    yield found
    found.close()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    found = Machine(tmp_path / "m", spare_witnesses=True)
    # In the middle of an hour, so that no window ends unless the test says so.
    found.shift_clock((HOUR / 2 - time.time()) % HOUR)
    yield found
    found.close()


@pytest.fixture
def deployment(
    upstream: ScriptedUpstream, machine: Machine, tmp_path: Path
) -> Iterator[Deployment]:
    caps = {
        "principal": {"requests": f"{REQUESTS}/h"},
        "stage": {"requests": "5000/d", "output_tokens": "100k/d", "bytes_out": "10M/d"},
    }
    found = Deployment(
        tmp_path / "d",
        upstream=upstream.url,
        upstream_key=upstream.key,
        plan=write_plan(tmp_path / "plan", caps),
        workers=4,
        environment=machine.environment,
    )
    yield found
    found.stop()


def seen(upstream: ScriptedUpstream) -> int:
    """Return how many were asked of the model server; probes ask other things."""
    return sum(body["messages"][-1]["content"] == TEXT for body in list(upstream.bodies))


def ask_until_denied(deployment: Deployment, key: str) -> None:
    """Ask one after the other until the cap is spent.

    A 503 is asked again, for a while: processes begin anew when the clock goes back.
    """
    until = time.monotonic() + 30
    served = 0
    while (answer := ask(deployment, key, TEXT, max_tokens=1)).status != 429:
        if answer.status in (0, 503):
            assert time.monotonic() < until, answer
            time.sleep(0.1)
            continue
        assert answer.status == 200, answer
        served += 1
        assert served < 100, "nothing is ever denied"


def test_clocks_that_jump_open_no_window_twice(
    deployment: Deployment, upstream: ScriptedUpstream, machine: Machine
) -> None:
    key = deployment.grant("traveller")
    start = machine.shift_s
    spent: list[int] = []

    def spend(at_hours: float, *, wait_s: float = 0) -> int:
        machine.shift_clock(start + at_hours * HOUR)
        time.sleep(wait_s)  # keeper and workers drop what they think is over
        deployment.wait_serving(key)
        before = seen(upstream)
        ask_until_denied(deployment, key)
        spent.append(seen(upstream) - before)
        return spent[-1]

    try:
        assert spend(0) == REQUESTS
        assert spend(1, wait_s=4) == REQUESTS, "a new hour"
        assert spend(0) == 0, "set back by an hour: that window was spent"
        assert spend(1) == 0, "and so was this one"
    finally:
        machine.shift_clock(start)
    say(f"the clock went on, back and on again: {spent} of {REQUESTS} an hour")


def test_a_clock_behind_its_witness_serves_nothing(
    deployment: Deployment, machine: Machine
) -> None:
    key = deployment.grant("traveller")
    start = machine.shift_s
    deployment.wait_serving(key)
    try:
        machine.shift_clock(-HOUR)
        wait_for(lambda: _refuses(deployment, key), seconds=60)
        until = time.monotonic() + 5
        while time.monotonic() < until:
            assert _refuses(deployment, key), "served by a clock that is wrong"
            time.sleep(0.1)
    finally:
        machine.shift_clock(start)
    deployment.wait_serving(key)
    assert ask(deployment, key, TEXT, max_tokens=1).status == 200


def _refuses(deployment: Deployment, key: str) -> bool:
    return ask(deployment, key, TEXT, max_tokens=1).status in (0, 503)
