"""A dossier in one file: the same bytes each time, read in place, and no other form of archive."""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gatelift.ledger.archive import ArchiveError, write_archive
from gatelift.ledger.audit import archive as audit_archive
from tests.integration.dossier_deployment import Deployment
from tests.support.verifiers import Answer, by_file, by_package, load_file

BOTH = pytest.mark.parametrize("verify", [by_package, by_file], ids=["package", "file"])


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Deployment, Path]:
    """A deployment's dossier as a folder, and as an archive beside it."""
    home = tmp_path_factory.mktemp("told")
    deployment = Deployment(home / "deployment")
    deployment.tell()
    deployment.export(home / "dossier")
    write_archive(home / "dossier", home / "dossier.tar")
    return deployment, home / "dossier.tar"


def ask(verify: Callable[..., Answer], deployment: Deployment, path: Path) -> Answer:
    return verify(path, root=deployment.world.root_digest, now_ms=deployment.now)


@BOTH
def test_an_archive_verifies_as_its_folder_does(
    told: tuple[Deployment, Path], verify: Callable[..., Answer]
) -> None:
    folder = ask(verify, told[0], told[1].with_suffix(""))
    archive = ask(verify, told[0], told[1])
    assert (archive.exit_code, archive.errors, archive.warnings) == (0, set(), set()), archive.said
    assert folder == archive


def test_the_same_files_give_the_same_bytes(told: tuple[Deployment, Path], tmp_path: Path) -> None:
    _, archive = told
    copy = tmp_path / "copy"
    for path in sorted(
        archive.with_suffix("").rglob("*"), reverse=True
    ):  # another order, later times
        target = copy / path.relative_to(archive.with_suffix(""))
        if path.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
            target.chmod(0o600)
    digest = write_archive(copy, tmp_path / "again.tar")
    assert (tmp_path / "again.tar").read_bytes() == archive.read_bytes()
    assert digest == "sha256:" + hashlib.sha256(archive.read_bytes()).hexdigest()


def test_other_tools_read_it_too(told: tuple[Deployment, Path], tmp_path: Path) -> None:
    _, archive = told
    folder = archive.with_suffix("")
    files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with tarfile.open(archive, "r:") as found:
        read = {m.name: found.extractfile(m).read() for m in found.getmembers()}  # type: ignore[union-attr]
        assert {(m.mode, m.uid, m.gid, m.mtime, m.uname) for m in found} == {(0o644, 0, 0, 0, "")}
    assert read == files
    if tar := shutil.which("tar"):
        subprocess.run([tar, "-xf", archive, "-C", tmp_path], check=True)
        assert {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()} == set(
            files
        )


def test_a_file_that_is_there_is_kept(told: tuple[Deployment, Path], tmp_path: Path) -> None:
    (tmp_path / "mine.tar").write_text("mine")
    with pytest.raises(ArchiveError):
        write_archive(told[1].with_suffix(""), tmp_path / "mine.tar")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("mine.tar", "mine")]


def test_a_long_path_is_split_as_ustar_has_it(tmp_path: Path) -> None:
    name = f"requests/{'n' * 64}-2026-09/tile/entries/x001/x234/067.p/255"
    (tmp_path / "d" / name).parent.mkdir(parents=True)
    (tmp_path / "d" / name).write_bytes(b"x" * 600)
    write_archive(tmp_path / "d", tmp_path / "d.tar")
    with tarfile.open(tmp_path / "d.tar", "r:") as found:
        assert found.getnames() == [name]
    folder = audit_archive.open_dossier(tmp_path / "d.tar")
    assert folder.read(name) == b"x" * 600
    assert load_file().Source(str(tmp_path / "d.tar")).read(name) == b"x" * 600


# -- hostile archives -----------------------------------------------------------------------------

Make = Callable[[Path, Path], None]


def members(archive: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(archive, "r:") as found:
        return [(m, found.extractfile(m).read()) for m in found.getmembers()]  # type: ignore[union-attr]


def packed(out: Path, rows: list[tuple[tarfile.TarInfo, bytes]], kind: int) -> None:
    with tarfile.open(out, "w:", format=kind) as made:
        for member, data in rows:
            made.addfile(member, io.BytesIO(data) if member.isreg() else None)


def with_member(
    name: str, data: bytes = b"x", kind: int = tarfile.USTAR_FORMAT, **more: object
) -> Make:
    """Add a member to a good archive."""

    def make(good: Path, out: Path) -> None:
        member = tarfile.TarInfo(name)
        member.size = len(data) if more.get("type", tarfile.REGTYPE) == tarfile.REGTYPE else 0
        for key, value in more.items():
            setattr(member, key, value)
        packed(out, [*members(good), (member, data)], kind)

    return make


def with_bytes(change: Callable[[bytes], bytes]) -> Make:
    return lambda good, out: out.write_bytes(change(good.read_bytes())) and None


def resummed(data: bytes, at: int, field: bytes) -> bytes:
    """Put a field into the first header and make its checksum right again."""
    header = data[:at] + field + data[at + len(field) : 512]
    total = b"%06o\0 " % audit_archive.header_sum(header)
    return header[:148] + total + header[156:] + data[512:]


HOSTILE: dict[str, Make] = {
    "a symbolic link": with_member("files/out", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "a hard link": with_member("files/out", type=tarfile.LNKTYPE, linkname="root.json"),
    "a character device": with_member("files/tty", type=tarfile.CHRTYPE),
    "a block device": with_member("files/disk", type=tarfile.BLKTYPE),
    "a pipe": with_member("files/pipe", type=tarfile.FIFOTYPE),
    "an absolute path": with_member("/etc/cron.d/job"),
    "a path that climbs": with_member("files/../../job"),
    "a path that climbs at once": with_member("../job"),
    "a path with a dot": with_member("./root.json"),
    "a path with an empty part": with_member("files//job"),
    "a path with a backslash": with_member("files\\..\\job"),
    "a path of twenty parts": with_member("/".join("abcdefghijklmnopqrst")),
    "a file twice": with_member("root.json", b"{}"),
    "a file that is a folder too": with_member("root.json/more"),
    "a folder that is a file too": with_member("files/sha256"),
    "an extended header": with_member("files/" + "n" * 300, kind=tarfile.PAX_FORMAT),
    "an extended header with another path": with_member(
        "files/job", kind=tarfile.PAX_FORMAT, pax_headers={"path": "root.json"}
    ),
    "a long name of GNU tar": with_member("files/" + "n" * 300, kind=tarfile.GNU_FORMAT),
    "a sparse file": with_member("files/hole", type=tarfile.GNUTYPE_SPARSE),
    "compression": lambda good, out: out.write_bytes(gzip.compress(good.read_bytes())) and None,
    "a bomb of compression": lambda _, out: (
        out.write_bytes(gzip.compress(bytes(50_000_000))) and None
    ),
    "a file that ends beyond the archive": with_bytes(lambda d: resummed(d, 124, b"77777777777\0")),
    "a size in base 256": with_bytes(lambda d: resummed(d, 124, b"\x80" + b"\xff" * 11)),
    "a negative size": with_bytes(lambda d: resummed(d, 124, b"-0000000001\0")),
    "a header with a wrong sum": with_bytes(lambda d: b"x" + d[1:]),
    "a cut archive": with_bytes(lambda d: d[: len(d) // 2]),
    "an archive without its end": with_bytes(lambda d: d[:-1024]),
    "an archive with half an end": with_bytes(lambda d: d[:-512]),
    "a second archive behind the first": with_bytes(lambda d: d + d),
    "bytes behind its end": with_bytes(lambda d: d + bytes(2048) + b"x"),
    "an empty file": with_bytes(lambda _: b""),
    "something else": with_bytes(lambda d: b"PK\x03\x04" + d),
}


@BOTH
@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_archive_is_refused_as_a_whole(
    told: tuple[Deployment, Path], tmp_path: Path, what: str, verify: Callable[..., Answer]
) -> None:
    path = tmp_path / "dossier.tar"
    HOSTILE[what](told[1], path)
    answer = ask(verify, told[0], path)
    assert (answer.exit_code, answer.errors) == (2, {"bad_archive"}), answer.said
    assert list(tmp_path.iterdir()) == [path], "nothing is ever unpacked"


@BOTH
def test_an_archive_of_too_many_files_is_refused(
    told: tuple[Deployment, Path], verify: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_archive, "MAX_NAMES", 20)
    monkeypatch.setattr(load_file(), "MAX_NAMES", 20)
    answer = ask(verify, told[0], told[1])
    assert (answer.exit_code, answer.errors) == (2, {"too_large"})


@BOTH
def test_what_another_tool_packed_in_this_form_verifies(
    told: tuple[Deployment, Path], tmp_path: Path, verify: Callable[..., Answer]
) -> None:
    folder = tarfile.TarInfo("files")
    folder.type, folder.mode, folder.mtime = tarfile.DIRTYPE, 0o755, 1_700_000_000
    packed(tmp_path / "d.tar", [(folder, b""), *members(told[1])], tarfile.USTAR_FORMAT)
    assert ask(verify, told[0], tmp_path / "d.tar").exit_code == 0


@BOTH
def test_an_altered_record_in_an_archive_is_found(
    told: tuple[Deployment, Path], tmp_path: Path, verify: Callable[..., Answer]
) -> None:
    data = told[1].read_bytes()
    path = tmp_path / "d.tar"
    path.write_bytes(data.replace(b'\\"output_tokens\\":20', b'\\"output_tokens\\":10', 1))
    answer = ask(verify, told[0], path)
    assert (answer.exit_code, "batch_root" in answer.errors) == (1, True)
