"""What every store must do, run on each database that there is an adapter for."""

import multiprocessing
import sqlite3

import pytest

from gatelift.encoding import Digest, encode_json
from gatelift.messages import EntryHeader, EntryKind, Visibility
from gatelift.store import Store, StoreError


@pytest.fixture(params=["folder", "sqlite url"])
def where(request, tmp_path):
    return tmp_path / "store" if request.param == "folder" else f"sqlite:///{tmp_path}/x.sqlite"


@pytest.fixture
def store(where):
    store = Store.open(where)
    yield store
    store.close()


def header(at=1, kind=EntryKind.TICK):
    return EntryHeader(
        v=1,
        at=at,
        kind=kind,
        actor=("control:machine",),
        body=Digest(f"sha256:{'0' * 64}"),
        body_bytes=2,
        visibility=Visibility.PUBLIC,
        end=True,
    )


def append(store, *ats, kind=EntryKind.TICK):
    with store.transaction() as transaction:
        headers = [header(at, kind) for at in ats]
        return transaction.append_entries([(each, encode_json(each)) for each in headers])


def test_entries_come_back_byte_for_byte_and_in_order(store):
    assert store.size() == 0
    assert append(store, 1, 2) == [0, 1]
    assert append(store, 5) == [2]
    assert store.size() == 3
    assert store.leaf(1) == encode_json(header(2))
    assert store.leaves(1, 3) == [encode_json(header(2)), encode_json(header(5))]
    assert store.leaves(3, 3) == []
    assert store.last_at() == 5


def test_entries_are_found_by_kind(store):
    append(store, 1)
    append(store, 2, kind=EntryKind.ORDER)
    append(store, 3)
    assert store.positions("tick") == [0, 2]
    assert store.positions("order") == [1]


@pytest.mark.parametrize(("first", "stop"), [(0, 2), (1, 2), (-1, 1), (5, 9)])
def test_what_is_not_there_is_an_error_and_not_less(store, first, stop):
    append(store, 1)
    with pytest.raises(StoreError) as caught:
        store.leaves(first, stop)
    assert caught.value.code == "not_stored"


def test_a_transaction_that_raises_leaves_nothing(store):
    def write_and_fail():
        with store.transaction() as transaction:
            transaction.append_entries([(header(), b"leaf")])
            transaction.put_hashes([(0, 0, b"h" * 32)])
            transaction.put_checkpoint(1, b"r" * 32, b"note", signatures=1)
            transaction.set_meta("roster_number", "1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_fail()
    assert store.size() == 0
    assert store.checkpoint() is None
    assert store.meta("roster_number") is None
    with pytest.raises(StoreError):
        store.hash_at(0, 0)


def test_all_of_it_is_there_after_opening_again(where):
    store = Store.open(where)
    append(store, 1)
    with store.transaction() as transaction:
        transaction.put_hashes([(0, 0, b"h" * 32), (3, 7, b"g" * 32), (3, 8, b"f" * 32)])
        transaction.put_checkpoint(1, b"r" * 32, b"note", signatures=1)
        transaction.set_meta("bundle_number", "4")
        transaction.put_item("sessions", "s1", b"x")
    store.close()
    store = Store.open(where)
    try:
        assert store.size() == 1
        assert store.hash_at(3, 7) == b"g" * 32
        assert store.hashes(3, 7, 9) == [b"g" * 32, b"f" * 32]
        assert store.checkpoint() == (1, b"r" * 32, b"note", 1)
        assert store.meta("bundle_number") == "4"
        assert store.item("sessions", "s1") == b"x"
    finally:
        store.close()


def test_a_subtree_is_stored_once(store):
    with store.transaction() as transaction:
        transaction.put_hashes([(0, 0, b"h" * 32)])
    with pytest.raises(StoreError), store.transaction() as transaction:
        transaction.put_hashes([(0, 0, b"i" * 32)])
    assert store.hash_at(0, 0) == b"h" * 32


def test_a_checkpoint_takes_more_signatures_and_no_other_root(store):
    with store.transaction() as transaction:
        transaction.put_checkpoint(3, b"r" * 32, b"one", signatures=1)
        transaction.put_checkpoint(3, b"r" * 32, b"two", signatures=2)
        transaction.put_checkpoint(5, b"s" * 32, b"later", signatures=1)
    assert store.checkpoint() == (5, b"s" * 32, b"later", 1)
    assert store.checkpoint(3) == (3, b"r" * 32, b"two", 2)
    assert store.checkpoint_below(5) == (3, b"r" * 32, b"two", 2)
    assert store.checkpoint_below(3) is None
    for size, root, signatures in [(3, b"x" * 32, 2), (3, b"r" * 32, 1), (4, b"t" * 32, 1)]:
        with pytest.raises(StoreError) as caught, store.transaction() as transaction:
            transaction.put_checkpoint(size, root, b"bad", signatures=signatures)
        assert caught.value.code == "conflict"
    assert store.checkpoint(3) == (3, b"r" * 32, b"two", 2)


def test_settings_and_items_are_replaced_and_dropped(store):
    with store.transaction() as transaction:
        transaction.set_meta("roster_number", "1")
        transaction.set_meta("roster_number", "2")
        transaction.put_item("keys", "b", b"1")
        transaction.put_item("keys", "b", b"2")
        transaction.put_item("keys", "a", b"3")
        transaction.put_item("other", "a", b"4")
    assert store.meta("roster_number") == "2"
    assert store.items("keys") == {"a": b"3", "b": b"2"}
    with store.transaction() as transaction:
        transaction.drop_item("keys", "b")
        transaction.drop_item("keys", "never")
    assert store.item("keys", "b") is None


def test_each_opening_begins_a_new_epoch(where):
    epochs = []
    for _ in range(3):
        store = Store.open(where)
        epochs.append(store.epoch)
        store.close()
    assert epochs == [1, 2, 3]


def test_a_leader_whose_epoch_has_passed_writes_nothing(store):
    append(store, 1)
    with store.transaction() as transaction:
        transaction.set_meta("epoch", str(store.epoch + 1))
    with pytest.raises(StoreError) as caught:
        append(store, 2)
    assert caught.value.code == "fenced"
    assert store.size() == 1


def test_a_second_leader_on_the_machine_is_refused(store, where):
    with pytest.raises(StoreError) as caught:
        Store.open(where)
    assert caught.value.code == "store_locked"


def test_reading_goes_on_while_a_transaction_writes(store):
    append(store, 1)
    with store.transaction() as transaction:
        transaction.append_entries([(header(2), b"leaf")])
        assert transaction.size() == 2
        assert store.size() == 1
    assert store.size() == 2


def test_a_schema_of_another_version_is_refused(where):
    store = Store.open(where)
    with store.transaction() as transaction:
        transaction.set_meta("schema_version", "2")
    store.close()
    for _ in range(2):
        with pytest.raises(StoreError) as caught:
            Store.open(where)
        assert caught.value.code == "unknown_schema"


def test_sqlite_commits_survive_a_power_cut(tmp_path):
    Store.open(tmp_path).close()
    with sqlite3.connect(tmp_path / "control.sqlite") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    store = Store.open(tmp_path)
    with store._engine.connect() as ours:
        assert ours.exec_driver_sql("PRAGMA synchronous").scalar() == 2
    store.close()


def _hold(where, ready, go):
    store = Store.open(where)
    append(store, 1, 2, 3)
    ready.set()
    go.wait(20)


def test_the_lock_is_free_when_the_leader_was_killed(where):
    context = multiprocessing.get_context("fork")
    ready, go = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(where, ready, go))
    process.start()
    assert ready.wait(20)
    with pytest.raises(StoreError):
        Store.open(where)
    process.kill()
    process.join()
    store = Store.open(where)
    assert store.size() == 3
    store.close()


def test_who_looks_for_damage_is_told_what_is_there_and_no_error(store):
    append(store, 1, 2, 5)
    with store.transaction() as transaction:
        transaction.put_hashes([(0, 0, b"h" * 32), (0, 2, b"g" * 32)])
        transaction.put_checkpoint(1, b"r" * 32, b"one", signatures=1)
        transaction.put_checkpoint(3, b"s" * 32, b"three", signatures=2)
    rows = store.entry_rows(1, 9)
    assert [(row.position, row.at, row.kind, row.leaf) for row in rows] == [
        (1, 2, "tick", encode_json(header(2))),
        (2, 5, "tick", encode_json(header(5))),
    ]
    assert store.hash_rows(0, 0, 9) == {0: b"h" * 32, 2: b"g" * 32}
    assert store.hash_count() == 2
    assert [head.size for head in store.checkpoints_above(-1, 9)] == [1, 3]
    assert [head.note for head in store.checkpoints_above(1, 9)] == [b"three"]
    assert [head.size for head in store.checkpoints_above(-1, 1)] == [1]


def test_what_decayed_can_be_put_back_and_nothing_else_moves(store):
    append(store, 1, 2, 5)
    with store.transaction() as transaction:
        transaction.put_hashes([(0, 0, b"h" * 32), (0, 1, b"g" * 32)])
    with store.transaction() as transaction:
        transaction.mend_entry(1, header(4, EntryKind.ORDER), b"its own bytes")
        transaction.mend_hashes([(0, 1, b"i" * 32), (0, 2, b"j" * 32)])
    row = store.entry_rows(1, 2)[0]
    assert (row.at, row.kind, row.leaf) == (4, "order", b"its own bytes")
    assert store.leaves(0, 1) + store.leaves(2, 3) == [
        encode_json(header(1)),
        encode_json(header(5)),
    ]
    assert store.hash_rows(0, 0, 9) == {0: b"h" * 32, 1: b"i" * 32, 2: b"j" * 32}


def test_a_store_is_inspected_as_it_lies_there(where):
    with pytest.raises(StoreError) as caught:
        Store.inspect(where)
    assert caught.value.code == "store_missing"
    store = Store.open(where)
    append(store, 1)
    with pytest.raises(StoreError) as caught:
        Store.inspect(where)
    assert caught.value.code == "store_locked"
    store.close()
    inspected = Store.inspect(where)
    assert inspected.epoch == store.epoch
    assert inspected.size() == 1
    assert inspected.database_faults() == []
    with pytest.raises(StoreError), inspected.transaction() as transaction:
        transaction.set_meta("bundle_number", "4")
    inspected.close()
    again = Store.open(where)
    assert again.epoch == store.epoch + 1
    again.close()
