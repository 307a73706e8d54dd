"""One bit anywhere: `fsck` says where, control does not sign over it, and what is derivable comes back.

A deployment is made once by `gatelift up`, served from and stopped; each case changes a copy of it.

Seen to fail: with `recompute` comparing roots only, a stored hash off the right edge went unseen; with
control's opening as it was before (`published root == stored root`), 120 of the bits in the store did.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from gatelift.control.deployment import open_deployment
from gatelift.errors import GateliftError
from gatelift.ledger.fsck import FsckReport, fsck
from tests.promises.outside import Deployment, gatelift
from tests.support.upstream import ScriptedUpstream

TABLES = {
    "entries": ("at", "kind", "body", "leaf"),
    "tree_hashes": ("hash",),
    "checkpoints": ("root", "note", "signatures"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stopped deployment that has served."""
    home = tmp_path_factory.mktemp("fsck")
    upstream = ScriptedUpstream(["word "] * 3, delay_s=0, key="upstream-key-of-fsck")
    deployment = Deployment(home / "d", upstream=upstream.url, upstream_key=upstream.key)
    try:
        for _ in range(5):
            assert deployment.chat().status_code == 200
        running = gatelift("ledger", "fsck", "--dir", deployment.folder)
        assert running.returncode == 4
        assert "stop it first" in " ".join(running.stderr.split())
        time.sleep(1)  # the keeper publishes twice a second
        shutil.copytree(deployment.folder / "logs" / "requests", home / "older")
        (log,) = (home / "older").iterdir()
        older = (log / "checkpoint").read_text()
        for _ in range(5):
            assert deployment.chat().status_code == 200
        anchor_newer(deployment, log.name, older)
    finally:
        deployment.stop()
        upstream.close()
    return deployment.folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    # Sockets stay behind; nothing of them is checked.
    return Path(
        shutil.copytree(whole, tmp_path / "d", ignore=lambda _, names: {"run"} & set(names))
    )


def anchor_newer(deployment: Deployment, log: str, older: str) -> None:
    """Wait until a head that is newer than the older one lies in the releases log."""
    published = deployment.folder / "logs" / "requests" / log / "checkpoint"
    until = time.monotonic() + 30
    while time.monotonic() < until:
        newest = published.read_text()
        deployment.anchor_heads()
        if newest != older and is_anchored(deployment.folder, newest):
            return
        time.sleep(0.1)
    raise AssertionError(f"no newer head of {log} was anchored within 30 s")


def is_anchored(folder: Path, checkpoint: str) -> bool:
    text = json.dumps(checkpoint, ensure_ascii=False).encode()
    with closing(database(folder)) as connection:
        kinds = connection.execute("SELECT body FROM entries WHERE kind = 'head'")
        heads = [(folder / "files" / "sha256" / body[7:]).read_bytes() for (body,) in kinds]
    return any(text in base64.b64decode(json.loads(head)["payload"]) for head in heads)


def database(folder: Path) -> sqlite3.Connection:
    return sqlite3.connect(folder / "store" / "control.sqlite")


def cells(folder: Path, rows: int) -> list[tuple[str, str, int]]:
    """Return cells that a log rests on, as (table, column, row): of each table some rows."""
    found = []
    with closing(database(folder)) as connection:
        for table, columns in TABLES.items():
            there = [row for (row,) in connection.execute(f"SELECT rowid FROM {table}")]
            step = max(1, len(there) // rows)
            found += [(table, column, row) for row in there[::step] for column in columns]
    return found


def rows_of(folder: Path) -> list[list[tuple[object, ...]]]:
    """Return the tables that a log rests on."""
    with closing(database(folder)) as connection:
        return [
            connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()
            for table in TABLES
        ]


def flip_cell(folder: Path, table: str, column: str, row: int) -> None:
    """Change the lowest bit of one byte, another byte for each cell."""
    with closing(database(folder)) as connection, connection:
        (held,) = connection.execute(
            f"SELECT {column} FROM {table} WHERE rowid = ?", (row,)
        ).fetchone()
        changed: object
        if isinstance(held, int):
            changed = held ^ 1
        else:
            data = bytearray(held.encode() if isinstance(held, str) else held)
            place = hashlib.sha256(f"{table}{column}{row}".encode()).digest()[0] % len(data)
            data[place] ^= 1
            changed = data.decode() if isinstance(held, str) else bytes(data)
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (changed, row))


def flip_file(path: Path, place: int | None = None) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if place is None else place] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def files(folder: Path, *below: str) -> list[Path]:
    return sorted(path for path in folder.joinpath(*below).rglob("*") if path.is_file())


def implied(paths: list[Path]) -> set[Path]:
    """Return the tiles of the newest size, as all of them are partial here."""
    tiles = [path for path in paths if path.name.isdigit()]
    newest = max(int(path.name) for path in tiles)
    return {path for path in tiles if int(path.name) == newest}


def signed(folder: Path) -> tuple[object, ...]:
    """Return everything that the log key has signed, as far as it lies in the folder."""
    with closing(database(folder)) as connection:
        notes = connection.execute("SELECT size, note FROM checkpoints ORDER BY size").fetchall()
    paths = (folder / "heads" / "releases", folder / "logs" / "releases" / "checkpoint")
    return (*notes, *(path.read_bytes() for path in paths if path.exists()))


def codes(report: FsckReport) -> set[str]:
    return {fault.code for fault in report.faults}


def open_and_sign(folder: Path) -> None:
    """Do what control does from its start to a head."""
    held = open_deployment(folder, int(time.time() * 1000))
    try:
        _ = held.log.sign_checkpoint()
        held.log.publish_tiles()
    finally:
        held.close()


def refusal(folder: Path) -> str:
    """Return the code with which control refuses to lead there, nothing if it does not."""
    try:
        open_and_sign(folder)
    except GateliftError as error:
        return error.code
    return ""


def test_a_deployment_that_was_stopped_is_whole(copy: Path) -> None:
    report = fsck(copy)
    assert report.ok, report.faults
    assert report.notes == ()
    assert [log.origin.split("/")[1] for log in report.logs] == ["releases", "requests"]
    assert all(log.published == log.size > 10 for log in report.logs)
    open_and_sign(copy)


@pytest.mark.parametrize("rows", [3, pytest.param(1000, marks=pytest.mark.slow)])
def test_one_bit_of_the_store_that_a_log_rests_on_is_found_and_never_signed_over(
    copy: Path, rows: int
) -> None:
    store = copy / "store"
    kept = copy.parent / "store"
    shutil.copytree(store, kept)
    before = signed(copy)
    held = rows_of(copy)
    found = cells(copy, rows)
    assert len(found) >= 24
    for table, column, row in found:
        flip_cell(copy, table, column, row)
        changed = signed(copy)
        report = fsck(copy)
        assert not report.ok, (table, column, row)
        assert any(table in f.where or "entry" in f.where for f in report.faults), report.faults
        code = refusal(copy)
        assert code in {"corrupt", "bad_log", ""}, (table, column, row)
        if not code:
            # A cosignature's name or key id, or their count: the same head is cosigned again.
            assert "signatures that hold of" in report.faults[0].found, report.faults
        assert signed(copy) == changed, "something was signed"
        mended = fsck(copy, repair=True)
        assert mended.ok == (table != "checkpoints"), (table, column, row, mended)
        assert set(mended.repaired) <= set(report.faults)
        assert bool(mended.repaired) == (table != "checkpoints")
        if mended.ok:
            assert rows_of(copy) == held
            assert signed(copy) == before
        shutil.rmtree(store)
        shutil.copytree(kept, store)
    assert signed(copy) == before


def test_it_is_said_which_side_decayed(copy: Path) -> None:
    kept = copy.parent / "store"
    shutil.copytree(copy / "store", kept)
    with closing(database(copy)) as connection:
        (row,) = connection.execute(
            "SELECT rowid FROM tree_hashes WHERE level = 0 AND position = 3"
        ).fetchone()
    flip_cell(copy, "tree_hashes", "hash", row)
    (fault,) = fsck(copy).faults
    assert (fault.code, fault.where) == ("stored_hash", "store tree_hashes, level 0#3")
    shutil.rmtree(copy / "store")
    shutil.copytree(kept, copy / "store")
    with closing(database(copy)) as connection, connection:
        connection.execute(
            "UPDATE entries SET leaf = replace(leaf, 'public', 'PUBLIC') WHERE position = 3"
        )
        connection.execute("UPDATE entries SET leaf = CAST(leaf AS BLOB) WHERE position = 3")
    assert {(f.code, f.where) for f in fsck(copy).faults} >= {("entry_changed", "store entries#3")}


def test_every_file_of_the_published_releases_log_comes_back_bit_by_bit(copy: Path) -> None:
    paths = files(copy, "logs", "releases")
    assert len(paths) >= 3
    for path in paths:
        held = path.read_bytes()
        # The checkpoint implies its own files; older partial ones are only looked at.
        for damage in (flip_file, Path.unlink) if path in implied(paths) else (flip_file,):
            damage(path)
            (fault,) = fsck(copy).faults
            assert fault.derivable
            assert path.relative_to(copy).as_posix() == fault.where
            report = fsck(copy, repair=True)
            assert report.ok
            assert [f.where for f in report.repaired] == [fault.where]
            assert path.read_bytes() == held
            assert fsck(copy).ok


def test_control_mends_published_tiles_and_refuses_a_published_checkpoint_it_did_not_sign(
    copy: Path,
) -> None:
    for path in files(copy, "logs", "releases", "tile"):
        held = path.read_bytes()
        flip_file(path)
        open_and_sign(copy)
        assert path.read_bytes() == held
    flip_file(copy / "logs" / "releases" / "checkpoint")
    before = signed(copy)
    with pytest.raises(GateliftError) as caught:
        open_and_sign(copy)
    assert caught.value.code == "checkpoint_corrupt"
    assert "--repair" in str(caught.value)
    assert signed(copy) == before


def test_every_tile_and_bundle_of_a_requests_log_comes_back_from_the_rest(copy: Path) -> None:
    paths = files(copy, "logs", "requests")
    paths = [path for path in paths if "/tile/" in path.as_posix()]
    assert len(paths) >= 2
    for path in paths:
        held = path.read_bytes()
        for damage in (flip_file, lambda p: flip_file(p, 0), Path.unlink):
            if damage is Path.unlink and path not in implied(paths):
                continue
            damage(path)
            assert {f.where for f in fsck(copy).faults} == {path.relative_to(copy).as_posix()}
            assert fsck(copy, repair=True).ok
            assert path.read_bytes() == held


def test_bundle_and_tile_lost_together_cannot_be_derived(copy: Path) -> None:
    for path in files(copy, "logs", "requests"):
        if "/tile/" in path.as_posix():
            path.unlink()
    report = fsck(copy, repair=True)
    assert codes(report) == {"root_differs"}
    assert report.repaired == ()


@pytest.mark.parametrize("name", ["checkpoint", "heads", "journal", "body", "pin"])
def test_what_cannot_be_derived_is_said_and_left_alone(copy: Path, name: str) -> None:
    (log,) = (copy / "logs" / "requests").iterdir()
    plan = hashlib.sha256((copy / "candidate.json").read_bytes()).hexdigest()
    (copy / "candidate.json").unlink()
    path, code = {
        "checkpoint": (log / "checkpoint", "checkpoint_corrupt"),
        "heads": (copy / "heads" / "releases", "memory_corrupt"),
        "journal": (next((copy / "journal" / "w0").glob("*.seg")), "journal_corrupt"),
        "body": (copy / "files" / "sha256" / plan, "file_corrupt"),
        "pin": (copy / "root.sha256", "wrong_root"),
    }[name]
    flip_file(path, 20)
    held = path.read_bytes()
    report = fsck(copy, repair=True)
    # A flipped digit of a digest may be no digit.
    assert codes(report) & {code, "bad_digest"}
    assert path.read_bytes() == held
    for fault in report.faults:
        assert fault.do
        assert fault.expected


def test_every_file_by_digest_is_looked_at(copy: Path) -> None:
    for path in files(copy, "files", "sha256"):
        held = path.read_bytes()
        flip_file(path)
        assert f"files/sha256/{path.name}" in {f.where for f in fsck(copy).faults}
        path.write_bytes(held)
    assert fsck(copy).ok


def test_a_body_comes_back_from_the_copy_in_the_folder(copy: Path) -> None:
    for name in ("root.json", "plan.yaml", "candidate.json"):
        data = (copy / name).read_bytes()
        path = copy / "files" / "sha256" / hashlib.sha256(data).hexdigest()
        path.unlink()
        assert codes(fsck(copy)) == {"file_missing"}
        assert fsck(copy, repair=True).ok
        assert path.read_bytes() == data


def older(folder: Path, whole: Path, name: str) -> None:
    """Lay the store, or a requests log, of before the last entries over the one of now."""
    if name == "store":
        with closing(database(folder)) as connection, connection:
            size = connection.execute("SELECT max(position) FROM entries").fetchone()[0]
            connection.execute("DELETE FROM entries WHERE position >= ?", (size,))
            connection.execute("DELETE FROM checkpoints WHERE size > ?", (size,))
            connection.execute(
                "DELETE FROM tree_hashes WHERE ((position + 1) << level) > ?", (size,)
            )


@pytest.mark.parametrize("memory", ["heads/releases", "logs/releases/checkpoint"])
def test_a_store_that_was_rolled_back_is_found_by_either_memory(
    copy: Path, whole: Path, memory: str
) -> None:
    older(copy, whole, "store")
    assert codes(fsck(copy)) == {"rolled_back"}
    for each in ("heads/releases", "logs/releases/checkpoint"):
        if each != memory:
            (copy / each).unlink()
    (fault,) = fsck(copy, repair=True).faults
    assert (fault.code, fault.where) == ("rolled_back", memory)
    before = signed(copy)
    with pytest.raises(GateliftError) as caught:
        open_and_sign(copy)
    assert caught.value.code == "rolled_back"
    assert "newest store" in str(caught.value)
    assert signed(copy) == before


def test_a_memory_that_is_gone_is_begun_again_from_the_store(
    copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    held = (copy / "heads" / "releases").read_bytes()
    (copy / "heads" / "releases").unlink()
    report = fsck(copy, repair=True)
    assert report.ok
    assert "only a witness" in report.notes[0]
    open_and_sign(copy)
    assert "begun again from the store" in caplog.text
    text = held.split(b"\n\n")[0]
    assert (copy / "heads" / "releases").read_bytes().split(b"\n\n")[0] == text


def test_a_lost_requests_log_is_missed(copy: Path) -> None:
    (log,) = (copy / "logs" / "requests").iterdir()
    shutil.rmtree(log)
    assert codes(fsck(copy)) == {"log_missing"}
    shutil.rmtree(copy / "heads" / "requests")
    assert codes(fsck(copy)) == {"log_missing"}


def test_an_older_requests_log_is_found_by_its_memory_and_by_its_anchor(
    copy: Path, whole: Path
) -> None:
    shutil.rmtree(copy / "logs" / "requests")
    shutil.copytree(whole.parent / "older", copy / "logs" / "requests")
    (log,) = (copy / "logs" / "requests").iterdir()
    by_memory, by_anchor = fsck(copy, repair=True).faults
    assert (by_memory.code, by_anchor.code) == ("rolled_back", "rolled_back")
    assert by_memory.where == f"heads/requests/{log.name}"
    shutil.rmtree(copy / "heads" / "requests")
    assert fsck(copy).faults == (by_anchor,)


EXITS: dict[str, tuple[Callable[[Path], object], tuple[str, ...], int]] = {
    "whole": (lambda _: None, (), 0),
    "derivable": (lambda d: flip_file(files(d, "logs", "releases", "tile")[0]), (), 1),
    "mended": (lambda d: flip_file(files(d, "logs", "releases", "tile")[0]), ("--repair",), 0),
    "no store": (lambda d: (d / "store" / "control.sqlite").unlink(), (), 4),
    "no deployment": (lambda d: (d / "root.sha256").unlink(), (), 2),
}


@pytest.mark.parametrize("case", EXITS)
def test_exit_codes(copy: Path, case: str) -> None:
    damage, more, code = EXITS[case]
    damage(copy)
    done = gatelift("ledger", "fsck", "--dir", copy, *more)
    assert done.returncode == code, done.stdout + done.stderr
    if case == "derivable":
        text = " ".join(done.stdout.split())
        assert "expected" in text
        assert "`--repair` writes it again" in text


def test_no_key_is_needed(copy: Path) -> None:
    shutil.rmtree(copy / "keys")
    assert fsck(copy, repair=True).ok


def test_the_memory_holds_a_note_that_the_log_signed(copy: Path) -> None:
    text, _, lines = (copy / "heads" / "releases").read_text().partition("\n\n")
    origin, size, root = text.split("\n")[:3]
    report = fsck(copy)
    assert (origin, int(size)) == (report.logs[0].origin, report.logs[0].size)
    assert base64.b64decode(root).hex() == report.logs[0].root
    assert lines.startswith(f"— {origin} ")
