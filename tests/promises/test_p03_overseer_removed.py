"""Promise 3, the root of trust: an overseer is removed with its signature, or after 30 public days.

The clocks of a whole deployment, its witness's too, lag 40 days behind and are then let run on (`days/`).
The operator's people, who hold the root role, want the overseer out. Attacked here: no announcement, one
of a moment ago, one of 29 days, an objection left out, a hidden second root in between. Then control itself
is crooked and logs what it should refuse; no host may take it, and a stranger must see it.

Seen to fail: without `check_root_notice` in `trust.root` the root was taken on its first day (red); without
`decide.root_notice` one that left out the objection was logged (red); with the one-file verifier counting no
days, only the package found the crooked root (red).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.promises.dossiers import export
from tests.promises.outside import HERE, PYTHON, Deployment, Said, gatelift, say, wait_for
from tests.promises.test_p03_public_notice import found_by_both
from tests.support.upstream import ScriptedUpstream

DAY_S = 86_400
AGO_S = 40 * DAY_S


class Days:
    """A deployment that began 40 days ago, and its clocks."""

    def __init__(self, home: Path, upstream: ScriptedUpstream, *, is_crooked: bool) -> None:
        self.clock = home / "days"
        shutil.copytree(HERE / "days", self.clock)
        self.pass_to(0)
        if is_crooked:
            (self.clock / "crooked").touch()
        self.home = home
        self.environment = {"PYTHONPATH": str(self.clock)}
        self._init(upstream)
        self.deployment = Deployment(
            home / "d",
            upstream=upstream.url,
            upstream_key=upstream.key,
            bootstrap=False,
            environment=self.environment,
        )
        adopted = self.deployment.cli("plan", "adopt", home / "d/plan.yaml", who=("operator",))
        adopted.must()
        self.first = (home / "d/root.sha256").read_text().strip()

    def _init(self, upstream: ScriptedUpstream) -> None:
        """Hold the ceremony 40 days ago; nobody of the overseer's holds a key of the root role."""
        people = self.home / "people.json"
        lab = {"organisation": "lab.example"}
        seats = {"operator": {"person": "ana", **lab}, "root-1": {"person": "ana", **lab}}
        seats["root-2"] = {"person": "bob", **lab}
        people.write_text(json.dumps({"people": seats, "witness_organisation": "witness.example"}))
        words = ["init", self.home / "d", "--yes", "--upstream", upstream.url, "--people", people]
        done = self.run(*words, "--json")
        assert done.returncode == 0, done.stdout + done.stderr

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        """Run a command by the clocks of the deployment, and as crooked as its control."""
        return subprocess.run(
            [PYTHON, "-m", "gatelift", *map(str, words)],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def pass_to(self, day: float) -> None:
        """Let the clocks show this day since the beginning."""
        new = self.clock / "behind.new"
        new.write_text(str(int(AGO_S - day * DAY_S)))
        new.rename(self.clock / "behind")

    def draft(self, name: str, *words: str) -> Path:
        """Return the next root, signed by the two people of the root role."""
        draft, out = self.home / f"{name}.draft", self.home / name
        folder = self.deployment.folder
        made = gatelift("root", "next", folder / "root.json", "--out", draft, *words)
        assert made.returncode == 0, made.stderr
        keys = [w for n in ("root-1", "root-2") for w in ("--key", self.deployment.key(n))]
        signed = gatelift("sign", draft, "--yes", "--out", out, *keys)
        assert signed.returncode == 0, signed.stderr
        return out

    def without_overseer(self) -> Path:
        return self.draft("root-2.json", "--remove", self.overseer())

    def overseer(self) -> str:
        key: str = self.deployment.root()["roles"]["overseer"]["keys"][0]
        return key

    def announce(self, root: Path) -> str:
        said = self.deployment.cli(
            *["root", "announce", root, "--reason", "it answers nobody"], who=("operator",)
        )
        return str(said.must()["digest"])

    def noticed(self, root: Path, out: str = "noticed.json") -> Said:
        return self.deployment.cli("root", "noticed", root, "--out", self.home / out)

    def drafted(self, root: Path) -> dict[str, Any]:
        """Return what control hands out, past the command that would judge it first."""
        digest = "sha256:" + _sha256(root.read_bytes())
        found: dict[str, Any] = self.deployment.admin(f"/draft/root?root={digest}").json()
        return found

    def write(self, name: str, value: dict[str, Any]) -> Path:
        path = self.home / name
        path.write_text(json.dumps(value, separators=(",", ":")))
        return path

    def grow(self, day: float) -> None:
        """Let the clocks go to a day, and wait until the witness cosigned a head there."""
        self.pass_to(day)
        said = self.deployment.cli(
            *["halt", "--organisation", f"o{day}", "--reason", "growth"], who=("security",)
        )
        size = said.must()["index"] + 1
        wait_for(
            lambda: (
                (self.deployment.admin("/state").json()["checkpoint"] or {"size": 0})["size"]
                >= size
            ),
            seconds=20,
        )

    def export_crookedly(self) -> Path:
        """Export a dossier with the operator's own tool, for the honest one refuses this log."""
        out = self.home / "dossier"
        folder = self.deployment.folder
        words = ["dossier", "export", "--dir", folder, "--out", out, "--json"]
        words += ["--admin", self.deployment.admin_url]
        done = self.run(*words, "--token-file", folder / "keys/submitter.token")
        assert done.returncode == 0, done.stdout + done.stderr
        return out

    def submit(self, path: Path) -> Said:
        return self.deployment.cli("submit", path)

    def adopt(self, path: Path) -> Said:
        return Said(gatelift("root", "adopt", path, "--dir", self.deployment.folder, "--json"))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    found = ScriptedUpstream(["word "] * 3, delay_s=0, key="upstream-key-of-days")
    yield found
    found.close()


def test_the_overseer_is_out_after_thirty_public_days_and_no_sooner(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    days = Days(tmp_path, upstream, is_crooked=False)
    deployment = days.deployment
    try:
        gone = days.without_overseer()
        assert days.submit(gone).error["code"] == "overseer_missing"
        assert days.noticed(gone).error["code"] == "not_found"
        assert days.adopt(gone).error["code"] == "overseer_missing"
        announcement = days.announce(gone)
        assert days.noticed(gone).error["code"] == "notice_running"
        words = ["object", "--announcement", announcement, "--grounds", "we do answer"]
        objection = deployment.cli(*words, who=("overseer",)).must()["digest"]
        assert deployment.cli(*words, who=("safety",)).code == 1, "nobody else objects"
        days.grow(29.9)
        assert days.noticed(gone).error["code"] == "notice_running"
        early = days.write("early.json", days.drafted(gone))
        assert days.submit(early).error["code"] == "notice_running"
        days.grow(30.1)
        said = days.noticed(gone).must()
        assert said["objections"] == [objection], "it stands, and is no veto"
        hiding = days.write("hiding.json", days.drafted(gone) | {"objections": []})
        assert days.submit(hiding).error["code"] == "objection_hidden"
        digest = days.submit(tmp_path / "noticed.json").must()["digest"]
        pin = deployment.folder / "root.sha256"
        wait_for(lambda: pin.read_text().strip() == digest, seconds=20)
        days.adopt(tmp_path / "noticed.json").must()
        assert days.adopt(early).code == 1
        halted = deployment.cli("halt", "--reason", "still here", who=("overseer",))
        assert halted.code == 1, "who was removed stops nothing any more"
        path = export(deployment, tmp_path / "dossier")
        assert found_by_both(path, deployment) == (set(), set())
        say("an overseer was out after 30 witnessed days, an objection named beside the root")
    finally:
        deployment.stop()


def test_a_root_in_between_voids_an_announcement(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    days = Days(tmp_path, upstream, is_crooked=False)
    try:
        gone = days.without_overseer()
        days.announce(gone)
        days.grow(30.1)
        days.noticed(gone, "ripe.json").must()
        days.submit(days.draft("between.json")).must()
        assert days.submit(tmp_path / "ripe.json").error["code"] == "not_successor"
        assert days.noticed(gone).error["code"] == "not_found"
    finally:
        days.deployment.stop()


def test_a_crooked_control_removes_nobody(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    days = Days(tmp_path, upstream, is_crooked=True)
    deployment = days.deployment
    try:
        release = deployment.admin("/state").json()["release"]
        gone = days.without_overseer()
        days.announce(gone)
        days.grow(29)
        early = days.write("early.json", days.drafted(gone))
        days.submit(early).must()  # control logs it
        assert days.adopt(early).error["code"] == "notice_running"
        assert days.first == (deployment.folder / "root.sha256").read_text().strip()
        # On the host the overseer's key still stops, past control.
        words = [
            "halt",
            "--reason",
            "a stop",
            "--release",
            release,
            "--key",
            deployment.key("overseer"),
        ]
        halted = gatelift(*words, "--socket", deployment.folder)
        assert halted.returncode == 0, halted.stderr
        ours, theirs = found_by_both(days.export_crookedly(), deployment)
        assert "notice_running" in ours & theirs
    finally:
        deployment.stop()


def test_the_days_are_in_the_file_and_not_in_the_word_of_control(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    days = Days(tmp_path, upstream, is_crooked=False)
    try:
        gone = days.without_overseer()
        days.announce(gone)
        days.grow(30.1)
        good = days.drafted(gone)
        other = base64.b64encode(b"no proof").decode()
        for name, value in {
            "the early head twice": good | {"standing": good["announced"]},
            "the late head first": good
            | {"announced": good["standing"], "standing": good["announced"]},
            "no proof": good | {"standing": other},
            "a leaf of something else": good
            | {"leaf": good["leaf"].replace("root_announcement", "plan")},
            "another announcement": good
            | {"announcement": good["announcement"].replace("a", "b", 1)},
        }.items():
            path = days.write("crooked.json", value)
            assert days.adopt(path).code != 0, name
            assert days.submit(path).code != 0, name
        days.adopt(days.write("good.json", good)).must()
    finally:
        days.deployment.stop()
