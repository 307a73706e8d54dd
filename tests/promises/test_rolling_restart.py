"""Workers are renewed under load: nobody reads a 5xx, and no connection is lost.

Not one of the ten promises, but judged as they are: from outside, by processes and bytes. Callers that
connect anew for each request, callers that keep their connection, and streams go on while
`gatelift restart` puts a new process in the place of each worker, twice. No caller retries anything.

Seen to fail: with idle kept connections closed at once (a request in 1,779 went unanswered). The queue
of a socket that closes is too short-lived to be hit here: `test_http_server` fills one on purpose.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.promises.outside import Deployment, Stream, gatelift, say, wait_for
from tests.promises.siege import write_plan
from tests.support.upstream import ScriptedUpstream

CAPS = {"principal": {"requests": "1M/d"}, "stage": {"output_tokens": "100M/d"}}
DRAIN_S = 10.0


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    found = ScriptedUpstream(["word "] * 60, delay_s=0.02, key="upstream-key-of-a-roll")
    yield found
    found.close()


@pytest.fixture(scope="module")
def deployment(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("rolling")
    found = Deployment(
        folder / "d",
        upstream=upstream.url,
        upstream_key=upstream.key,
        plan=write_plan(folder / "plan", CAPS),
        workers=2,
    )
    yield found
    found.stop()


class Load:
    """Callers that ask one thing after another, each on a new connection or on one that is kept."""

    def __init__(self, deployment: Deployment, *, fresh: int, kept: int) -> None:
        self._deployment = deployment
        self._over = threading.Event()
        self.found: list[tuple[bool, str]] = []
        self.slowest_s = 0.0
        self._threads = [
            threading.Thread(target=self._ask, args=(n < kept,), daemon=True)
            for n in range(fresh + kept)
        ]
        for thread in self._threads:
            thread.start()

    def _ask(self, kept: bool) -> None:
        body = {"model": self._deployment.model, "max_tokens": 2}
        data = json.dumps(body | {"messages": [{"role": "user", "content": "x"}]})
        headers = {
            "authorization": f"Bearer {self._deployment.api_key}",
            "content-type": "application/json",
        }
        connection = http.client.HTTPConnection("127.0.0.1", self._deployment.port, timeout=30)
        while not self._over.is_set():
            began = time.monotonic()
            try:
                connection.request("POST", "/v1/chat/completions", data, headers)
                answer = connection.getresponse()
                text = answer.read()
                said = "200" if answer.status == 200 else f"{answer.status} {text[:80]!r}"
            except (OSError, http.client.HTTPException) as error:
                said = repr(error)
                connection.close()
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
            self.found.append((kept, said))
            if not kept:
                connection.close()
            self._over.wait(0.01)
        connection.close()

    def stop(self) -> Counter[tuple[bool, str]]:
        self._over.set()
        for thread in self._threads:
            thread.join(30)
        return Counter(self.found)


def test_a_rolling_restart_under_load_has_no_5xx_and_loses_no_connection(
    deployment: Deployment, upstream: ScriptedUpstream
) -> None:
    before = deployment.processes("worker")
    load = Load(deployment, fresh=4, kept=4)
    try:
        time.sleep(0.3)
        streams = [Stream(deployment, f"s{n}", max_tokens=60) for n in range(4)]
        took = []
        for _ in range(2):
            began = time.monotonic()
            done = gatelift("restart", "--dir", deployment.folder, "--json", timeout=120)
            assert done.returncode == 0, done.stdout + done.stderr
            assert json.loads(done.stdout)["workers"] == 2
            took.append(time.monotonic() - began)
        for stream in streams:
            stream.join(30)
        time.sleep(0.3)
    finally:
        found = load.stop()
    after = deployment.processes("worker")
    say(f"restarts of 2 workers in {took} s: {dict(found)}; slowest {load.slowest_s:.2f} s")
    assert len(after) == 2
    assert not set(before) & set(after)
    assert {said for _, said in found} == {"200"}, found
    assert found[True, "200"] > 20
    assert found[False, "200"] > 20
    for stream in streams:
        assert stream.status == 200
        assert not stream.broken
        assert stream.text.endswith(b"data: [DONE]\n\n")


def test_a_successor_that_cannot_serve_changes_nothing(
    deployment: Deployment, tmp_path: Path
) -> None:
    wait_for(lambda: len(deployment.processes("worker")) == 2)
    before = deployment.processes("worker")
    broken = deployment.folder / "overload.json"
    broken.write_text('{"no_such_setting": 1}')
    try:
        done = gatelift("restart", "--dir", deployment.folder, "--json", timeout=120)
    finally:
        broken.unlink()
    assert done.returncode == 4, done.stdout + done.stderr
    assert "serves on" in done.stdout
    assert deployment.processes("worker") == before
    assert deployment.chat(max_tokens=1).status_code == 200


def test_a_worker_told_to_end_ends_its_answers_and_takes_no_more(
    deployment: Deployment, upstream: ScriptedUpstream
) -> None:
    """SIGTERM to one worker by hand: its streams end well, within the bound, and others serve."""
    wait_for(lambda: len(deployment.processes("worker")) == 2)
    streams = [Stream(deployment, f"t{n}", max_tokens=60) for n in range(6)]
    wait_for(lambda: all(stream.text for stream in streams))
    pid = deployment.processes("worker")[0]
    began = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    for stream in streams:
        stream.join(30)
        assert stream.text.endswith(b"data: [DONE]\n\n")
    wait_for(lambda: pid not in deployment.processes("worker"), seconds=DRAIN_S + 5)
    say(f"ended after {time.monotonic() - began:.1f} s")
    assert time.monotonic() - began < DRAIN_S + 5
    wait_for(lambda: len(deployment.processes("worker")) == 2, seconds=20)
    deployment.wait_serving()
