"""Promise 4: a stop is fast.

Attacked here: sixteen streams are open on four workers when an order comes by the admin API, by a
file, and by a file while control hangs; the clock runs from before the order is sent to the last byte that any
caller received. Then control is killed with -9 and kept down, and after that frozen in the middle
of its work, with streams open: the gateway must close by itself within the plan's status_ttl.

Seen to fail: without the call of `recheck` after an order in `gateway.worker` the streams ran on
where control hung, until the status lapsed (red; with control alive its next status hides this); with
`_lapsed` doing nothing they outlived control's death (red).
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.promises.hands import Hands, freeze, thaw
from tests.promises.outside import PLANS, Deployment, Stream, say, wait_for
from tests.support.upstream import ScriptedUpstream

WORKERS, STREAMS = 4, 16
TTL_S = 2.0
BOUND_S = 1.0


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    found = ScriptedUpstream(["word "] * 1024, delay_s=0.02, key="upstream-key-of-promise-four")
    yield found
    found.close()


@pytest.fixture(scope="module")
def deployment(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    found = Deployment(
        tmp_path_factory.mktemp("p04") / "d",
        upstream=upstream.url,
        upstream_key=upstream.key,
        plan=PLANS / "harbour.yaml",
        workers=WORKERS,
    )
    yield found
    found.stop()


def open_streams(deployment: Deployment) -> list[Stream]:
    deployment.wait_serving()
    streams = [Stream(deployment, max_tokens=1024) for _ in range(STREAMS)]
    wait_for(lambda: all(s.text.count(b"data:") > 5 for s in streams), seconds=15)
    return streams


def judge(streams: list[Stream], began_s: float, bound_s: float, what: str) -> None:
    """Every stream ended within the bound, broken off and not as if it were complete."""
    for stream in streams:
        stream.join(20)
        assert not stream.is_alive()
    slowest = max(s.last_s for s in streams) - began_s
    median = sorted(s.last_s for s in streams)[STREAMS // 2] - began_s
    say(f"{what}: last byte of {STREAMS} streams on {WORKERS} workers after {slowest:.3f} s")
    say(f"  (median {median:.3f} s)")
    assert slowest < bound_s
    assert all(s.broken for s in streams), "a stop must not look like a clean end"
    assert not any(b"[DONE]" in s.text for s in streams)


def post(deployment: Deployment, envelope: bytes) -> None:
    url = f"{deployment.admin_url}/admin/v1/orders"
    response = httpx.post(url, json={"envelope": envelope.decode()}, timeout=10)
    assert response.status_code == 201, response.text


def drop(deployment: Deployment, envelope: bytes) -> None:
    path = deployment.folder / "incoming/half"
    path.write_bytes(envelope)
    path.rename(deployment.folder / f"incoming/{time.monotonic_ns()}.order.json")


def drop_without_control(deployment: Deployment, envelope: bytes) -> None:
    """As `drop`, while control hangs: nothing but the order itself can stop anybody."""
    freeze(deployment)
    (pid,) = deployment.processes("control")
    os.kill(pid, signal.SIGSTOP)
    drop(deployment, envelope)

    def go_on() -> None:
        os.kill(pid, signal.SIGCONT)
        thaw(deployment)

    threading.Timer(BOUND_S + 0.5, go_on).start()


def reopen(deployment: Deployment) -> None:
    def done() -> bool:
        return deployment.cli("certify", "--stage", "assess", who=("operator", "safety")).code == 0

    wait_for(done, seconds=30)
    deployment.wait_serving()


@pytest.mark.parametrize(
    ("name", "deliver", "target"),
    [
        ("order on the release, by the admin API", post, ("release", "harbour")),
        ("order on the stage, as a file", drop, ("stage", "assess")),
        ("order on the stage, as a file, control hangs", drop_without_control, ("stage", "assess")),
        ("order on the organisation, by the admin API", post, ("organisation", "local")),
    ],
    ids=["api", "file", "file-without-control", "organisation"],
)
def test_an_order_cuts_every_open_stream_within_a_second(
    deployment: Deployment,
    upstream: ScriptedUpstream,
    name: str,
    deliver: Callable[[Deployment, bytes], None],
    target: tuple[str, str],
) -> None:
    hands = Hands(deployment)
    until = None
    if target[0] == "organisation":
        until = time.time_ns() // 1_000_000 + 4000
    envelope = hands.order("stop", *target, until=until)
    streams = open_streams(deployment)
    began = time.monotonic()
    deliver(deployment, envelope)
    judge(streams, began, BOUND_S, name)
    before = [b for b in list(upstream.bodies) if b.get("stream")]
    for _ in range(2 * WORKERS):
        answer = deployment.chat(stream=True)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "stopped")
    assert len([b for b in list(upstream.bodies) if b.get("stream")]) == len(before)
    if until is None:
        reopen(deployment)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_without_control_the_gateway_closes_within_the_ttl(
    deployment: Deployment, how: signal.Signals
) -> None:
    deployment.wait_control()
    streams = open_streams(deployment)
    freeze(deployment)
    (pid,) = deployment.processes("control")
    try:
        began = time.monotonic()
        os.kill(pid, how)
        judge(streams, began, TTL_S + 0.5, f"control {how.name}")
        for _ in range(2 * WORKERS):
            answer = deployment.chat()
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "status_lapsed")
    finally:
        if how is signal.SIGSTOP:
            os.kill(pid, signal.SIGCONT)
        thaw(deployment)
    deployment.wait_control()
    deployment.wait_serving()
