"""Promise 6 on a failing disk: errors of write and fdatasync, torn and short writes, a full disk.

Attacked here: while callers ask, the calls of every process on the journals, then on the keeper's
log, fail with EIO or ENOSPC, each time or now and then, before anything was written or in the middle
of a frame. Afterwards every answer that a caller had in full must be in the exported records, which
must verify as a whole; whoever was refused must have read a 503 that says why; and service must come
back without a hand. The disk is a small C library's, preloaded into the processes (`hostile`); where
the tests run as root, a small file system is filled to its last byte as well.

Seen to fail: with `keeper.pump` leaving its own broken journal to the next append, an exchange whose
closing batch was not written stayed open for ever (red).
"""

from __future__ import annotations

import base64
import errno
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.promises.hostile import SHORT, SLOW, SYNC, TORN, WRITE, Machine
from tests.promises.outside import Deployment, gatelift, open_ticket, say, wait_for
from tests.promises.siege import Asked, ask, get, run_all, statuses, write_plan
from tests.support.upstream import ScriptedUpstream

CAPS = {"principal": {"requests": "1M/d"}, "stage": {"output_tokens": "100M/d"}}


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    found = ScriptedUpstream(["word "] * 200, delay_s=0.002, key="upstream-key-of-a-bad-disk")
    yield found
    found.close()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    found = Machine(tmp_path_factory.mktemp("p06-machine") / "m")
    yield found
    found.close()


@pytest.fixture(scope="module")
def deployment(
    upstream: ScriptedUpstream, machine: Machine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("p06-disk")
    found = Deployment(
        folder / "d",
        upstream=upstream.url,
        upstream_key=upstream.key,
        plan=write_plan(folder / "plan", CAPS),
        workers=2,
        environment=machine.environment,
    )
    yield found
    found.stop()


class Callers:
    """Callers that go on asking until told to stop; half of their answers are streamed."""

    def __init__(self, deployment: Deployment, number: int = 8) -> None:
        self._deployment = deployment
        self._over = threading.Event()
        self._lock = threading.Lock()
        self.found: list[Asked] = []
        self._threads = [
            threading.Thread(target=self._ask, args=(n,), daemon=True) for n in range(number)
        ]
        for thread in self._threads:
            thread.start()

    def _ask(self, number: int) -> None:
        while not self._over.is_set():
            stream = number % 2 == 1
            key = self._deployment.api_key
            answer = ask(self._deployment, key, f"caller {number}", max_tokens=3, stream=stream)
            with self._lock:
                self.found.append(answer)
            self._over.wait(0.01 if answer.status == 200 else 0.05)

    def stop(self) -> list[Asked]:
        self._over.set()
        for thread in self._threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self._threads), "a caller waits for ever"
        return self.found


def tickets(found: list[Asked]) -> list[str]:
    """Return the ticket of the finish of every answer that came in full."""
    held = []
    for each in found:
        if each.status != 200:
            continue
        lines = [x for x in each.body.split(b"\n") if x.startswith(b": gatelift-ticket ")]
        if b"data: " in each.body[:6]:
            assert b"data: [DONE]" in each.body
            held.append(lines[0].removeprefix(b": gatelift-ticket ").decode())
        else:
            held.append(each.headers["gatelift-ticket"])
    return held


class Held(NamedTuple):
    """The records of a dossier, as stored text, and how many of them are finishes."""

    records: frozenset[str]
    upstream: int


def export(deployment: Deployment, out: Path) -> Held:
    """Export the records; the public verifier must find nothing wrong with them."""
    deployment.cli("dossier", "export", "--dir", deployment.folder, "--out", out).must()
    root = (deployment.folder / "root.sha256").read_text().strip()
    done = gatelift("verify", out, "--root", root)
    assert done.returncode == 0, done.stdout + done.stderr
    stored = [
        json.loads(line)["record"]
        for path in sorted((out / "records").iterdir())
        for line in path.read_text().splitlines()
    ]
    finishes = [json.loads(text) for text in stored]
    return Held(
        frozenset(stored),
        sum(1 for each in finishes if each["kind"] == "finish" and each["upstream"]),
    )


def check_kept(deployment: Deployment, found: list[Asked], out: Path) -> int:
    """Return how many acknowledged answers there were; each must be in the records."""
    wait_for(lambda: well(deployment), seconds=20, every=0.2)
    time.sleep(0.7)  # the keeper publishes twice a second
    held = export(deployment, out)
    kept = tickets(found)
    key = deployment.node_key()
    for ticket in kept:
        open_ticket(ticket, key)
        text = json.loads(base64.b64decode(ticket))["record"]
        assert text in held.records, f"an acknowledged answer is not in the records: {text}"
    return len(kept)


def well(deployment: Deployment) -> bool:
    """Return whether every worker serves."""
    answers = [
        ask(deployment, deployment.api_key, "well?", max_tokens=1)
        for _ in range(6 * deployment.workers)
    ]
    return all(each.status == 200 for each in answers)


ILLS = {
    "write-eio": (WRITE, errno.EIO, 1),
    "write-enospc": (WRITE, errno.ENOSPC, 1),
    "torn-enospc": (TORN | WRITE, errno.ENOSPC, 1),
    "sync-eio": (SYNC, errno.EIO, 1),
    "now-and-then": (WRITE | SYNC, errno.EIO, 7),
}
SLOW_ONES = {"write-eio", "write-enospc", "now-and-then"}


@pytest.mark.parametrize(
    "ill",
    [pytest.param(ill, marks=[pytest.mark.slow] if ill in SLOW_ONES else []) for ill in ILLS],
)
def test_a_failing_journal_refuses_loses_nothing_and_recovers_by_itself(
    deployment: Deployment, machine: Machine, tmp_path: Path, ill: str
) -> None:
    what, error, every = ILLS[ill]
    callers = Callers(deployment)
    try:
        time.sleep(0.3)
        with machine.disk(what, error=error, every=every, path="/journal/"):
            time.sleep(1.2)
        healed = time.monotonic()
        wait_for(lambda: well(deployment), seconds=15, every=0.05)
        took = time.monotonic() - healed
    finally:
        found = callers.stop()
    refused = [each for each in found if each.status not in {0, 200}]
    kept = check_kept(deployment, found, tmp_path / "dossier")
    say(f"{ill}: {dict(statuses(found))}, {kept} kept, well again after {took:.1f} s")
    assert refused
    assert {each.status for each in refused} == {503}, {e.status: e.body for e in refused}
    assert {each.error["code"] for each in refused} <= {"journal_failed", "keeper_unavailable"}
    assert all("retry-after" in each.headers for each in refused)
    assert not any(b"word" in each.body for each in refused), "released without a record"
    assert kept > 20


def test_short_writes_are_no_failure_at_all(
    deployment: Deployment, machine: Machine, tmp_path: Path
) -> None:
    callers = Callers(deployment)
    with machine.disk(SHORT, path="/journal/"):
        time.sleep(0.7)
    found = callers.stop()
    assert statuses(found).keys() == {200}
    assert check_kept(deployment, found, tmp_path / "dossier") == len(found)


@pytest.mark.parametrize("ill", [pytest.param("write-enospc", marks=pytest.mark.slow), "sync-eio"])
def test_a_failing_requests_log_loses_no_record_and_recovers_by_itself(
    deployment: Deployment, machine: Machine, tmp_path: Path, ill: str
) -> None:
    """The keeper's disk is ill while the workers' journals are well."""
    what, error, every = ILLS[ill]
    callers = Callers(deployment, 4)
    try:
        with machine.disk(what, error=error, every=every, path="/logs/requests"):
            time.sleep(1.0)
            # A worker that dies meanwhile is settled, and its open exchanges closed, afterwards.
            deployment.kill("worker")
            time.sleep(1.0)
        time.sleep(0.3)
    finally:
        found = callers.stop()
    kept = check_kept(deployment, found, tmp_path / "dossier")
    say(f"{ill}: {dict(statuses(found))}, {kept} kept")
    assert statuses(found).keys() <= {200, 0, 503}
    assert kept > 20


def test_an_orphan_is_closed_when_the_keepers_own_journal_is_well_again(
    deployment: Deployment, upstream: ScriptedUpstream, machine: Machine, tmp_path: Path
) -> None:
    """The record that closes it is written, and the batch over it is not: nobody waits for that."""
    upstream.delay_s = 0.2
    try:
        _leave_an_orphan(deployment, upstream, machine, "an orphan")
    finally:
        upstream.delay_s = 0.002

    def closed() -> bool:
        out = tmp_path / f"dossier-{time.monotonic_ns()}"
        stored = [json.loads(text) for text in export(deployment, out).records]
        finished = {json.dumps(each["of"]) for each in stored if each["kind"] == "finish"}
        starts = [
            json.dumps({name: each[name] for name in ("node", "worker", "run", "seq")})
            for each in stored
            if each["kind"] == "start"
        ]
        aborted = [each for each in stored if each.get("outcome") == "aborted"]
        return bool(aborted) and all(place in finished for place in starts)

    wait_for(closed, seconds=15, every=0.5)


def _leave_an_orphan(
    deployment: Deployment, upstream: ScriptedUpstream, machine: Machine, text: str
) -> None:
    deployment.kill("keeper")  # so that the next write to its journal is the first that is counted
    wait_for(lambda: well(deployment), seconds=20, every=0.1)
    fields = {"max_tokens": 40, "stream": True}
    thread = threading.Thread(
        target=ask, args=(deployment, deployment.api_key, text), kwargs=fields, daemon=True
    )
    thread.start()
    wait_for(lambda: any(text in json.dumps(b) for b in list(upstream.bodies)), every=0.02)
    time.sleep(0.3)
    with machine.disk(WRITE, path="/journal/keeper", every=2):
        for pid in deployment.processes("worker"):
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.5)
    thread.join(30)


def test_nothing_is_released_while_the_disk_is_slow(
    deployment: Deployment, machine: Machine
) -> None:
    """Each sync takes 0.4 s: the first byte of a stream and a whole answer wait for theirs."""
    began = time.monotonic()
    with machine.disk(SLOW, path="/journal/", delay_s=0.4):
        answers: list[Asked] = []
        run_all(
            [
                lambda s=s: answers.append(  # type: ignore[misc]
                    ask(deployment, deployment.api_key, "slow", max_tokens=2, stream=s)
                )
                for s in (False, True)
            ]
        )
    assert statuses(answers) == {200: 2}
    assert time.monotonic() - began >= 0.8, "the start's and the finish's"


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system is mounted by root only")
def test_a_disk_that_is_full_to_the_last_byte(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """All of a deployment's files lie on a file system of 48 MB, which somebody else fills."""
    home = tmp_path / "small"
    home.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", home], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no tmpfs here: {done.stderr.decode().strip()}")
    try:
        _fill_and_free(upstream, home, tmp_path)
    finally:
        subprocess.run(["umount", home], check=True)


def _fill_and_free(upstream: ScriptedUpstream, home: Path, tmp_path: Path) -> None:
    deployment = Deployment(
        home / "d",
        upstream=upstream.url,
        upstream_key=upstream.key,
        plan=write_plan(tmp_path / "plan", CAPS),
        workers=2,
    )
    filler = home / "somebody-else"
    callers = Callers(deployment)
    try:
        time.sleep(0.5)
        with filler.open("wb", buffering=0) as file:
            try:
                while file.write(b"x" * 4096):
                    pass
            except OSError as error:
                assert error.errno == errno.ENOSPC  # noqa: PT017
        time.sleep(2.0)
        refused = ask(deployment, deployment.api_key, "full", max_tokens=1)
        filler.unlink()
        wait_for(lambda: well(deployment), seconds=20, every=0.1)
    finally:
        found = callers.stop()
    try:
        kept = check_kept(deployment, found, tmp_path / "dossier")
        say(f"full: {dict(statuses(found))}, {kept} kept; told {refused.error}")
        assert refused.status == 503
        assert kept > 20
        assert get(deployment, "/healthz", "").status == 200
    finally:
        deployment.stop()
