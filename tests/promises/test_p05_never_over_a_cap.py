"""Promise 5: never over a cap.

Attacked here: 64 threads behind a barrier race for a cap of 40 requests over four workers; the
model server's own count says how many got through. Then the same with kill -9 of workers and of the
keeper in the middle, again and again, callers retrying whatever they are told; with all of the node's processes killed at once and what is
left of the cap raced for afterwards; and with streams that their callers abandon half way.

Seen to fail: with `keeper.counters` granting without looking at what is granted already all 64 were
served (red); with the journals and the workers' own words left out when the keeper begins anew and
when a worker died, the crash of the whole node gave the cap anew (red), and the kills let up to 79
reach the model, though not each time.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.promises.outside import PLANS, Deployment, say, wait_for
from tests.support.upstream import ScriptedUpstream

WORKERS, THREADS, CAP = 4, 64, 40


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    found = ScriptedUpstream(delay_s=0.01, key="upstream-key-of-promise-five")
    yield found
    found.close()


@pytest.fixture(scope="module")
def deployment(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    found = Deployment(
        tmp_path_factory.mktemp("p05") / "d",
        upstream=upstream.url,
        upstream_key=upstream.key,
        plan=PLANS / "narrows.yaml",
        workers=WORKERS,
    )
    yield found
    found.stop()


def reached(upstream: ScriptedUpstream, mark: str) -> int:
    """Return how many requests with `mark` the model server has seen, by its own count."""
    return sum(mark in json.dumps(body["messages"]) for body in list(upstream.bodies))


def own_count(deployment: Deployment, out: Path) -> Counter[str]:
    """Return what Gatelift's own records charge to each counter of requests, from a dossier."""
    deployment.cli("dossier", "export", "--dir", deployment.folder, "--out", out).must()
    spent: Counter[str] = Counter()
    for path in (out / "records").iterdir():
        for line in path.read_text().splitlines():
            record = json.loads(json.loads(line)["record"])
            for charge in record.get("spent", ()):
                if ".requests/" in charge["counter"]:
                    spent[charge["counter"]] += charge["amount"]
    return spent


def race(
    deployment: Deployment, api_key: str, mark: str, *, until_s: float | None = None
) -> Counter[int]:
    """Have all threads ask at once, each on a connection of its own; return how often what came.

    With `until_s` they go on asking until that much time is over.
    """
    barrier = threading.Barrier(THREADS)
    statuses: Counter[int] = Counter()
    lock = threading.Lock()
    end = time.monotonic() + (until_s or 0)

    def ask() -> None:
        barrier.wait()
        while True:
            try:
                status = deployment.chat(mark, key=api_key, max_tokens=3).status_code
            except httpx.TransportError:
                status = 0
            with lock:
                statuses[status] += 1
            if time.monotonic() >= end:
                return
            time.sleep(0.1)

    threads = [threading.Thread(target=ask) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return statuses


def test_exactly_the_cap_is_served_at_a_barrier(
    deployment: Deployment, upstream: ScriptedUpstream
) -> None:
    api_key = deployment.grant("racer")
    found = race(deployment, api_key, "at the barrier")
    say(
        f"{THREADS} at a barrier, cap {CAP}: {dict(found)}, model saw "
        f"{reached(upstream, 'at the barrier')}"
    )
    assert found == {200: CAP, 429: THREADS - CAP}
    assert reached(upstream, "at the barrier") == CAP
    told = deployment.chat("once more", key=api_key)
    assert told.status_code == 429
    error = told.json()["error"]
    assert (error["limit"], error["cap"]) == (CAP, "principal.requests/d"), error
    # All of it is spent, nothing is only set aside, once the journals were read.
    wait_for(
        lambda: (
            [
                deployment.chat("and again", key=api_key).json()["error"][name]
                for name in ("used", "reserved")
            ]
            == [CAP, 0]
        )
    )
    assert told.headers["x-should-retry"] == "false"


def test_each_principal_has_its_own_cap_at_the_same_time(
    deployment: Deployment, upstream: ScriptedUpstream
) -> None:
    keys = {name: deployment.grant(name) for name in ("left", "right")}
    threads = [
        threading.Thread(target=race, args=(deployment, api_key, f"from {name}"))
        for name, api_key in keys.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {name: reached(upstream, f"from {name}") for name in keys} == {"left": CAP, "right": CAP}


def test_kills_of_workers_and_keeper_never_let_more_through(
    deployment: Deployment, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    api_key = deployment.grant("killer")
    mark = "through the kills"
    deployment.wait_serving()
    # Half of the cap is spent in peace: whoever forgets it in a crash serves too many.
    for _ in range(CAP // 2):
        assert deployment.chat(mark, key=api_key, max_tokens=3).status_code == 200
    over = threading.Event()
    killed: Counter[str] = Counter()

    def kill() -> None:
        for name in ("keeper", "worker", "worker", "keeper", "worker"):
            if over.wait(0.05 if not killed else 0.4):
                return
            if deployment.processes(name):
                deployment.kill(name)
                killed[name] += 1

    killer = threading.Thread(target=kill)
    killer.start()
    statuses = race(deployment, api_key, mark, until_s=5)
    over.set()
    killer.join()
    # Once all is settled whatever is left of the cap is served, and not one more.
    wait_for(lambda: len(deployment.processes("worker")) == WORKERS, seconds=20)
    deployment.wait_control()
    deployment.wait_serving()
    statuses += race(deployment, api_key, mark, until_s=2)
    seen = reached(upstream, mark)
    say(f"killed {dict(killed)}: callers saw {dict(statuses)}, model saw {seen} of {CAP}")
    assert sum(killed.values()) >= 3
    assert seen <= CAP
    assert statuses[200] <= CAP - CAP // 2
    assert deployment.chat(mark, key=api_key).status_code == 429, "the cap is spent"
    assert reached(upstream, mark) == seen
    # A request that a kill cut off is charged though the model never saw it: count the charges too.
    charged = own_count(deployment, tmp_path / "dossier")
    assert max(charged.values()) <= CAP, charged


def test_a_crash_of_the_whole_node_forgets_nothing_that_was_spent(
    deployment: Deployment, upstream: ScriptedUpstream
) -> None:
    api_key = deployment.grant("survivor")
    mark = "before and after the crash"
    spent = 30
    for _ in range(spent):
        assert deployment.chat(mark, key=api_key, max_tokens=3).status_code == 200
    dead = deployment.processes("worker") + deployment.processes("keeper")
    for pid in dead:
        os.kill(pid, signal.SIGKILL)
    wait_for(
        lambda: (
            len(deployment.processes("worker")) == WORKERS
            and not {*deployment.processes("worker"), *deployment.processes("keeper")} & {*dead}
        ),
        seconds=30,
    )
    deployment.wait_control()
    deployment.wait_serving(api_key)
    # Nothing was on its way when all died, so what is left is exactly the rest.
    statuses = race(deployment, api_key, mark, until_s=2)
    assert statuses[200] == CAP - spent, statuses
    assert reached(upstream, mark) == CAP


def test_callers_that_hang_up_do_not_get_their_request_back(
    deployment: Deployment, upstream: ScriptedUpstream
) -> None:
    api_key = deployment.grant("quitter")
    deployment.wait_serving(api_key)
    mark = "never mind"
    body = json.dumps(
        {
            "model": "mock",
            "messages": [{"role": "user", "content": mark}],
            "stream": True,
            "max_tokens": 3,
        }
    ).encode()
    request = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"authorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b"
        % (api_key.encode(), len(body), body)
    )

    def hang_up(number: int) -> None:
        with socket.create_connection(("127.0.0.1", deployment.port)) as sock:
            sock.sendall(request)
            if number % 3:
                sock.settimeout(5)
                sock.recv(64 if number % 3 == 1 else 4096)

    threads = [threading.Thread(target=hang_up, args=(n,)) for n in range(2 * CAP)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    wait_for(lambda: deployment.chat(mark, key=api_key).status_code == 429, every=0.2)
    assert reached(upstream, mark) <= CAP
