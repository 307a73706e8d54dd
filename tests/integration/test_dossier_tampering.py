"""A genuine dossier verifies; each way of altering one is found under its own code."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gatelift.encoding import Digest
from gatelift.ledger.audit import AuditReport
from gatelift.ledger.dossier import DossierError, export_dossier
from gatelift.ledger.verify import verify_dossier
from gatelift.messages import releases_policy
from gatelift.tlog import format_policy
from tests.integration.dossier_deployment import Deployment
from tests.support.tampering_page import render_tamperings
from tests.support.tampering_rows import ANY_BYTES, LOG_KEYS, SIGNED
from tests.support.tamperings import RECORDS, Tampering, edit
from tests.support.verifiers import Answer, by_file, by_package
from tests.support.world import World


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Deployment, Path]]:
    home = tmp_path_factory.mktemp("told")
    deployment = Deployment(home / "deployment")
    deployment.tell()
    deployment.export(home / "dossier")
    return deployment, home / "dossier"


@pytest.fixture
def copy(told: tuple[Deployment, Path], tmp_path: Path) -> Path:
    shutil.copytree(told[1], tmp_path / "dossier")
    return tmp_path / "dossier"


def audit(deployment: Deployment, path: Path, anchor: Digest | None = None) -> AuditReport:
    return verify_dossier(
        path,
        anchor_root=anchor or deployment.world.root_digest,
        policy=None,
        now_ms=deployment.now,
    )


def codes(report: AuditReport) -> set[str]:
    return {finding.code for finding in report.findings}


# -- genuine ------------------------------------------------------------------------------------


def test_a_genuine_dossier_holds_and_is_authenticated(told: tuple[Deployment, Path]) -> None:
    deployment, path = told
    report = audit(deployment, path)
    assert report.findings == ()
    assert (report.exit_code, report.authenticated) == (0, True)
    assert len(report.proved) == 9
    assert report.counts["records"] == 297
    assert report.counts["records_erased"] == 2
    assert any(told.startswith("2 of 297 records were erased, by 1 ") for told in report.proved)
    assert report.counts["exchanges_upstream"] == 16
    assert report.cannot_prove


def test_without_an_anchor_it_is_consistent_but_not_authenticated(
    told: tuple[Deployment, Path],
) -> None:
    deployment, path = told
    report = verify_dossier(path, anchor_root=None, policy=None, now_ms=deployment.now)
    assert report.findings == ()
    assert (report.exit_code, report.authenticated) == (3, False)


def test_a_policy_from_elsewhere_authenticates_too(told: tuple[Deployment, Path]) -> None:
    deployment, path = told
    policy = format_policy(releases_policy(deployment.world.root))
    report = verify_dossier(path, anchor_root=None, policy=policy, now_ms=deployment.now)
    assert (report.exit_code, report.authenticated) == (0, True)


def test_a_policy_that_asks_for_another_witness_is_not_met(told: tuple[Deployment, Path]) -> None:
    deployment, path = told
    other = World()
    lines = format_policy(releases_policy(other.root)).decode().splitlines()
    policy = "\n".join([lines[0], "quorum none", ""]).replace(
        other.log.vkey, _other_vkey(other.log.name)
    )
    report = verify_dossier(path, anchor_root=None, policy=policy.encode(), now_ms=deployment.now)
    assert report.exit_code == 1
    assert codes(report) == {"unsigned"}


def _other_vkey(name: str) -> str:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from gatelift.tlog import NoteSigner

    return NoteSigner(name, Ed25519PrivateKey.from_private_bytes(bytes(32))).vkey


def test_nothing_secret_is_exported(told: tuple[Deployment, Path]) -> None:
    names = {p.relative_to(told[1]).parts[0] for p in told[1].rglob("*")}
    assert names == {
        "dossier.json",
        "root.json",
        "tlog-policy",
        "releases",
        "requests",
        "records",
        "files",
    }
    assert not any(b"secret" in p.read_bytes() for p in told[1].rglob("*") if p.is_file())


def test_a_folder_that_holds_something_is_refused(
    told: tuple[Deployment, Path], tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DossierError):
        export_dossier(told[0].directory, tmp_path, checkpoint_note=told[0].releases_note())
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_an_older_head_exports_the_log_as_it_was_then(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path / "deployment")
    deployment.begin()
    note = deployment.releases_note()
    size = len(deployment.headers)
    deployment.certify()
    deployment.write()
    # A publisher keeps the partial tiles of a published head; the writer here keeps one head only.
    from tests.integration.dossier_deployment import put_log

    put_log(deployment.directory / "logs/releases", deployment.leaves()[:size], note)
    summary = export_dossier(deployment.directory, tmp_path / "out", checkpoint_note=note)
    assert summary.manifest.releases.size == size
    assert audit(deployment, tmp_path / "out").exit_code == 0


# -- altered bytes ------------------------------------------------------------------------------

ROWS = (*ANY_BYTES, *LOG_KEYS, *SIGNED)


@pytest.mark.parametrize("verify", [by_package, by_file], ids=["package", "file"])
@pytest.mark.parametrize("row", ROWS, ids=[row.what for row in ROWS])
def test_both_verifiers_find_an_altered_dossier(
    told: tuple[Deployment, Path], copy: Path, row: Tampering, verify: Callable[..., Answer]
) -> None:
    row.change(copy, told[0])
    answer = verify(copy, root=told[0].world.root_digest, now_ms=told[0].now)
    assert answer.exit_code == row.exit_code, answer.said
    assert (answer.exit_code == 0) == bool(row.why_not or row.code == "unexpected_file")
    if row.code is not None:
        assert row.code in answer.errors | answer.warnings, answer.said


def test_the_page_of_tamperings_is_what_these_rows_give() -> None:
    page = Path(__file__).parents[2] / "docs/reference/tamperings.md"
    assert page.read_text("utf-8") == render_tamperings()


def test_a_file_that_does_not_belong_is_named_but_not_read(
    told: tuple[Deployment, Path], copy: Path
) -> None:
    (copy / "readme.html").write_text("<script>")
    report = audit(told[0], copy)
    assert codes(report) == {"unexpected_file"}
    assert report.exit_code == 0


def test_no_dossier_is_unreadable_input(told: tuple[Deployment, Path], tmp_path: Path) -> None:
    assert audit(told[0], tmp_path / "nothing").exit_code == 2
    assert audit(told[0], tmp_path).exit_code == 2


def test_a_forged_dossier_with_a_root_of_its_own_does_not_match_the_anchor(
    told: tuple[Deployment, Path], tmp_path: Path
) -> None:
    forged = Deployment(tmp_path / "deployment", World(proof="sha256:" + "a" * 64))
    forged.tell_shortly()
    forged.export(tmp_path / "dossier")
    without = verify_dossier(tmp_path / "dossier", anchor_root=None, policy=None, now_ms=forged.now)
    assert without.exit_code == 3
    report = audit(forged, tmp_path / "dossier", told[0].world.root_digest)
    assert codes(report) == {"wrong_root"}
    assert (report.exit_code, report.authenticated) == (1, False)


def test_a_thousand_broken_lines_give_a_short_report(
    told: tuple[Deployment, Path], copy: Path
) -> None:
    edit(copy / RECORDS, lambda data: b"{}\n" * 1000 + data)
    report = audit(told[0], copy)
    assert len(report.findings) < 60
    assert report.counts["findings.bad_line"] == 1000


def test_any_flipped_bit_is_found(told: tuple[Deployment, Path], copy: Path) -> None:
    chance = random.Random(20260921)
    files = sorted(p for p in copy.rglob("*") if p.is_file() and p.name != "dossier.json")
    for path in chance.sample(files, 12):
        before = path.read_bytes()
        place, bit = chance.randrange(len(before)), 1 << chance.randrange(8)
        after = before[:place] + bytes([before[place] ^ bit]) + before[place + 1 :]
        path.chmod(0o644)
        path.write_bytes(after)
        report = audit(told[0], copy)
        assert report.exit_code == 1, (path.name, place, bit)
        path.write_bytes(before)
