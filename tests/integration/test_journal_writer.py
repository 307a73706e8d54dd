"""The writer against a real disk, and against one that fails on purpose."""

import asyncio
import errno
import os
import threading
from pathlib import Path

import pytest

from gatelift.encoding import encode_base64
from gatelift.journal import JournalError, RunFollower, Writer, holder, is_locked, list_segments
from gatelift.messages import (
    NO_CHARGES,
    Beat,
    RecordError,
    RecordForm,
    parse_ticket,
    record_leaf,
    verify_batch,
    verify_ticket,
)
from gatelift.messages.records import encode_ticket
from gatelift.terms import Durability, Endpoint
from gatelift.tlog import MemoryTree
from gatelift.trust import SignatureError, SigningKey

KEY = SigningKey(bytes(range(32)))
NAMES = {"node": "node_1", "worker": "w0", "run": "run_1"}


def beat(seq, /, **changes):
    return Beat(**{"v": 1, **NAMES, "seq": seq, "at": 7, "refused": {}} | changes)


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 20))


def make(directory, **options):
    return Writer(directory, **NAMES, key=KEY, **options)


async def recover(writer):
    for _ in range(500):
        if writer.try_recover():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


def read_all(directory):
    follower = RunFollower(directory, "run_1")
    batches = []
    while found := follower.poll():
        batches += found
    return batches, follower


def seqs_of(batches):
    return [stored.record.seq for batch in batches for stored in batch.records]


class Disk:
    """Real writes and syncs, until told to fail."""

    def __init__(self):
        self.write_errors = []
        self.sync_error = False
        self.syncs = 0
        self.gate = threading.Event()
        self.gate.set()

    def write(self, fd, data):
        if self.write_errors:
            failing = self.write_errors.pop(0)
            if isinstance(failing, int):
                return os.write(fd, data[:failing])
            raise failing
        return os.write(fd, data)

    def sync(self, fd):
        self.gate.wait(10)
        self.syncs += 1
        if self.sync_error:
            raise OSError(errno.EIO, "injected")
        os.fdatasync(fd)


def test_a_durable_record_has_a_ticket_that_verifies(tmp_path):
    async def scenario():
        writer = make(tmp_path / "w0")
        pendings = [writer.append(beat) for _ in range(11)]
        for pending in pendings:
            await pending.durable
        tickets = [parse_ticket(p.ticket(b"s" * 32).decode()) for p in pendings]
        writer.close()
        return tickets

    for seq, ticket in enumerate(run(scenario())):
        _, record = verify_ticket(ticket, KEY.public)
        assert record == beat(seq)
        with pytest.raises(SignatureError):
            verify_ticket(ticket, SigningKey(b"x" * 32).public)


def test_paths_and_roots_are_those_of_the_log_tree(tmp_path):
    disk = Disk()

    async def scenario():
        writer = make(tmp_path / "w0", sync=disk.sync)
        disk.gate.clear()
        writer.append(beat)
        await asyncio.sleep(0.05)
        group = [writer.append(beat) for _ in range(13)]
        disk.gate.set()
        batch = await group[-1].durable
        writer.close()
        return group, batch

    group, batch = run(scenario())
    assert (batch.entry.seq, batch.entry.n) == (1, 13)
    tree = MemoryTree()
    for pending in group:
        tree.append_leaf(record_leaf(pending.salted[:32], pending.salted[32:]))
    assert batch.entry.root == f"sha256:{tree.root().hex()}"
    written = [tuple(map(encode_base64, tree.inclusion_proof(i))) for i in range(13)]
    tickets = [pending.ticket(b"c" * 32).decode() for pending in group]
    assert [parse_ticket(ticket).path for ticket in tickets] == written
    assert [encode_ticket(parse_ticket(ticket)) for ticket in tickets] == tickets


def test_one_sync_commits_all_that_gathered_meanwhile(tmp_path):
    disk = Disk()
    told = []

    async def scenario():
        writer = make(tmp_path / "w0", sync=disk.sync, on_committed=told.append)
        disk.gate.clear()
        first = writer.append(beat)
        await asyncio.sleep(0.05)
        rest = [writer.append(beat) for _ in range(500)]
        assert not first.durable.done()
        disk.gate.set()
        await asyncio.gather(first.durable, *(p.durable for p in rest))
        writer.close()

    run(scenario())
    assert disk.syncs == 2
    assert [batch.entry.n for batch in told] == [1, 500]


def test_a_record_can_be_read_before_it_is_durable(tmp_path):
    disk = Disk()

    async def scenario():
        writer = make(tmp_path / "w0", sync=disk.sync)
        disk.gate.clear()
        writer.append(beat)
        writer.append(beat)
        _, follower = read_all(tmp_path / "w0")
        seen = [stored.record.seq for stored in follower.uncommitted]
        committed = follower.next_seq
        disk.gate.set()
        writer.close()
        return seen, committed

    seen, committed = run(scenario())
    assert committed + len(seen) == 2
    assert seqs_of(read_all(tmp_path / "w0")[0]) == [0, 1]


def test_a_ticket_before_the_sync_is_refused(tmp_path):
    disk = Disk()

    async def scenario():
        writer = make(tmp_path / "w0", sync=disk.sync)
        disk.gate.clear()
        pending = writer.append(beat)
        with pytest.raises(JournalError) as caught:
            pending.ticket(b"s" * 32)
        disk.gate.set()
        await pending.durable
        writer.close()
        return caught.value.code

    assert run(scenario()) == "journal_not_durable"


def test_a_relaxed_batch_is_acknowledged_before_it_is_synced_and_says_so(tmp_path):
    disk = Disk()
    told = []
    relaxed = [True]

    async def scenario():
        writer = make(
            tmp_path / "w0", sync=disk.sync, on_committed=told.append, relaxed=lambda: relaxed[0]
        )
        disk.gate.clear()
        first = writer.append(beat)
        batch = await asyncio.wait_for(first.durable, 5)
        ticket = parse_ticket(first.ticket(b"s" * 32).decode())
        assert told == [], "who reads journals hears of it once it is on disk"
        disk.gate.set()
        relaxed[0] = False
        second = await writer.append(beat).durable
        writer.close()
        return batch.entry, ticket, second.entry

    entry, ticket, second = run(scenario())
    assert entry.durability is Durability.RELAXED
    assert '"durability":"relaxed"' in ticket.entry
    assert second.durability is None
    assert [batch.entry for batch in told] == [entry, second]
    assert seqs_of(read_all(tmp_path / "w0")[0]) == [0, 1]


def test_relaxed_batches_do_not_wait_for_the_sync_of_those_before(tmp_path):
    disk = Disk()
    told = []

    async def scenario():
        writer = make(
            tmp_path / "w0", sync=disk.sync, on_committed=told.append, relaxed=lambda: True
        )
        disk.gate.clear()
        for _ in range(5):
            await asyncio.wait_for(writer.append(beat).durable, 5)
        assert told == []
        disk.gate.set()
        await asyncio.to_thread(writer.close)
        await asyncio.sleep(0)

    run(scenario())
    assert [batch.entry.seq for batch in told] == [0, 1, 2, 3, 4]
    assert disk.syncs == 2, "one for the first, one for all that came meanwhile"


def test_a_relaxed_journal_whose_disk_fails_refuses_what_comes_after_and_writes_all_again(tmp_path):
    disk = Disk()

    async def scenario():
        writer = make(tmp_path / "w0", sync=disk.sync, relaxed=lambda: True)
        disk.sync_error = True
        first = writer.append(beat)
        await asyncio.wait_for(first.durable, 5)
        for _ in range(500):
            if writer.broken is not None:
                break
            await asyncio.sleep(0.01)
        with pytest.raises(JournalError):
            writer.append(beat)
        disk.sync_error = False
        assert await asyncio.to_thread(writer.try_recover)
        await writer.append(beat).durable
        writer.close()

    run(scenario())
    assert seqs_of(read_all(tmp_path / "w0")[0]) == [0, 1]


def test_a_second_writer_is_refused_while_the_first_lives(tmp_path):
    async def scenario():
        first = make(tmp_path / "w0")
        with pytest.raises(JournalError) as caught:
            Writer(tmp_path / "w0", node="node_1", worker="w0", run="run_2", key=KEY)
        held = is_locked(tmp_path / "w0"), holder(tmp_path / "w0")
        first.close()
        return caught.value.code, held

    assert run(scenario()) == ("journal_locked", (True, "run_1"))
    assert not is_locked(tmp_path / "w0")
    assert holder(tmp_path / "w0") is None
    assert not is_locked(tmp_path / "nobody")


def test_a_run_is_written_once(tmp_path):
    async def scenario():
        make(tmp_path / "w0").close()
        with pytest.raises(JournalError) as caught:
            make(tmp_path / "w0")
        return caught.value.code

    assert run(scenario()) == "journal_run_used"


def test_a_record_of_somebody_else_is_refused_and_takes_no_number(tmp_path):
    async def scenario():
        writer = make(tmp_path / "w0")
        for changes in ({"seq": 4}, {"run": "run_9"}, {"node": "node_9"}, {"worker": "w9"}):
            with pytest.raises(RecordError):
                writer.append(lambda seq, c=changes: beat(seq, **c))
        assert writer.append(beat).seq == 0
        writer.close()

    run(scenario())


def test_a_record_given_as_fields_gets_its_place_from_the_journal(tmp_path):
    form = RecordForm(
        release="r", stage="s", certificate=None, fingerprint="sha256:" + "0" * 64, grant="g",
        principal="p", organisation="o", endpoint=Endpoint.CHAT,
    )  # fmt: skip

    async def scenario():
        writer = make(tmp_path / "w0")
        writer.append(beat)
        fields = form.start(
            at=5, request_id="q", session="x", stream=False, request="sha256:" + "1" * 64,
            request_bytes=3, reserved=NO_CHARGES, images=0,
        )  # fmt: skip
        pending = writer.append_fields("start", fields)
        await pending.durable
        ticket = parse_ticket(pending.ticket(b"s" * 32).decode())
        writer.close()
        return pending.seq, verify_ticket(ticket, KEY.public)[1]

    seq, record = run(scenario())
    (stored,) = [r for batch in read_all(tmp_path / "w0")[0] for r in batch.records if r.record.seq]
    assert stored.record == record
    assert (record.node, record.worker, record.run, record.seq) == (*NAMES.values(), seq)


def test_more_waiting_records_than_the_bound_are_refused(tmp_path):
    disk = Disk()

    async def scenario():
        writer = make(tmp_path / "w0", sync=disk.sync, max_pending=3)
        disk.gate.clear()
        writer.append(beat)
        await asyncio.sleep(0.05)
        kept = [writer.append(beat) for _ in range(3)]
        with pytest.raises(JournalError) as caught:
            writer.append(beat)
        disk.gate.set()
        await asyncio.gather(*(p.durable for p in kept))
        writer.close()
        return caught.value.code

    assert run(scenario()) == "journal_full"
    assert seqs_of(read_all(tmp_path / "w0")[0]) == [0, 1, 2, 3]


def test_segments_rotate_and_hold_their_own_batches(tmp_path):
    async def scenario():
        writer = make(tmp_path / "w0", segment_bytes=2000)
        for _ in range(60):
            pendings = [writer.append(beat) for _ in range(5)]
            await pendings[-1].durable
        writer.close()

    run(scenario())
    assert len(list_segments(tmp_path / "w0")) > 5
    batches, follower = read_all(tmp_path / "w0")
    assert seqs_of(batches) == list(range(300))
    assert follower.uncommitted == []


def test_short_writes_are_completed(tmp_path):
    disk = Disk()

    async def scenario():
        writer = make(tmp_path / "w0", write=disk.write)
        disk.write_errors = [3, 5, 1]
        await writer.append(beat).durable
        writer.close()

    run(scenario())
    assert seqs_of(read_all(tmp_path / "w0")[0]) == [0]


@pytest.mark.parametrize(
    "errors",
    [[OSError(errno.ENOSPC, "injected")], [20, OSError(errno.ENOSPC, "injected")]],
    ids=["at once", "after a part"],
)
def test_a_full_disk_refuses_and_a_new_segment_goes_on_without_a_gap(tmp_path, errors):
    disk = Disk()

    async def scenario():
        writer = make(tmp_path / "w0", write=disk.write)
        await writer.append(beat).durable
        disk.write_errors = list(errors)
        for _ in range(2):
            with pytest.raises(JournalError) as caught:
                writer.append(beat)
            assert caught.value.code == "journal_failed"
        assert writer.broken is not None
        await recover(writer)
        assert writer.broken is None
        pending = writer.append(beat)
        await pending.durable
        writer.close()
        return pending.seq

    assert run(scenario()) == 1
    assert seqs_of(read_all(tmp_path / "w0")[0]) == [0, 1]


@pytest.mark.parametrize("read_between", [True, False])
def test_after_a_failed_sync_nothing_is_acknowledged_and_nothing_is_lost(tmp_path, read_between):
    disk = Disk()

    async def scenario():
        writer = make(tmp_path / "w0", sync=disk.sync)
        await writer.append(beat).durable
        follower = RunFollower(tmp_path / "w0", "run_1")
        disk.gate.clear()
        disk.sync_error = True
        pendings = [writer.append(beat)]
        await asyncio.sleep(0.05)
        pendings += [writer.append(beat) for _ in range(3)]
        disk.gate.set()
        results = await asyncio.gather(*(p.durable for p in pendings), return_exceptions=True)
        assert [r.code for r in results] == ["journal_failed"] * 4
        seen = follower.poll() if read_between else []
        with pytest.raises(JournalError):
            writer.append(beat)
        assert not writer.try_recover()
        assert not writer.try_recover()
        disk.sync_error = False
        await recover(writer)
        last = writer.append(beat)
        await last.durable
        writer.close()
        while found := follower.poll():
            seen += found
        return last.seq, seen

    last, seen = run(scenario())
    assert last == 5
    assert seqs_of(seen) == [0, 1, 2, 3, 4, 5]
    for batch in seen:
        verify_batch(batch.data, batch.signature, KEY.public)
    fresh, follower = read_all(tmp_path / "w0")
    assert [batch.data for batch in fresh] == [batch.data for batch in seen]
    assert follower.uncommitted == []
    assert len(list_segments(tmp_path / "w0")) == 2


def test_a_sync_that_failed_is_not_trusted_after_a_second_one_succeeds(tmp_path):
    # A kernel reports a lost page once; a later sync of the same file says that all is well.
    synced = []
    disk = Disk()

    def sync(fd):
        synced.append(Path(f"/proc/self/fd/{fd}").readlink().name)
        disk.sync(fd)

    async def scenario():
        writer = make(tmp_path / "w0", sync=sync)
        disk.sync_error = True
        pending = writer.append(beat)
        with pytest.raises(JournalError):
            await pending.durable
        disk.sync_error = False
        await recover(writer)
        await writer.append(beat).durable
        writer.close()

    run(scenario())
    assert synced[0] == "run_1-0001.seg"
    assert set(synced[1:]) == {"run_1-0002.seg"}


def test_closing_commits_what_waits(tmp_path):
    async def scenario():
        writer = make(tmp_path / "w0")
        for _ in range(20):
            writer.append(beat)
        writer.close()
        writer.close()
        with pytest.raises(JournalError) as caught:
            writer.append(beat)
        return caught.value.code

    assert run(scenario()) == "journal_closed"
    assert seqs_of(read_all(tmp_path / "w0")[0]) == list(range(20))


@pytest.mark.parametrize("ill", ["first", "second"])
def test_a_batch_is_acknowledged_only_when_both_copies_hold_it(tmp_path, ill):
    first, second = tmp_path / "first", tmp_path / "second"
    sick = threading.Event()

    def sync(fd):
        here = Path(f"/proc/self/fd/{fd}").readlink()
        if sick.is_set() and here.parent.name == ill:
            raise OSError(errno.EIO, "ill")
        os.fdatasync(fd)

    async def main():
        writer = make(first, replica=second, sync=sync, segment_bytes=2_000)
        for _ in range(20):
            await writer.append(beat).durable
        sick.set()
        refused = writer.append(beat)
        with pytest.raises(JournalError):
            await refused.durable
        assert not writer.try_recover()
        sick.clear()
        await recover(writer)
        for _ in range(20):
            await writer.append(beat).durable
        writer.close()

    run(main())
    held = {}
    for directory in (first, second):
        batches, follower = read_all(directory)
        held[directory] = [batch.data for batch in batches]
        assert seqs_of(batches) == list(range(41)), "no gap and no second version"
        assert follower.uncommitted == []
    assert held[first] == held[second], "either copy tells the same"


def test_a_second_store_that_hangs_refuses_and_is_not_waited_for_for_ever(tmp_path):
    hangs = threading.Event()
    release = threading.Event()

    def sync(fd):
        if hangs.is_set() and Path(f"/proc/self/fd/{fd}").readlink().parent.name == "second":
            release.wait(10)
        os.fdatasync(fd)

    async def main():
        writer = make(
            tmp_path / "first", replica=tmp_path / "second", sync=sync, replica_timeout_s=0.1
        )
        await writer.append(beat).durable
        hangs.set()
        with pytest.raises(JournalError, match="did not answer"):
            await writer.append(beat).durable
        assert not writer.try_recover()
        hangs.clear()
        release.set()
        await recover(writer)
        await writer.append(beat).durable
        writer.close()

    run(main())
    for name in ("first", "second"):
        assert seqs_of(read_all(tmp_path / name)[0]) == [0, 1, 2]


def test_what_is_appended_lazily_costs_no_write_of_its_own_and_keeps_its_place(tmp_path):
    disk = Disk()
    writes = []

    def write(fd, data):
        writes.append(data)
        return disk.write(fd, data)

    async def main():
        writer = make(tmp_path / "w0", write=write, sync=disk.sync)
        disk.gate.clear()
        first = writer.append(beat)
        while disk.gate.is_set() or writer.waiting:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        before = len(writes)
        pendings = [writer.append(beat, lazily=number % 3 != 2) for number in range(9)]
        assert len(writes) == before + 3
        last = writer.append(beat, lazily=True)
        disk.gate.set()
        for pending in (first, *pendings, last):
            await pending.durable
        writer.close()

    run(main())
    batches, follower = read_all(tmp_path / "w0")
    assert seqs_of(batches) == list(range(11)), "the last, which nobody wrote for, is there too"
    assert follower.uncommitted == []


def test_a_lazy_record_that_a_failing_disk_did_not_take_is_refused_and_written_later(tmp_path):
    disk = Disk()

    async def main():
        writer = make(tmp_path / "w0", write=disk.write, sync=disk.sync)
        await writer.append(beat).durable
        disk.write_errors = [OSError(errno.ENOSPC, "injected")]
        lazy = writer.append(beat, lazily=True)
        with pytest.raises(JournalError, match="Nothing was acknowledged"):
            await lazy.durable
        with pytest.raises(JournalError):
            lazy.ticket(b"s" * 32)
        await recover(writer)
        await writer.append(beat, lazily=True).durable
        writer.close()

    run(main())
    batches, follower = read_all(tmp_path / "w0")
    assert seqs_of(batches) == [0, 1, 2], "no gap, and each number once"
    assert follower.uncommitted == []


def test_lazy_records_lie_in_the_segment_of_their_batch(tmp_path):
    async def main():
        writer = make(tmp_path / "w0", segment_bytes=2_000)
        for number in range(300):
            pending = writer.append(beat, lazily=number % 2 == 0)
            if number % 7 == 0:
                await pending.durable
        await pending.durable
        writer.close()

    run(main())
    batches, follower = read_all(tmp_path / "w0")
    assert seqs_of(batches) == list(range(300))
    assert follower.uncommitted == []
    assert len(list_segments(tmp_path / "w0")) > 3


def test_who_gives_up_waiting_takes_nothing_from_others(tmp_path):
    disk = Disk()

    async def main():
        writer = make(tmp_path / "w0", write=disk.write, sync=disk.sync)
        disk.gate.clear()
        pending = writer.append(beat)
        impatient, patient = pending.durable, pending.durable
        impatient.cancel()
        disk.gate.set()
        await patient
        assert parse_ticket(pending.ticket(b"s" * 32).decode()).index == 0
        writer.close()

    run(main())
