"""The writing side of a journal: append to the page cache, commit in groups.

Two threads. The event loop's thread appends: it writes one `RECORD` frame and returns, so that the
record outlives a kill of this process. The commit thread takes all records that wait, makes one
tree and one signature over them, writes one `BATCH` frame, and calls `fdatasync` once; then it
resolves every `Pending` with one call into the loop. While it syncs, the next group gathers.

    waiting --commit thread--> taken --batch frame, sync--> durable
    any of them --error--> unsure: refused, and written again by `try_recover`, byte for byte

Invariants
- Sequence numbers of a run are consecutive from 0; a batch covers consecutive records, and both
  its frame and its records lie in one segment.
- After a failed write or sync the file is never trusted again, as the kernel may have dropped the
  pages and said so only once. Everything not known to be durable is refused, kept in memory and
  written again under its old numbers, salts and signatures when `try_recover` finds the disk well:
  so a disk error leaves no gap and no second version.
- With a `replica` a batch is durable once both copies are synced, which happens at the same time; if
  either fails, both are refused and written again. Which copy survives, whoever was answered is in it.
- At most `max_pending` records wait; the next one is refused (`journal_full`). Fails closed.
- One process at a time (`lock`).

It does not make heartbeats: the caller appends a `Beat` each second. It never deletes a segment
that held a durable record.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from gatelift.encoding import encode_json
from gatelift.journal.batches import Pending, SignedBatch, make_batch
from gatelift.journal.entropy import Entropy
from gatelift.journal.errors import JournalError
from gatelift.journal.lock import JournalLock
from gatelift.journal.replica import REPLICA_TIMEOUT_S, Replica
from gatelift.journal.segment_files import SegmentFiles, make_directory
from gatelift.journal.segments import FrameKind, encode_frame, list_segments
from gatelift.messages import SALT_BYTES, Record, RecordError
from gatelift.trust import SigningKey

__all__ = ["MAX_PENDING", "SEGMENT_BYTES", "Writer"]

SEGMENT_BYTES: Final = 64 * 1024 * 1024
MAX_PENDING: Final = 16_384
# Each batch costs a signature here and its check in the keeper, whatever its size. Where records
# come by the dozen, a moment's wait makes one batch of many; where they come singly, none is made.
_BUSY_RECORDS: Final = 8
_FADES: Final = 0.75
_GATHER_S: Final = 0.003


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class _Group:
    """Consecutive records, and the batch over them once it is signed."""

    pendings: list[Pending] = field(default_factory=list)
    batch: SignedBatch | None = None


class Writer:
    """The one writer of the journal in `directory`, for one run of a worker or keeper.

    `run` is new for each process and sorts by time (`make_id("run", ...)`). `key` is the node's
    batch key. `replica` is the journal's folder on a second store. `on_committed(batch)` is called on the loop after each durable batch. `write`,
    `sync` and `now_ms` are the system's; tests put failing ones there. `append` is for the loop's
    thread only. Raises `JournalError` (`journal_locked`), `OSError`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        node: str,
        worker: str,
        run: str,
        key: SigningKey,
        loop: asyncio.AbstractEventLoop | None = None,
        on_committed: Callable[[SignedBatch], None] | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        max_pending: int = MAX_PENDING,
        replica: Path | None = None,
        replica_timeout_s: float = REPLICA_TIMEOUT_S,
        write: Callable[[int, bytes], int] = os.write,
        sync: Callable[[int], None] = os.fdatasync,
        now_ms: Callable[[], int] = _now_ms,
    ) -> None:
        self.directory = directory
        self.node = node
        self.worker = worker
        self.run = run
        self._key = key
        self._loop = loop or asyncio.get_running_loop()
        self._on_committed = on_committed
        self._segment_bytes = segment_bytes
        self._max_pending = max_pending
        self._segments = SegmentFiles(directory, run, write)
        self._sync = sync
        self._now_ms = now_ms
        # Guards all below; held while a frame is written, never while syncing.
        self._lock = threading.Lock()
        self._waiting: list[Pending] = []
        self._unsure: list[_Group] = []
        self._stale_fds: list[int] = []
        self._busy = False
        self._broken: JournalError | None = None
        self._closing = False
        self._next_seq = 0
        self.entropy = Entropy()
        """For salts and ids that are made on the thread that appends."""
        # Holds a token from the moment that the commit thread has something to do until it looks.
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._woken = False
        make_directory(directory)
        self._held = JournalLock(directory)
        try:
            if list_segments(directory, run):
                raise JournalError(
                    f"run {run!r} was written before: each process takes a new id",
                    code="journal_run_used",
                )
            self._fd = self._segments.open_next()
            self._replica = None
            if replica is not None:
                self._replica = Replica(
                    replica,
                    run,
                    segment_bytes=segment_bytes,
                    write=write,
                    sync=sync,
                    timeout_s=replica_timeout_s,
                )
        except BaseException:
            self._held.release()
            raise
        self._thread = threading.Thread(target=self._commit_loop, name="commit", daemon=True)
        self._thread.start()

    @property
    def next_seq(self) -> int:
        """The sequence number that the next record will get."""
        return self._next_seq

    @property
    def waiting(self) -> int:
        """How many records wait for the commit thread to take them."""
        return len(self._waiting)

    @property
    def broken(self) -> JournalError | None:
        """Why nothing can be written now; None while all is well."""
        return self._broken

    def append(self, make: Callable[[int], Record]) -> Pending:
        """Write the record that `make` returns for its sequence number; return it, not yet durable.

        Raises `JournalError` when it was not written; then the number was not used, and nothing of
        it will ever be read.
        """
        # Looked at before the lock: `try_recover` may hold that for as long as a sync takes.
        self._check_open()
        seq = self._next_seq
        record = make(seq)
        if (record.seq, record.run, record.worker, record.node) != (
            seq,
            self.run,
            self.worker,
            self.node,
        ):
            raise RecordError(
                f"expected record {seq} of ({self.node}, {self.worker}, {self.run}), got "
                f"{record.seq} of ({record.node}, {record.worker}, {record.run})"
            )
        data = encode_json(record)
        salt = self.entropy.take(SALT_BYTES)
        frame = _record_frame(salt, data)
        pending = Pending(seq, salt, data, self._loop.create_future())
        with self._lock:
            self._check_open()
            try:
                self._segments.write(self._fd, frame)
            except OSError as error:
                raise self._fail(error, _Group()) from error
            self._waiting.append(pending)
            self._next_seq = seq + 1
            self._rouse()
        return pending

    def try_recover(self) -> bool:
        """Return whether the journal can be written, trying a new segment if it is broken.

        Blocks for a sync: call it about once a second while `broken`, from any thread. Records that
        were refused since the disk failed are committed by it, too: close such a start with a finish.
        """
        with self._lock:
            if self._broken is None or self._closing or self._busy:
                return self._broken is None
            fd = -1
            try:
                fd = self._segments.open_next()
                self._rewrite(fd)
                self._sync_both(fd)
            except OSError as error:
                self._broken = _failed(error)
                if fd >= 0:
                    os.close(fd)
                    self._segments.discard()
                return False
            self._fd = fd
            self._unsure, self._broken = [], None
            return True

    def close(self) -> None:
        """Commit what waits, stop the thread and give the lock back. A second call does nothing."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            self._rouse()
        self._thread.join()
        if self._replica is not None:
            self._replica.close()
        if self._fd >= 0:
            self._stale_fds.append(self._fd)
            self._fd = -1
        self._close_stale()
        self._held.release()

    def _check_open(self) -> None:
        if self._broken is not None:
            raise JournalError(str(self._broken))
        if self._closing:
            raise JournalError("the journal is closed", code="journal_closed")
        if len(self._waiting) >= self._max_pending:
            raise JournalError(
                f"{self._max_pending} records wait for the disk: refuse requests until it is faster",
                code="journal_full",
            )

    def _commit_loop(self) -> None:
        recent = 0.0
        while True:
            self._wake.get()
            with self._lock:
                self._woken = False
                group = _Group(self._waiting)
                self._waiting = []
                self._busy = bool(group.pendings)
                closing = self._closing
            if (
                group.pendings
                and self._commit(group)
                and self._segments.size >= self._segment_bytes
            ):
                self._rotate()
            self._close_stale()
            self._busy = False
            if closing:
                return
            recent = max(len(group.pendings), _FADES * recent)
            if recent >= _BUSY_RECORDS:
                time.sleep(_GATHER_S)

    def _commit(self, group: _Group) -> bool:
        try:
            batch = group.batch = self._sign(group.pendings)
            with self._lock:
                if self._broken is not None:
                    # An append failed meanwhile; the file is no longer ours to add to.
                    self._refuse(group, self._broken)
                    return False
                self._segments.write(self._fd, _batch_frame(batch))
                fd = self._fd
                self._copy([group])
            self._sync_both(fd)
        except Exception as error:  # noqa: BLE001  a dead thread would leave callers waiting for ever
            with self._lock:
                self._fail(error, group)
            return False
        self._tell(self._resolve, group.pendings, batch)
        return True

    def _rotate(self) -> None:
        # The last batch of the old segment is written in the same breath as the switch, so that no
        # batch is parted from its records.
        old = -1
        group = _Group()
        try:
            with self._lock:
                if self._broken is not None:
                    return
                if self._waiting:
                    group.pendings, self._waiting = self._waiting, []
                    group.batch = self._sign(group.pendings)
                    self._segments.write(self._fd, _batch_frame(group.batch))
                    self._copy([group])
                new = self._segments.open_next()
                old, self._fd = self._fd, new
            self._sync_both(old)
        except Exception as error:  # noqa: BLE001  as in `_commit`
            with self._lock:
                self._fail(error, group)
        else:
            if group.batch is not None:
                self._tell(self._resolve, group.pendings, group.batch)
        if old >= 0:
            os.close(old)

    def _sign(self, pendings: list[Pending]) -> SignedBatch:
        return make_batch(
            pendings,
            node=self.node,
            worker=self.worker,
            run=self.run,
            at=self._now_ms(),
            key=self._key,
        )

    def _rewrite(self, fd: int) -> None:
        # Under numbers, salts and signatures that may have been read from the old segment: whoever
        # saw it finds the same batch again. A batch signed here is kept in case this try fails too.
        signed = [group for group in self._unsure if group.batch is not None]
        rest = [p for group in self._unsure if group.batch is None for p in group.pendings]
        if rest:
            signed.append(_Group(rest, self._sign(rest)))
        self._unsure = signed
        self._copy(signed, anew=True)
        for group in signed:
            self._segments.write(fd, _frames(group))

    def _copy(self, groups: list[_Group], *, anew: bool = False) -> None:
        if self._replica is not None:
            self._replica.begin(b"".join(map(_frames, groups)), anew=anew)

    def _sync_both(self, fd: int) -> None:
        try:
            self._sync(fd)
        finally:
            # Waited for in any case: what was begun must not run on into the next attempt.
            if self._replica is not None:
                self._replica.finish()

    def _fail(self, error: Exception, group: _Group) -> JournalError:
        # Called with the lock held. The commit thread alone closes the file: it may be about to
        # sync it, and its number must not come to mean another file before.
        failed = _failed(error)
        if self._broken is None:
            self._broken = failed
            self._stale_fds.append(self._fd)
            self._fd = -1
        waiting, self._waiting = self._waiting, []
        self._refuse(group, failed)
        self._refuse(_Group(waiting), failed)
        self._rouse()
        return failed

    def _rouse(self) -> None:
        # With the lock held.
        if not self._woken:
            self._woken = True
            self._wake.put(None)

    def _refuse(self, group: _Group, why: JournalError) -> None:
        if group.pendings:
            self._unsure.append(group)
            self._unsure.sort(key=lambda unsure: unsure.pendings[0].seq)
            self._tell(_reject, group.pendings, str(why))

    def _close_stale(self) -> None:
        with self._lock:
            stale, self._stale_fds = self._stale_fds, []
        for fd in stale:
            # What close() could still report is known: this file was given up.
            with contextlib.suppress(OSError):
                os.close(fd)

    def _resolve(self, taken: list[Pending], batch: SignedBatch) -> None:
        for pending in taken:
            if not pending.durable.done():
                pending.durable.set_result(batch)
        if self._on_committed is not None:
            self._on_committed(batch)

    def _tell(self, call: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:
            # The loop is closed: nobody is left to be told, and what is on disk stays there.
            return


def _reject(pendings: list[Pending], message: str) -> None:
    for pending in pendings:
        if not pending.durable.done():
            pending.durable.set_exception(JournalError(message))
            pending.durable.exception()  # marks it as seen: not every record is awaited


def _failed(error: Exception) -> JournalError:
    return JournalError(
        f"the journal could not be written: {error}. Nothing was acknowledged; "
        "free or mend the disk, writing goes on in a new segment"
    )


def _record_frame(salt: bytes, data: bytes) -> bytes:
    return encode_frame(FrameKind.RECORD, salt + data)


def _frames(group: _Group) -> bytes:
    frames = [_record_frame(pending.salt, pending.data) for pending in group.pendings]
    if group.batch is not None:
        frames.append(_batch_frame(group.batch))
    return b"".join(frames)


def _batch_frame(batch: SignedBatch) -> bytes:
    return encode_frame(FrameKind.BATCH, batch.signature + batch.data)
