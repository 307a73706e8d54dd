"""The releases log on disk: append, sign, publish, witness; crash, restore and tamper."""

import shutil
import sqlite3

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatelift.encoding import decode_json, sha256_digest
from gatelift.ledger import HeadMemory, LedgerError, NewEntry, ReleasesLog, TileLog, read_checkpoint
from gatelift.messages import EntryHeader, EntryKind, Visibility
from gatelift.store import Store, StoreError
from gatelift.tlog import (
    CosignatureSigner,
    MemoryTree,
    NoteSigner,
    SignatureError,
    add_signatures,
    encode_entries,
    entry_tiles_for_size,
    format_proof,
    parse_checkpoint,
    parse_note,
    parse_policy,
    parse_proof,
    sign_note,
    tile_bytes,
    tiles_for_size,
    verify_checkpoint,
    verify_consistency,
    verify_cosignatures,
    verify_proof,
)
from gatelift.wire.files import FileStore

ORIGIN = "example.org/releases"
SIGNER = NoteSigner(ORIGIN, Ed25519PrivateKey.from_private_bytes(b"l" * 32))
WITNESS = CosignatureSigner("w.example", Ed25519PrivateKey.from_private_bytes(b"w" * 32))
ALONE = parse_policy(f"log {SIGNER.vkey}\nquorum none\n".encode())
WITNESSED = parse_policy(f"log {SIGNER.vkey}\nwitness w {WITNESS.vkey}\nquorum w\n".encode())


class Deployment:
    """The folders of one releases log, and the log when it is open."""

    def __init__(self, root):
        self.root = root
        self.published = root / "logs" / "releases"
        self.store = None
        self.open()

    def open(self):
        self.store = Store.open(self.root / "store")
        self.memory = HeadMemory(self.root / "heads" / "releases", SIGNER.key)
        try:
            self.log = ReleasesLog(
                self.store, FileStore(self.root / "files"), self.published, SIGNER, self.memory
            )
        except BaseException:
            self.close()
            raise
        return self.log

    def close(self):
        self.store.close()
        self.memory.close()

    def reopen(self):
        self.close()
        return self.open()


@pytest.fixture
def deployment(tmp_path):
    deployment = Deployment(tmp_path)
    yield deployment
    deployment.close()


def group(*bodies, at=1000, kind=EntryKind.TICK):
    return [
        NewEntry(
            at=at,
            kind=kind,
            actor=("control:machine",),
            visibility=Visibility.PUBLIC,
            body=body,
            end=number == len(bodies),
        )
        for number, body in enumerate(bodies, start=1)
    ]


def grow(log, count, tag=b"body"):
    size = log.size
    log.append(group(*(tag + b"%d" % (size + i) for i in range(count))))
    return log.sign_checkpoint()


def test_an_entry_is_its_header_and_its_body_lies_under_its_digest(deployment):
    assert deployment.log.append(group(b"one", b"two")) == [0, 1]
    header = decode_json(deployment.store.leaf(1), EntryHeader)
    assert header.body == sha256_digest(b"two")
    assert (header.body_bytes, header.end, header.at) == (3, True, 1000)
    assert FileStore(deployment.root / "files").get(header.body) == b"two"


def test_every_entry_has_a_proof_that_a_stranger_can_verify(deployment):
    note = grow(deployment.log, 9)
    for index in range(9):
        proof = parse_proof(format_proof(deployment.log.proof(index, note)))
        entry = deployment.store.leaf(index)
        assert verify_proof(proof, entry, ALONE).checkpoint.size == 9
    with pytest.raises(LedgerError) as caught:
        deployment.log.proof(9, note)
    assert caught.value.code == "not_logged"


@pytest.mark.parametrize("steps", [[1, 2, 253], [255, 1], [256, 1], [300, 220], [70, 460]])
def test_published_files_are_those_of_the_specification(deployment, steps):
    log = deployment.log
    for count in steps:
        note = grow(log, count)
        assert log.publish(ALONE) == note
    size = sum(steps)
    leaves = deployment.store.leaves(0, size)
    tree = MemoryTree(leaves)
    assert parse_checkpoint(parse_note(note).text).root == tree.root()
    expected = {tile.path: tile_bytes(tree, tile) for tile in tiles_for_size(size)}
    for bundle in entry_tiles_for_size(size):
        found = leaves[bundle.first : bundle.first + bundle.width]
        expected[bundle.path] = encode_entries(found)
    for path, data in expected.items():
        assert (deployment.published / path).read_bytes() == data
    assert (deployment.published / "checkpoint").read_bytes() == note


def test_partial_tiles_go_when_the_full_one_is_published(deployment):
    grow(deployment.log, 40)
    deployment.log.publish(ALONE)
    assert (deployment.published / "tile/0/000.p/40").exists()
    grow(deployment.log, 216)
    deployment.log.publish_tiles()
    assert (deployment.published / "tile/0/000.p/40").exists()
    deployment.log.publish(ALONE)
    assert not (deployment.published / "tile/0/000.p").exists()
    assert not (deployment.published / "tile/entries/000.p").exists()


def test_heads_prove_that_they_extend_each_other(deployment):
    heads = [verify_checkpoint(grow(deployment.log, n), SIGNER.key) for n in (1, 6, 20, 300)]
    for old in heads:
        for new in heads:
            if old.size <= new.size:
                verify_consistency(
                    old_size=old.size,
                    old_root=old.root,
                    new_size=new.size,
                    new_root=new.root,
                    proof=deployment.log.consistency(old.size, new.size),
                )


def test_one_size_is_signed_once_also_after_a_restart(deployment):
    note = grow(deployment.log, 3)
    assert deployment.log.sign_checkpoint() == note
    assert deployment.reopen().sign_checkpoint() == note
    longer = grow(deployment.log, 1)
    assert verify_checkpoint(longer, SIGNER.key).size == 4


def change(deployment, statement, *values):
    with sqlite3.connect(deployment.root / "store" / "control.sqlite") as connection:
        connection.execute(statement, values)
    connection.close()


def test_an_entry_that_decayed_before_it_was_signed_stops_the_signing(deployment):
    grow(deployment.log, 2)
    deployment.log.append(group(b"three"))
    change(deployment, "UPDATE entries SET leaf = ? WHERE position = 2", b"{}")
    for _ in range(2):
        with pytest.raises(LedgerError) as caught:
            deployment.log.sign_checkpoint()
        assert caught.value.code == "corrupt"
    assert deployment.store.checkpoint().size == 2


def test_a_tree_that_decayed_stops_the_log(deployment):
    grow(deployment.log, 4)
    change(deployment, "UPDATE tree_hashes SET hash = ? WHERE level = 2", b"x" * 32)
    with pytest.raises(LedgerError):
        deployment.reopen()


def test_a_restored_older_store_is_refused(deployment):
    grow(deployment.log, 2)
    deployment.log.publish(ALONE)
    deployment.close()
    shutil.copytree(deployment.root / "store", deployment.root / "backup")
    deployment.open()
    grow(deployment.log, 2)
    deployment.log.publish(ALONE)
    deployment.close()
    shutil.rmtree(deployment.root / "store")
    shutil.copytree(deployment.root / "backup", deployment.root / "store")
    with pytest.raises(LedgerError) as caught:
        deployment.open()
    assert caught.value.code == "rolled_back"


def test_another_history_of_the_same_size_or_longer_is_refused(deployment):
    grow(deployment.log, 3)
    deployment.log.publish(ALONE)
    deployment.close()
    for extra in (0, 5):
        shutil.rmtree(deployment.root / "store")
        store = Store.open(deployment.root / "store")
        memory = HeadMemory(deployment.root / f"other-{extra}", SIGNER.key)
        files = FileStore(deployment.root / "files")
        log = ReleasesLog(store, files, deployment.root / "x", SIGNER, memory)
        grow(log, 3 + extra, tag=b"other")
        store.close()
        memory.close()
        with pytest.raises(LedgerError) as caught:
            deployment.open()
        assert caught.value.code == "rolled_back"


def test_a_checkpoint_of_another_key_is_not_taken_for_ours(deployment):
    grow(deployment.log, 1)
    deployment.log.publish(ALONE)
    path = deployment.published / "checkpoint"
    path.write_bytes(path.read_bytes().replace(b"\n1\n", b"\n2\n"))
    with pytest.raises(LedgerError) as caught:
        deployment.reopen()
    assert caught.value.code == "checkpoint_corrupt"


def test_lost_tiles_are_written_again_at_the_start(deployment):
    grow(deployment.log, 300)
    note = deployment.log.publish(ALONE)
    before = {p: p.read_bytes() for p in deployment.published.rglob("*") if p.is_file()}
    shutil.rmtree(deployment.published / "tile")
    deployment.reopen()
    after = {p: p.read_bytes() for p in deployment.published.rglob("*") if p.is_file()}
    assert after == before
    log = TileLog(deployment.published, verify_checkpoint(note, SIGNER.key))
    assert [entry for _, entry in log.entries()] == deployment.store.leaves(0, 300)


def test_what_was_committed_but_not_published_is_published_after_a_crash(deployment):
    grow(deployment.log, 2)
    deployment.log.publish(ALONE)
    note = grow(deployment.log, 5)
    deployment.log.publish_tiles()
    log = deployment.reopen()
    assert log.publish(ALONE) == note
    assert TileLog(deployment.published, verify_checkpoint(note, SIGNER.key)).size == 7


def test_a_head_is_published_only_with_its_quorum(deployment):
    log = deployment.log
    first = grow(log, 1)
    assert log.publish(WITNESSED) is None
    assert (deployment.published / "tile/0/000.p/1").exists()
    line = WITNESS.sign(parse_note(first).text, 1_700_000_000)
    merged = log.add_cosignatures(add_signatures(first, [line]), [WITNESS.key])
    assert log.publish(WITNESSED) == merged
    grow(log, 1)
    assert log.publish(WITNESSED) == merged
    assert read_checkpoint(deployment.published) == merged
    assert log.head != merged


def test_the_newest_cosignature_of_a_witness_is_kept(deployment):
    note = grow(deployment.log, 1)
    text = parse_note(note).text
    for time_s in (200, 100, 300):
        line = WITNESS.sign(text, time_s)
        merged = deployment.log.add_cosignatures(add_signatures(note, [line]), [WITNESS.key])
    assert [c.time_s for c in verify_cosignatures(parse_note(merged), [WITNESS.key])] == [300]
    assert len(parse_note(merged).signatures) == 2
    assert deployment.log.head == merged


def test_a_cosignature_on_another_head_is_refused(deployment):
    note = grow(deployment.log, 1)
    foreign = parse_note(note).text.replace(b"\n1\n", b"\n7\n")
    with pytest.raises(LedgerError) as caught:
        deployment.log.add_cosignatures(sign_note(foreign, [SIGNER]), [WITNESS.key])
    assert caught.value.code == "not_logged"
    wrong = WITNESS.sign(foreign, 5)
    with pytest.raises(SignatureError):
        deployment.log.add_cosignatures(add_signatures(note, [wrong]), [WITNESS.key])


def test_a_transaction_that_breaks_a_rule_leaves_nothing(deployment):
    log = deployment.log
    log.append(group(b"one", at=5000))
    good = group(b"two", b"three", at=6000)
    cases = [
        ([], None, "bad_group"),
        (good[:1], None, "bad_group"),
        (good[1:] * 2, None, "bad_group"),
        (group(b"early", at=4999), None, "bad_group"),
        ([*group(b"x", at=7000), *group(b"y", at=6000)], None, "bad_group"),
        (good, 0, "moved"),
    ]
    for entries, expected_size, code in cases:
        with pytest.raises(LedgerError) as caught:
            log.append(entries, expected_size=expected_size)
        assert caught.value.code == code
        assert log.size == 1
    assert log.append(good, expected_size=1) == [1, 2]
    log.sign_checkpoint()


def test_an_append_that_failed_in_the_database_can_be_followed_by_another(deployment):
    log = deployment.log
    grow(log, 3)
    change(
        deployment,
        "CREATE TRIGGER broken BEFORE INSERT ON tree_hashes BEGIN SELECT RAISE(ABORT, 'x'); END",
    )
    with pytest.raises(StoreError):
        log.append(group(b"lost"))
    change(deployment, "DROP TRIGGER broken")
    assert log.append(group(b"kept")) == [3]
    assert verify_checkpoint(log.sign_checkpoint(), SIGNER.key).size == 4
