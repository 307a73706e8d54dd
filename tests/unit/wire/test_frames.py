from __future__ import annotations

import struct

import msgspec
import pytest

from gatelift.wire.frames import FrameCodec, FrameError


class Draw(msgspec.Struct, frozen=True, kw_only=True, tag="draw", forbid_unknown_fields=True):
    key: str
    amount: int


class Stop(msgspec.Struct, frozen=True, kw_only=True, tag="stop", forbid_unknown_fields=True):
    order: bytes


Frame = Draw | Stop
FRAMES: list[Frame] = [
    Draw(key="a", amount=3),
    Stop(order=b"\x00" * 300),
    Draw(key="", amount=-1),
]


def codec(**options: int) -> FrameCodec[Frame]:
    return FrameCodec(Frame, **options)


def raw(payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + payload


def test_a_frame_is_a_big_endian_length_and_msgpack() -> None:
    # {"type": "draw", "key": "a", "amount": 3} written by hand from the msgpack specification.
    expected = b"\x83\xa4type\xa4draw\xa3key\xa1a\xa6amount\x03"
    assert codec().encode(Draw(key="a", amount=3)) == b"\x00\x00\x00" + bytes([25]) + expected


def test_frames_come_out_the_same_however_the_bytes_are_cut() -> None:
    data = b"".join(codec().encode(frame) for frame in FRAMES)
    for cut in range(len(data) + 1):
        reader = codec()
        assert reader.feed(data[:cut]) + reader.feed(data[cut:]) == FRAMES
        assert not reader.unfinished
    reader = codec()
    assert [f for i in range(len(data)) for f in reader.feed(data[i : i + 1])] == FRAMES


def test_an_oversize_length_is_refused_before_its_payload_comes() -> None:
    with pytest.raises(FrameError) as caught:
        codec(max_frame_bytes=100).feed(struct.pack(">I", 101))
    assert caught.value.code == "frame_too_large"


def test_a_frame_of_exactly_the_largest_size_is_taken_and_one_byte_more_is_not_sent() -> None:
    fits = len(codec().encode(Draw(key="x" * 50, amount=1))) - 4
    assert codec(max_frame_bytes=fits).feed(codec().encode(Draw(key="x" * 50, amount=1)))
    with pytest.raises(FrameError, match="digest"):
        codec(max_frame_bytes=fits - 1).encode(Draw(key="x" * 50, amount=1))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(struct.pack(">I", 0), id="empty frame"),
        pytest.param(raw(b"\xc1"), id="reserved byte"),
        pytest.param(raw(msgspec.msgpack.encode({"type": "nobody"})), id="unknown tag"),
        pytest.param(raw(msgspec.msgpack.encode({"type": "draw", "key": "a"})), id="field missing"),
        pytest.param(
            raw(msgspec.msgpack.encode({"type": "draw", "key": "a", "amount": "3"})),
            id="wrong type",
        ),
        pytest.param(
            raw(msgspec.msgpack.encode({"type": "stop", "order": b"", "more": 1})),
            id="unknown field",
        ),
        pytest.param(raw(codec().encode(FRAMES[0])[4:] + b"\x00"), id="bytes after the message"),
        pytest.param(raw(codec().encode(FRAMES[0])[4:-1]), id="message cut short"),
        pytest.param(raw(b"\x91" * 5000 + b"\x00"), id="nested very deep"),
    ],
)
def test_what_is_no_frame_is_refused_and_nothing_more_is_read(data: bytes) -> None:
    reader = codec()
    with pytest.raises(FrameError):
        reader.feed(data)
    with pytest.raises(FrameError):
        reader.feed(codec().encode(FRAMES[0]))


def test_frames_before_a_malformed_one_are_delivered() -> None:
    reader = codec()
    assert reader.feed(codec().encode(FRAMES[1]) + raw(b"\xc1")) == [FRAMES[1]]
    assert isinstance(reader.error, FrameError)
