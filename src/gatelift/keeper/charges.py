"""What the journals charge: reserved by running starts, spent by finishes, for each worker's run.

Invariants
- A start counts what it reserved until its finish comes, then what that spent; so a run's charges
  are right at each record, and in full for exchanges that never finished.
- A finish in the keeper's own journal closes the start that it names in the dead worker's run.
- Only windows that may still be drawn from are kept: `past` says which are not, for good. `coverage`
  has no window, so it is kept for ever.

Does not read files and verifies nothing: batches were verified before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from gatelift.keeper.counters import Past, PoolKey, WorkerRun, window_end_ms
from gatelift.keeper.errors import KeeperError
from gatelift.messages import (
    BriefRecord,
    BriefStart,
    Charge,
    Finish,
    Record,
    Start,
    StartTerms,
    briefly,
)

__all__ = ["Charges", "SavedCharges", "SavedRun"]


AnyStart = Start | BriefStart


class SavedRun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run: its last start, those that run, and what was spent by counter, then by window."""

    worker: str
    run: str
    last_seq: int
    running: tuple[BriefStart, ...]
    spent: dict[str, dict[int, int]]


class SavedCharges(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All charges, of settled runs too; `past_ms` is up to when windows were forgotten."""

    past_ms: int
    runs: tuple[SavedRun, ...]


class _Run:
    """Running starts by sequence number, what finishes spent, and the last start of all.

    `spent` is by counter, then by window: that is found faster than by both in one key.
    """

    __slots__ = ("last_seq", "running", "spent")

    def __init__(self) -> None:
        self.last_seq = -1
        self.running: dict[int, AnyStart] = {}
        self.spent: dict[str, dict[int, int]] = {}

    def spend(self, charges: Iterable[Charge], past: Past) -> None:
        spent = self.spent
        for charge in charges:
            counter, window = charge.counter, charge.window
            by_window = spent.get(counter)
            # What is over is judged where a window is new: `roll` moves `past` and drops what it covers
            # in one go. To ask for each of the nine charges of a chat doubled the cost of this.
            if by_window is not None and (held := by_window.get(window)) is not None:
                by_window[window] = held + charge.amount
            elif not past.covers(window_end_ms(counter, window)):
                spent.setdefault(counter, {})[window] = charge.amount

    def forget(self, past: Past) -> None:
        """Forget the windows that are past."""
        for counter, by_window in list(self.spent.items()):
            for window in [w for w in by_window if past.covers(window_end_ms(counter, w))]:
                del by_window[window]
            if not by_window:
                del self.spent[counter]


class Charges:
    """Folds verified records of all journals of a node, each journal in its own order."""

    def __init__(self) -> None:
        self.past = Past()
        self._runs: dict[WorkerRun, _Run] = {}
        self._settled: dict[WorkerRun, _Run] = {}

    def save(self) -> SavedCharges:
        """Return all that was folded, as a fold over the same records has it, settled or not."""
        return SavedCharges(
            past_ms=self.past.ms,
            runs=tuple(
                SavedRun(
                    worker=name.worker,
                    run=name.run,
                    last_seq=run.last_seq,
                    running=tuple(briefly(start) for start in run.running.values()),
                    spent=run.spent,
                )
                for name, run in (self._runs | self._settled).items()
            ),
        )

    def take_up(self, saved: SavedCharges) -> None:
        """Begin where `save` was asked, before anything is folded."""
        self.past.ms = max(self.past.ms, saved.past_ms)
        for each in saved.runs:
            run = self._runs[WorkerRun(each.worker, each.run)] = _Run()
            run.last_seq = each.last_seq
            run.running = {start.seq: start for start in each.running}
            run.spent = {counter: dict(amounts) for counter, amounts in each.spent.items()}

    def fold(self, records: Iterable[Record | BriefRecord]) -> None:
        """Take a run's next records; raises `KeeperError` when a finish has no running start."""
        # Looked up anew only when the name changes, which it does not within a worker's batch.
        worker, life, run = "", "", None
        for record in records:
            if isinstance(record, Finish):
                of = record.of
                if run is None or of.worker != worker or of.run != life:
                    worker, life = of.worker, of.run
                    run = self._runs.get(WorkerRun(worker, life))
                if run is None or run.running.pop(of.seq, None) is None:
                    raise KeeperError(
                        f"finish {record.worker}/{record.run}/{record.seq} closes "
                        f"{of.worker}/{of.run}/{of.seq}, which is not running",
                        code="bad_journal",
                    )
                run.spend(record.spent, self.past)
            elif isinstance(record, StartTerms):
                if run is None or record.worker != worker or record.run != life:
                    worker, life = record.worker, record.run
                    run = self._runs.setdefault(WorkerRun(worker, life), _Run())
                run.running[record.seq] = record
                run.last_seq = record.seq

    def charged(self, worker: WorkerRun, loose: Iterable[AnyStart] = ()) -> Mapping[PoolKey, int]:
        """Return what a run has spent and reserved so far in windows that still count.

        `loose` are starts after the last that was folded; older ones among them are passed over.
        """
        run, total = self._runs.get(worker, _Run()), _Run()
        total.spent = {counter: dict(amounts) for counter, amounts in run.spent.items()}
        later = [start for start in loose if start.seq > run.last_seq]
        for start in (*run.running.values(), *later):
            total.spend(start.reserved, self.past)
        return {
            (counter, window): amount
            for counter, amounts in total.spent.items()
            for window, amount in amounts.items()
        }

    def spent(self, worker: WorkerRun, key: PoolKey) -> int:
        """Return what a run's finished exchanges have spent of one counter."""
        run = self._runs.get(worker)
        counter, window = key
        return 0 if run is None else run.spent.get(counter, {}).get(window, 0)

    def orphans(self, worker: WorkerRun) -> tuple[AnyStart, ...]:
        """Return the starts of a run that have no finish, in order."""
        run = self._runs.get(worker)
        return () if run is None else tuple(run.running.values())

    @property
    def runs(self) -> tuple[WorkerRun, ...]:
        """Every run that has charged something or has a running start."""
        return tuple(self._runs)

    def forget(self, worker: WorkerRun) -> None:
        """Charge a run that was settled and closed no more: its charges stand in the counters now."""
        run = self._runs.pop(worker, None)
        if run is not None:
            self._settled[worker] = run

    def roll(self, now_ms: int) -> None:
        """Forget windows that are past, and runs that have nothing left."""
        # This looks at every counter of every run, and a round of the keeper comes 20 times a second.
        if not self.past.move(now_ms):
            return
        for runs in (self._runs, self._settled):
            for name, run in list(runs.items()):
                run.forget(self.past)
                if not run.running and not run.spent:
                    del runs[name]
