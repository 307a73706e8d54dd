"""The watches of all enrolled placements: begun, ended and asked what they know.

Invariants
- There is one watch for each placement as it is enrolled now; a placement that is enrolled
  otherwise gets a new watch and is down until that has passed.
- Workers hear of every change of up and down, of sealing and of binding at once, and of all placements when
  they connect.
- Once the node is closed no placement is up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import msgspec

from gatelift.keeper.drift import ProbeJob, watch_placement
from gatelift.messages import Probe
from gatelift.messages.frames import PlacementFrame
from gatelift.wire.sealing import ProbeIdentities

__all__ = ["PlacementWatches"]

_CLOSED = "node_closed"


class PlacementWatches:
    """Runs the watches inside `group`. `tell_workers` and `tell_control` hear what changes."""

    def __init__(
        self,
        group: asyncio.TaskGroup,
        *,
        credential: str | None,
        identities: Callable[[], ProbeIdentities | None],
        tell_workers: Callable[[PlacementFrame], None],
        tell_control: Callable[[Probe], None],
    ) -> None:
        self._group = group
        self._credential = credential
        self._identities = identities
        self._tell_workers = tell_workers
        self._tell_control = tell_control
        self._tasks: dict[str, tuple[ProbeJob, asyncio.Task[None]]] = {}
        self._known: dict[str, Probe] = {}
        self._closed = False

    def watch(self, jobs: Iterable[ProbeJob]) -> None:
        """Watch exactly these placements; tell control again what is known of those that stay."""
        wanted = {job.placement.name: job for job in jobs}
        for name, (job, task) in list(self._tasks.items()):
            if wanted.get(name) != job:
                task.cancel()
                del self._tasks[name]
                self._known.pop(name, None)
                self._tell_workers(PlacementFrame(name=name, up=False, reason="enrolled_anew"))
        for name, job in wanted.items():
            if name in self._tasks:
                known = self._known.get(name)
                if known is not None:
                    self._tell_control(known)
            else:
                work = watch_placement(job, self._credential, self._on_change, self._identities())
                self._tasks[name] = (job, self._group.create_task(work))

    def close_node(self) -> None:
        """Take every placement out, for good."""
        self._closed = True
        for probe in list(self._known.values()):
            self._on_change(probe)

    def stop(self) -> None:
        """End all watches."""
        for _, task in self._tasks.values():
            task.cancel()

    def frames(self) -> tuple[PlacementFrame, ...]:
        """Return what a worker must hear of each placement."""
        return tuple(map(_frame, self._known.values()))

    def probes(self) -> tuple[Probe, ...]:
        """Return what is known of each placement."""
        return tuple(self._known.values())

    def _on_change(self, probe: Probe) -> None:
        if self._closed:
            probe = msgspec.structs.replace(probe, up=False, reason=_CLOSED)
        before = self._known.get(probe.placement)
        self._known[probe.placement] = probe
        if before is None or _frame(before) != _frame(probe):
            self._tell_workers(_frame(probe))
        if before != probe:
            self._tell_control(probe)


def _frame(probe: Probe) -> PlacementFrame:
    return PlacementFrame(
        name=probe.placement,
        up=probe.up,
        reason=probe.reason,
        sealing=probe.sealing,
        binding=probe.binding,
    )
