"""From journals to the requests log: every committed batch once, counted where it was logged.

    journal/<worker>/... --verified--> requests log (entry = the batch as its node signed it)
                                         |--> Charges (what each run reserved and spent)
                                         '--> UnitCounter (sessions, observations, events)

Batches of one run come in their own order; runs interleave as they are found, and the log keeps
that order for ever. After a restart the log is read first, each of its entries is matched with the
journal's batch, and only then what the journals hold beyond it is appended. So keeper and verifier
fold the same batches in the same order. What was folded is kept now and then (`saved_fold`), so that a
restart begins there.

Invariants
- What is appended was verified: root (by the journal's reader), signature, node, worker, run, and
  sequence numbers without a gap.
- A batch is appended once. A log that names what no journal holds is an error, not a gap.
- Counts are taken at published sizes only: no observation names an entry that may still change.

One thread calls everything (it blocks for the disk); only `past`, `charged`, `spent` and `orphans` may
be called from another at any time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatelift.encoding import Digest, decode_json
from gatelift.journal import Batch
from gatelift.keeper.charges import Charges
from gatelift.keeper.counters import Past, PoolKey, WorkerRun
from gatelift.keeper.errors import KeeperError
from gatelift.keeper.journal_cursor import KEEPER, JournalCursor
from gatelift.keeper.saved_fold import VERSION, FoldFile, SavedFold, SavedLog
from gatelift.ledger import HeadMemory, RequestsLog, TileLog
from gatelift.messages import (
    BatchEntry,
    BriefRecord,
    BriefStart,
    EventCount,
    Observation,
    Start,
    decode_briefly,
    verify_own_batch,
)
from gatelift.plan import Plan
from gatelift.tlog import NoteSigner, format_proof
from gatelift.trust import SigningKey
from gatelift.watch import UnitCounter

__all__ = ["KEEPER", "Journals"]

_LOG = logging.getLogger(__name__)
_FROM_THE_BEGINNING: Final[Mapping[str, int]] = {}


class Journals:
    """All journals of a node, its requests logs, and what is counted from them."""

    def __init__(
        self,
        *,
        directory: Path,
        logs: Path,
        heads: Path,
        deployment: str,
        node: str,
        batch_key: SigningKey,
        log_key: Ed25519PrivateKey,
        saved: Path | None = None,
    ) -> None:
        self._directory = directory
        self._saved = None if saved is None else FoldFile(saved, batch_key)
        self._logs = logs
        self._heads = heads
        self._deployment = deployment
        self._node = node
        self._batch_key = batch_key
        self._log_key = log_key
        self._lock = threading.Lock()
        self._charges = Charges()
        self._loose: dict[WorkerRun, list[Start]] = {}
        self._cursor = JournalCursor(directory)
        self._months: dict[str, RequestsLog] = {}
        self._counters: dict[Digest, UnitCounter] = {}
        self._is_whole = True
        """Whether all that was taken from the journals was folded."""

    @property
    def past(self) -> Past:
        """Which windows `charged` leaves out."""
        return self._charges.past

    @property
    def head(self) -> tuple[str, bytes] | None:
        """Origin and note of the newest published head, null before the first."""
        for month in sorted(self._months, reverse=True):
            log = self._months[month]
            if log.note is not None:
                return log.origin, log.note
        return None

    def runs(self) -> list[WorkerRun]:
        """Return every run that may still grow or is not settled."""
        return self._cursor.find()

    def open(self, plans: Mapping[Digest, Plan], now_ms: int) -> None:
        """Fold what the logs hold already; raises when logs and journals do not agree."""
        self._charges.roll(now_ms)
        self._counters = {digest: UnitCounter(plan) for digest, plan in plans.items()}
        if self._logs.is_dir():
            prefix = f"{self._node}-"
            for path in sorted(self._logs.iterdir()):
                if path.is_dir() and path.name.startswith(prefix):
                    self._open_month(path.name.removeprefix(prefix))
        sizes = self._take_up_saved(plans)
        for log, index, records in self._replay(self._cursor, sizes):
            self._fold(log, index, records)

    def _take_up_saved(self, plans: Mapping[Digest, Plan]) -> Mapping[str, int]:
        """Begin from what was saved, if it may be believed; return how far each month's log is folded."""
        saved = None if self._saved is None else self._saved.load()
        if saved is None or not self._leads_to(saved, plans):
            return {}
        self._charges.take_up(saved.charges)
        self._cursor = JournalCursor(self._directory, saved.places)
        self._counters = {
            digest: UnitCounter.restored(plan, saved.counters[digest])
            for digest, plan in plans.items()
        }
        sizes = {each.month: each.size for each in saved.logs}
        there = sum(log.size for log in self._months.values())
        _LOG.info("%d of %d logged batches were folded before", sum(sizes.values()), there)
        return sizes

    def _leads_to(self, saved: SavedFold, plans: Mapping[Digest, Plan]) -> bool:
        # Of windows ahead of the clock nothing is known any more: the journals know it.
        if saved.node != self._node or saved.charges.past_ms > self._charges.past.ms:
            return False
        if plans.keys() - saved.counters.keys():
            return False
        for each in saved.logs:
            log = self._months.get(each.month)
            if log is None or log.root_at(each.size) != each.root:
                return False
        return True

    def save(self, *, now: bool = False) -> None:
        """Keep what was folded, if it is time or asked for `now`."""
        if self._saved is not None:
            self._saved.save_if_due(self._folded, now=now)

    def forget_saved(self) -> None:
        """Delete what was kept and keep nothing more: records are about to be erased."""
        if self._saved is not None:
            self._saved.end()

    def _folded(self) -> SavedFold | None:
        places = self._cursor.places()
        if (
            not self._is_whole
            or places is None
            or any(log.size != log.head.size for log in self._months.values())
        ):
            return None
        with self._lock:
            charges = self._charges.save()
        return SavedFold(
            v=VERSION,
            node=self._node,
            logs=tuple(
                SavedLog(month=month, size=log.head.size, root=log.head.root.hex())
                for month, log in self._months.items()
            ),
            places=places,
            charges=charges,
            counters={digest: counter.save() for digest, counter in self._counters.items()},
        )

    def add_plans(self, plans: Mapping[Digest, Plan]) -> None:
        """Count under plans that are new here too, from the first record on."""
        for digest in plans.keys() - self._counters.keys():
            self.publish()
            counter = UnitCounter(plans[digest])
            for log, index, records in self._replay(JournalCursor(self._directory)):
                counter.fold(records, log.origin, index)
            self._counters[digest] = counter

    def step(self, now_ms: int, dead: Collection[WorkerRun] = ()) -> int:
        """Append and fold what was committed since the last step; return how many batches.

        Runs in `dead` are read to their end. Raises the error of the batch that does not hold.
        """
        taken, whole = 0, self._is_whole
        self._is_whole = False
        # Opened first: if the disk refuses, nothing was taken from a journal yet.
        log = self._month_of(now_ms)
        for name in self._cursor.find():
            while batches := self._cursor.take(name):
                indices = log.append_each([batch.data for batch in batches])
                for batch in batches:
                    records = self._verified(name, batch)
                    self._fold(log, next(indices), records)
                taken += len(batches)
                if name not in dead:
                    break
            with self._lock:
                self._loose[name] = self._cursor.uncommitted(name)
        with self._lock:
            self._charges.roll(now_ms)
        self._is_whole = whole
        return taken

    def publish(self) -> bytes | None:
        """Publish what was appended; return the newest head's note, null if nothing was added."""
        note = None
        for month in sorted(self._months):
            note = self._months[month].commit() or note
        return note

    def counted(
        self, plan_of: Mapping[Digest, Digest], current: Digest
    ) -> tuple[tuple[Observation, ...], tuple[EventCount, ...]]:
        """Return observations and events over all that was folded; publish first.

        Units are cut as the plan says that their certificate was signed for: `plan_of` has each
        certificate's. Events are the same under every plan.
        """
        observations = tuple(
            seen
            for digest, counter in self._counters.items()
            for seen in counter.observations()
            if plan_of.get(seen.certificate) == digest
        )
        counter = self._counters.get(current)
        return observations, () if counter is None else counter.events()

    def charged(self, name: WorkerRun) -> dict[PoolKey, int]:
        """Return what a run has spent and reserved, as far as its journal was read.

        A start that was written counts in full though no batch covers it. One of a living run may yet
        be committed; of a dead one nothing was released, but the model server may have been asked,
        and it stands in no record.
        """
        with self._lock:
            return dict(self._charges.charged(name, self._loose.get(name, ())))

    def spent(self, name: WorkerRun, key: PoolKey) -> int:
        """Return what a run's finished exchanges spent of a counter, as far as it was read."""
        with self._lock:
            return self._charges.spent(name, key)

    def orphans(self, name: WorkerRun) -> tuple[Start | BriefStart, ...]:
        """Return the starts of a run that have no finish yet."""
        with self._lock:
            return self._charges.orphans(name)

    def receipt(self, batch: Digest) -> tuple[bool, bytes | None]:
        """Return whether a batch is known, and its proof once a published head covers it."""
        for month in sorted(self._months, reverse=True):
            log = self._months[month]
            if log.index_of(batch) is not None:
                proof = log.proof(batch)
                return True, None if proof is None else format_proof(proof)
        return False, None

    def close(self) -> None:
        """Close the logs. What was not published comes again from the journals."""
        for log in self._months.values():
            log.close()

    def retire(self, name: WorkerRun) -> None:
        """Look at a dead and settled run no more."""
        self._cursor.retire(name)
        with self._lock:
            self._charges.forget(name)
            self._loose.pop(name, None)

    def _replay(
        self, cursor: JournalCursor, sizes: Mapping[str, int] = _FROM_THE_BEGINNING
    ) -> Iterator[tuple[RequestsLog, int, list[BriefRecord]]]:
        for month in sorted(self._months):
            log, first = self._months[month], sizes.get(month, 0)
            for index, data in TileLog(self._folder(month), log.head).entries(first):
                entry = decode_json(data, BatchEntry)
                name = WorkerRun(entry.worker, entry.run)
                batch = cursor.next(name)
                if batch is None or batch.data != data:
                    raise KeeperError(
                        f"entry {index} of {log.origin} is not the next batch in the journal of "
                        f"{name.worker}/{name.run}: restore the journal",
                        code="bad_journal",
                    )
                # Its signature was verified before it was logged, and it is the logged bytes.
                yield log, index, self._records(name, batch)

    def _verified(self, name: WorkerRun, batch: Batch) -> list[BriefRecord]:
        verify_own_batch(batch.data, batch.signature, self._batch_key)
        return self._records(name, batch)

    def _records(self, name: WorkerRun, batch: Batch) -> list[BriefRecord]:
        entry = batch.entry
        if (entry.node, entry.worker, entry.run) != (self._node, *name):
            raise KeeperError(
                f"batch {entry.seq} in the journal of {name.worker}/{name.run} is another's",
                code="bad_journal",
            )
        return batch.decode(decode_briefly)

    def _fold(self, log: RequestsLog, index: int, records: list[BriefRecord]) -> None:
        with self._lock:
            self._charges.fold(records)
        for counter in self._counters.values():
            counter.fold(records, log.origin, index)

    def _month_of(self, now_ms: int) -> RequestsLog:
        month = time.strftime("%Y-%m", time.gmtime(now_ms / 1000))
        if self._months and month < max(self._months):
            # A clock that was set back does not re-open a month that is over.
            month = max(self._months)
        found = self._months.get(month)
        if found is None:
            self.publish()
            found = self._open_month(month)
        return found

    def _open_month(self, month: str) -> RequestsLog:
        origin = f"{self._deployment}/requests/{self._node}/{month}"
        signer = NoteSigner(origin, self._log_key)
        folder = self._folder(month)
        memory = HeadMemory(self._heads / folder.name, signer.key)
        try:
            found = RequestsLog(folder, signer, memory)
        except BaseException:
            memory.close()
            raise
        self._months[month] = found
        return found

    def _folder(self, month: str) -> Path:
        return self._logs / f"{self._node}-{month}"
