"""The reading side of a journal: committed batches with their records, as they grow.

A follower reads the segments of one run in order and pairs records with the batch that covers them.
The writer may be alive, dead, or have moved to another segment after a disk error.

Invariants
- A batch is handed out once, in order, with exactly the records that it signed: they are there, and
  they hash to its root. Anything else is `journal_corrupt`.
- Records that no batch covers are `uncommitted`: they were never acknowledged. Some may be
  committed later; after the writer's death (`is_locked`) and one more `poll`, none will be.
- A batch that was written a second time after a disk error is the same bytes, and is passed over.
- A segment is left only once its successor exists and it was read again after that was seen.

It does not verify signatures: a local journal is believed as far as its node is. Whoever brings
batches out of the node verifies them (`messages.verify_batch`).
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import NamedTuple

from gatelift.encoding import EncodingError
from gatelift.journal.errors import JournalError
from gatelift.journal.segments import FrameKind, list_segments, read_frames, segment_path
from gatelift.messages import (
    SALT_BYTES,
    BatchEntry,
    Record,
    RecordError,
    decode_batch_entry,
    decode_record,
    record_leaf,
)
from gatelift.tlog import SIGNATURE_BYTES, root_of

__all__ = ["CommittedBatch", "Position", "RunFollower", "StoredRecord", "list_runs"]

_REMEMBERED_BATCHES = 8


class StoredRecord(NamedTuple):
    """A record, the salt of its leaf and its stored bytes."""

    record: Record
    salt: bytes
    data: bytes


class CommittedBatch(NamedTuple):
    """A batch entry, its stored bytes, the node's signature (unverified) and its records."""

    entry: BatchEntry
    data: bytes
    signature: bytes
    records: tuple[StoredRecord, ...]


class Position(NamedTuple):
    """Where a follower may begin again: before the first record that no batch covers yet."""

    segment: int
    offset: int
    next_seq: int


def list_runs(directory: Path) -> list[str]:
    """Return the runs in a journal's directory, oldest first by the clocks of their writers."""
    return sorted({segment.run for segment in list_segments(directory)})


class RunFollower:
    """Reads one run of the journal in `directory`, from the beginning or from a `Position`."""

    __slots__ = (
        "_batches",
        "_directory",
        "_next_seq",
        "_number",
        "_offset",
        "_start_seq",
        "_waiting",
        "run",
    )

    def __init__(self, directory: Path, run: str, start: Position | None = None) -> None:
        self.run = run
        self._directory = directory
        self._number, self._offset, self._next_seq = start or Position(1, 0, 0)
        self._start_seq = self._next_seq
        # With the segment and offset of each, so that one look-up has both.
        self._waiting: dict[int, tuple[StoredRecord, int, int]] = {}
        self._batches: deque[bytes] = deque(maxlen=_REMEMBERED_BATCHES)

    @property
    def next_seq(self) -> int:
        """The sequence number after the last committed record."""
        return self._next_seq

    @property
    def uncommitted(self) -> list[StoredRecord]:
        """Records that were read and that no batch covers yet, in order."""
        return [self._waiting[seq][0] for seq in sorted(self._waiting)]

    @property
    def position(self) -> Position:
        """Where to begin again without missing a record."""
        places = [(number, offset) for _, number, offset in self._waiting.values()]
        place = min(places, default=(self._number, self._offset))
        return Position(*place, self._next_seq)

    def poll(self) -> list[CommittedBatch]:
        """Return the batches that were committed since the last call.

        Reads at most one segment's rest and a few MiB of the next; call again while it returns
        something. Raises `JournalError` (`journal_corrupt`).
        """
        found: list[CommittedBatch] = []
        while True:
            later = [s.number for s in list_segments(self._directory, self.run)]
            later = [number for number in later if number > self._number]
            moved = self._read(found)
            if moved:
                if found:
                    return found
            elif later:
                self._number, self._offset = later[0], 0
            else:
                return found

    def _read(self, found: list[CommittedBatch]) -> bool:
        path = segment_path(self._directory, self.run, self._number)
        try:
            frames, offset = read_frames(path, self._offset)
        except FileNotFoundError:
            # Given up by its writer before anything in it was acknowledged; its successor repeats it.
            return False
        for kind, payload, at in frames:
            if kind is FrameKind.RECORD:
                self._take_record(payload, at)
            elif (batch := self._take_batch(payload)) is not None:
                found.append(batch)
        moved = offset != self._offset
        self._offset = offset
        return moved

    def _take_record(self, payload: bytes, offset: int) -> None:
        salt, data = payload[:SALT_BYTES], payload[SALT_BYTES:]
        try:
            record = decode_record(data)
        except RecordError as error:
            raise self._corrupt(f"{error}") from error
        if record.run != self.run:
            raise self._corrupt(f"a record of run {record.run!r}")
        if record.seq >= self._next_seq:
            stored = StoredRecord(record, salt, data)
            self._waiting[record.seq] = (stored, self._number, offset)

    def _take_batch(self, payload: bytes) -> CommittedBatch | None:
        signature, data = payload[:SIGNATURE_BYTES], payload[SIGNATURE_BYTES:]
        if data in self._batches:
            return None
        try:
            entry = decode_batch_entry(data)
        except EncodingError as error:
            raise self._corrupt(f"not a batch entry: {error}") from error
        if entry.seq + entry.n <= self._start_seq:
            return None  # handed out before the position that we began from
        if entry.seq != self._next_seq or entry.run != self.run or entry.n < 1:
            raise self._corrupt(
                f"expected a batch from record {self._next_seq}, got {entry.n} from {entry.seq}"
            )
        seqs = range(entry.seq, entry.seq + entry.n)
        missing = next((seq for seq in seqs if seq not in self._waiting), None)
        if missing is not None:
            raise self._corrupt(f"record {missing} of a batch is missing")
        records = tuple([self._waiting.pop(seq)[0] for seq in seqs])
        root = root_of([record_leaf(salt, data) for _, salt, data in records])
        if f"sha256:{root.hex()}" != entry.root:
            raise self._corrupt(f"the records from {entry.seq} do not hash to their batch's root")
        self._next_seq = entry.seq + entry.n
        self._batches.append(data)
        return CommittedBatch(entry, data, signature, records)

    def _corrupt(self, what: str) -> JournalError:
        return JournalError(
            f"segment {self._number} of run {self.run} in {self._directory.name}: {what}. "
            "No crash explains this: keep the file as it is and restore it from a copy",
            code="journal_corrupt",
        )
