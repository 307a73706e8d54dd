"""Overwriting records in segments: the one thing that changes what a journal holds.

    find_records ──> patches ──> redo file, durable ──> every patch in place, synced ──> redo file gone
                                      └── after a crash: finish_overwrite does the rest again

Invariants
- A frame is overwritten by one of the same length at the same place, so no other frame moves: who
  reads on, or appends at the end at the same time, sees the same offsets.
- What will stand there is durable beside it before the first byte is overwritten, so a frame that a crash
  left half written is written again before anybody reads the journal. The redo file holds tombstones only.
- All copies of a record are found, by its leaf: also one that was written twice after a disk error.

On a disk that writes elsewhere than where it is told (copy on write, flash), blocks with the old bytes
may stay until the disk uses them again. Decides nothing about what may be erased (`keeper.erasing`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from gatelift.journal.errors import JournalError
from gatelift.journal.segment_files import sync_directory
from gatelift.journal.segments import FrameKind, encode_frame, list_segments, read_frames
from gatelift.messages import Tombstone, decode_tombstone, stored_leaves

__all__ = ["LocatedRecord", "Patch", "find_records", "finish_overwrite", "overwrite", "patch_of"]

_AT_ONCE: Final = 4096


class LocatedRecord(NamedTuple):
    """A record's frame: its file, where it begins, its leaf, and salt and stored bytes.

    `gone` is the tombstone that stands there already; the payload is then that one's.
    """

    path: Path
    offset: int
    leaf: bytes
    payload: bytes
    gone: Tombstone | None = None


class Patch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bytes to put at an offset of a file."""

    path: str
    offset: int
    data: bytes


def find_records(directory: Path, leaves: Container[bytes]) -> Iterator[LocatedRecord]:
    """Yield every record with one of these leaves in the journals below `directory`, erased or not.

    Raises `JournalError`, `ErasureError` and `OSError`.
    """
    for folder in sorted(path for path in directory.iterdir() if path.is_dir()):
        for segment in list_segments(folder):
            yield from _find_in(segment.path, leaves)


def _find_in(path: Path, leaves: Container[bytes]) -> Iterator[LocatedRecord]:
    offset, moved = 0, True
    while moved:
        try:
            frames, after = read_frames(path, offset)
        except FileNotFoundError:
            return  # given up by its writer before anything in it was acknowledged
        for frame in frames:
            if frame.kind is FrameKind.TOMBSTONE:
                gone = decode_tombstone(frame.payload)
                if gone.leaf in leaves:
                    yield LocatedRecord(path, frame.offset, gone.leaf, frame.payload, gone)
        records = [frame for frame in frames if frame.kind is FrameKind.RECORD]
        found = stored_leaves(frame.payload for frame in records)
        for frame, leaf in zip(records, found, strict=True):
            if leaf in leaves:
                yield LocatedRecord(path, frame.offset, leaf, frame.payload)
        moved, offset = after != offset, after


def patch_of(record: LocatedRecord, tombstone: bytes) -> Patch:
    """Return what overwrites a record with a tombstone of the same length; raises `JournalError`."""
    if len(tombstone) != len(record.payload):
        raise JournalError(
            f"expected a tombstone of {len(record.payload)} bytes, got {len(tombstone)}"
        )
    frame = encode_frame(FrameKind.TOMBSTONE, tombstone)
    return Patch(path=str(record.path), offset=record.offset, data=frame)


def overwrite(redo: Path, patches: Sequence[Patch]) -> None:
    """Put all patches in place, durably; `redo` is a file that is there only meanwhile.

    Raises `OSError`; the next `finish_overwrite` completes what was begun.
    """
    for first in range(0, len(patches), _AT_ONCE):
        _write_redo(redo, patches[first : first + _AT_ONCE])
        finish_overwrite(redo)


def finish_overwrite(redo: Path) -> bool:
    """Complete what a crash interrupted; return whether there was anything."""
    try:
        data = redo.read_bytes()
    except FileNotFoundError:
        return False
    try:
        patches = msgspec.json.decode(data, type=list[Patch])
    except msgspec.DecodeError as error:
        raise JournalError(
            f"{redo.name} cannot be read, and what it was to mend may be half written: restore the "
            f"journals from a copy, then remove it ({error})",
            code="journal_corrupt",
        ) from error
    by_file: dict[str, list[Patch]] = {}
    for patch in patches:
        by_file.setdefault(patch.path, []).append(patch)
    for path, mine in by_file.items():
        _apply(path, mine)
    redo.unlink()
    sync_directory(redo.parent)
    return True


def _apply(path: str, patches: Sequence[Patch]) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        for patch in patches:
            if patch.offset < 0 or patch.offset + len(patch.data) > size:
                raise JournalError(
                    f"a frame at byte {patch.offset} is not in a segment of {size} bytes",
                    code="journal_corrupt",
                )
            written = os.pwrite(fd, patch.data, patch.offset)
            if written != len(patch.data):
                raise OSError(f"wrote {written} of {len(patch.data)} bytes")
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_redo(redo: Path, patches: Sequence[Patch]) -> None:
    temporary = redo.with_name(f".{redo.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(msgspec.json.encode(list(patches)))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(redo)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_directory(redo.parent)
