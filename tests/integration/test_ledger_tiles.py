"""Reading a published log as a stranger: nothing is believed that does not lead to the root."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatelift.ledger import LedgerError, RequestsLog, TileLog
from gatelift.tlog import (
    Checkpoint,
    MemoryTree,
    MerkleError,
    NoteSigner,
    encode_entries,
    leaf_hash,
    verify_checkpoint,
    verify_inclusion,
)

SIGNER = NoteSigner("x/log", Ed25519PrivateKey.from_private_bytes(b"r" * 32))
SIZE = 600


def entry(index):
    return b"entry %d" % index


@pytest.fixture
def published(tmp_path):
    log = RequestsLog(tmp_path / "log", SIGNER)
    for index in range(SIZE):
        log.append(entry(index))
    note = log.commit()
    log.close()
    return tmp_path / "log", verify_checkpoint(note, SIGNER.key)


def test_entries_hashes_and_proofs_are_those_of_the_tree(published):
    directory, head = published
    log = TileLog(directory, head)
    tree = MemoryTree(entry(i) for i in range(SIZE))
    assert list(log.entries()) == [(i, entry(i)) for i in range(SIZE)]
    assert list(log.entries(250, 260)) == [(i, entry(i)) for i in range(250, 260)]
    assert list(log.entries(600)) == []
    assert log.entry(599) == entry(599)
    for level in range(10):
        for index in range(0, SIZE >> level, 13):
            assert log.hash_at(level, index) == tree.hash_at(level, index)
    for index in (0, 255, 256, 511, 512, 599):
        proof = log.inclusion_proof(index)
        assert proof == tree.inclusion_proof(index)
        verify_inclusion(
            leaf=leaf_hash(entry(index)), index=index, size=SIZE, proof=proof, root=head.root
        )


def test_what_is_not_in_the_log_is_an_error(published):
    log = TileLog(*published)
    for first, stop in [(0, SIZE + 1), (-1, 3), (5, 4)]:
        with pytest.raises(LedgerError):
            list(log.entries(first, stop))
    with pytest.raises(LedgerError):
        log.entry(SIZE)


def test_a_changed_byte_in_any_file_is_found(published):
    directory, head = published
    paths = [p for p in (directory / "tile").rglob("*") if p.is_file()]
    assert len(paths) == 7
    for path in paths:
        whole = path.read_bytes()
        for position in {0, 1, len(whole) // 2, len(whole) - 1}:
            path.write_bytes(
                whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :]
            )
            with pytest.raises(LedgerError):
                list(TileLog(directory, head).entries())
        for other in (whole[:-1], whole + b"x", b""):
            path.write_bytes(other)
            with pytest.raises(LedgerError):
                list(TileLog(directory, head).entries())
        path.write_bytes(whole)
    assert len(list(TileLog(directory, head).entries())) == SIZE


def test_a_missing_file_is_found(published):
    directory, head = published
    for path in [p for p in (directory / "tile").rglob("*") if p.is_file()]:
        whole = path.read_bytes()
        path.unlink()
        with pytest.raises(LedgerError) as caught:
            list(TileLog(directory, head).entries())
        assert caught.value.code == "tile_missing"
        path.write_bytes(whole)


def test_an_older_head_is_read_from_full_tiles_when_its_partial_ones_are_gone(tmp_path):
    log = RequestsLog(tmp_path / "log", SIGNER)
    for index in range(100):
        log.append(entry(index))
    old = verify_checkpoint(log.commit(), SIGNER.key)
    for index in range(100, 400):
        log.append(entry(index))
    log.commit()
    log.close()
    assert not (tmp_path / "log" / "tile/0/000.p").exists()
    older = TileLog(tmp_path / "log", old)
    assert [e for _, e in older.entries()] == [entry(i) for i in range(100)]


def test_another_root_or_history_is_refused(published):
    directory, head = published
    with pytest.raises(LedgerError):
        TileLog(directory, Checkpoint(origin=head.origin, size=SIZE, root=b"x" * 32))
    log = TileLog(directory, head)
    log.verify_extends(Checkpoint(origin=head.origin, size=300, root=root_of_first(300)))
    with pytest.raises(MerkleError):
        log.verify_extends(Checkpoint(origin=head.origin, size=300, root=b"x" * 32))
    with pytest.raises(LedgerError) as caught:
        log.verify_extends(Checkpoint(origin=head.origin, size=SIZE + 1, root=b"x" * 32))
    assert caught.value.code == "rolled_back"
    with pytest.raises(LedgerError):
        log.verify_extends(Checkpoint(origin="y/log", size=300, root=root_of_first(300)))


def root_of_first(count):
    return MemoryTree(entry(i) for i in range(count)).root()


def test_entries_forged_together_with_their_tile_are_found(published):
    directory, head = published
    forged = [b"forged %d" % i for i in range(256)]
    (directory / "tile/entries/000").write_bytes(encode_entries(forged))
    (directory / "tile/0/000").write_bytes(b"".join(leaf_hash(entry) for entry in forged))
    log = TileLog(directory, head)
    with pytest.raises(LedgerError) as caught:
        log.entry(0)
    assert caught.value.code == "tile_corrupt"
    with pytest.raises(LedgerError):
        log.hash_at(0, 0)
    assert log.entry(256) == entry(256)
