"""The requests log on disk: commit, crash anywhere, open again."""

import hashlib
import os
import subprocess
import sys
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatelift.encoding import sha256_digest
from gatelift.ledger import LedgerError, RequestsLog, TileLog, read_checkpoint
from gatelift.tlog import (
    MemoryTree,
    NoteSigner,
    encode_entries,
    entry_tiles_for_size,
    format_proof,
    parse_policy,
    parse_proof,
    tile_bytes,
    tiles_for_size,
    verify_checkpoint,
    verify_proof,
)
from gatelift.wire import files

SIGNER = NoteSigner("x/requests/n1/2026-11", Ed25519PrivateKey.from_private_bytes(b"r" * 32))
POLICY = parse_policy(f"log {SIGNER.vkey}\nquorum none\n".encode())


def entries(count, first=0):
    return [b'{"batch":%d}' % i for i in range(first, first + count)]


def fill(log, count, first=0):
    for entry in entries(count, first):
        log.append(entry)
    return log.commit()


def files_of(directory):
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


@pytest.mark.parametrize("steps", [[1], [255, 1], [256, 256], [100, 100, 100, 300], [513]])
def test_files_are_those_of_the_specification(tmp_path, steps):
    log = RequestsLog(tmp_path / "log", SIGNER)
    done = 0
    for count in steps:
        note = fill(log, count, done)
        done += count
    log.close()
    tree = MemoryTree(entries(done))
    assert verify_checkpoint(note, SIGNER.key).root == tree.root()
    written = files_of(tmp_path / "log")
    assert written["checkpoint"] == note
    for tile in tiles_for_size(done):
        assert written[tile.path] == tile_bytes(tree, tile)
    for bundle in entry_tiles_for_size(done):
        found = entries(done)[bundle.first : bundle.first + bundle.width]
        assert written[bundle.path] == encode_entries(found)
    stale = [p for p in written if ".p/" in p and p.split(".p/")[0] in written]
    assert stale == []


@pytest.mark.parametrize("size", [1, 3, 255, 256, 257, 700])
def test_opened_again_it_goes_on_where_it_was(tmp_path, size):
    log = RequestsLog(tmp_path / "log", SIGNER)
    fill(log, size)
    log.close()
    log = RequestsLog(tmp_path / "log", SIGNER)
    assert log.size == log.head.size == size
    assert log.commit() is None
    note = fill(log, 300, size)
    log.close()
    assert verify_checkpoint(note, SIGNER.key).root == MemoryTree(entries(size + 300)).root()


def test_a_receipt_verifies_and_waits_for_its_commit(tmp_path):
    log = RequestsLog(tmp_path / "log", SIGNER)
    fill(log, 300)
    waiting = sha256_digest(b"waiting")
    log.append(b"waiting")
    assert log.index_of(waiting) == 300
    assert log.proof(waiting) is None
    assert log.index_of(sha256_digest(b"unknown")) is None
    log.commit()
    for entry in [*entries(300)[::37], b"waiting"]:
        proof = parse_proof(format_proof(log.proof(sha256_digest(entry))))
        assert verify_proof(proof, entry, POLICY).checkpoint.size == 301
    log.close()


def test_an_entry_is_logged_once_however_often_it_comes(tmp_path):
    log = RequestsLog(tmp_path / "log", SIGNER)
    assert [log.append(e) for e in (b"a", b"b", b"a")] == [0, 1, 0]
    log.commit()
    assert log.append(b"b") == 1
    log.close()
    log = RequestsLog(tmp_path / "log", SIGNER)
    assert log.append(b"a") == 0
    assert log.commit() is None
    assert log.size == 2
    log.close()


def test_entries_that_come_together_are_logged_as_if_one_by_one(tmp_path):
    log = RequestsLog(tmp_path / "log", SIGNER)
    assert list(log.append_each([b"a", b"b", b"a", b"c"])) == [0, 1, 0, 2]
    log.commit()
    many = entries(300)
    assert list(log.append_each([b"c", *many, b"b"])) == [2, *range(3, 303), 1]
    assert list(log.append_each([*many, b"d"])) == [*range(3, 303), 303]
    note = log.commit()
    tree = MemoryTree([b"a", b"b", b"c", *many, b"d"])
    assert verify_checkpoint(note, SIGNER.key).root == tree.root()
    appending = log.append_each([b"e", b"x" * 65_536])
    assert log.size == 304
    assert next(appending) == 304
    with pytest.raises(LedgerError):
        next(appending)
    assert log.size == 305
    log.close()


def test_growth_is_consistent(tmp_path):
    log = RequestsLog(tmp_path / "log", SIGNER)
    heads = []
    for first, count in [(0, 5), (5, 251), (256, 1), (257, 400)]:
        heads.append(verify_checkpoint(fill(log, count, first), SIGNER.key))
        now = TileLog(tmp_path / "log", heads[-1])
        for head in heads:
            now.verify_extends(head)
    log.close()


@pytest.mark.parametrize("damage", ["gone", "rubbish", "short"])
def test_the_index_is_made_again(tmp_path, damage):
    log = RequestsLog(tmp_path / "log", SIGNER)
    fill(log, 300)
    log.close()
    path = tmp_path / "log" / ".index.sqlite"
    match damage:
        case "gone":
            path.unlink()
        case "rubbish":
            path.write_bytes(b"no database at all" * 300)
        case _:
            log = RequestsLog(tmp_path / "log", SIGNER)
            log._index.cut(17)
            log.close()
    log = RequestsLog(tmp_path / "log", SIGNER)
    assert [log.index_of(sha256_digest(e)) for e in entries(300)] == list(range(300))
    log.close()


def test_a_changed_edge_is_refused_at_the_opening(tmp_path):
    log = RequestsLog(tmp_path / "log", SIGNER)
    fill(log, 300)
    log.close()
    for name in ("tile/0/001.p/44", "tile/entries/001.p/44", "tile/1/000.p/1"):
        path = tmp_path / "log" / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(LedgerError):
            RequestsLog(tmp_path / "log", SIGNER)
        path.write_bytes(whole)
    RequestsLog(tmp_path / "log", SIGNER).close()


class KilledError(Exception):
    """Stands for the death of the process."""


@pytest.mark.parametrize("failing", ["fsync", "rename"])
def test_a_crash_at_any_write_leaves_a_log_that_goes_on(tmp_path, monkeypatch, failing):
    real = {"fsync": os.fsync, "rename": files.Path.rename}
    crash_at = 0
    while True:
        crash_at += 1
        directory = tmp_path / f"log{crash_at}"
        log = RequestsLog(directory, SIGNER)
        old = verify_checkpoint(fill(log, 250), SIGNER.key)
        for entry in entries(20, 250):
            log.append(entry)
        left = [crash_at]

        def maybe_fail(*args, left=left):
            left[0] -= 1
            if left[0] == 0:
                raise KilledError
            return real[failing](*args)

        target = os if failing == "fsync" else files.Path
        monkeypatch.setattr(target, failing, maybe_fail)
        try:
            log.commit()
            crashed = False
        except KilledError:
            crashed = True
        monkeypatch.setattr(target, failing, real[failing])
        log.close()
        if not crashed:
            break
        # After the crash batches come again from the journals, in another order.
        log = RequestsLog(directory, SIGNER)
        assert log.size in {250, 270}
        for entry in reversed(entries(30, 250)):
            log.append(entry)
        new = verify_checkpoint(log.commit(), SIGNER.key)
        log.close()
        assert new.size == 280
        TileLog(directory, new).verify_extends(old)
        assert {e for _, e in TileLog(directory, new).entries()} == set(entries(280))
    assert crash_at > 5


def test_tiles_beyond_the_head_are_removed_at_the_opening(tmp_path):
    log = RequestsLog(tmp_path / "log", SIGNER)
    fill(log, 250)
    before = files_of(tmp_path / "log")
    fill(log, 400, 250)
    log.close()
    # A process that died before its checkpoint was replaced leaves this.
    for name, data in before.items():
        path = tmp_path / "log" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    log = RequestsLog(tmp_path / "log", SIGNER)
    assert log.head.size == 250
    log.close()
    assert files_of(tmp_path / "log") == before


def test_memory_holds_the_right_edge_only(tmp_path):
    log = RequestsLog(tmp_path / "log", SIGNER)
    for first in range(0, 1500, 300):
        fill(log, 300, first)
    assert len(log._entries.values) == 1500 % 256
    assert [len(row.values) for row in log._rows] == [1500 % 256, 1500 // 256]
    log.close()


def test_a_failed_commit_can_be_tried_again(tmp_path, monkeypatch):
    log = RequestsLog(tmp_path / "log", SIGNER)
    fill(log, 10)
    log.append(b"more")
    real = os.fsync

    def fail(fd):
        raise OSError("injected")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="injected"):
        log.commit()
    assert log.head.size == 10
    monkeypatch.setattr(os, "fsync", real)
    log.append(b"and more")
    assert verify_checkpoint(log.commit(), SIGNER.key).size == 12
    log.close()


KILLED = """
import sys
from pathlib import Path
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from gatelift.ledger import RequestsLog
from gatelift.tlog import NoteSigner

signer = NoteSigner("x/requests/n1/2026-11", Ed25519PrivateKey.from_private_bytes(b"r" * 32))
log = RequestsLog(Path(sys.argv[1]), signer)
sys.stdout.write(f"{log.head.size}\\n")
sys.stdout.flush()
number = log.size
while True:
    for _ in range(90):
        log.append(b'{"batch":%d}' % number)
        number += 1
    log.commit()
    sys.stdout.write(f"{log.head.size} {log.head.root.hex()}\\n")
    sys.stdout.flush()
"""


def test_killed_again_and_again_it_never_takes_a_head_back(tmp_path):
    heads = []
    # Killed later each time; on a busy machine more often, until there was something to take back.
    for round_ in range(40):
        if round_ >= 6 and len(heads) > 3:
            break
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True
        )
        opened = int(process.stdout.readline())
        time.sleep(0.015 * round_)
        process.kill()
        lines = process.communicate()[0].split("\n")[:-1]
        assert opened >= max((size for size, _ in heads), default=0)
        heads += [(int(line.split()[0]), line.split()[1]) for line in lines if len(line) > 64]
        note = read_checkpoint(tmp_path / "log")
        if note is not None:
            now = TileLog(tmp_path / "log", verify_checkpoint(note, SIGNER.key))
            tree = MemoryTree(entry for _, entry in now.entries())
            for size, root in heads:
                assert tree.root(size).hex() == root
    assert len(heads) > 3


def test_an_entry_too_large_for_the_format_is_refused(tmp_path):
    log = RequestsLog(tmp_path / "log", SIGNER)
    with pytest.raises(LedgerError):
        log.append(b"x" * 65_536)
    assert log.append(b"x" * 65_535) == 0
    log.commit()
    digest = hashlib.sha256(b"x" * 65_535).hexdigest()
    assert log.proof(f"sha256:{digest}") is not None
    log.close()
