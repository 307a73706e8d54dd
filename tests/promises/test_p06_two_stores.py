"""Promise 6 where the plan says `replicated`: a record is on two stores before its caller is answered.

Attacked here: the second store is left out, or put on the first one's file system; it fails while the
first is well, and hangs; and the first is lost altogether: from the copy alone the node must know
every acknowledged exchange and every cap that was spent.

Seen to fail: with `journal.writer` not waiting for the second store its failure went unnoticed (red).
"""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.promises.hostile import SYNC, Machine
from tests.promises.outside import PYTHON, Deployment, free_ports, gatelift, say, wait_for
from tests.promises.siege import ask, statuses, write_plan
from tests.support.upstream import ScriptedUpstream

CAP = 60
CAPS = {"principal": {"requests": f"{CAP}/d"}, "stage": {"output_tokens": "10M/d"}}
SHM = Path("/dev/shm")


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    found = ScriptedUpstream(["word "] * 50, key="upstream-key-of-two-stores")
    yield found
    found.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("p06-two")


@pytest.fixture(scope="module")
def copies(home: Path) -> Iterator[Path]:
    """A folder on another file system than the deployment's."""
    if not SHM.is_dir() or SHM.stat().st_dev == home.stat().st_dev:
        pytest.skip("no second file system here")
    found = SHM / f"gatelift-second-{home.parent.name}-{home.name}"
    yield found
    shutil.rmtree(found, ignore_errors=True)


@pytest.fixture(scope="module")
def machine(home: Path) -> Iterator[Machine]:
    found = Machine(home / "machine")
    yield found
    found.close()


@pytest.fixture(scope="module")
def plan(home: Path) -> Path:
    return write_plan(home / "plan", CAPS, durability="replicated")


@pytest.fixture(scope="module")
def deployment(
    upstream: ScriptedUpstream, machine: Machine, home: Path, copies: Path, plan: Path
) -> Iterator[Deployment]:
    found = Deployment(
        home / "d",
        upstream=upstream.url,
        upstream_key=upstream.key,
        plan=plan,
        environment=machine.environment,
        more=("--replica", str(copies)),
    )
    yield found
    found.stop()


def test_a_plan_that_says_replicated_is_not_served_from_one_store(
    upstream: ScriptedUpstream, plan: Path, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_text(upstream.key + "\n")
    words = ["up", "--dir", tmp_path / "d", "--upstream", upstream.url, "--plan", plan, "--json"]
    words += ["--upstream-key-file", key, "--port", str(free_ports())]
    for more, code in (([], "no_replica"), (["--replica", tmp_path / "copy"], "same_store")):
        said = gatelift(*words, *more)
        assert said.returncode != 0
        assert json.loads(said.stdout)["error"]["code"] == code, said.stdout


def test_the_level_is_said_and_a_worker_without_a_second_store_serves_nothing(
    deployment: Deployment,
) -> None:
    header = {"authorization": f"Bearer {deployment.api_key}"}
    told = httpx.get(f"{deployment.base_url}/access", headers=header).json()
    assert told["levels"]["durability"] == "replicated"
    port = free_ports()
    words = [PYTHON, "-m", "gatelift", "worker", "--dir", str(deployment.folder)]
    bare = subprocess.Popen(
        [*words, "--name", "bare", "--port", str(port)], stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}/v1/access"

    def why() -> str:
        try:
            answer = httpx.get(url, headers=header).json()
        except httpx.TransportError:
            return ""
        reason: str = (answer.get("reason") or {}).get("code", "")
        return "" if reason == "status_lapsed" else reason

    try:
        assert wait_for(why, seconds=15) == "not_replicated"
    finally:
        bare.terminate()
        bare.wait(20)


def test_a_second_store_that_fails_refuses_and_recovers_by_itself(
    deployment: Deployment, machine: Machine, copies: Path
) -> None:
    key = deployment.api_key
    assert ask(deployment, key, "well", max_tokens=2).status == 200
    with machine.disk(SYNC, error=errno.EIO, path=str(copies)):
        found = [ask(deployment, key, "ill", max_tokens=2, stream=n % 2 == 1) for n in range(10)]
    assert statuses(found) == {503: 10}
    assert {each.error["code"] for each in found} == {"journal_failed"}
    assert not any(b"word" in each.body for each in found)
    wait_for(lambda: ask(deployment, key, "well again", max_tokens=2).status == 200)


def test_the_copy_alone_knows_every_answer_and_every_cap(
    deployment: Deployment, upstream: ScriptedUpstream, copies: Path, tmp_path: Path
) -> None:
    key = deployment.api_key
    found = []
    gate = threading.Lock()

    def caller() -> None:
        while (answer := ask(deployment, key, "to the end", max_tokens=2)).status != 429:
            with gate:
                found.append(answer)

    threads = [threading.Thread(target=caller) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found
    deployment.stop()
    # The first copy of every journal is lost.
    for copy in copies.iterdir():
        shutil.rmtree(deployment.folder / "journal" / copy.name)
        shutil.copytree(copy, deployment.folder / "journal" / copy.name)
    calls = upstream.calls
    deployment.start()
    deployment.wait_control()
    deployment.wait_serving(key)
    assert ask(deployment, key, "once more", max_tokens=2).status == 429, "the cap was forgotten"
    out = tmp_path / "dossier"
    deployment.cli("dossier", "export", "--dir", deployment.folder, "--out", out).must()
    root = (deployment.folder / "root.sha256").read_text().strip()
    done = gatelift("verify", out, "--root", root)
    assert done.returncode == 0, done.stdout + done.stderr
    ids = "".join(path.read_text() for path in (out / "records").iterdir())
    missing = [each for each in found if each.headers["x-request-id"].lower() not in ids.lower()]
    say(
        f"{len(found)} answers, all in the copy; the model saw {upstream.calls - calls} probes since"
    )
    assert not missing
