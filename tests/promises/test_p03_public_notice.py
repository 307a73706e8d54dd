"""Promise 3, public notice: nothing begins before the plan's notice is over by the witnesses' time.

A plan asks for four seconds of notice of its first stage. Attacked here: the quorum certifies without an
announcement, and too early after one; an overseer objects in between and takes it back. Then control
itself is crooked (`crooked/`): it logs what it should refuse and drafts as if nobody had objected, with
the operator's own keys, log and witness. The node must serve nothing of it.

Seen to fail: without `verify_notice` in `messages.bundle` the crooked certificates were served (red);
without `ledger.following.objections` the one that hid an objection was (red); with an objection
counted against its own announcement alone, a twin of it got past (red).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.promises.dossiers import export, root_digest
from tests.promises.outside import (
    HERE,
    PLANS,
    PYTHON,
    Deployment,
    Said,
    free_ports,
    gatelift,
    say,
    wait_for,
)
from tests.support.upstream import ScriptedUpstream

NOTICE_S = 4.0
QUORUM = ("operator", "safety")
ONE_FILE = HERE.parents[1] / "verifier" / "gatelift_verify.py"


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    found = ScriptedUpstream(["word "] * 3, delay_s=0, key="upstream-key-of-notices")
    yield found
    found.close()


def begin(home: Path, upstream: ScriptedUpstream, environment: dict[str, str]) -> Deployment:
    """Run a deployment with plan and placement, whose first stage takes notice; nothing is certified."""
    text = (PLANS / "harbour.yaml").read_text()
    plan = home / "plan.yaml"
    plan.write_text(text.replace("    quorum: [operator, safety]\n", NOTICED, 1))
    shutil.copy(PLANS / "prompt.txt", home)
    said = gatelift(
        *["init", home / "d", "--yes", "--plan", plan, "--upstream", upstream.url],
        *["--port", str(free_ports()), "--json"],
    )
    assert said.returncode == 0, said.stdout + said.stderr
    found = Deployment(
        home / "d",
        upstream=upstream.url,
        upstream_key=upstream.key,
        bootstrap=False,
        environment=environment,
    )
    found.cli("plan", "adopt", found.folder / "plan.yaml", who=("operator",)).must()
    found.cli(
        *["placement", "enrol", "--name", "p1", "--base-url", upstream.url],
        *["--model", "mock", "--upstream-key-file", found.key("upstream")],
        who=("operator",),
    ).must()
    wait_for(lambda: any(p["probe"]["up"] for p in found.admin("/state").json()["probes"]))
    return found


NOTICED = f"    quorum: [operator, safety]\n    notice: {NOTICE_S:g}s\n"


def certify(deployment: Deployment) -> Said:
    return deployment.cli("certify", "--stage", "assess", who=QUORUM)


def announce(deployment: Deployment) -> str:
    said = deployment.cli(
        *["announce", "--stage", "assess", "--reason", "a promise test"], who=("operator",)
    )
    return str(said.must()["digest"])


def object_to(deployment: Deployment, announcement: str) -> str:
    words = ["object", "--announcement", announcement, "--grounds", "the red team is not done"]
    return str(deployment.cli(*words, who=("overseer",)).must()["digest"])


def codes(said: Said) -> set[str]:
    assert said.code == 1, said.text
    return set(said.reasons())


def is_served(deployment: Deployment, api_key: str) -> bool:
    return deployment.chat(key=api_key).status_code == 200


def stays_shut(deployment: Deployment, api_key: str, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert not is_served(deployment, api_key), "served without notice"
        time.sleep(0.1)


def found_by_both(dossier: Path, deployment: Deployment) -> tuple[set[str], set[str]]:
    """Return the codes of what the package's verifier and the one in one file find wrong."""
    words = [dossier, "--root", root_digest(deployment), "--json"]
    ours = gatelift("verify", *words)
    theirs = subprocess.run(
        [PYTHON, ONE_FILE, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return errors_of(ours.stdout), errors_of(theirs.stdout)


def errors_of(text: str) -> set[str]:
    found = json.loads(text)["findings"]
    return {each["code"] for each in found if each["severity"] == "error"}


@pytest.fixture(scope="module")
def honest(upstream: ScriptedUpstream, tmp_path_factory: Any) -> Iterator[Deployment]:
    found = begin(tmp_path_factory.mktemp("p03-notice"), upstream, {})
    yield found
    found.stop()


def test_notice_runs_and_an_objection_makes_it_run_anew(honest: Deployment) -> None:
    api_key = honest.grant("early")
    assert "not_announced" in codes(certify(honest))
    began = time.monotonic()
    announcement = announce(honest)
    announce(honest)  # a twin, to which nobody objects, gets past no objection
    assert codes(certify(honest)) == {"notice_running"}
    time.sleep(NOTICE_S / 2)
    object_to(honest, announcement)
    objected = time.monotonic()
    assert "objection_holds" in codes(certify(honest))
    again = honest.cli(
        *["object", "--announcement", announcement, "--grounds", "still not"], who=("overseer",)
    )
    assert again.code == 1, "an objection delays once"
    by_another = honest.cli(
        *["object", "--announcement", announcement, "--grounds", "me too"], who=("safety",)
    )
    assert by_another.code == 1, "nobody else objects"
    time.sleep(max(0.0, began + NOTICE_S + 0.2 - time.monotonic()))
    assert codes(certify(honest)) == {"objection_holds"}
    wait_for(lambda: certify(honest).code == 0, seconds=20, every=0.3)
    took = time.monotonic() - objected
    say(f"certified {took:.2f} s after an objection, at a notice of {NOTICE_S:g} s")
    assert took >= NOTICE_S - 1  # the witness counts whole seconds
    honest.wait_serving(api_key)
    # What was announced once is renewed without another notice.
    certify(honest).must()


def test_a_stranger_sees_that_it_was_kept(honest: Deployment, tmp_path: Path) -> None:
    path = export(honest, tmp_path / "dossier")
    assert found_by_both(path, honest) == (set(), set())


def test_a_withdrawn_objection_holds_no_longer(honest: Deployment) -> None:
    # What is lifted has to be announced as well: a stop makes the next certificate a new one.
    halt = honest.cli("halt", "--stage", "assess", "--reason", "drill", who=("overseer",))
    assert halt.code == 0, halt.text
    assert "not_announced" in codes(certify(honest))
    announcement = announce(honest)
    objection = object_to(honest, announcement)
    other = honest.cli("object", "--withdraw", objection, "--grounds", "no", who=("safety",))
    assert other.code == 1, "only who objected withdraws"
    time.sleep(NOTICE_S - 1)
    honest.cli("object", "--withdraw", objection, "--grounds", "mended", who=("overseer",)).must()
    began = time.monotonic()
    wait_for(lambda: certify(honest).code == 0, seconds=20, every=0.3)
    assert time.monotonic() - began < NOTICE_S - 0.5, "the announcement's own notice went on"


def crooked(home: Path, *, hides_objections: bool) -> dict[str, str]:
    shutil.copytree(Path(__file__).parent / "crooked", home / "crooked")
    if hides_objections:
        (home / "crooked" / "hides-objections").touch()
    return {"PYTHONPATH": str(home / "crooked")}


def test_a_crooked_control_begins_nothing_early(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    environment = crooked(tmp_path, hides_objections=False)
    deployment = begin(tmp_path, upstream, environment)
    try:
        api_key = deployment.grant("early")
        certify(deployment).must()  # never announced
        stays_shut(deployment, api_key, 3)
        announce(deployment)
        certify(deployment).must()  # announced a moment ago
        stays_shut(deployment, api_key, NOTICE_S + 2)
        certify(deployment).must()  # and now its notice is over
        deployment.wait_serving(api_key)
        assert is_served(deployment, api_key)
        # A stranger sees the first two, each by its entry.
        ours, theirs = found_by_both(export(deployment, tmp_path / "dossier"), deployment)
        assert ours >= {"not_announced", "notice_running"}
        assert theirs >= {"not_announced", "notice_running"}
    finally:
        deployment.stop()


def test_a_crooked_control_hides_no_objection(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    environment = crooked(tmp_path, hides_objections=True)
    deployment = begin(tmp_path, upstream, environment)
    try:
        api_key = deployment.grant("early")
        announce(deployment)  # what the crooked certificate rides on
        twin = announce(deployment)
        time.sleep(NOTICE_S + 1)
        object_to(deployment, twin)
        certify(deployment).must()
        stays_shut(deployment, api_key, NOTICE_S + 2)
        said = (deployment.folder / "run" / "keeper.log").read_text()
        assert "objection_hidden" in said
        ours, theirs = found_by_both(export(deployment, tmp_path / "dossier"), deployment)
        assert "objection_hidden" in ours & theirs
    finally:
        deployment.stop()
