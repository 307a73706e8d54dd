"""Reading the journals of all workers side by side, and where reading each goes on.

Invariant: batches of one run come in their own order; a place that is told has all before it taken.

Verifies nothing and keeps nothing: `journals` does.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from gatelift.journal import Batch, Position, RunFollower, list_runs
from gatelift.keeper.counters import WorkerRun
from gatelift.keeper.saved_fold import SavedPlace
from gatelift.messages import Start

__all__ = ["KEEPER", "JournalCursor"]

KEEPER: Final = "keeper"
"""The name under which a keeper writes its own journal; no worker may have it."""


class JournalCursor:
    """Reads the journals of all workers, each run in its own order, from `places` on."""

    def __init__(self, directory: Path, places: Iterable[SavedPlace] = ()) -> None:
        self._directory = directory
        self._places = {
            WorkerRun(each.worker, each.run): Position(each.segment, each.offset, each.next_seq)
            for each in places
        }
        self._followers: dict[WorkerRun, RunFollower] = {}
        self._ready: dict[WorkerRun, deque[Batch]] = {}
        self._retired: set[WorkerRun] = set()

    def find(self) -> list[WorkerRun]:
        """Return all runs that are not retired, the keeper's own last.

        What the keeper writes is about starts of dead workers, which must have been read before.
        """
        # By names alone: with an object for each path, this was a third of a round.
        try:
            with os.scandir(self._directory) as entries:
                folders = [entry.name for entry in entries if entry.is_dir()]
        except FileNotFoundError:
            return []
        folders.sort(key=lambda name: (name == KEEPER, name))
        found = [
            WorkerRun(name, run)
            for name in folders
            for run in list_runs(os.path.join(self._directory, name))  # noqa: PTH118
        ]
        return [name for name in found if name not in self._retired]

    def take(self, name: WorkerRun) -> list[Batch]:
        """Return what is ready, or else what one look at the disk finds."""
        ready = self._ready.pop(name, None)
        return list(ready) if ready else self._follower(name).poll_batches()

    def next(self, name: WorkerRun) -> Batch | None:
        """Return the next batch of a run, null when its journal ends here."""
        ready = self._ready.setdefault(name, deque())
        if not ready:
            ready.extend(self._follower(name).poll_batches())
        return ready.popleft() if ready else None

    def uncommitted(self, name: WorkerRun) -> list[Start]:
        """Return the starts that were written and that no batch covers."""
        follower = self._followers.get(name)
        stored = follower.uncommitted if follower else []
        return [item.record for item in stored if isinstance(item.record, Start)]

    def retire(self, name: WorkerRun) -> None:
        """Look at a run no more: it is dead and was read to its end."""
        self._retired.add(name)
        follower = self._followers.pop(name, None)
        if follower is not None:
            self._places[name] = follower.position
        self._ready.pop(name, None)

    def places(self) -> tuple[SavedPlace, ...] | None:
        """Return where reading each run goes on, null while something read is yet to be taken."""
        if any(self._ready.values()):
            return None
        places = self._places | {name: each.position for name, each in self._followers.items()}
        return tuple(
            SavedPlace(
                worker=name.worker,
                run=name.run,
                segment=place.segment,
                offset=place.offset,
                next_seq=place.next_seq,
            )
            for name, place in places.items()
        )

    def _follower(self, name: WorkerRun) -> RunFollower:
        found = self._followers.get(name)
        if found is None:
            found = RunFollower(self._directory / name.worker, name.run, self._places.get(name))
            self._followers[name] = found
        return found
