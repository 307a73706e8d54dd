"""Promise 1, the root of trust: its successor is taken up while everything serves, and by nothing else.

Under load, with a stream open, the key of admissions is replaced: the new one joins, what the old one
signed is signed anew, the old one goes. Nobody whose grant stands loses a request or a stream, and no
process is started again.

Attacked here: with grants that the old key alone has signed, before or after; with roots that do not verify
by the one before.

Seen to fail: with `_take_root` of the order desk doing nothing, no host took the first root (red).
"""

from __future__ import annotations

import base64
import json
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.promises.dossiers import export, root_digest
from tests.promises.outside import Deployment, Said, gatelift, say, wait_for
from tests.promises.test_p03_public_notice import found_by_both
from tests.support.upstream import ScriptedUpstream

WORDS, DELAY_S = 120, 0.05


class Load:
    """Callers that ask without a pause, and one stream that lasts; counts what they are told."""

    def __init__(self, deployment: Deployment, key: str) -> None:
        self._deployment, self._key = deployment, key
        self._ended = threading.Event()
        self.statuses: Counter[int] = Counter()
        self.pieces = 0
        self.stream_end = ""
        self._threads = [threading.Thread(target=self._ask) for _ in range(3)]
        self._threads.append(threading.Thread(target=self._read_stream))
        for each in self._threads:
            each.start()

    def _ask(self) -> None:
        while not self._ended.is_set():
            self.statuses[self._deployment.chat(key=self._key, max_tokens=2).status_code] += 1

    def _read_stream(self) -> None:
        body = {"model": self._deployment.model, "stream": True, "max_tokens": 400}
        body["messages"] = [{"role": "user", "content": "go on"}]
        with httpx.stream(
            "POST",
            f"{self._deployment.base_url}/chat/completions",
            json=body,
            headers={"authorization": f"Bearer {self._key}"},
            timeout=60,
        ) as answer:
            assert answer.status_code == 200
            for line in answer.iter_lines():
                self.pieces += line.startswith("data:")
                self.stream_end = line or self.stream_end

    def end(self) -> None:
        self._ended.set()
        for each in self._threads:
            each.join()


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    found = ScriptedUpstream(["word "] * WORDS, delay_s=DELAY_S, key="upstream-key-of-roots")
    yield found
    found.close()


@pytest.fixture
def deployment(upstream: ScriptedUpstream, tmp_path: Path) -> Iterator[Deployment]:
    found = Deployment(tmp_path / "d", upstream=upstream.url, upstream_key=upstream.key, workers=2)
    yield found
    found.stop()


def draft(deployment: Deployment, name: str, *words: object, keys: tuple[str, ...]) -> Path:
    home = deployment.folder.parent
    made = gatelift(
        "root", "next", deployment.folder / "root.json", "--out", home / "draft", *words
    )
    assert made.returncode == 0, made.stderr
    signers = [word for each in keys for word in ("--key", deployment.key(each))]
    done = gatelift("sign", home / "draft", "--yes", "--out", home / name, *signers)
    assert done.returncode == 0, done.stderr
    return home / name


def submit(deployment: Deployment, root: Path) -> Said:
    return deployment.cli("submit", root)


def rotate(deployment: Deployment, root: Path) -> None:
    """Log a root, and wait until this host pins it and control's bundle is of it."""
    digest = submit(deployment, root).must()["digest"]
    wait_for(lambda: root_digest(deployment) == digest, seconds=20)


def entry_of(deployment: Deployment, name: str, person: str) -> tuple[Path, str]:
    """Return what a person hands in for a key, and its id."""
    path = deployment.folder.parent / f"{name}.json"
    words = ["keys", "show", deployment.key(name), "--person", person, "--organisation"]
    organisation = next(p["organisation"] for p in deployment.root()["people"] if p["id"] == person)
    done = gatelift(*words, organisation, "--out", path)
    assert done.returncode == 0, done.stderr
    return path, json.loads(path.read_bytes())["key_id"]


def is_admitted(deployment: Deployment, key: str) -> bool:
    """Whether any worker still takes a key: each connection is one's by chance."""
    asked = [
        httpx.get(f"{deployment.base_url}/access", headers={"authorization": f"Bearer {key}"})
        for _ in range(8)
    ]
    return any(answer.status_code == 200 for answer in asked)


def pids(deployment: Deployment) -> dict[str, list[int]]:
    return {name: deployment.processes(name) for name in ("control", "keeper", "worker")}


ROOTS = ("root-1", "root-2")


def test_the_admissions_key_is_replaced_under_load_and_nobody_notices(
    deployment: Deployment, tmp_path: Path
) -> None:
    running = pids(deployment)
    new = deployment.key("admissions-2")
    assert gatelift("keys", "new", new).returncode == 0
    admissions = deployment.root()["people"]
    person = next(p["id"] for p in admissions if p["id"] == "admissions-desk")
    old_entry, old_id = entry_of(deployment, "admissions", person)
    new_entry, _ = entry_of(deployment, "admissions-2", person)
    by_old = deployment.grant("stays-with-the-old-key")
    partner = deployment.cli(
        *["grant", "--principal", "partner", "--organisation", "local", "--stage", "assess"],
        *["--proof", "identity"],
        who=("admissions",),
    ).must()
    key = str(partner["api_key"])
    deployment.wait_known(key)
    load = Load(deployment, key)
    try:
        wait_for(lambda: load.pieces > 5, seconds=10)
        both = ["--role", f"admissions={old_entry}", "--role", f"admissions={new_entry}"]
        rotate(deployment, draft(deployment, "root-2.json", *both, keys=ROOTS))
        entry = deployment.admin(f"/entries/{partner['index']}", token="submitter").json()
        (tmp_path / "grant.json").write_bytes(base64.b64decode(entry["body"]))
        deployment.cli("submit", tmp_path / "grant.json", who=("admissions-2",)).must()
        third = draft(deployment, "root-3.json", "--remove", old_id, keys=ROOTS)
        submit(deployment, third).must()
        began = time.monotonic()
        wait_for(lambda: not is_admitted(deployment, by_old), seconds=10, every=0.01)
        took = time.monotonic() - began
        wait_for(lambda: load.stream_end == "data: [DONE]", seconds=30)
    finally:
        load.end()
    assert set(load.statuses) == {200}, load.statuses
    assert load.pieces >= WORDS, "the stream ran to its end"
    assert pids(deployment) == running
    late = deployment.cli(
        *["grant", "--principal", "late", "--organisation", "local", "--stage", "assess"],
        *["--proof", "identity"],
        who=("admissions",),
    )
    assert late.code == 1
    assert found_by_both(export(deployment, tmp_path / "dossier"), deployment) == (set(), set())
    say(
        f"two roots under load: {load.statuses[200]} requests and a stream, none lost; the old key's "
        f"grant was refused {took:.2f} s after the second was logged"
    )


def test_a_root_that_does_not_follow_changes_nothing(deployment: Deployment) -> None:
    pinned = root_digest(deployment)
    half = draft(deployment, "half.json", keys=("root-1",))
    assert submit(deployment, half).error["code"] == "quorum_unmet"
    shutil.copy(deployment.folder / "root.json", deployment.folder.parent / "first.json")
    rotate(deployment, draft(deployment, "root-2.json", keys=ROOTS))
    after = root_digest(deployment)
    assert after != pinned
    assert submit(deployment, half).code == 1
    assert submit(deployment, deployment.folder.parent / "first.json").code == 1, "nor an older one"
    time.sleep(1)
    assert root_digest(deployment) == after, "an older root is not taken back"
    assert deployment.chat(max_tokens=2).status_code == 200
