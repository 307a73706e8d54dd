"""Promise 3, for what leaves the house: nobody alone makes a copy of the weights, and none is forgotten.

Attacked here: an export with one signature, with two keys of one person, to a door that the plan does
not declare, of other weights; a copy made with a statement that was never logged, that was closed, or
from a folder that is not what was sealed; a copy that is not given back in time.

Seen to fail: with an export that the operator alone may sign (red); with a copy that is made without
asking the log (red); with control that opens no incident for what is overdue (red).
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.promises.hands import Hands, digest_of, now_ms, statement
from tests.promises.outside import Deployment, Said, gatelift, wait_for
from tests.promises.siege import write_plan
from tests.support.upstream import ScriptedUpstream

CAPS = {"principal": {"requests": "1M/d"}, "stage": {"output_tokens": "100M/d"}}
DOOR = "the evaluation institute, under contract 17"
PEOPLE = {
    "people": {
        "operator": {"person": "olga", "organisation": "lab.example"},
        "security": {"person": "olga", "organisation": "lab.example"},
        "overseer": {"person": "vera", "organisation": "oversight.example"},
    }
}


class Vault:
    """A sealed model on disk, and the plan that names it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.model = home / "aurora"
        (self.model / "sub").mkdir(parents=True)
        (self.model / "model.gguf").write_bytes(os.urandom(200_000))
        (self.model / "sub" / "config.json").write_bytes(b"{}")
        self.private, self.signer = home / "seal.pem", home / "seal.pub.pem"
        for words in (
            ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(self.private)],
            ["ec", "-in", str(self.private), "-pubout", "-out", str(self.signer)],
        ):
            subprocess.run(["openssl", *words], check=True, capture_output=True)
        self.private.chmod(0o600)
        self.manifest = home / "model.sig"
        words = ["candidate", "seal", self.model, "--key", self.private, "-o", self.manifest]
        self.weights: str = Said(gatelift(*words, "--json")).must()["weights"]
        self.plan = write_plan(home / "plan", CAPS)
        text = self.plan.read_text().replace("weights: null", f"weights: {self.weights}", 1)
        self.plan.write_text(text.replace("exposures: []", f"exposures: [{json.dumps(DOOR)}]"))


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Vault:
    return Vault(tmp_path_factory.mktemp("p03-copies"))


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    found = ScriptedUpstream(["word "] * 10, key="upstream-key-of-a-vault")
    yield found
    found.close()


@pytest.fixture(scope="module")
def deployment(vault: Vault, upstream: ScriptedUpstream) -> Iterator[Deployment]:
    found = Deployment(
        vault.home / "d", upstream=upstream.url, upstream_key=upstream.key, plan=vault.plan
    )
    yield found
    found.stop()


def register(
    deployment: Deployment,
    vault: Vault,
    *who: str,
    to: str = DOOR,
    lasts: str = "30d",
    more: Any = (),
) -> Said:
    words = ["copies", "register", "--manifest", vault.manifest, "--signer", vault.signer]
    words += ["--destination", to, "--purpose", "evaluation of cyber skill"]
    words += ["--custodian", "eve at the institute", "--for", lasts]
    return deployment.cli(*words, *more, who=who)


def export(deployment: Deployment, vault: Vault, to: Path, statement: Path) -> Said:
    return deployment.cli(
        *["candidate", "export", vault.model, to, "--manifest", vault.manifest],
        *["--signer", vault.signer, "--statement", statement],
        *["--root", deployment.folder / "root.json"],
    )


def copies(deployment: Deployment) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = deployment.admin("/state").json()["copies"]
    return found


def page(deployment: Deployment) -> str:
    return httpx.get(deployment.admin_url).text


@pytest.mark.parametrize("who", [("operator",), ("security",), ("operator", "safety")])
def test_no_copy_is_registered_by_one_person(
    deployment: Deployment, vault: Vault, who: tuple[str, ...]
) -> None:
    refused = register(deployment, vault, *who)
    assert (refused.code, refused.error["code"]) == (1, "quorum_unmet")
    assert copies(deployment) == []


def test_two_keys_of_one_person_are_one_person(
    vault: Vault, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    people = tmp_path / "people.json"
    people.write_text(json.dumps(PEOPLE))
    said = gatelift(
        *["init", tmp_path / "one", "--yes", "--plan", vault.plan, "--people", people],
        *["--upstream", upstream.url, "--json"],
    )
    assert said.returncode == 0, said.stdout + said.stderr
    found = Deployment(tmp_path / "one", upstream=upstream.url, upstream_key=upstream.key)
    try:
        refused = register(found, vault, "operator", "security")
        assert (refused.code, refused.error["code"]) == (1, "person_twice")
        assert copies(found) == []
    finally:
        found.stop()


def test_a_copy_goes_only_where_the_plan_says_and_is_of_its_weights(
    deployment: Deployment, vault: Vault
) -> None:
    refused = register(deployment, vault, "operator", "security", to="a friend")
    assert refused.error["code"] == "exposure_undeclared"
    hands = Hands(deployment)
    value = {
        "id": "export_" + "0" * 26,
        "release": hands.release,
        "weights": "sha256:" + "1" * 64,
        "manifest": hands.keep(vault.manifest.read_bytes()),
        "destination": DOOR,
        "purpose": "x",
        "custodian": "eve",
        "expires_at": now_ms() + 60_000,
    }
    path = vault.home / "other-weights.json"
    signers = (hands.key("operator"), hands.key("security"))
    path.write_bytes(statement("export", value, hands.fingerprint, *signers))
    assert deployment.cli("submit", path).error["code"] == "wrong_candidate"
    assert copies(deployment) == []


def test_a_copy_is_made_once_two_people_signed_and_the_log_holds_it(
    deployment: Deployment, vault: Vault, tmp_path: Path
) -> None:
    path, to = tmp_path / "export.json", tmp_path / "copy"
    out = ("--out", path)
    register(deployment, vault, "operator", "security", more=out).must()
    unlogged = export(deployment, vault, to, path)
    assert (unlogged.code, unlogged.error["code"]) == (2, "not_logged")
    assert not to.exists()
    deployment.cli("submit", path, "--attach", vault.manifest, "--cosigned").must()
    # A flipped byte at the source: what would be copied is not what was sealed.
    weights = vault.model / "model.gguf"
    good = weights.read_bytes()
    weights.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    assert export(deployment, vault, to, path).error["code"] == "model_differs"
    assert not to.exists()
    weights.write_bytes(good)
    made = export(deployment, vault, to, path).must()
    assert (to / "model.gguf").read_bytes() == good
    assert (to / "sub" / "config.json").read_bytes() == b"{}"
    wait_for(lambda: "1 copy of the weights is known" in page(deployment))
    assert "one for evaluation of cyber skill, due back" in page(deployment)
    closing = ("copies", "close", made["id"], "--end", "destroyed", "--note", "seen wiped")
    assert deployment.cli(*closing, who=("operator",)).error["code"] == "quorum_unmet"
    deployment.cli(*closing, who=("operator", "security")).must()
    wait_for(lambda: "0 copies of the weights are known" in page(deployment))
    again = export(deployment, vault, tmp_path / "again", path)
    assert again.error["code"] == "closed"
    assert not (tmp_path / "again").exists()


def test_a_statement_that_one_person_signed_makes_no_copy(
    deployment: Deployment, vault: Vault, tmp_path: Path
) -> None:
    path, to = tmp_path / "alone.json", tmp_path / "copy"
    register(deployment, vault, "operator", more=("--out", path)).must()
    refused = export(deployment, vault, to, path)
    assert (refused.code, refused.error["code"]) == (1, "quorum_unmet")
    assert not to.exists()


def test_a_copy_that_is_not_given_back_is_an_incident_and_stands_everywhere(
    deployment: Deployment, vault: Vault, tmp_path: Path
) -> None:
    said = register(deployment, vault, "operator", "security", lasts="3s").must()

    def opened() -> list[dict[str, Any]]:
        found = deployment.admin("/state").json()["incidents"]
        return [each["incident"] for each in found if "overdue" in each["incident"]["title"]]

    found = wait_for(opened, seconds=15)
    assert (found[0]["severity"], found[0]["source"]) == (
        "SEV-2",
        f"watch:copy_overdue:{said['id']}",
    )
    assert len(opened()) == 1
    assert [each["overdue"] for each in copies(deployment) if each["closing"] is None] == [True]
    wait_for(lambda: "OVERDUE since" in page(deployment))
    assert "eve at the institute" in deployment.cli("status").text
    dossier = tmp_path / "dossier"
    deployment.cli("dossier", "export", "--dir", deployment.folder, "--out", dossier).must()
    root = digest_of((deployment.folder / "root.json").read_bytes())
    told = tmp_path / "audit.html"
    words = ["verify", dossier, "--root", root, "--html", told, "--json"]
    answer = Said(gatelift(*words, timeout=120))
    assert answer.code == 0, answer.text
    assert "copy_overdue" in {each["code"] for each in answer.value["findings"]}
    assert answer.value["counts"]["copies"] == 1
    assert f"a copy of the weights may go to {DOOR}" in told.read_text()
    file = Path(__file__).parents[2] / "verifier" / "gatelift_verify.py"
    done = subprocess.run(
        ["python3", str(file), str(dossier), "--root", root],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "copy_overdue" in done.stdout + done.stderr
    assert "1 copies of the weights are known" in done.stdout
