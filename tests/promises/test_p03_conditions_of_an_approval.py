"""Promise 3, approvals: nobody widens past what was approved, for longer than it was, or after it was taken back.

Attacked here: the full quorum, with genuine keys, certifies more organisations than the reviewer approved,
and for longer than the approval lasts; admissions admits one more; another person takes the approval back;
the quorum renews after its author did. A reviewer signs on a machine without any network, from files that
somebody changed on the way. Control itself is crooked (`crooked/`) and logs what it should refuse.

Seen to fail: without `check_approved_terms` in `decide.admit_certificate` the wider certificate was logged
(red); without the author's check in `decide.admit` the overseer withdrew the reviewer's approval (red);
without `check_certificates` of approvals in `ledger.following.desk` the crooked certificate was served (red);
without `check_packet` in `cli.signing` the sheet of another plan was signed (red).
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.promises.dossiers import export
from tests.promises.hands import Hands, now_ms, statement
from tests.promises.outside import PLANS, PYTHON, Deployment, Said, gatelift, wait_for
from tests.promises.test_p02_missing_evidence import THRESHOLD, promise, result
from tests.promises.test_p03_public_notice import found_by_both
from tests.support.upstream import ScriptedUpstream

QUORUM = ("operator", "safety")
APPROVE = ("review", "--stage", "internal", "--approve", "--note", "read all of it")


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    found = ScriptedUpstream(key="upstream-key-of-approvals")
    yield found
    found.close()


def _honest(_: Path) -> dict[str, str]:
    return {}


def _crooked(home: Path) -> dict[str, str]:
    """Return what makes control one that logs certificates beyond what was approved."""
    shutil.copytree(Path(__file__).parent / "crooked", home / "crooked")
    (home / "crooked" / "ignores-approvals").touch()
    return {"PYTHONPATH": str(home / "crooked")}


@pytest.fixture
def deployment(
    upstream: ScriptedUpstream, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Deployment]:
    """A deployment whose second stage wants nothing more than a review."""
    found = Deployment(
        tmp_path / "d",
        upstream=upstream.url,
        upstream_key=upstream.key,
        plan=PLANS / "harbour.yaml",
        environment=getattr(request, "param", _honest)(tmp_path),
    )
    commit = promise(found, tmp_path, "threshold", 60)
    result(found, tmp_path, commit, THRESHOLD, n=60).must()
    yield found
    found.stop()


def certify(deployment: Deployment, *words: str) -> Said:
    return deployment.cli("certify", "--stage", "internal", *words, who=QUORUM)


def stage(deployment: Deployment) -> dict[str, Any]:
    found: dict[str, Any] = next(
        each for each in deployment.admin("/state").json()["stages"] if each["name"] == "internal"
    )
    return found


def signed_by_quorum(deployment: Deployment, tmp_path: Path, **changes: Any) -> Said:
    """Submit the certificate that control drafts, changed and signed by the whole quorum."""
    hands = Hands(deployment)
    draft = deployment.admin("/draft/certificate?stage=internal").json()["certificate"]
    value = {**draft, **changes}
    keys = [hands.key(name) for name in QUORUM]
    path = tmp_path / "certificate.json"
    path.write_bytes(statement("certificate", value, hands.fingerprint, *keys))
    return deployment.cli("submit", path)


def test_a_certificate_stays_inside_what_was_approved(
    deployment: Deployment, tmp_path: Path
) -> None:
    approved = now_ms()
    terms = ["--max-organisations", "1", "--condition", "named in advance", "--for", "14s"]
    deployment.cli(*APPROVE, *terms, who=("safety",)).must()
    until = deployment.admin("/state").json()["reviews"][-1]["review"]["until"]
    assert approved < until <= now_ms() + 14_000
    drafted = deployment.admin("/draft/certificate?stage=internal").json()
    assert "named in advance" in drafted["conditions"]
    envelope = drafted["certificate"]["envelope"]
    wide = {**envelope, "audience": {**envelope["audience"], "max_organisations": 2}}
    said = signed_by_quorum(deployment, tmp_path, envelope=wide)
    assert (said.code, said.error["code"]) == (1, "exceeds_condition")
    said = signed_by_quorum(deployment, tmp_path, not_after=until + 1)
    assert (said.code, said.error["code"]) == (1, "outlives_approval")
    certify(deployment).must()
    assert stage(deployment)["certificate"]["not_after"] <= until
    api_key = deployment.grant("insider", stage="internal", organisation="one")
    deployment.wait_serving(api_key)
    assert deployment.chat(key=api_key).headers["gatelift-stage"] == "internal"
    # One more organisation would be inside the plan's ten, and outside of what was approved.
    words = ["grant", "--principal", "another", "--organisation", "two", "--stage", "internal"]
    said = deployment.cli(*words, "--proof", "identity", who=("admissions",))
    assert said.error["code"] == "organisations_full", said.text
    # The approval ends, with it the certificate, and the gate says what opens it.
    wait_for(lambda: "review_ended" in certify(deployment).reasons(), seconds=30, every=0.5)
    found = certify(deployment).reasons()["review_ended"]
    assert "reviews again" in found["opens_with"]
    assert deployment.chat(key=api_key).status_code == 403


@pytest.mark.parametrize("deployment", [_crooked], indirect=True, ids=["crooked"])
def test_a_crooked_control_serves_nothing_beyond_an_approval(
    deployment: Deployment, tmp_path: Path
) -> None:
    api_key = deployment.grant("insider", stage="internal")
    assert deployment.chat().status_code == 200
    deployment.cli(*APPROVE, "--max-organisations", "1", who=("safety",)).must()
    envelope = deployment.admin("/draft/certificate?stage=internal").json()["certificate"][
        "envelope"
    ]
    wide = {**envelope, "audience": {**envelope["audience"], "max_organisations": 9}}
    signed_by_quorum(deployment, tmp_path, envelope=wide).must()
    log = deployment.folder / "run" / "keeper.log"
    wait_for(lambda: "exceeds_condition" in log.read_text(), seconds=20)
    until = time.monotonic() + 3
    while time.monotonic() < until:
        served = deployment.chat(key=api_key)
        assert served.status_code != 200, "served beyond what was approved"
        time.sleep(0.2)
    # A stranger finds it in what the log holds.
    ours, theirs = found_by_both(export(deployment, tmp_path / "dossier"), deployment)
    assert "exceeds_condition" in ours & theirs


def test_only_its_author_takes_an_approval_back_and_nothing_is_renewed_then(
    deployment: Deployment,
) -> None:
    approval = deployment.cli(*APPROVE, who=("safety",)).must()["digest"]
    revoke = ["evidence", "revoke", approval, "--reason", "in the way"]
    said = deployment.cli(*revoke, who=("overseer",))
    assert said.error["code"] == "review_of_another", said.text
    certify(deployment).must()
    api_key = deployment.grant("insider", stage="internal")
    deployment.wait_serving(api_key)
    take_back = ["review", "--stage", "internal", "--withdraw", "--note", "a new finding"]
    assert deployment.cli(*take_back, who=("security",)).error["code"] == "no_review"
    deployment.cli(*take_back, who=("safety",)).must()
    assert set(certify(deployment).reasons()) == {"review_withdrawn"}
    # What stands is served to its end; a stop is an order.
    assert deployment.chat(key=api_key).status_code == 200
    deployment.cli(*APPROVE, who=("safety",)).must()
    certify(deployment).must()


def test_the_sheet_fits_80_columns_and_needs_no_key(deployment: Deployment) -> None:
    words = ["review", "--stage", "internal", "--show", "--admin", deployment.admin_url]
    words += ["--token-file", str(deployment.folder / "keys/reader.token")]
    told = gatelift(*words)
    assert told.returncode == 0, told.stderr
    for title in ("What is asked", "What it opens", "Evidence", "Since last time", "Conflicts"):
        assert title in told.stdout
    assert "0 of 60" in told.stdout
    long = [line for line in told.stdout.splitlines() if len(line) > 80]
    # A digest is never broken: it gets a line of its own.
    assert all("sha256:" in line for line in long), long
    assert not deployment.admin("/state").json()["reviews"]


def offline(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a command where there is no network at all, if this machine lets us take it away."""
    apart = ["unshare", "--net"]
    able = subprocess.run([*apart, "true"], capture_output=True, check=False).returncode == 0
    return subprocess.run(
        [*(apart if able else ()), PYTHON, "-m", "gatelift", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=folder,
        env={name: value for name, value in os.environ.items() if "GATELIFT" not in name},
    )


def test_a_review_is_read_and_signed_without_a_network(
    deployment: Deployment, tmp_path: Path
) -> None:
    apart = tmp_path / "apart"
    apart.mkdir()
    draft = deployment.cli(*APPROVE, "--out", apart / "review.json").must()
    assert draft["signed"] is False
    assert json.loads((apart / "review.json").read_bytes())["predicate"]["approves"] is True
    sheet, key = apart / "review.json.sheet", deployment.key("safety")
    sign = ["sign", "review.json", "--key", key, "--out", "signed.json"]
    pinned = [*sign, "--root-file", deployment.folder / "root.json"]
    whole = sheet.read_text()

    for change in ("gone", "another plan", "without the runs"):
        if change == "gone":
            sheet.unlink()
        elif change == "another plan":
            sheet.write_text(json.dumps({**json.loads(whole), "plan": other_plan(whole)}))
        else:
            sheet.write_text(json.dumps({**json.loads(whole), "runs": []}))
        said = offline(apart, *pinned, "--yes")
        assert said.returncode != 0, change
        assert not (apart / "signed.json").exists(), change

    sheet.write_text(whole)
    said = offline(apart, *sign, "--root-file", key, "--yes")
    assert said.returncode != 0
    said = offline(apart, *pinned, "--yes")
    assert said.returncode == 0, said.stderr
    assert "Since last time" in said.stdout
    assert "0 of 60" in said.stdout
    envelope = json.loads((apart / "signed.json").read_bytes())
    assert base64.b64decode(envelope["payload"]) == (apart / "review.json").read_bytes()
    deployment.cli("submit", apart / "signed.json").must()
    certify(deployment).must()


def other_plan(sheet: str) -> str:
    text: str = json.loads(sheet)["plan"]
    return text.replace("max_organisations: 10", "max_organisations: 1", 1)
