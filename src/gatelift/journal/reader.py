"""The reading side of a journal: committed batches with their records, as they grow.

A follower reads the segments of one run in order and pairs records with the batch that covers them.
The writer may be alive, dead, or have moved to another segment after a disk error.

    RunFollower.poll_batches --> Batch: payloads, as they hash to the signed root
    RunFollower.poll         --> CommittedBatch: the same, each record decoded and in its place

As a rule a batch covers the oldest records that wait, in the order of the file: that is tried first,
as the root says whether it is so. Only where it is not (a disk error, a start in the middle) are the
waiting records sorted out by their numbers.

Invariants
- A batch is handed out once, in order, with exactly the records that it signed: they are there, and
  they hash to its root. Anything else is `journal_corrupt`.
- What `Batch.decode` returns has the batch's own node, worker and run, and numbers without a gap.
- Records that no batch covers are `uncommitted`: they were never acknowledged. Some may be
  committed later; after the writer's death (`is_locked`) and one more `poll`, none will be.
- A batch that was written a second time after a disk error is the same bytes, and is passed over.
- Of an erased record the leaf is read, not computed: it hashes to the batch's root with the others. Its
  payload is zeros for the salt, and behind them what the tombstone left.
- A segment is left only once its successor exists and it was read again after that was seen.

It does not verify signatures: a local journal is believed as far as its node is. Whoever brings
batches out of the node verifies them (`messages.verify_batch`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple, TypeVar

from gatelift.encoding import EncodingError
from gatelift.journal.errors import JournalError
from gatelift.journal.segments import Frame, FrameKind, list_names, read_frames, segment_path
from gatelift.messages import (
    SALT_BYTES,
    BatchEntry,
    BriefRecord,
    ErasureError,
    Record,
    RecordError,
    Tombstone,
    decode_batch_entry,
    decode_record,
    decode_tombstone,
    stored_leaves,
)
from gatelift.tlog import SIGNATURE_BYTES, root_of

__all__ = ["Batch", "CommittedBatch", "Position", "RunFollower", "StoredRecord", "list_runs"]

_REMEMBERED_BATCHES = 8
_NO_SALT = bytes(SALT_BYTES)
_Taken = tuple[list[bytes], dict[int, Tombstone]]

R = TypeVar("R", bound=Record | BriefRecord)


class StoredRecord(NamedTuple):
    """A record, the salt of its leaf and its stored bytes; `gone` is its tombstone if it was erased."""

    record: Record
    salt: bytes
    data: bytes
    gone: Tombstone | None = None


class CommittedBatch(NamedTuple):
    """A batch entry, its stored bytes, the node's signature (unverified) and its records."""

    entry: BatchEntry
    data: bytes
    signature: bytes
    records: tuple[StoredRecord, ...]


class Batch(NamedTuple):
    """As `CommittedBatch`, with payloads: each is a salt and a record's stored bytes behind it.

    `gone` are the tombstones among them, by their place in the batch.
    """

    entry: BatchEntry
    data: bytes
    signature: bytes
    payloads: list[bytes]
    gone: dict[int, Tombstone]

    def decode(self, decode: Callable[[Iterable[bytes]], list[R]]) -> list[R]:
        """Return the records, by `decode`; raises `JournalError` if one is none or misplaced."""
        entry = self.entry
        node, worker, run, seq = entry.node, entry.worker, entry.run, entry.seq
        try:
            records = decode([payload[SALT_BYTES:] for payload in self.payloads])
        except RecordError as error:
            raise _corrupt(f"run {run}, the batch from {seq}", f"{error}") from error
        for record in records:
            if (
                record.seq != seq
                or record.run != run
                or record.worker != worker
                or record.node != node
            ):
                raise _corrupt(
                    f"run {run} of {node}/{worker}",
                    f"expected record {seq}, got {record.seq} of run {record.run!r} of "
                    f"{record.node}/{record.worker}",
                )
            seq += 1
        return records

    def committed(self) -> CommittedBatch:
        """Return it with every record decoded in full; raises `JournalError` as above."""
        records = [
            StoredRecord(record, payload[:SALT_BYTES], payload[SALT_BYTES:], self.gone.get(place))
            for place, (record, payload) in enumerate(
                zip(self.decode(_decode_fully), self.payloads, strict=True)
            )
        ]
        return CommittedBatch(self.entry, self.data, self.signature, tuple(records))


class Position(NamedTuple):
    """Where a follower may begin again: before the first record that no batch covers yet."""

    segment: int
    offset: int
    next_seq: int


def list_runs(directory: Path | str) -> list[str]:
    """Return the runs in a journal's directory, oldest first by the clocks of their writers."""
    return sorted({run for run, _, _ in list_names(directory)})


class RunFollower:
    """Reads one run of the journal in `directory`, from the beginning or from a `Position`."""

    __slots__ = (
        "_batches",
        "_directory",
        "_fresh",
        "_next_seq",
        "_number",
        "_offset",
        "_sorted",
        "_start_seq",
        "run",
    )

    def __init__(self, directory: Path, run: str, start: Position | None = None) -> None:
        self.run = run
        self._directory = directory
        self._number, self._offset, self._next_seq = start or Position(1, 0, 0)
        self._start_seq = self._next_seq
        # Records that wait for a batch: those of this segment as they were read, and those that were
        # sorted out by number, with the segment and offset of each.
        self._fresh: list[Frame] = []
        self._sorted: dict[int, tuple[StoredRecord, int, int]] = {}
        self._batches: deque[bytes] = deque(maxlen=_REMEMBERED_BATCHES)

    @property
    def next_seq(self) -> int:
        """The sequence number after the last committed record."""
        return self._next_seq

    @property
    def uncommitted(self) -> list[StoredRecord]:
        """Records that were read and that no batch covers yet, in order; raises as `poll`."""
        return [stored for _, (stored, _, _) in sorted(self._by_number().items())]

    @property
    def position(self) -> Position:
        """Where to begin again without missing a record."""
        places = [(number, offset) for _, number, offset in self._by_number().values()]
        place = min(places, default=(self._number, self._offset))
        return Position(*place, self._next_seq)

    def poll(self) -> list[CommittedBatch]:
        """Return the batches that were committed since the last call.

        Reads at most one segment's rest and a few MiB of the next; call again while it returns
        something. Raises `JournalError` (`journal_corrupt`).
        """
        return [batch.committed() for batch in self.poll_batches()]

    def poll_batches(self) -> list[Batch]:
        """Return what `poll` does, with records that are yet to be decoded."""
        found: list[Batch] = []
        while True:
            names = list_names(self._directory)
            later = [n for run, n, _ in names if run == self.run and n > self._number]
            moved = self._read(found)
            if moved:
                if found:
                    return found
            elif later:
                self._sort_out()
                self._number, self._offset = min(later), 0
            else:
                return found

    def _read(self, found: list[Batch]) -> bool:
        path = segment_path(self._directory, self.run, self._number)
        try:
            frames, offset = read_frames(path, self._offset)
        except FileNotFoundError:
            # Given up by its writer before anything in it was acknowledged; its successor repeats it.
            return False
        for frame in frames:
            if frame.kind is not FrameKind.BATCH:
                self._fresh.append(frame)
            elif (batch := self._take_batch(frame.payload)) is not None:
                found.append(batch)
        moved = offset != self._offset
        self._offset = offset
        return moved

    def _take_batch(self, payload: bytes) -> Batch | None:
        signature, data = payload[:SIGNATURE_BYTES], payload[SIGNATURE_BYTES:]
        if data in self._batches:
            self._sort_out()
            return None
        try:
            entry = decode_batch_entry(data)
        except EncodingError as error:
            raise self._corrupt(f"not a batch entry: {error}") from error
        if entry.seq + entry.n <= self._start_seq:
            self._sort_out()
            return None  # handed out before the position that we began from
        if entry.seq != self._next_seq or entry.run != self.run or entry.n < 1:
            raise self._corrupt(
                f"expected a batch from record {self._next_seq}, got {entry.n} from {entry.seq}"
            )
        payloads, gone = self._take_oldest(entry) or self._take_by_number(entry)
        self._next_seq = entry.seq + entry.n
        self._batches.append(data)
        return Batch(entry, data, signature, payloads, gone)

    def _take_oldest(self, entry: BatchEntry) -> _Taken | None:
        """Take the records that were read first, if it is they that the batch covers."""
        oldest = self._fresh[: entry.n]
        if self._sorted or len(oldest) < entry.n:
            return None
        payloads = [frame.payload for frame in oldest]
        gone = {
            place: self._opened(frame)
            for place, frame in enumerate(oldest)
            if frame.kind is FrameKind.TOMBSTONE
        }
        for place, tombstone in gone.items():
            payloads[place] = _NO_SALT + tombstone.record
        if not _is_root(entry, payloads, gone):
            return None
        del self._fresh[: entry.n]
        return payloads, gone

    def _take_by_number(self, entry: BatchEntry) -> _Taken:
        """Take the records that the batch names; raises when they are not there or are others."""
        self._sort_out()
        seqs = range(entry.seq, entry.seq + entry.n)
        missing = next((seq for seq in seqs if seq not in self._sorted), None)
        if missing is not None:
            raise self._corrupt(f"record {missing} of a batch is missing")
        taken = [self._sorted.pop(seq)[0] for seq in seqs]
        payloads = [stored.salt + stored.data for stored in taken]
        gone = {at: stored.gone for at, stored in enumerate(taken) if stored.gone is not None}
        if not _is_root(entry, payloads, gone):
            raise self._corrupt(f"the records from {entry.seq} do not hash to their batch's root")
        return payloads, gone

    def _opened(self, frame: Frame) -> Tombstone:
        try:
            return decode_tombstone(frame.payload)
        except ErasureError as error:
            raise self._corrupt(f"{error}") from error

    def _sort_out(self) -> None:
        self._sorted = self._by_number()
        self._fresh = []

    def _by_number(self) -> dict[int, tuple[StoredRecord, int, int]]:
        """Return all records that wait; what was handed out already is passed over."""
        waiting = dict(self._sorted)
        for frame in self._fresh:
            gone = None
            salt, data = frame.payload[:SALT_BYTES], frame.payload[SALT_BYTES:]
            if frame.kind is FrameKind.TOMBSTONE:
                gone = self._opened(frame)
                salt, data = _NO_SALT, gone.record
            try:
                record = decode_record(data)
            except RecordError as error:
                raise self._corrupt(f"{error}") from error
            if record.run != self.run:
                raise self._corrupt(f"a record of run {record.run!r}")
            if record.seq >= self._next_seq:
                stored = StoredRecord(record, salt, data, gone)
                waiting[record.seq] = (stored, self._number, frame.offset)
        return waiting

    def _corrupt(self, what: str) -> JournalError:
        where = f"segment {self._number} of run {self.run} in {self._directory.name}"
        return _corrupt(where, what)


def _decode_fully(stored: Iterable[bytes]) -> list[Record]:
    return [decode_record(data) for data in stored]


def _is_root(entry: BatchEntry, payloads: list[bytes], gone: dict[int, Tombstone]) -> bool:
    leaves = stored_leaves(payloads)
    for place, tombstone in gone.items():
        leaves[place] = tombstone.leaf
    return f"sha256:{root_of(leaves).hex()}" == entry.root


def _corrupt(where: str, what: str) -> JournalError:
    return JournalError(
        f"{where}: {what}. No crash explains this: keep the file as it is and restore it from a copy",
        code="journal_corrupt",
    )
