"""Promise 3, oversight: an overseer's own calls can be neither refused nor recognised beforehand.

Attacked here, from outside: an overseer admits itself by control, by the host's socket, by a dropped file and by
its own list, the last three past a control that is crooked (`crooked/`) and takes no own grant. The
root's bound is pressed by many calls at once, by more than one grant, and by keys of other roles.
The operator's surfaces are searched for what the calls carry, and what a stranger can count is counted.

Seen to fail: with own grants taken from control's log alone, the crooked control kept all three ways
shut (red); without the cap of a day more than three were served (red); with `check_room` gone, a second
grant went past the root's bound (red); with a line about the opened grant in the worker's log, it was
found on the surfaces (red); with own grants unknown to a verifier, each call was `no_grant` (red); with
the disclosure left out of the fold, it could be made twice (red); with any role allowed, a stolen key of
admissions was served (red); with a keeper that reads nothing back, a restart forgot them (red).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.promises.dossiers import export, root_digest
from tests.promises.outside import (
    HERE,
    PYTHON,
    Deployment,
    OrderList,
    Said,
    gatelift,
    say,
    wait_for,
)
from tests.support.upstream import ScriptedUpstream

ONE_FILE = HERE.parents[1] / "verifier" / "gatelift_verify.py"
PER_DAY = 200
"""What `gatelift init` writes into the root."""


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    found = ScriptedUpstream(["word "] * 3, delay_s=0, key="upstream-key-of-own-calls")
    yield found
    found.close()


def begin(home: Path, upstream: ScriptedUpstream, **more: Any) -> Deployment:
    return Deployment(
        home / "d", upstream=upstream.url, upstream_key=upstream.key, workers=2, **more
    )


@pytest.fixture(scope="module")
def honest(upstream: ScriptedUpstream, tmp_path_factory: Any) -> Iterator[Deployment]:
    found = begin(tmp_path_factory.mktemp("p03-own"), upstream)
    yield found
    found.stop()


@pytest.fixture
def fresh(upstream: ScriptedUpstream, tmp_path: Path) -> Iterator[Deployment]:
    found = begin(tmp_path, upstream)
    yield found
    found.stop()


class Own:
    """An own grant as the overseer makes it: the key is kept in a file."""

    def __init__(
        self,
        deployment: Deployment,
        *words: object,
        stage: str = "assess",
        who: tuple[str, ...] = ("overseer",),
    ) -> None:
        self.file = deployment.folder.parent / f"own-{time.monotonic_ns()}.key"
        given = ["--stage", stage, "--api-key-out", self.file, *words]
        self.said: Said = deployment.cli("overseer", "grant", *given, who=who)
        self.key = self.file.read_text().strip() if self.file.exists() else ""

    @property
    def principal(self) -> str:
        return str(self.said.must()["principal"])

    @property
    def organisation(self) -> str:
        return str(self.said.must()["organisation"])

    @property
    def public_id(self) -> str:
        return self.key.split("_")[1]


def known(deployment: Deployment, own: Own) -> Own:
    own.said.must()
    deployment.wait_known(own.key)
    return own


def overseers(deployment: Deployment) -> str:
    """Return the organisation of the root's overseer."""
    root = deployment.root()
    (held,) = root["roles"]["overseer"]["keys"]
    person = root["keys"][held]["person"]
    return next(str(p["organisation"]) for p in root["people"] if p["id"] == person)


def owed(*where: object) -> list[dict[str, Any]]:
    said = Said(gatelift("overseer", "commitments", *where, "--json")).must()
    assert said["open"] == len(said["commitments"])
    return [each for each in said["commitments"] if each["kind"] == "own_grant"]


def surfaces(deployment: Deployment) -> str:
    """Return all that the deployment's processes show the operator, and write for people to read."""
    token = {
        "authorization": "Bearer "
        + deployment.folder.joinpath("keys/submitter.token").read_text().strip()
    }
    asked = [
        "/admin/v1/state",
        "/admin/v1/preview",
        "/admin/v1/entries?limit=100",
        "/",
        "/healthz",
    ]
    answers = [httpx.get(deployment.admin_url + path, headers=token) for path in asked]
    assert [each.status_code for each in answers] == [200] * len(asked)
    found = [each.text for each in answers]
    found += [deployment.cli("log").text, deployment.cli("status").text]
    for path in deployment.folder.rglob("*"):
        # A journal is what was served, to whom: it names principals, and no surface shows it.
        own = {"journal", "keys"} & set(path.relative_to(deployment.folder).parts)
        if path.is_file() and not own:
            found.append(path.read_bytes().decode("utf-8", "replace"))
    return "\n".join(found)


def audited(path: Path, deployment: Deployment) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what both verifiers say of a dossier: the package's report, and the findings of both."""
    words = [path, "--root", root_digest(deployment), "--json"]
    ours = json.loads(gatelift("verify", *words).stdout)
    theirs = subprocess.run(
        [PYTHON, ONE_FILE, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ours, [*ours["findings"], *json.loads(theirs.stdout)["findings"]]


def errors(findings: list[dict[str, Any]]) -> Counter[str]:
    return Counter(each["code"] for each in findings if each["severity"] == "error")


def test_own_calls_are_sealed_then_served_then_disclosed(
    honest: Deployment, tmp_path: Path
) -> None:
    own = known(honest, Own(honest, "--requests-per-day", 10))
    before = surfaces(honest)
    for told in (own.principal, own.organisation, own.public_id, own.key):
        assert told not in before, "recognisable before the first call"
    assert [each["id"] for each in owed("--dir", honest.folder)] == [own.said.value["id"]]
    for _ in range(3):
        assert honest.chat(key=own.key).status_code == 200
    time.sleep(1)
    after = surfaces(honest)
    for told in (own.principal, own.public_id, own.key):
        assert told not in after, "a surface tells the calls from others"
    report, findings = audited(export(honest, tmp_path / "sealed"), honest)
    assert not errors(findings), findings
    assert report["counts"]["own_calls"] == 3, "anyone counts them before they are disclosed"
    assert [each["id"] for each in owed(tmp_path / "sealed")] == [own.said.value["id"]]

    page = tmp_path / "report.html"
    words = [tmp_path / "sealed", "--root", root_digest(honest), "--html", page]
    for told in (gatelift("verify", *words).stdout, page.read_text()):
        assert f"own calls of {overseers(honest)}" in told, "what is owed stands in the report"

    result = tmp_path / "result.json"
    result.write_text("{}")
    words = ["overseer", "disclose", "--api-key-file", own.file, "--result", result, "--calls"]
    assert honest.cli(*words, 3, who=("safety",)).code == 1, "nobody else discloses"
    honest.cli(*words, 3, "--note", "it refuses as it should", who=("overseer",)).must()
    assert honest.cli(*words, 3, who=("overseer",)).code == 1, "once"
    assert owed("--dir", honest.folder) == []
    assert own.principal not in honest.admin("/state").text, "only the seed is told"
    report, findings = audited(export(honest, tmp_path / "open"), honest)
    assert not errors(findings), findings
    assert owed(tmp_path / "open") == []


def test_who_discloses_fewer_calls_than_it_made_is_seen(honest: Deployment, tmp_path: Path) -> None:
    own = known(honest, Own(honest))
    for _ in range(3):
        assert honest.chat(key=own.key).status_code == 200
    words = ["overseer", "disclose", "--api-key-file", own.file, "--calls", 1]
    honest.cli(*words, who=("overseer",)).must()
    _, findings = audited(export(honest, tmp_path / "dossier"), honest)
    assert [each["code"] for each in findings].count("own_calls_undisclosed") == 2, "both verifiers"


def test_the_bound_of_a_day_holds(fresh: Deployment) -> None:
    own = known(fresh, Own(fresh, "--requests-per-day", 3))
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: fresh.chat(key=own.key).status_code, range(24)))
    say(f"24 own calls at once of 3 a day: {dict(Counter(answers))}")
    assert Counter(answers) == {200: 3, 429: 21}
    # What is left of the root's bound, and not one more.
    assert Own(fresh, "--requests-per-day", PER_DAY - 2).said.code == 1
    known(fresh, Own(fresh, "--requests-per-day", PER_DAY - 3))
    late = Own(fresh, "--requests-per-day", 1)
    assert late.said.code == 1
    assert "own_calls_spent" in late.said.text
    for way in ("--socket", "--drop"):
        _ = Own(fresh, "--requests-per-day", 1, way, fresh.folder)
    time.sleep(1.5)
    thief = Own(fresh, "--requests-per-day", 1, "--socket", fresh.folder)
    assert fresh.chat(key=thief.key).status_code == 401, "past the bound by a way past control"


def test_no_other_role_makes_own_calls_and_none_is_wider_than_its_stage(fresh: Deployment) -> None:
    for who in ("admissions", "operator", "safety"):
        stolen = Own(fresh, "--socket", fresh.folder, who=(who,))
        assert stolen.said.code == 1
        assert fresh.chat(key=stolen.key).status_code == 401
    names = [each["name"] for each in fresh.admin("/state").json()["stages"]]
    shut = next(name for name in names if name != "assess")
    own = Own(fresh, stage=shut)
    own.said.must()
    fresh.wait_known(own.key)
    refused = fresh.chat(key=own.key)
    assert refused.status_code in (403, 503), (
        "a stage without a certificate, and no earlier one instead"
    )
    open_one = known(fresh, Own(fresh))
    assert fresh.chat(key=open_one.key).status_code == 200
    fresh.cli("halt", "--stage", "assess", "--reason", "drill", who=("overseer",)).must()
    wait_for(lambda: fresh.chat(key=open_one.key).status_code != 200, seconds=5)


def test_a_crooked_control_is_got_round(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    shutil.copytree(HERE / "crooked", tmp_path / "crooked")
    (tmp_path / "crooked" / "takes-no-own-grants").touch()
    listed = OrderList()
    deployment = begin(
        tmp_path,
        upstream,
        more=("--overseer-orders", listed.url),
        environment={"PYTHONPATH": str(tmp_path / "crooked")},
    )
    try:
        by_control = Own(deployment)
        assert by_control.said.code == 1
        assert "not_today" in by_control.said.text
        file = tmp_path / "orders.txt"
        plan = ("--plan", deployment.folder / "plan.yaml")
        by_list = Own(deployment, *plan, "--list", file)
        listed.text = file.read_bytes()
        by_socket = Own(deployment, *plan, "--socket", deployment.folder)
        by_file = Own(deployment, *plan, "--drop", deployment.folder)
        for own in (by_list, by_socket, by_file):
            began = time.monotonic()
            known(deployment, own)
            say(f"known {time.monotonic() - began:.2f} s after it was signed")
            assert deployment.chat(key=own.key).status_code == 200
        assert deployment.chat(key=by_control.key).status_code == 401
        # What came past control outlives a restart of the node, with nobody to tell it again.
        listed.text = b""
        deployment.kill("keeper")
        for _ in range(deployment.workers):
            deployment.kill("worker")
        deployment.wait_serving()
        deployment.wait_known(by_socket.key)
        wait_for(lambda: deployment.chat(key=by_socket.key).status_code == 200, seconds=20)
        # What control kept off the log stands against the operator, whose log it is.
        assert owed("--dir", deployment.folder) == []
        _, findings = audited(export(deployment, tmp_path / "dossier"), deployment)
        assert errors(findings)["no_grant"] == 8, "four calls, two verifiers"
    finally:
        deployment.stop()
        listed.close()
