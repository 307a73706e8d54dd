"""Promise 10: what is recorded can be erased without breaking a proof, and erasure itself is visible.

Attacked here: records are erased by end user and by organisation, in the journals and on the second
store, and every file is searched for what stood in them; a record is taken away without an erasure, and
under one that was never logged; one person, two of one side, and two against a hold try to erase; the
keeper is killed in the middle, and frames are torn as a power cut would tear them. Both verifiers judge every dossier.

Seen to fail: with overwriting left out the records stayed where they were (red); with the refusal under a
hold left out the erasure was taken (red); with the redo file not read at the start the torn frames closed the
node (red).
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.promises.dossiers import export, root_digest
from tests.promises.outside import (
    PLANS,
    PYTHON,
    Deployment,
    Said,
    check_receipt,
    gatelift,
    open_ticket,
    wait_for,
)
from tests.support.upstream import ScriptedUpstream

ONE_FILE = Path(__file__).parents[2] / "verifier/gatelift_verify.py"
END_USER = f"enduser{secrets.token_hex(8)}"
KILLER = """
import os, sys, time
redo, kept, keeper = sys.argv[1:]
until = time.monotonic() + 60
while time.monotonic() < until:
    try:
        data = open(redo, "rb").read()
    except FileNotFoundError:
        continue
    os.kill(int(keeper), 9)
    open(kept, "wb").write(data)
    sys.exit(0)
sys.exit(3)
"""
_SECOND_STORE = Path("/dev/shm")


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    found = ScriptedUpstream(["one ", "two"])
    yield found
    found.close()


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    found = _SECOND_STORE / f"copies-{secrets.token_hex(6)}"
    yield found
    shutil.rmtree(found, ignore_errors=True)


@pytest.fixture(scope="module")
def deployment(
    upstream: ScriptedUpstream, copies: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    home = tmp_path_factory.mktemp("p10e")
    found = Deployment(
        home / "d",
        upstream=upstream.url,
        upstream_key=upstream.key,
        plan=PLANS / "shelter.yaml",
        workers=2,
        more=("--replica", str(copies)),
    )
    yield found
    found.stop()


class Exchange:
    """One exchange as its caller knows it: the ticket and what stands in it."""

    def __init__(self, answer: httpx.Response) -> None:
        assert answer.status_code == 200, answer.text
        self.ticket = answer.headers["gatelift-ticket"]
        opened = json.loads(base64.b64decode(self.ticket))
        self.entry = opened["entry"].encode()
        self.salt = base64.b64decode(opened["salt"])
        self.record: dict[str, Any] = json.loads(opened["record"])

    def traces(self) -> list[bytes]:
        """What of it must be nowhere: ids, the commitment, and the salt of the leaf."""
        names = ("request_id", "session", "answer")
        texts = [self.record[name].encode() for name in names]
        return [*texts, self.salt, base64.b64encode(self.salt), self.salt.hex().encode()]


def ask(deployment: Deployment, *, key: str | None = None, user: str | None = None) -> Exchange:
    more = {} if user is None else {"user": user}
    return Exchange(deployment.chat("hello", key=key, max_tokens=5, **more))


def erase(
    deployment: Deployment, *words: str, who: tuple[str, ...] = ("operator", "safety")
) -> Said:
    basis = ("--basis", "data_subject_request", "--dir", str(deployment.folder))
    return deployment.cli("erase", "sign", *basis, *words, who=who)


def erased_when_ripe(deployment: Deployment, *words: str, seconds: float = 20) -> dict[str, Any]:
    said: list[Said] = []

    def done() -> bool:
        said[:] = [erase(deployment, *words)]
        if said[0].code:
            codes = {"still_counted", "still_open", "still_admitted", "nothing_to_erase"}
            assert said[0].error["code"] in codes, said[0].error
        return said[0].code == 0

    wait_for(done, seconds=seconds, every=0.5)
    return said[0].must()


def left(deployment: Deployment) -> int:
    said = Said(gatelift("erase", "check", "--dir", deployment.folder, "--json"))
    return int(said.value["left"])


def wait_until_gone(deployment: Deployment) -> None:
    wait_for(lambda: left(deployment) == 0, seconds=30, every=0.2)


def places(where: Path, traces: list[bytes]) -> list[str]:
    found = []
    for path in sorted(path for path in where.rglob("*") if path.is_file()):
        data = path.read_bytes()
        found += [f"{trace[:30]!r} in {path}" for trace in traces if trace in data]
    return found


def judge(dossier: Path, deployment: Deployment) -> list[dict[str, Any]]:
    """Have both verifiers judge; return both reports."""
    anchor = ["--root", root_digest(deployment)]
    ours = gatelift("verify", dossier, *anchor, "--json")
    theirs = subprocess.run(
        [PYTHON, ONE_FILE, dossier, *anchor, "--json"], capture_output=True, text=True, check=False
    )
    reports = [json.loads(ours.stdout), json.loads(theirs.stdout)]
    assert [r["exit_code"] for r in reports] == [ours.returncode, theirs.returncode]
    return reports


def codes(report: dict[str, Any]) -> set[str]:
    return {each["code"] for each in report["findings"] if each["severity"] == "error"}


def test_an_end_users_records_are_gone_everywhere_and_all_proofs_hold(
    deployment: Deployment, copies: Path, tmp_path: Path
) -> None:
    mine = [ask(deployment, user=END_USER) for _ in range(5)]
    others = [ask(deployment, user="somebody else") for _ in range(5)]
    traces = [trace for each in mine for trace in each.traces()]
    wait_for(lambda: receipt(deployment, mine[-1]) is not None)
    assert places(deployment.folder / "journal", traces)
    said = erased_when_ripe(deployment, "--end-user", END_USER)
    assert said["records"] == 2 * len(mine)
    wait_until_gone(deployment)
    found = places(deployment.folder, traces) + places(copies, traces)
    assert not found, found[:5]
    assert places(deployment.folder / "journal", [others[0].salt])
    assert places(copies, [others[0].salt])
    # The caller's own proofs stand: the batch, its leaf in it, and its place in the log.
    for each in (*mine, *others):
        open_ticket(each.ticket, deployment.node_key())
        check_receipt(receipt(deployment, each) or "", each.entry, deployment.requests_key())
    dossier = export(deployment, tmp_path / "dossier")
    assert not places(dossier, traces)
    for report in judge(dossier, deployment):
        assert report["exit_code"] == 0, report["findings"]
        assert report["counts"]["records_erased"] == 2 * len(mine)
        told = [text for text in report["proved"] if "were erased" in text]
        assert told, report["proved"]
        assert f"{2 * len(mine)} of {report['counts']['records']:,} records" in told[0]
        assert "1 on data_subject_request" in told[0]
    assert ask(deployment).record["outcome"] == "served"


def receipt(deployment: Deployment, exchange: Exchange) -> str | None:
    digest = hashlib.sha256(exchange.entry).hexdigest()
    answer = httpx.get(
        f"{deployment.base_url}/receipts/{digest}",
        headers={"authorization": f"Bearer {deployment.api_key}"},
    )
    return answer.text if answer.status_code == 200 else None


def test_an_organisations_records_are_gone_and_its_counts_stand(
    deployment: Deployment, copies: Path, tmp_path: Path
) -> None:
    organisation, principal = f"org{secrets.token_hex(6)}", f"person{secrets.token_hex(6)}"
    words = ["grant", "--principal", principal, "--organisation", organisation]
    words += ["--stage", "assess", "--proof", "identity", "--for", "15s"]
    key = deployment.cli(*words, who=("admissions",)).must()["api_key"]
    deployment.wait_known(key)
    ask(deployment, key=key, user="first")
    early = ask(deployment, key=key, user="second")
    wait_for(lambda: erase(deployment, "--organisation", organisation).code == 1, seconds=5)
    erased_when_ripe(deployment, "--request", early.record["request_id"], seconds=30)
    said = erased_when_ripe(deployment, "--organisation", organisation, seconds=120)
    assert said["records"] == 4
    wait_until_gone(deployment)
    traces = [organisation.encode(), principal.encode(), *early.traces()]
    for where in ("journal", "logs", "run", "heads", "store"):
        found = places(deployment.folder / where, traces)
        # The store and the log hold what admissions signed, which stays: see docs/reference/erasure.md.
        assert where == "store" or not found, found[:5]
    assert not places(copies, traces)
    dossier = export(deployment, tmp_path / "dossier")
    assert not places(dossier / "records", traces)
    reports = judge(dossier, deployment)
    for report in reports:
        assert report["exit_code"] == 0, report["findings"]
    # Begun anew, the keeper counts from tombstones alone.
    deployment.kill("keeper")
    deployment.wait_serving()
    again = export(deployment, tmp_path / "again")
    for report in judge(again, deployment):
        assert report["exit_code"] == 0, report["findings"]


def test_a_record_that_no_logged_erasure_covers_is_missing(
    deployment: Deployment, tmp_path: Path
) -> None:
    ask(deployment, user="kept")
    time.sleep(1.5)
    dossier = export(deployment, tmp_path / "dossier")
    path = next((dossier / "records").glob("*.jsonl"))
    lines = path.read_bytes().splitlines()
    whole = [n for n, line in enumerate(lines) if b'"salt"' in line and b"outcome" in line]
    gone = [n for n, line in enumerate(lines) if b'"erasure"' in line]
    chosen = json.loads(lines[whole[-1]])
    del chosen["salt"]
    unlogged = {**chosen, "leaf": leaf_of(lines[whole[-1]]), "erasure": "erasure_none"}
    logged = {**unlogged, "erasure": json.loads(lines[gone[0]])["erasure"]}
    fewer = json.loads(lines[gone[0]])
    fewer["record"] = fewer["record"].replace('"at":1', '"at":2', 1)
    for what, at, line, expected in (
        ("no line", whole[-1], None, {"record_missing"}),
        ("an erasure that is not logged", whole[-1], unlogged, {"erased_without_entry"}),
        (
            "a record beside a logged erasure",
            whole[-1],
            logged,
            {"erased_without_entry", "tombstones_differ"},
        ),
        ("another figure", gone[0], fewer, {"tombstones_differ"}),
    ):
        bent = list(lines)
        if line is None:
            del bent[at]
        else:
            order = ("log", "batch", "i", "leaf", "erasure", "record")
            text = json.dumps({name: line[name] for name in order}, separators=(",", ":"))
            bent[at] = text.encode()
        path.write_bytes(b"".join(each + b"\n" for each in bent))
        for report in judge(dossier, deployment):
            assert report["exit_code"] == 1, what
            assert codes(report) & expected, (what, codes(report))


def leaf_of(line: bytes) -> str:
    held = json.loads(line)
    data = base64.b64decode(held["salt"]) + held["record"].encode()
    return "sha256:" + hashlib.sha256(b"\x00gatelift/record/v1\n" + data).hexdigest()


def test_nobody_alone_and_nobody_against_a_hold_erases(deployment: Deployment) -> None:
    one = ask(deployment, user="held")
    time.sleep(4.5)
    words = ("--request", one.record["request_id"])
    for who in (("operator",), ("safety",), ("safety", "overseer"), ("operator", "admissions")):
        assert erase(deployment, *words, who=who).error["code"] == "quorum_unmet", who
    held = deployment.cli("hold", "place", "--reason", "legal", who=("security",)).must()
    assert erase(deployment, *words).error["code"] == "held"
    alone = deployment.cli("hold", "lift", held["id"], who=("safety",))
    assert alone.error["code"] == "quorum_unmet"
    assert places(deployment.folder / "journal", [one.salt])
    deployment.cli("hold", "lift", held["id"], who=("operator", "overseer")).must()
    erased_when_ripe(deployment, *words)
    wait_until_gone(deployment)
    assert not places(deployment.folder / "journal", [one.salt])


def test_an_erasure_that_is_killed_in_the_middle_is_completed_at_the_restart(
    deployment: Deployment, copies: Path, tmp_path: Path
) -> None:
    mine = []
    for _ in range(40):
        mine += [ask(deployment, user="killed") for _ in range(5)]
    traces = [each.salt for each in mine]
    redo, kept = deployment.folder / "run/erasing.redo", tmp_path / "redo"
    keeper = deployment.processes("keeper")[0]
    time.sleep(5)
    killer = subprocess.Popen([PYTHON, "-c", KILLER, str(redo), str(kept), str(keeper)])
    erased_when_ripe(deployment, "--end-user", "killed", seconds=30)
    assert killer.wait(70) == 0, "the redo file was never seen"
    wait_until_gone(deployment)
    assert not places(deployment.folder / "journal", traces)
    wait_for(lambda: not places(copies, traces), seconds=20)
    assert not redo.exists()
    # A power cut may leave any frame half written: the redo file says what belongs there.
    deployment.stop()
    torn = json.loads(kept.read_bytes())
    assert len(torn) == 2 * len(mine)
    for patch in torn:
        with Path(patch["path"]).open("r+b") as file:
            half = len(base64.b64decode(patch["data"])) // 2
            file.seek(patch["offset"] + half)
            file.write(b"\xff" * half)
    shutil.copyfile(kept, redo)
    deployment.start()
    deployment.wait_serving()
    assert not redo.exists()
    for report in judge(export(deployment, tmp_path / "dossier"), deployment):
        assert report["exit_code"] == 0, report["findings"]
    deployment.stop()
    checked = Said(gatelift("ledger", "fsck", "--dir", deployment.folder, "--json"))
    assert checked.code == 0, checked.text
