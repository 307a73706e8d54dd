"""Dead workers: who is dead, what their journals charge, how their open exchanges are closed.

    connected --socket closed--> vanished --lock free, or another's--> dead --read to its end-->
    settled --orphans closed in the keeper's journal--> retired

A worker that vanished may still be serving (its keeper link broke, not its life): while it holds its
journal's lock its whole lease counts. A journal has one writer at a time, so a run is also dead once
another one holds the lock of its folder.

Invariants
- A run is settled once, after its journal was read to the end with the lock seen free before.
- Each orphaned start gets one finish, in the keeper's own journal, charged in full.
- A start that was written and never committed is charged in full too, though it stands in no log.
- A dead worker's journal is never written.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from gatelift.journal import Writer, holder
from gatelift.keeper.counters import Counters, WorkerRun
from gatelift.keeper.journals import KEEPER, Journals
from gatelift.messages import BriefStart, Finish, Outcome, RecordRef, Start

__all__ = ["Settling"]


class Settling:
    """Finds and settles dead runs. `connected` returns the workers that are connected now."""

    def __init__(
        self,
        *,
        directory: Path,
        journals: Journals,
        counters: Counters,
        own: Writer,
        connected: Callable[[], frozenset[WorkerRun]],
    ) -> None:
        self._directory = directory
        self._journals = journals
        self._counters = counters
        self._own = own
        self._connected = connected
        self._settled: set[WorkerRun] = set()
        self._closing: set[tuple[WorkerRun, int]] = set()

    def is_settled(self, worker: WorkerRun) -> bool:
        """Return whether a run was found dead; it may not speak again."""
        return worker in self._settled

    def dead(self) -> list[WorkerRun]:
        """Return the runs that are dead now and are not retired."""
        known = {*self._journals.runs(), *self._counters.workers}
        return sorted(name for name in known - self._connected() if self._is_dead(name))

    def unsettled(self) -> set[WorkerRun]:
        """Return the workers' runs that have not been settled, dead or alive."""
        return {
            name
            for name in self._journals.runs()
            if name.worker != KEEPER and name not in self._settled
        }

    def settle(self, dead: list[WorkerRun]) -> None:
        """Settle runs whose journals have been read to the end since they were found dead.

        Raises `JournalError` when an orphan can't be closed now; call again.
        """
        for name in dead:
            if name not in self._settled:
                self._settled.add(name)
                self._counters.settle_dead(name, self._journals.charged(name))
            orphans = self._journals.orphans(name)
            for start in orphans:
                self._close(name, start)
            if not orphans:
                self._closing = {mark for mark in self._closing if mark[0] != name}
                self._journals.retire(name)

    def _is_dead(self, name: WorkerRun) -> bool:
        folder = self._directory / name.worker
        if name.worker == KEEPER and name.run == self._own.run:
            return False
        return holder(folder) != name.run

    def _close(self, name: WorkerRun, start: Start | BriefStart) -> None:
        mark = (name, start.seq)
        if mark in self._closing:
            return  # written; it counts once our own journal was read
        own = self._own

        def make(seq: int) -> Finish:
            return Finish(
                v=1,
                node=own.node,
                worker=own.worker,
                run=own.run,
                seq=seq,
                at=time.time_ns() // 1_000_000,
                of=RecordRef(node=start.node, worker=start.worker, run=start.run, seq=start.seq),
                request_id=start.request_id,
                release=start.release,
                stage=start.stage,
                grant=start.grant,
                organisation=start.organisation,
                session=start.session,
                outcome=Outcome.ABORTED,
                reason="worker_died",
                # One that was denied for want of a certificate never went anywhere; of any other
                # only the dead worker knew.
                upstream=start.certificate is not None,
                status=0,
                answer=None,
                answer_bytes=0,
                input_tokens=0,
                output_tokens=0,
                spent=start.reserved,
                overrun_tokens=0,
                verdicts=(),
                request=start.request,
            )

        own.append(make)
        self._closing.add(mark)
