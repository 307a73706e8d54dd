"""Segments: the files of a journal, and the frames inside them.

    u32 length of the payload, u8 type, u24 check of these five bytes, u32 check of the payload,
    payload                                                                 (all big-endian)

A `RECORD` payload is a salt of 32 bytes and the record's stored JSON; a `BATCH` payload is the
node's signature of 64 bytes and the stored JSON of a `BatchEntry`; a `TOMBSTONE` stands where a record
was erased, in the same length (`messages.tombstones`, written by `erasing`).

Invariants
- A crash leaves a prefix of what was written, so only a frame that *ends too early* is a torn tail
  (or zeros to the end of the file, where a file system allotted what it never wrote). It ends the
  reading without an error. Whatever is complete but fails its check is corruption, and raises.
- The header has a check of its own: a flipped bit in a length cannot pass for a torn tail.
- Names sort: run ids begin with their time, segments of a run are numbered from 1.

It does not pair records with batches (`reader`) or write (`writer`). Checks are CRC-32 (IEEE
802.3): they find decay, not malice; for that there are root and signature of the batch.
"""

from __future__ import annotations

import enum
import functools
import os
import re
import struct
import zlib
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from gatelift.journal.errors import JournalError

__all__ = [
    "MAX_PAYLOAD_BYTES",
    "Frame",
    "FrameKind",
    "Segment",
    "encode_frame",
    "frame_head",
    "list_names",
    "list_segments",
    "read_frames",
    "segment_path",
]

MAX_PAYLOAD_BYTES: Final = 1024 * 1024
READ_BYTES: Final = 8 * MAX_PAYLOAD_BYTES
_HEAD: Final = struct.Struct(">IB")  # length and type; three bytes of check follow
_HEAD_BYTES: Final = _HEAD.size + 3
_CHECK: Final = struct.Struct(">I")  # of the payload
_HEADER_BYTES: Final = _HEAD_BYTES + _CHECK.size
_NAME: Final = re.compile(r"(?P<run>[A-Za-z0-9_.]+)-(?P<number>[0-9]{4,9})\.seg", re.ASCII)
_RUN: Final = re.compile(r"[A-Za-z0-9_.]{1,80}", re.ASCII)


class FrameKind(enum.IntEnum):
    """What a frame's payload is."""

    RECORD = 1
    BATCH = 2
    TOMBSTONE = 3


class Frame(msgspec.Struct, frozen=True, gc=False):
    """A checked frame and where it begins in its segment. Two a record: so it is made cheaply."""

    kind: FrameKind
    payload: bytes
    offset: int


class Segment(NamedTuple):
    """A file of a journal; sorts in the order of writing."""

    run: str
    number: int
    path: Path


def segment_path(directory: Path, run: str, number: int) -> Path:
    """Return the path of segment `number` (from 1) of `run`."""
    if _RUN.fullmatch(run) is None:
        raise JournalError(f"expected a run id of letters, digits, '_' and '.', got {run[:80]!r}")
    return directory / f"{run}-{number:04d}.seg"


def list_segments(directory: Path, run: str | None = None) -> list[Segment]:
    """Return the segments in `directory`, of one run or of all, in the order of writing."""
    return [
        Segment(of, number, directory / name)
        for of, number, name in sorted(list_names(directory))
        if run is None or of == run
    ]


def list_names(directory: Path | str) -> list[tuple[str, int, str]]:
    """Return run, number and file name of each segment in `directory`, in no order."""
    try:
        names = os.listdir(directory)  # noqa: PTH208  no object for each name, many times a second
    except FileNotFoundError:
        return []
    return [(*parsed, name) for name in names if (parsed := _parse_name(name)) is not None]


@functools.lru_cache(maxsize=4096)
def _parse_name(name: str) -> tuple[str, int] | None:
    # A follower asks twenty times a second, and a journal keeps its old segments.
    match = _NAME.fullmatch(name)
    return None if match is None else (match["run"], int(match["number"]))


def encode_frame(kind: FrameKind, payload: bytes) -> bytes:
    """Return the bytes of a frame."""
    return frame_head(kind, payload) + payload


def frame_head(kind: FrameKind, payload: bytes) -> bytes:
    """Return the bytes of a frame that stand before its payload."""
    if not 0 < len(payload) <= MAX_PAYLOAD_BYTES:
        raise JournalError(
            f"expected 1 to {MAX_PAYLOAD_BYTES} bytes in a frame, got {len(payload)}"
        )
    return _head_of(len(payload), kind) + _CHECK.pack(zlib.crc32(payload))


def read_frames(path: Path, offset: int = 0) -> tuple[list[Frame], int]:
    """Return frames from `offset` on, and the offset after the last of them.

    One call reads a few MiB; call again from the new offset until it does not move: the rest is a
    torn tail or nothing. Raises `JournalError` (`journal_corrupt`), `FileNotFoundError`.
    """
    with path.open("rb", buffering=0) as file:
        # No more room than there is to read: at each round of a keeper it would be cleared anew.
        left = os.fstat(file.fileno()).st_size - offset
        file.seek(offset)
        data = file.read(min(max(left, 0), READ_BYTES))
    frames: list[Frame] = []
    at, end = 0, len(data)
    while end - at >= _HEADER_BYTES:
        head = _parse_head(data[at : at + _HEAD_BYTES])
        if head is None:
            if not any(data[at:]) and len(data) < READ_BYTES:
                break
            raise _corrupt(path, offset + at, "its header fails its check")
        kind, length = head
        if kind is None or not 0 < length <= MAX_PAYLOAD_BYTES:
            raise _corrupt(path, offset + at, f"type {data[at + 4]} with {length} bytes is unknown")
        start = at + _HEADER_BYTES
        after = start + length
        if after > end:
            break
        payload = data[start:after]
        if zlib.crc32(payload) != _CHECK.unpack_from(data, start - _CHECK.size)[0]:
            raise _corrupt(path, offset + at, "its payload fails its check")
        frames.append(Frame(kind, payload, offset + at))
        at = after
    return frames, offset + at


@functools.lru_cache(maxsize=4096)
def _parse_head(head: bytes) -> tuple[FrameKind | None, int] | None:
    """Return kind and length by a head with its check, null when the check fails."""
    # Records of one length have one head, so few of them are new.
    length, kind = _HEAD.unpack_from(head)
    if _with_check(head[: _HEAD.size]) != head:
        return None
    return _KINDS.get(kind), length


_KINDS = {int(kind): kind for kind in FrameKind}


@functools.lru_cache(maxsize=4096)
def _head_of(length: int, kind: FrameKind) -> bytes:
    # Records of one kind of exchange differ by a few bytes in length.
    return _with_check(_HEAD.pack(length, kind))


def _with_check(head: bytes) -> bytes:
    return head + zlib.crc32(head).to_bytes(4, "big")[1:]


def _corrupt(path: Path, offset: int, what: str) -> JournalError:
    return JournalError(
        f"the frame at byte {offset} of {path.name} is damaged: {what}. Keep the file as it is and "
        "restore it from a copy; its records cannot be counted until then",
        code="journal_corrupt",
    )
