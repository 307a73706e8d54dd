"""The writing side of a journal: append to the page cache, commit in groups.

Two threads. The event loop's thread appends: it writes one `RECORD` frame and returns, so that the
record outlives a kill of this process. What need not outlive it before it is durable (a finish: its
start stands for it) is appended `lazily`: written with the next frame, whichever that is, as each
write gives up the interpreter's lock and costs more than the record. The commit thread takes all
records that wait, makes one tree and one signature over them, writes one `BATCH` frame, and calls
`fdatasync` once; then it resolves every `Pending` with one call into the loop. While it syncs, the
next group gathers.

    waiting --commit thread--> taken --batch frame, sync--> durable
    any of them --error--> unsure: refused, and written again by `try_recover`, byte for byte

Invariants
- Sequence numbers of a run are consecutive from 0, and so are the frames of the file; a batch covers
  consecutive records, and both its frame and its records lie in one segment.
- After a failed write or sync the file is never trusted again, as the kernel may have dropped the
  pages and said so only once. Everything not known to be durable is refused, kept in memory and
  written again under its old numbers, salts and signatures when `try_recover` finds the disk well:
  so a disk error leaves no gap and no second version.
- With a `replica` a batch is durable once both copies are synced, which happens at the same time; if
  either fails, both are refused and written again. Which copy survives, whoever was answered is in it.
- While `relaxed()` says so a batch is acknowledged once it is written and signed, before it is synced, and
  says so itself: a kill loses nothing of it, a power cut may. What is known to be lost is still written
  again, and a disk that fails still refuses whatever comes after.
- At most `max_pending` records wait; the next one is refused (`journal_full`). Fails closed.
- One process at a time (`lock`).

It does not make heartbeats: the caller appends a `Beat` each second. It never deletes a segment
that held a durable record.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from gatelift.encoding import encode_json
from gatelift.journal.batches import Acknowledgement, Pending, SignedBatch, make_batch
from gatelift.journal.entropy import Entropy
from gatelift.journal.errors import JournalError, write_failed
from gatelift.journal.groups import Group, Unsure, batch_frame
from gatelift.journal.later_sync import LaterSync
from gatelift.journal.lock import JournalLock
from gatelift.journal.replica import REPLICA_TIMEOUT_S
from gatelift.journal.segment_files import make_directory
from gatelift.journal.segments import FrameKind, frame_head, list_segments
from gatelift.journal.stores import SEGMENT_BYTES, Stores
from gatelift.messages import (
    SALT_BYTES,
    Record,
    RecordError,
    record_head,
    record_place,
    salted_leaf,
)
from gatelift.trust import SigningKey

__all__ = ["MAX_PENDING", "SEGMENT_BYTES", "Writer"]

MAX_PENDING: Final = 16_384
# Each batch costs a signature here and its check in the keeper, whatever its size. Where records
# come by the dozen, a moment's wait makes one batch of many; where they come singly, none is made.
_BUSY_RECORDS: Final = 8
_FADES: Final = 0.75
_GATHER_S: Final = 0.003


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Writer:
    """The one writer of the journal in `directory`, for one run of a worker or keeper.

    `run` is new for each process and sorts by time (`make_id("run", ...)`). `key` is the node's
    batch key. `replica` is the journal's folder on a second store. `on_committed(batch)` is called
    on the loop after each durable batch. `relaxed()` is asked for each batch, on the commit thread. `write`, `sync` and `now_ms` are the system's; tests put
    failing ones there. `append` is for the loop's thread only. Raises `JournalError`
    (`journal_locked`), `OSError`.
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
        relaxed: Callable[[], bool] = lambda: False,
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
        self._max_pending = max_pending
        self._relaxed = relaxed
        self._now_ms = now_ms
        # Guards all below; held while a frame is written, never while syncing.
        self._lock = threading.Lock()
        self._gathering = self._new_group()
        self._unsure = Unsure()
        self._busy = False
        self._broken: JournalError | None = None
        self._closing = False
        self._next_seq = 0
        self.place = record_place(node, worker, run)
        """How records say that they are of this journal, up to their number."""
        self._heads = {kind: record_head(kind, self.place) for kind in ("start", "finish")}
        self.entropy = Entropy()
        """For salts and ids that are made on the thread that appends."""
        # Holds a token from the moment that the commit thread has something to do until it looks.
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._woken = False
        make_directory(directory)
        self._held = JournalLock(directory, run)
        try:
            if list_segments(directory, run):
                raise JournalError(
                    f"run {run!r} was written before: each process takes a new id",
                    code="journal_run_used",
                )
            self._stores = Stores(
                directory,
                run,
                segment_bytes=segment_bytes,
                replica=replica,
                replica_timeout_s=replica_timeout_s,
                write=write,
                sync=sync,
            )
        except BaseException:
            self._held.release()
            raise
        self._later = LaterSync(self._stores.sync, self._settle, self._fail_all)
        self._thread = threading.Thread(target=self._commit_loop, name="commit", daemon=True)
        self._thread.start()

    @property
    def next_seq(self) -> int:
        """The sequence number that the next record will get."""
        return self._next_seq

    @property
    def waiting(self) -> int:
        """How many records wait for the commit thread to take them."""
        return len(self._gathering.pendings)

    @property
    def broken(self) -> JournalError | None:
        """Why nothing can be written now; None while all is well."""
        return self._broken

    def append(self, make: Callable[[int], Record], *, lazily: bool = False) -> Pending:
        """Write the record that `make` returns for its sequence number; return it, not yet durable.

        Raises `JournalError` when it was not written; then the number was not used, and nothing of
        it will ever be read. `lazily` leaves the writing to who writes next, at the latest the
        commit thread: a kill before that forgets the record, and a disk that fails is told by
        `durable` alone.
        """
        if self._broken is not None:
            self._check_open()
        seq = self._next_seq
        record = make(seq)
        place = (seq, self.run, self.worker, self.node)
        said = (record.seq, record.run, record.worker, record.node)
        if said != place:
            raise RecordError(f"expected the record of {place}, got that of {said}")
        return self._append(seq, encode_json(record), lazily)

    def append_fields(self, kind: str, fields: str, *, lazily: bool = False) -> Pending:
        """Write the start or finish with these JSON fields behind its place; as `append` does.

        `fields` is what `RecordForm` makes.
        """
        if self._broken is not None:
            self._check_open()
        seq = self._next_seq
        return self._append(seq, f"{self._heads[kind]}{seq},{fields}".encode(), lazily)

    def _append(self, seq: int, data: bytes, lazily: bool) -> Pending:
        # Who calls has looked whether the journal is broken: while it is, `try_recover` may hold the
        # lock for as long as a sync takes.
        salted = self.entropy.take(SALT_BYTES) + data
        head = frame_head(FrameKind.RECORD, salted)
        # Hashed here, while the processor still has the bytes at hand; the commit thread would wait
        # for them.
        leaf = salted_leaf(salted)
        with self._lock:
            self._check_open()
            if lazily:
                self._stores.write_lazily(head, salted)
            else:
                try:
                    self._stores.write(head, salted)
                except OSError as error:
                    raise self._fail(error) from error
            gathering = self._gathering
            pending = Pending(seq, salted, leaf, gathering.acknowledged)
            gathering.pendings.append(pending)
            self._next_seq = seq + 1
            if not self._woken:
                self._rouse()
        return pending

    def try_recover(self) -> bool:
        """Return whether the journal can be written, trying a new segment if it is broken.

        Blocks for a sync: call it about once a second while `broken`, from any thread. Records that
        were refused since the disk failed are committed by it, too: close such a start with a finish.
        """
        with self._lock:
            if self._broken is None or self._closing or self._busy or self._later.is_busy:
                return self._broken is None
            try:
                self._stores.begin_anew(self._unsure.all_signed(self._sign))
            except OSError as error:
                self._broken = write_failed(error)
                return False
            self._unsure, self._broken = Unsure(), None
            return True

    def close(self) -> None:
        """Commit what waits, stop the thread and give the lock back. A second call does nothing."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            self._rouse()
        self._thread.join()
        self._later.drain()
        self._stores.close()
        self._held.release()

    def _check_open(self) -> None:
        if self._broken is not None:
            raise JournalError(str(self._broken))
        if self._closing:
            raise JournalError("the journal is closed", code="journal_closed")
        if len(self._gathering.pendings) >= self._max_pending:
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
                group = self._take_gathered()
                self._busy = bool(group.pendings)
                closing = self._closing
            if group.pendings and self._commit(group) and self._stores.is_full:
                self._rotate()
            if self._broken is not None:
                self._later.drain()
            with self._lock:
                self._stores.close_given_up()
            self._busy = False
            if closing:
                return
            recent = max(len(group.pendings), _FADES * recent)
            if recent >= _BUSY_RECORDS:
                time.sleep(_GATHER_S)

    def _commit(self, group: Group) -> bool:
        # A second store is copied to for one group after the other, so there each is waited for.
        relaxed = self._relaxed() and not self._stores.is_replicated
        if not relaxed:
            self._later.drain()
        try:
            batch = group.batch = self._sign(group.pendings, relaxed=relaxed)
            with self._lock:
                if self._broken is not None:
                    # An append failed meanwhile; the file is no longer ours to add to.
                    self._refuse(group, self._broken)
                    return False
                self._stores.write(batch_frame(batch))
                fd = self._stores.fd
                self._stores.copy([group])
            if relaxed:
                self._tell(group.acknowledged.resolve, batch)
                self._later.add(group, fd)
                return True
            self._stores.sync(fd)
        except Exception as error:  # noqa: BLE001  a dead thread would leave callers waiting for ever
            with self._lock:
                self._fail(error, group)
            return False
        self._tell(self._resolve, group.acknowledged, batch)
        return True

    def _rotate(self) -> None:
        # The last batch of the old segment is written in the same breath as the switch, so that no
        # batch is parted from its records.
        old = -1
        group = None
        self._later.drain()
        try:
            with self._lock:
                if self._broken is not None:
                    return
                if self._gathering.pendings:
                    group = self._take_gathered()
                    group.batch = self._sign(group.pendings)
                    self._stores.write(batch_frame(group.batch))
                    self._stores.copy([group])
                old = self._stores.switch()
            self._stores.sync(old)
        except Exception as error:  # noqa: BLE001  as in `_commit`
            with self._lock:
                self._fail(error, group)
        else:
            if group is not None and group.batch is not None:
                self._tell(self._resolve, group.acknowledged, group.batch)
        if old >= 0:
            os.close(old)

    def _sign(self, pendings: list[Pending], *, relaxed: bool = False) -> SignedBatch:
        return make_batch(
            pendings,
            node=self.node,
            worker=self.worker,
            run=self.run,
            at=self._now_ms(),
            key=self._key,
            relaxed=relaxed,
        )

    def _settle(self, groups: list[Group]) -> None:
        for group in groups:
            if group.batch is not None and self._on_committed is not None:
                self._tell(self._on_committed, group.batch)

    def _fail_all(self, error: Exception, groups: list[Group]) -> None:
        with self._lock:
            failed = self._fail(error)
            for group in groups:
                self._refuse(group, failed)

    def _new_group(self) -> Group:
        return Group(Acknowledgement(self._loop))

    def _take_gathered(self) -> Group:
        # With the lock held.
        gathered, self._gathering = self._gathering, self._new_group()
        return gathered

    def _fail(self, error: Exception, group: Group | None = None) -> JournalError:
        # With the lock held.
        failed = write_failed(error)
        if self._broken is None:
            self._broken = failed
            self._stores.give_up()
        if group is not None:
            self._refuse(group, failed)
        self._refuse(self._take_gathered(), failed)
        self._rouse()
        return failed

    def _rouse(self) -> None:
        # With the lock held.
        if not self._woken:
            self._woken = True
            self._wake.put(None)

    def _refuse(self, group: Group, why: JournalError) -> None:
        if group.pendings:
            self._unsure.add(group)
            self._tell(group.acknowledged.reject, why)

    def _resolve(self, acknowledged: Acknowledgement, batch: SignedBatch) -> None:
        acknowledged.resolve(batch)
        if self._on_committed is not None:
            self._on_committed(batch)

    def _tell(self, call: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:
            # The loop is closed: nobody is left to be told, and what is on disk stays there.
            return
