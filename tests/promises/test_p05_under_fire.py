"""Promise 5 on a bad day: lying model servers, callers that leave, stopped processes.

Attacked here: the model server's word about usage is absent, zero, negative, far too small, not a
number or larger than any integer; its own count of what it made is held against the cap. Forty
callers leave their streams at the same time. A worker is stopped with SIGSTOP until its status, its
leases and its window are over, and goes on. Clocks that jump: `test_p05_clocks_that_jump`.

The clock is a small C library's that is preloaded into the deployment's processes (`hostile`).

Seen to fail: with usage believed that no tokenizer could mean (`gateway.releasing`) 90 words were made
under a cap of 60, and as many with a whole answer charged nothing when its usage was nonsense (red).
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.promises.hands import freeze, thaw
from tests.promises.hostile import Machine
from tests.promises.outside import Deployment, say, wait_for
from tests.promises.siege import (
    Asked,
    ask,
    dial,
    grants,
    read_answer,
    request,
    run_all,
    statuses,
    write_plan,
)
from tests.support.upstream import ScriptedUpstream

HOUR = 3600
WORDS = 3
WORD = "word "
OUTPUT, INPUT, REQUESTS = 60, 1000, 25


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    found = ScriptedUpstream([WORD] * 200, delay_s=0.005, key="upstream-key-under-fire")
    yield found
    found.close()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    found = Machine(tmp_path_factory.mktemp("p05-machine") / "m")
    # In the middle of an hour, so that no window ends unless a test says so.
    found.shift_clock((HOUR / 2 - time.time()) % HOUR)
    yield found
    found.close()


@pytest.fixture(scope="module")
def deployment(
    upstream: ScriptedUpstream, machine: Machine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("p05-fire")
    caps = {
        "principal": {
            "requests": f"{REQUESTS}/h",
            "output_tokens": f"{OUTPUT}/d",
            "input_tokens": f"{INPUT}/d",
        },
        "organisation": {"requests": "2000/d", "output_tokens": "100k/d"},
        "audience": {"requests": "[2000/h, 5000/d]", "output_tokens": "100k/d"},
        "stage": {"requests": "5000/d", "bytes_out": "10M/d"},
    }
    found = Deployment(
        folder / "d",
        upstream=upstream.url,
        upstream_key=upstream.key,
        plan=write_plan(folder / "plan", caps),
        workers=4,
        environment=machine.environment,
    )
    yield found
    found.stop()


def seen(upstream: ScriptedUpstream, text: str) -> int:
    return sum(body["messages"][-1]["content"] == text for body in list(upstream.bodies))


def ask_until_denied(deployment: Deployment, key: str, text: str, **fields: Any) -> list[Asked]:
    """Ask one after the other until the cap is spent; return the answers before that.

    A 503 is asked again, for a while: a process may just be starting anew.
    """
    found = []
    until = time.monotonic() + 15
    while (answer := ask(deployment, key, text, **fields)).status != 429:
        if answer.status == 503:
            assert time.monotonic() < until, answer
            time.sleep(0.1)
            continue
        found.append(answer)
        assert len(found) < 100, "nothing is ever denied"
    return found


LIES: dict[str, Callable[[int], Any]] = {
    "silent": lambda made: None,
    "nothing": lambda made: {"prompt_tokens": 0, "completion_tokens": 0},
    "one": lambda made: {"prompt_tokens": 1, "completion_tokens": 1},
    "negative": lambda made: {"prompt_tokens": -500, "completion_tokens": -500},
}


@pytest.fixture(scope="module")
def liars(deployment: Deployment) -> dict[str, str]:
    return dict(zip(LIES, grants(deployment, dict.fromkeys(LIES, "local")), strict=True))


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_about_usage_buys_nothing(
    deployment: Deployment, upstream: ScriptedUpstream, liars: dict[str, str], lie: str
) -> None:
    """Half of the answers are streamed."""
    upstream.tell = LIES[lie]
    found: list[Asked] = []
    until = time.monotonic() + 60
    try:
        while not any(each.status == 429 for each in found):
            stream = len(found) % 2 == 1
            answer = ask(deployment, liars[lie], lie, max_tokens=WORDS, stream=stream)
            if answer.status == 503:
                # What goes on answering nonsense is left alone for a moment.
                assert time.monotonic() < until, answer
                time.sleep(0.2)
                continue
            found.append(answer)
            assert len(found) < 100, "nothing is ever denied"
    finally:
        upstream.tell = None
    made = WORDS * seen(upstream, lie)
    say(f"{lie}: {dict(statuses(found))}, the model made {made} of {OUTPUT} words")
    assert made <= OUTPUT, "by the model server's own count"
    if lie == "negative":
        assert statuses(found).keys() == {502, 0, 429}, "what says nonsense is not believed"
    else:
        assert made == OUTPUT, "and all that the cap has room for"


def test_a_lie_about_the_prompt_buys_nothing(
    deployment: Deployment, upstream: ScriptedUpstream
) -> None:
    key = deployment.grant("liar-prompt")
    text = "w " * 60 + "long"
    upstream.tell = LIES["one"]
    try:
        ask_until_denied(deployment, key, text, max_tokens=1)
    finally:
        upstream.tell = None
    assert 0 < len(text.split()) * seen(upstream, text) <= INPUT


def test_forty_callers_that_leave_their_streams_get_nothing_back(
    deployment: Deployment, upstream: ScriptedUpstream
) -> None:
    """Each reads a different share of its stream and hangs up; then the rest of the cap is spent."""
    key = deployment.grant("leaver")
    text = "never mind the rest"
    read = [0]
    lock = threading.Lock()

    def leave(number: int) -> None:
        with dial(deployment) as sock:
            sock.sendall(request(deployment, key, text, max_tokens=WORDS, stream=True))
            got = b""
            while len(got) < number * 60 and (piece := sock.recv(300)):
                got += piece
        with lock:
            read[0] += got.count(b'"content":')

    run_all([lambda n=n: leave(n) for n in range(40)])  # type: ignore[misc]
    time.sleep(0.3)
    rest = ask_until_denied(deployment, key, text, max_tokens=WORDS)
    assert seen(upstream, text) <= REQUESTS
    assert read[0] + WORDS * statuses(rest)[200] <= OUTPUT, "by what callers could read"


def test_a_worker_that_was_stopped_past_its_time_serves_nothing_from_before(
    deployment: Deployment, upstream: ScriptedUpstream
) -> None:
    """SIGSTOP all workers under load, wait until status and leases are over, go on without control.

    What the callers had sent meanwhile is answered by a worker whose status lapsed: nothing of it
    may reach the model server.
    """
    key = deployment.grant("sleeper")
    text = "still there?"
    assert ask(deployment, key, text, max_tokens=1).status == 200
    upstream.delay_s = 0.3
    sockets = [dial(deployment, 60) for _ in range(24)]
    for sock in sockets[:8]:
        sock.sendall(request(deployment, key, text, max_tokens=WORDS, stream=True))
    wait_for(lambda: seen(upstream, text) > 4, every=0.01)
    workers = deployment.processes("worker")
    freeze(deployment)
    deployment.kill("control")
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(0.2)
        for sock in sockets[8:]:
            sock.sendall(request(deployment, key, text, max_tokens=WORDS, stream=True))
        before = seen(upstream, text)
        time.sleep(3.0)  # the plan's status_ttl is 2 s
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        found = [read_answer(sock) for sock in sockets]
    finally:
        upstream.delay_s = 0.005
        thaw(deployment)
        for sock in sockets:
            sock.close()
    assert seen(upstream, text) == before, "forwarded after the status had lapsed"
    assert not any(each.status == 200 for each in found), "no stream ended well"
    deployment.wait_control()
    deployment.wait_serving(key)
    ask_until_denied(deployment, key, text, max_tokens=WORDS)
    assert seen(upstream, text) <= REQUESTS


def test_a_model_server_that_makes_more_than_asked_is_taken_out(
    deployment: Deployment, upstream: ScriptedUpstream
) -> None:
    key = deployment.grant("generous")
    text = "more than asked"
    upstream.tell = lambda made: {"prompt_tokens": 9, "completion_tokens": made + 1}
    found = [ask(deployment, key, text, max_tokens=WORDS) for _ in range(40)]
    assert statuses(found).keys() == {502, 503}
    assert not any(b"word" in each.body.replace(b"words", b"") for each in found)
    assert seen(upstream, text) <= 4, "once a worker"
