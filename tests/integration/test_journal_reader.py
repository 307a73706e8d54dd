"""Followers: each committed batch once, whole and in order, whatever the writer's fate."""

import asyncio

import msgspec
import pytest

from gatelift.journal import (
    FrameKind,
    JournalError,
    RunFollower,
    Writer,
    list_runs,
    list_segments,
    read_frames,
)
from gatelift.journal.segments import encode_frame
from gatelift.messages import BatchEntry, Beat, sign_batch, stored_leaves
from gatelift.tlog import root_of
from gatelift.trust import SigningKey

KEY = SigningKey(bytes(range(32)))
NAMES = {"node": "node_1", "worker": "w0", "run": "run_1"}


def beat(seq):
    return Beat(v=1, **NAMES, seq=seq, at=7, refused={})


@pytest.fixture
def journal(tmp_path):
    async def scenario():
        writer = Writer(tmp_path / "w0", **NAMES, key=KEY)
        for _ in range(3):
            pendings = [writer.append(beat) for _ in range(2)]
            await pendings[-1].durable
        writer.close()

    asyncio.run(scenario())
    return tmp_path / "w0"


def drain(follower):
    batches = []
    while found := follower.poll():
        batches += found
    return batches


def frames_of(directory):
    frames, _ = read_frames(list_segments(directory)[0].path)
    return frames


def rewrite(directory, frames):
    path = list_segments(directory)[0].path
    path.write_bytes(b"".join(encode_frame(kind, payload) for kind, payload in frames))


def test_cut_anywhere_a_journal_gives_whole_batches_and_the_rest_as_uncommitted(journal):
    path = list_segments(journal)[0].path
    whole = path.read_bytes()
    complete = drain(RunFollower(journal, "run_1"))
    for cut in range(0, len(whole), 3):
        path.write_bytes(whole[:cut])
        follower = RunFollower(journal, "run_1")
        batches = drain(follower)
        assert batches == complete[: len(batches)]
        done = sum(batch.entry.n for batch in batches)
        assert follower.next_seq == done
        waiting = [stored.record.seq for stored in follower.uncommitted]
        assert waiting == list(range(done, done + len(waiting)))


def test_a_follower_begins_again_at_its_position(journal):
    path = list_segments(journal)[0].path
    whole = path.read_bytes()
    complete = drain(RunFollower(journal, "run_1"))
    for cut in range(0, len(whole), 7):
        path.write_bytes(whole[:cut])
        first = RunFollower(journal, "run_1")
        before = drain(first)
        path.write_bytes(whole)
        second = RunFollower(journal, "run_1", first.position)
        assert before + drain(second) == complete
        assert drain(first) == complete[len(before) :]


def test_growth_byte_by_byte_gives_each_batch_once(journal):
    path = list_segments(journal)[0].path
    whole = path.read_bytes()
    complete = drain(RunFollower(journal, "run_1"))
    follower = RunFollower(journal, "run_1")
    path.write_bytes(b"")
    seen = []
    for end in range(len(whole)):
        with path.open("ab") as file:
            file.write(whole[end : end + 1])
        if end % 5 == 0:
            seen += follower.poll()
    assert seen + drain(follower) == complete


def test_a_batch_without_one_of_its_records_is_corrupt(journal):
    frames = [(f.kind, f.payload) for f in frames_of(journal)]
    rewrite(journal, frames[1:])
    with pytest.raises(JournalError) as caught:
        drain(RunFollower(journal, "run_1"))
    assert caught.value.code == "journal_corrupt"


def test_a_changed_record_with_a_right_checksum_is_corrupt(journal):
    frames = [(f.kind, f.payload) for f in frames_of(journal)]
    kind, payload = frames[0]
    frames[0] = (kind, payload.replace(b'"at":7', b'"at":8'))
    rewrite(journal, frames)
    with pytest.raises(JournalError) as caught:
        drain(RunFollower(journal, "run_1"))
    assert caught.value.code == "journal_corrupt"


def test_a_missing_batch_in_the_middle_is_corrupt(journal):
    frames = [(f.kind, f.payload) for f in frames_of(journal)]
    first = next(i for i, (kind, _) in enumerate(frames) if kind is FrameKind.BATCH)
    del frames[first]
    rewrite(journal, frames)
    with pytest.raises(JournalError) as caught:
        drain(RunFollower(journal, "run_1"))
    assert caught.value.code == "journal_corrupt"


def signed(first, count, payloads):
    entry = BatchEntry(
        v=1,
        node=NAMES["node"],
        worker=NAMES["worker"],
        run=NAMES["run"],
        seq=first,
        n=count,
        root=f"sha256:{root_of(stored_leaves(payloads)).hex()}",
        at=9,
    )
    data, signature = sign_batch(entry, KEY)
    return FrameKind.BATCH, signature + data


def payload(seq, /, **changes):
    record = msgspec.structs.replace(beat(seq), **changes)
    return bytes([seq]) * 32 + msgspec.json.encode(record)


def write(directory, *frames):
    directory.mkdir()
    path = directory / "run_1-0001.seg"
    path.write_bytes(b"".join(encode_frame(kind, each) for kind, each in frames))


def test_records_may_be_written_between_a_batch_s_own_and_its_frame(tmp_path):
    rows = [payload(seq) for seq in range(4)]
    records = [(FrameKind.RECORD, row) for row in rows]
    write(tmp_path / "w0", *records, signed(0, 2, rows[:2]), signed(2, 1, rows[2:3]))
    follower = RunFollower(tmp_path / "w0", "run_1")
    batches = drain(follower)
    assert [[r.record.seq for r in batch.records] for batch in batches] == [[0, 1], [2]]
    assert [stored.record.seq for stored in follower.uncommitted] == [3]


def test_a_record_that_was_written_again_counts_once(tmp_path):
    rows = [payload(seq) for seq in range(4)]
    records = [(FrameKind.RECORD, row) for row in rows]
    first = signed(0, 2, rows[:2])
    again = (*records[:2], first, *records[2:], signed(2, 2, rows[2:]))
    write(tmp_path / "w0", *records[:2], first, records[2], *again)
    follower = RunFollower(tmp_path / "w0", "run_1")
    batches = drain(follower)
    assert [[r.record.seq for r in batch.records] for batch in batches] == [[0, 1], [2, 3]]
    assert follower.uncommitted == []


@pytest.mark.parametrize(
    "changes", [{"seq": 7}, {"seq": 0}, {"run": "run_2"}, {"worker": "w1"}, {"node": "node_2"}]
)
@pytest.mark.parametrize("is_repeated", [False, True])
def test_a_signed_record_out_of_its_place_is_corrupt(tmp_path, changes, is_repeated):
    rows = [payload(0), payload(1, **changes)]
    records = [(FrameKind.RECORD, row) for row in rows]
    before = records if is_repeated else []
    write(tmp_path / "w0", *before, *records, signed(0, 2, rows))
    with pytest.raises(JournalError) as caught:
        drain(RunFollower(tmp_path / "w0", "run_1"))
    assert caught.value.code == "journal_corrupt"


def test_runs_are_listed_oldest_first(journal):
    (journal / "run_0-0001.seg").touch()
    (journal / "run_0-0002.seg").touch()
    assert list_runs(journal) == ["run_0", "run_1"]
    assert list_runs(journal / "nothing") == []
