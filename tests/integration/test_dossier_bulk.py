"""Reading in bulk finds what reading line by line finds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from gatelift.ledger.audit import AuditReport, record_lines
from gatelift.ledger.verify import verify_dossier
from tests.integration.dossier_deployment import Deployment
from tests.support.tampering_rows import ANY_BYTES
from tests.support.tamperings import Tampering, rows

# Whatever touches records or batches, and one that touches neither.
WORDS = ("record", "a line", "batch", "salt")
TOUCHED = [row for row in ANY_BYTES if any(word in row.what for word in WORDS)]


def big_number(lines: list[bytes]) -> list[bytes]:
    row = json.loads(lines[1])
    row["record"] = row["record"].replace('"status":200', '"status":9007199254740993')
    return [lines[0], json.dumps(row, separators=(",", ":")).encode(), *lines[2:]]


def spaced(lines: list[bytes]) -> list[bytes]:
    return [json.dumps(json.loads(line)).encode() if line else line for line in lines]


def two_in_one(lines: list[bytes]) -> list[bytes]:
    """Put two records into one line, with a newline between them."""
    row = json.loads(lines[0])
    row["record"] += "\n" + json.loads(lines[1])["record"]
    return [json.dumps(row, separators=(",", ":")).encode(), *lines[1:]]


def stray_bits(lines: list[bytes]) -> list[bytes]:
    """Spell the same salt otherwise: the last digit has two bits that mean nothing."""
    row = json.loads(lines[0])
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = digits[digits.index(row["salt"][42]) + 1]
    row["salt"] = row["salt"][:42] + other + "="
    return [json.dumps(row, separators=(",", ":")).encode(), *lines[1:]]


MORE = [
    Tampering("a record has a number beyond 2^53", rows(big_number), "big_integer"),
    Tampering("a line holds two records", rows(two_in_one), None),
    Tampering("a salt is spelled otherwise", rows(stray_bits), "bad_base64"),
    Tampering("blank lines stand among the lines", rows(lambda r: [r[0], b"", *r[1:]]), "bad_line"),
    Tampering(
        "every line is written with blanks", rows(spaced), None, 0, why_not="it says the same"
    ),
]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Deployment, Path]:
    home = tmp_path_factory.mktemp("told")
    deployment = Deployment(home / "deployment")
    deployment.tell(erasing=False)
    deployment.export(home / "dossier")
    return deployment, home / "dossier"


@pytest.fixture(scope="module")
def erased(tmp_path_factory: pytest.TempPathFactory) -> tuple[Deployment, Path]:
    home = tmp_path_factory.mktemp("erased")
    deployment = Deployment(home / "deployment")
    deployment.tell()
    deployment.export(home / "dossier")
    return deployment, home / "dossier"


@pytest.fixture
def whole(
    row: Tampering, told: tuple[Deployment, Path], erased: tuple[Deployment, Path]
) -> tuple[Deployment, Path]:
    """The dossier that a row is done to: one with an erasure where the row is about that."""
    return erased if "erased" in row.what else told


def audit(deployment: Deployment, path: Path) -> AuditReport:
    return verify_dossier(
        path, anchor_root=deployment.world.root_digest, policy=None, now_ms=deployment.now
    )


@pytest.mark.parametrize("row", [*TOUCHED, *MORE], ids=lambda row: row.what)
def test_bulk_and_line_by_line_say_the_same(
    whole: tuple[Deployment, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: Tampering
) -> None:
    path = tmp_path / "dossier"
    shutil.copytree(whole[1], path)
    row.change(path, whole[0])
    bulk = audit(whole[0], path)
    assert bulk.exit_code == row.exit_code
    assert row.code is None or row.code in {f.code for f in bulk.findings}
    monkeypatch.setattr(record_lines, "_open_piece", lambda *_: None)
    assert audit(whole[0], path) == bulk
    monkeypatch.undo()
    monkeypatch.setattr("gatelift.ledger.audit.folder._PIECE", 700)
    pieces = audit(whole[0], path)
    assert [f.code for f in pieces.findings] == [f.code for f in bulk.findings]
    assert pieces.counts == bulk.counts


def test_most_lines_are_read_in_bulk(
    told: tuple[Deployment, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_lines, "_open_line", None)
    assert audit(*told).exit_code == 0


def test_lines_beside_an_erased_one_are_read_in_bulk_too(
    erased: tuple[Deployment, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = []
    real = record_lines._open_line
    monkeypatch.setattr(record_lines, "_open_line", lambda data: alone.append(data) or real(data))
    report = audit(*erased)
    assert (report.exit_code, len(alone)) == (0, report.counts["records_erased"])


def test_a_batch_of_a_billion_records_costs_nothing(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path / "deployment")
    deployment.tell_shortly()
    entry = json.loads(deployment.batches[0]) | {"n": 2**53 - 1}
    deployment.batches[0] = json.dumps(entry, separators=(",", ":")).encode()
    deployment.head()
    deployment.export(tmp_path / "dossier")
    deployment.put_records(tmp_path / "dossier")
    report = audit(deployment, tmp_path / "dossier")
    assert "record_missing" in {f.code for f in report.errors}
