"""A requests log of several tiles, derived again from what is whole of it; the memory of heads."""

import errno
import shutil

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatelift.ledger import HeadMemory, LedgerError, RequestsLog, head_memory, requests
from gatelift.ledger.fsck.blocks import read_blocks
from gatelift.store import StoreError
from gatelift.tlog import (
    Checkpoint,
    MemoryTree,
    MerkleError,
    NoteSigner,
    leaf_hash,
    sign_checkpoint,
)

SIGNER = NoteSigner(
    "example.org/requests/n1/2026-11", Ed25519PrivateKey.from_private_bytes(b"r" * 32)
)
ENTRIES = [b"batch %d" % number for number in range(600)]


@pytest.fixture
def log(tmp_path):
    log = RequestsLog(tmp_path / "log", SIGNER)
    for first in range(0, 600, 200):
        for entry in ENTRIES[first : first + 200]:
            log.append(entry)
        log.commit()
    yield tmp_path / "log", log.head
    log.close()


def flip(path, place=-1):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_a_whole_log_gives_its_entries(log):
    directory, head = log
    blocks = read_blocks(directory, head)
    assert [block.place.width for block in blocks] == [256, 256, 88]
    assert [entry for block in blocks for entry in block.entries] == ENTRIES


BUNDLES = ("tile/entries/000", "tile/entries/001", "tile/entries/002.p/88")
TILES = ("tile/0/000", "tile/0/001", "tile/0/002.p/88")
DAMAGE = {
    "a bundle": ((0,), ()),
    "a partial bundle": ((2,), ()),
    "every bundle": ((0, 1, 2), ()),
    "every tile": ((), (0, 1, 2)),
    "a bundle and another block's tile": ((0, 2), (1,)),
    "a tile and another block's bundle": ((1,), (0, 2)),
}


@pytest.mark.parametrize("name", DAMAGE)
@pytest.mark.parametrize("how", ["one bit", "lost"])
def test_of_bundle_and_tile_one_may_be_damaged_in_each_block(log, name, how):
    directory, head = log
    bundles, tiles = DAMAGE[name]
    for path in [directory / BUNDLES[n] for n in bundles] + [directory / TILES[n] for n in tiles]:
        if how == "lost":
            path.unlink()
        else:
            flip(path)
    blocks = read_blocks(directory, head)
    leaves = [leaf for block in blocks for leaf in block.leaves]
    assert leaves == [leaf_hash(entry) for entry in ENTRIES]
    for number, block in enumerate(blocks):
        known = [entry for entry in block.entries if entry is not None]
        if number not in bundles:
            assert block.is_whole
        elif how == "one bit":
            assert len(known) == block.place.width - 1
        else:
            assert known == []


def test_both_of_a_block_cannot_be_told(log):
    directory, head = log
    flip(directory / BUNDLES[1])
    flip(directory / TILES[1])
    assert read_blocks(directory, head) is None


def test_another_log_of_the_same_size_is_not_taken(log):
    directory, head = log
    other = Checkpoint(origin=head.origin, size=head.size, root=b"x" * 32)
    assert read_blocks(directory, other) is None


def open_log(folder):
    memory = HeadMemory(folder / "heads" / "log", SIGNER.key)
    try:
        return RequestsLog(folder / "log", SIGNER, memory)
    except BaseException:
        memory.close()
        raise


def fill(log, stop):
    for entry in ENTRIES[log.size : stop]:
        log.append(entry)
    return log.commit()


def copied(folder, name):
    return shutil.copytree(folder / "log", folder / name)


def laid(folder, name):
    shutil.rmtree(folder / "log")
    shutil.copytree(folder / name, folder / "log")


def test_an_older_copy_of_a_requests_log_is_not_opened(tmp_path):
    log = open_log(tmp_path)
    fill(log, 200)
    log.close()
    copied(tmp_path, "old")
    log = open_log(tmp_path)
    note = fill(log, 300)
    log.close()
    copied(tmp_path, "new")
    laid(tmp_path, "old")
    with pytest.raises(LedgerError) as caught:
        open_log(tmp_path)
    assert caught.value.code == "rolled_back"
    laid(tmp_path, "new")
    log = open_log(tmp_path)
    assert log.note == note
    log.close()


def test_another_log_of_the_same_origin_is_not_opened(tmp_path):
    log = open_log(tmp_path)
    fill(log, 200)
    log.close()
    shutil.rmtree(tmp_path / "log")
    other = RequestsLog(tmp_path / "log", SIGNER)
    for entry in reversed(ENTRIES[:250]):
        other.append(entry)
    other.commit()
    other.close()
    with pytest.raises((LedgerError, MerkleError)):
        open_log(tmp_path)


def test_a_commit_that_died_between_memory_and_checkpoint_is_finished(tmp_path, monkeypatch):
    log = open_log(tmp_path)
    fill(log, 200)

    def die(*_):
        raise OSError(errno.EIO, "injected")

    with monkeypatch.context() as patch:
        patch.setattr(requests, "publish_checkpoint", die)
        for entry in ENTRIES[200:300]:
            log.append(entry)
        with pytest.raises(OSError, match="injected"):
            log.commit()
    log.close()
    remembered = (tmp_path / "heads" / "log").read_bytes()
    log = open_log(tmp_path)
    assert (log.size, log.note) == (300, remembered)
    assert (tmp_path / "log" / "checkpoint").read_bytes() == remembered
    log.close()


@pytest.mark.parametrize("where", ["publish_checkpoint", "replace_durably"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_commit_that_failed_is_tried_again_also_when_more_was_added(
    tmp_path, monkeypatch, where, when
):
    module = requests if where == "publish_checkpoint" else head_memory
    true = getattr(module, where)
    log = open_log(tmp_path)
    fill(log, 200)

    def fail(*words):
        if when == "after":
            true(*words)
        raise OSError(errno.EIO, "injected")

    with monkeypatch.context() as patch:
        patch.setattr(module, where, fail)
        with pytest.raises(OSError, match="injected"):
            fill(log, 250)
    fill(log, 300)
    log.close()
    log = open_log(tmp_path)
    assert (log.size, log.head.root) == (300, MemoryTree(ENTRIES[:300]).root())
    log.close()


def test_a_memory_that_was_lost_is_begun_again(tmp_path):
    log = open_log(tmp_path)
    note = fill(log, 200)
    log.close()
    (tmp_path / "heads" / "log").unlink()
    log = open_log(tmp_path)
    assert (tmp_path / "heads" / "log").read_bytes() == note
    log.close()


TREE = MemoryTree(ENTRIES)


def note_at(size, tree=TREE):
    return sign_checkpoint(Checkpoint(origin=SIGNER.name, size=size, root=tree.root(size)), SIGNER)


@pytest.fixture
def memory(tmp_path):
    memory = HeadMemory(tmp_path / "heads" / "log", SIGNER.key)
    yield memory
    memory.close()


def test_the_largest_head_is_remembered_over_a_restart(memory, tmp_path):
    assert memory.largest is None
    memory.advance(note_at(3))
    memory.advance(note_at(7))
    memory.advance(note_at(7))
    memory.close()
    again = HeadMemory(tmp_path / "heads" / "log", SIGNER.key)
    assert (again.largest.size, again.largest.root) == (7, TREE.root(7))
    again.close()


@pytest.mark.parametrize("size", [7, 6, 1])
def test_no_second_root_and_no_smaller_size(memory, tmp_path, size):
    memory.advance(note_at(7))
    other = MemoryTree([b"other", *ENTRIES[1:8]])
    with pytest.raises(LedgerError) as caught:
        memory.advance(note_at(size, other))
    assert caught.value.code == "two_roots"
    assert (tmp_path / "heads" / "log").read_bytes() == note_at(7)


def test_a_second_holder_is_refused(memory, tmp_path):
    with pytest.raises(StoreError) as caught:
        HeadMemory(tmp_path / "heads" / "log", SIGNER.key)
    assert caught.value.code == "store_locked"


@pytest.mark.parametrize("what", ["another head", "an older head", "nothing"])
def test_who_finds_another_head_than_it_left_stops(memory, tmp_path, what):
    memory.advance(note_at(3))
    path = tmp_path / "heads" / "log"
    if what == "nothing":
        path.unlink()
    else:
        path.write_bytes(note_at(9 if what == "another head" else 2))
    with pytest.raises(LedgerError) as caught:
        memory.advance(note_at(12))
    assert caught.value.code == "two_writers"


def test_every_bit_of_the_memory_is_its_signature_s(memory, tmp_path):
    memory.advance(note_at(3))
    memory.close()
    path = tmp_path / "heads" / "log"
    held = path.read_bytes()
    for place in range(len(held)):
        flip(path, place)
        with pytest.raises(LedgerError) as caught:
            HeadMemory(path, SIGNER.key)
        assert caught.value.code == "memory_corrupt"
        path.write_bytes(held)
    shutil.rmtree(path.parent)
