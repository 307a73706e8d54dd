"""A genuine dossier verifies; each way of altering one is found under its own code."""

from __future__ import annotations

import json
import os
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
from tests.support.world import World

RECORDS = "records/n1-2026-09.jsonl"
REQUESTS = "requests/n1-2026-09"


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
    assert len(report.proved) == 8
    assert report.counts["records"] == 295
    assert report.counts["exchanges_upstream"] == 15
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


def edit(path: Path, change: Callable[[bytes], bytes]) -> None:
    before = path.read_bytes()
    after = change(before)
    assert after != before
    path.write_bytes(after)


def flip(path: Path, at: int = -1) -> None:
    def change(data: bytes) -> bytes:
        place = at % len(data)
        return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]

    edit(path, change)


def lines_of(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    edit(path, lambda data: b"\n".join(change(data.split(b"\n"))))


def swap_batches(rows: list[bytes]) -> list[bytes]:
    # Two beats of one record each change places, and say so rightly.
    one, two = json.loads(rows[40]), json.loads(rows[41])
    one["batch"], two["batch"] = two["batch"], one["batch"]
    rows[40], rows[41] = json.dumps(two).encode(), json.dumps(one).encode()
    return rows


def first_file(folder: Path, marker: bytes) -> Path:
    for path in sorted((folder / "files/sha256").iterdir()):
        if marker in path.read_bytes():
            return path
    raise AssertionError(marker)


def change_salt(rows: list[bytes]) -> list[bytes]:
    row = json.loads(rows[0])
    row["salt"] = "A" * 43 + "="
    return [json.dumps(row).encode(), *rows[1:]]


def change_manifest(path: Path, **changes: object) -> None:
    path.write_bytes(json.dumps({**json.loads(path.read_bytes()), **changes}).encode())


def link(path: Path, target: str) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to(target)


def strip_witness(data: bytes) -> bytes:
    return b"".join(
        line for line in data.splitlines(keepends=True) if b"witness.example" not in line
    )


ALTERED: list[tuple[str, Callable[[Path], object], str, int]] = [
    ("root", lambda p: flip(p / "root.json", 60), "", 1),
    ("root not there", lambda p: (p / "root.json").unlink(), "unreadable", 2),
    ("checkpoint size", lambda p: edit(
        p / "releases/checkpoint", lambda d: d.replace(b"\n24\n", b"\n23\n")
    ), "missing", 1),
    ("checkpoint root", lambda p: flip(p / "releases/checkpoint", 30), "root_mismatch", 1),
    ("checkpoint origin", lambda p: flip(p / "releases/checkpoint", 0), "wrong_origin", 1),
    ("log signature", lambda p: edit(
        p / "releases/checkpoint", lambda d: d.replace("— test".encode(), "— tesx".encode())
    ), "unsigned", 1),
    ("witness stripped", lambda p: edit(
        p / "releases/checkpoint", strip_witness
    ), "quorum_not_met", 1),
    ("huge checkpoint", lambda p: edit(
        p / "releases/checkpoint", lambda d: d.replace(b"\n24\n", b"\n1152921504606846976\n")
    ), "missing", 1),
    ("releases entry", lambda p: flip(p / "releases/tile/entries/000.p/24"), "root_mismatch", 1),
    ("releases tile", lambda p: flip(p / "releases/tile/0/000.p/24"), "tile_mismatch", 1),
    ("releases bundle not there", lambda p: (p / "releases/tile/entries/000.p/24").unlink(),
     "missing", 1),
    ("releases bundle cut", lambda p: edit(
        p / "releases/tile/entries/000.p/24", lambda d: d[:-3]
    ), "bad_tile", 1),
    ("releases not there", lambda p: shutil.rmtree(p / "releases"), "missing", 1),
    ("body", lambda p: flip(first_file(p, b"payloadType"), 100), "wrong_bytes", 1),
    ("plan", lambda p: flip(first_file(p, b"apiVersion"), 100), "wrong_bytes", 1),
    ("candidate not there", lambda p: first_file(p, b"model_part").unlink(), "missing", 1),
    ("policy", lambda p: edit(
        p / "tlog-policy", lambda d: d.replace(b"group witnesses 1", b"group witnesses any")
    ), "policy_differs", 1),
    ("requests checkpoint", lambda p: flip(p / REQUESTS / "checkpoint", 40), "bad_signature", 1),
    ("requests entry", lambda p: flip(p / REQUESTS / "tile/entries/000", 50), "root_mismatch", 1),
    ("requests full tile", lambda p: flip(p / REQUESTS / "tile/0/000", 5000), "tile_mismatch", 1),
    ("requests upper tile", lambda p: flip(p / REQUESTS / "tile/1/000.p/1"), "tile_mismatch", 1),
    ("requests tile cut", lambda p: edit(
        p / REQUESTS / "tile/0/000", lambda d: d[:-32]
    ), "tile_mismatch", 1),
    ("requests log not there", lambda p: shutil.rmtree(p / REQUESTS), "log_missing", 1),
    ("requests log's name", lambda p: (p / "requests/n1-2026-09").rename(
        p / "requests/n1-2026-99"
    ), "bad_name", 1),
    ("record", lambda p: edit(
        p / RECORDS, lambda d: d.replace(b'\\"output_tokens\\":20', b'\\"output_tokens\\":10', 1)
    ), "batch_root", 1),
    ("record's salt", lambda p: lines_of(p / RECORDS, change_salt), "batch_root", 1),
    ("record dropped", lambda p: lines_of(p / RECORDS, lambda r: r[:3] + r[4:]),
     "record_missing", 1),
    ("finish removed", lambda p: lines_of(p / RECORDS, lambda r: r[:1] + r[2:]),
     "record_missing", 1),
    ("records swapped", lambda p: lines_of(p / RECORDS, lambda r: [r[1], r[0], *r[2:]]),
     "record_missing", 1),
    ("batches swapped", lambda p: lines_of(p / RECORDS, swap_batches), "batch_root", 1),
    ("record repeated", lambda p: lines_of(p / RECORDS, lambda r: [*r[:-1], r[0], b""]),
     "record_out_of_place", 1),
    ("records not there", lambda p: (p / RECORDS).unlink(), "record_missing", 1),
    ("records cut", lambda p: edit(p / RECORDS, lambda d: d[:-9]), "line_too_long", 1),
    ("giant line", lambda p: edit(
        p / RECORDS, lambda d: b'{"log":"' + b"x" * 1_000_000 + b'"}\n' + d
    ), "line_too_long", 1),
    ("no record line", lambda p: edit(p / RECORDS, lambda d: b"\xff\xfe{}\n" + d), "bad_line", 1),
    ("deep nesting", lambda p: edit(p / RECORDS, lambda d: b"[" * 100_000 + b"\n" + d),
     "bad_line", 1),
    ("manifest's release", lambda p: change_manifest(p / "dossier.json", release="other"),
     "manifest_differs", 1),
    ("manifest's root", lambda p: change_manifest(p / "dossier.json", root="sha256:" + "0" * 64),
     "manifest_differs", 1),
    ("manifest's paths", lambda p: change_manifest(
        p / "dossier.json", requests=[{"origin": "../../etc/passwd", "size": 1}]
    ), "manifest_differs", 1),
    ("manifest's version", lambda p: change_manifest(p / "dossier.json", v=2), "unreadable", 2),
    ("no manifest", lambda p: (p / "dossier.json").write_bytes(b"{"), "unreadable", 2),
    ("linked file", lambda p: link(p / "tlog-policy", "/etc/hostname"), "symlink", 1),
    ("linked folder", lambda p: link(p / REQUESTS, "/tmp"), "symlink", 1),
    ("linked body", lambda p: link(first_file(p, b"model_part"), "/etc/hostname"), "symlink", 1),
    ("special file", lambda p: os.mkfifo(p / "files" / "pipe"), "symlink", 1),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "code", "exit_code"), [row[1:] for row in ALTERED], ids=[row[0] for row in ALTERED]
)
def test_an_altered_dossier_is_found_out(
    told: tuple[Deployment, Path],
    copy: Path,
    change: Callable[[Path], object],
    code: str,
    exit_code: int,
) -> None:
    change(copy)
    report = audit(told[0], copy)
    assert report.exit_code == exit_code, report.findings
    if code:
        assert code in codes(report), report.findings
    assert all(finding.where and finding.message for finding in report.findings)


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
