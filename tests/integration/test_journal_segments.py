"""Frames on disk: what a crash may leave, and what it may not."""

import zlib

import pytest

from gatelift.journal import FrameKind, JournalError, list_segments, read_frames
from gatelift.journal.segments import encode_frame, segment_path

PAYLOADS = [b"a" * 40, b"b", b"c" * 300]


@pytest.fixture
def segment(tmp_path):
    path = segment_path(tmp_path, "run_1", 1)
    path.write_bytes(b"".join(encode_frame(FrameKind.RECORD, p) for p in PAYLOADS))
    return path


def test_a_frame_has_the_documented_bytes():
    payload = b"hello"
    head = (5).to_bytes(4, "big") + b"\x02"
    expected = (
        head
        + zlib.crc32(head).to_bytes(4, "big")[1:]
        + zlib.crc32(payload).to_bytes(4, "big")
        + payload
    )
    assert encode_frame(FrameKind.BATCH, payload) == expected


def test_a_file_cut_anywhere_reads_as_the_frames_before_the_cut(segment):
    whole = segment.read_bytes()
    ends = []
    at = 0
    for payload in PAYLOADS:
        at += 12 + len(payload)
        ends.append(at)
    assert at == len(whole)
    for cut in range(len(whole) + 1):
        segment.write_bytes(whole[:cut])
        frames, offset = read_frames(segment)
        count = sum(end <= cut for end in ends)
        assert [frame.payload for frame in frames] == PAYLOADS[:count]
        assert offset == (ends[count - 1] if count else 0)


def test_every_flipped_bit_is_found(segment):
    whole = segment.read_bytes()
    for position in range(len(whole)):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << (position % 8)
        segment.write_bytes(flipped)
        with pytest.raises(JournalError) as caught:
            read_frames(segment)
        assert caught.value.code == "journal_corrupt"


def test_zeros_after_the_last_frame_are_a_torn_tail(segment):
    whole = segment.read_bytes()
    segment.write_bytes(whole + bytes(4096))
    frames, offset = read_frames(segment)
    assert len(frames) == 3
    assert offset == len(whole)


def test_zeros_before_more_bytes_are_corruption(segment):
    whole = segment.read_bytes()
    segment.write_bytes(whole + bytes(4096) + whole)
    with pytest.raises(JournalError):
        read_frames(segment)


def test_reading_goes_on_where_it_ended(segment):
    _, offset = read_frames(segment)
    with segment.open("ab") as file:
        file.write(encode_frame(FrameKind.BATCH, b"more"))
    frames, _ = read_frames(segment, offset)
    assert [(f.kind, f.payload, f.offset) for f in frames] == [(FrameKind.BATCH, b"more", offset)]


def test_segments_are_listed_in_the_order_of_writing(tmp_path):
    for run, number in [("run_2", 1), ("run_1", 10_000), ("run_1", 2), ("run_1", 9999)]:
        segment_path(tmp_path, run, number).touch()
    (tmp_path / "lock").touch()
    found = [(s.run, s.number) for s in list_segments(tmp_path)]
    assert found == [("run_1", 2), ("run_1", 9999), ("run_1", 10_000), ("run_2", 1)]
    assert [s.number for s in list_segments(tmp_path, "run_2")] == [1]


def test_a_run_id_cannot_leave_the_folder(tmp_path):
    with pytest.raises(JournalError):
        segment_path(tmp_path, "../run", 1)
