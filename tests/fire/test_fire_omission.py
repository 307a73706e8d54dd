"""Any record or batch that is left out, or put elsewhere, is found: each single one is tried.

From a genuine dossier every record is dropped, and every record is exchanged with its neighbour: the
public verifier must say so. Then the operator itself leaves out a batch, with every key it holds: it
signs the requests log anew without it, renumbers the records and corrects the table of contents. At
last every frame of the journals is dropped in turn: a keeper that begins on them must refuse.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatelift.errors import GateliftError
from gatelift.journal.segments import encode_frame, read_frames
from gatelift.keeper.journals import Journals
from gatelift.ledger.audit import AuditReport
from gatelift.ledger.verify import verify_dossier
from tests.integration.dossier_deployment import Deployment, put_log
from tests.support.world import key, seed

pytestmark = pytest.mark.slow

RECORDS = "records/n1-2026-09.jsonl"
REQUESTS = "requests/n1-2026-09"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Deployment, Path]:
    home = tmp_path_factory.mktemp("told")
    deployment = Deployment(home / "deployment")
    deployment.tell()
    deployment.export(home / "dossier")
    return deployment, home / "dossier"


@pytest.fixture
def copy(told: tuple[Deployment, Path], tmp_path: Path) -> Path:
    shutil.copytree(told[1], tmp_path / "dossier")
    return tmp_path / "dossier"


def audit(deployment: Deployment, path: Path) -> AuditReport:
    return verify_dossier(
        path, anchor_root=deployment.world.root_digest, policy=None, now_ms=deployment.now
    )


def missed(deployment: Deployment, dossier: Path, forgeries: Iterator[list[bytes]]) -> list[int]:
    """Return which of these lists of record lines pass the verifier."""
    found = []
    for number, rows in enumerate(forgeries):
        (dossier / RECORDS).write_bytes(b"".join(row + b"\n" for row in rows))
        if audit(deployment, dossier).exit_code != 1:
            found.append(number)
    return found


def test_every_record_that_is_left_out_is_missed(told: tuple[Deployment, Path], copy: Path) -> None:
    rows = (copy / RECORDS).read_bytes().splitlines()
    assert len(rows) > 200
    assert missed(told[0], copy, (rows[:n] + rows[n + 1 :] for n in range(len(rows)))) == []


def test_every_record_at_another_place_is_noticed(
    told: tuple[Deployment, Path], copy: Path
) -> None:
    rows = (copy / RECORDS).read_bytes().splitlines()

    def swapped() -> Iterator[list[bytes]]:
        for n in range(len(rows) - 1):
            one, two = json.loads(rows[n]), json.loads(rows[n + 1])
            for name in ("salt", "record"):
                one[name], two[name] = two[name], one[name]
            pair = [json.dumps(each).encode() for each in (one, two)]
            yield rows[:n] + pair + rows[n + 2 :]

    assert missed(told[0], copy, swapped()) == []


def without_batch(deployment: Deployment, dossier: Path, number: int) -> None:
    """Leave out a batch as one could who holds the keys of the node and of its log."""
    batches = deployment.batches[:number] + deployment.batches[number + 1 :]
    shutil.rmtree(dossier / REQUESTS)
    put_log(dossier / REQUESTS, batches, deployment.requests_note(batches))
    rows = []
    for line in (dossier / RECORDS).read_bytes().splitlines():
        row = json.loads(line)
        if row["batch"] != number:
            row["batch"] -= row["batch"] > number
            rows.append(json.dumps(row).encode())
    (dossier / RECORDS).write_bytes(b"".join(row + b"\n" for row in rows))
    manifest = json.loads((dossier / "dossier.json").read_bytes())
    manifest["records"] = len(rows)
    for log in manifest["requests"]:
        log["size"] -= log["size"] == len(deployment.batches)
    (dossier / "dossier.json").write_bytes(json.dumps(manifest).encode())


def test_every_batch_that_the_operator_itself_leaves_out_is_missed(
    told: tuple[Deployment, Path], tmp_path: Path
) -> None:
    deployment, genuine = told
    passed, by_gap = [], 0
    for number in range(len(deployment.batches)):
        dossier = tmp_path / "forged"
        shutil.copytree(genuine, dossier)
        without_batch(deployment, dossier, number)
        report = audit(deployment, dossier)
        if report.exit_code != 1:
            passed.append(number)
        by_gap += "sequence_gap" in {finding.code for finding in report.findings}
        shutil.rmtree(dossier)
    assert passed == []
    assert by_gap > len(deployment.batches) // 2, "the gap shows even without an anchored head"


def test_every_frame_that_is_cut_out_of_a_journal_stops_the_keeper(
    told: tuple[Deployment, Path], tmp_path: Path
) -> None:
    deployment, _ = told
    shutil.copytree(deployment.directory / "journal", tmp_path / "journal")
    shutil.copytree(deployment.directory / "logs/requests", tmp_path / "logs")

    def open_all() -> None:
        journals = Journals(
            directory=tmp_path / "journal",
            logs=tmp_path / "logs",
            heads=tmp_path / "heads",
            deployment="test.example",
            node="n1",
            batch_key=key("batch"),
            log_key=Ed25519PrivateKey.from_private_bytes(seed("requests")),
        )
        try:
            journals.open({}, deployment.now)
        finally:
            journals.close()

    open_all()
    tried, unnoticed = 0, []
    for path in sorted((tmp_path / "journal").glob("*/*.seg")):
        whole = path.read_bytes()
        frames, _ = read_frames(path)
        encoded = [encode_frame(frame.kind, frame.payload) for frame in frames]
        for number in range(len(encoded)):
            path.write_bytes(b"".join(encoded[:number] + encoded[number + 1 :]))
            tried += 1
            try:
                open_all()
            except GateliftError:
                continue
            unnoticed.append((path.name, number))
        path.write_bytes(whole)
    assert tried > 200
    assert unnoticed == []
