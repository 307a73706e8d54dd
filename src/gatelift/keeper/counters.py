"""Cap counters: how much of each cap is with which worker.

A pool is one counter in one window. What is granted to a worker counts in full until the worker
gives it back or is settled, so that a cap holds whatever the workers do with their leases:

    settled (charges of dead workers)  +  granted (to each registered worker)  <=  limit

A worker that vanished keeps its whole lease until its journal is known to be its last word; then
`settle_dead` puts what the journal shows in place of the lease. `parallel` has nothing in the
journal: it is given back on death. `coverage` has no window either and is charged like the rest: what
was spent of it counts for ever.

Slices: a worker may like more than it needs, so that it need not ask for each request. It gets at
most its share of a quarter of what is left, so that slices shrink to the need near the cap and no
worker starves the others.

Invariants
- A draw is granted whole or not at all.
- After each grant, for each of its wants: settled + granted <= the limit that the want names.
- A draw is denied only when nothing can be recalled: else `Recall` says from whom.
- A window is forgotten `GRACE_MS` after its end by `Past`, which never goes back, and is never granted
  from again. So a clock that is set back by less finds every window as it left it; one that is set
  back by more finds windows closed, until a keeper begins anew and counts them from the journals.

Does not know time, sockets or journals. Which limit holds is the worker's word; it comes from the
certificate and the orders, which each worker verifies for itself.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from gatelift.errors import CallerError
from gatelift.keeper.errors import KeeperError
from gatelift.messages.frames import Lease, Want
from gatelift.terms import Window, window_ms

__all__ = [
    "GRACE_MS",
    "Counters",
    "Past",
    "PoolKey",
    "RecallNeeded",
    "Shortage",
    "WorkerRun",
    "window_end_ms",
    "window_over",
]

GRACE_MS = 60_000
"""How long after its end a window may still be drawn from, for requests that began in it."""
_AHEAD_MS = 5_000
_SHARE = 4


class WorkerRun(NamedTuple):
    """One life of one worker."""

    worker: str
    run: str


PoolKey = tuple[str, int]
"""Counter and start of its window in ms UTC; 0 for `parallel` and `coverage`."""


class Past:
    """Up to when windows are forgotten: it moves on with the clock, and never back with it.

    A keeper has one. Whoever leaves a window out of a count goes by it, and whoever grants does, so
    that nothing is granted from a window of which something is left out.
    """

    __slots__ = ("ms",)

    def __init__(self) -> None:
        self.ms = 0

    def move(self, now_ms: int) -> bool:
        """Forget what ended `GRACE_MS` ago; return whether it moved. For one thread only.

        In whole seconds, as windows end at them: who looks through all windows need not do so at
        every call.
        """
        before = self.ms
        self.ms = max(before, (now_ms - GRACE_MS) // 1000 * 1000)
        return self.ms != before

    def covers(self, end_ms: int) -> bool:
        """Return whether a window that ends then is forgotten; `parallel`, which never ends, is not."""
        return 0 < end_ms <= self.ms


class Shortage(msgspec.Struct, frozen=True, kw_only=True):
    """The first counter of a draw that cannot cover its need. `reset` in ms UTC, 0 for no window.

    `spent` is what dead workers' journals show, `granted` what living ones hold or have spent.
    """

    counter: str
    window: int
    limit: int
    spent: int
    granted: int
    reset: int


class RecallNeeded(msgspec.Struct, frozen=True, kw_only=True):
    """Workers hold some of these counters: ask them for what is idle, then draw again."""

    counters: tuple[str, ...]
    workers: tuple[WorkerRun, ...]


class _Pool:
    """One counter in one window."""

    __slots__ = ("end_ms", "granted", "settled")

    def __init__(self, end_ms: int) -> None:
        self.end_ms = end_ms
        self.settled = 0
        self.granted: dict[WorkerRun, int] = {}

    def used(self) -> int:
        return self.settled + sum(self.granted.values())


@functools.lru_cache(maxsize=8192)
def window_end_ms(counter: str, window: int) -> int:
    """Return when a counter's window ends, in ms UTC; 0 for `parallel` and `coverage`: no window.

    Raises `KeeperError` (`bad_lease`) when the counter is none or the window does not start there.
    """
    parts = counter.split(":", 2)
    try:
        unit = Window(parts[1].rpartition("/")[2])
        length = 0 if unit is Window.NONE else window_ms(unit)
    except (IndexError, ValueError, CallerError) as error:
        raise _bad(f"expected <stage>:<cap key>:<subject id>, got {counter[:120]!r}") from error
    if window < 0 or (window % length if length else window):
        raise _bad(f"no window of {counter[:120]} starts at {window}")
    return window + length


def window_over(want: Want) -> Shortage:
    """Return the shortage of a want that nothing can be granted of any more."""
    return Shortage(
        counter=want.counter,
        window=want.window,
        limit=want.limit,
        spent=want.limit,
        granted=0,
        reset=want.until,
    )


class Counters:
    """All pools of a node. `past` is the journals' own: it says what `charged` leaves out."""

    def __init__(self, past: Past) -> None:
        self._past = past
        self._pools: dict[PoolKey, _Pool] = {}
        self._workers: set[WorkerRun] = set()

    @property
    def workers(self) -> frozenset[WorkerRun]:
        """Workers that hold, or may hold, leases."""
        return frozenset(self._workers)

    def used(self, counter: str, window: int) -> int:
        """Return how much of a counter is spent, reserved or with a worker."""
        pool = self._pools.get((counter, window))
        return 0 if pool is None else pool.used()

    def holders(self, counter: str, window: int) -> tuple[WorkerRun, ...]:
        """Return who was granted some of a counter."""
        pool = self._pools.get((counter, window))
        return () if pool is None else tuple(pool.granted)

    def held_by(self, worker: WorkerRun, counter: str, window: int) -> int:
        """Return how much of a counter is granted to a worker."""
        pool = self._pools.get((counter, window))
        return 0 if pool is None else pool.granted.get(worker, 0)

    def hello(
        self, worker: WorkerRun, held: Iterable[Lease], charged: Mapping[PoolKey, int]
    ) -> None:
        """Register a worker with all that it was granted and has not given back.

        `held` replaces what we thought: the worker's word is newer than any frame that was lost.
        It can't lie below `charged`, what its journal shows already.
        """
        said = {(lease.counter, lease.window): lease.amount for lease in held}
        for (counter, window), amount in said.items():
            if amount < 0:
                raise _bad(f"held {amount} of {counter[:120]}: expected 0 or more")
            window_end_ms(counter, window)
        self._drop(worker)
        self._workers.add(worker)
        for key in {**said, **charged}:
            amount = max(said.get(key, 0), charged.get(key, 0))
            if amount:
                self._pool(key).granted[worker] = amount

    def draw(
        self,
        worker: WorkerRun,
        wants: Sequence[Want],
        now_ms: int,
        *,
        recalled: bool = False,
        exact: bool = False,
    ) -> tuple[Lease, ...] | Shortage | RecallNeeded:
        """Grant all wants or none; `exact` grants the need and no slice, because others wait.

        `recalled` says that the holders have been asked already.

        Raises `KeeperError` (`bad_lease`) for a draw that no correct worker makes.
        """
        if worker not in self._workers:
            raise _bad(f"{worker.worker}/{worker.run} draws before its hello")
        self._check(wants)
        short: list[Want] = []
        for want in wants:
            end = want.until
            near = want.window - _AHEAD_MS <= now_ms < end + GRACE_MS
            if end and (self._past.covers(end) or not near):
                return window_over(want)
            if self.used(want.counter, want.window) + want.need > want.limit:
                short.append(want)
        if short:
            return self._shortage(short, recalled=recalled)
        return tuple(self._grant(worker, want, exact=exact) for want in wants)

    def release(self, worker: WorkerRun, leases: Iterable[Lease]) -> None:
        """Take back what a worker neither spent nor reserved; raises `KeeperError` (`bad_lease`)."""
        for lease in leases:
            pool = self._pools.get((lease.counter, lease.window))
            if pool is None and window_end_ms(lease.counter, lease.window):
                continue  # its window has passed and was dropped
            held = 0 if pool is None else pool.granted.get(worker, 0)
            if pool is None or not 0 <= lease.amount <= held:
                raise _bad(
                    f"{worker.worker} gives back {lease.amount} of {lease.counter[:120]}, "
                    f"holds {held}"
                )
            pool.granted[worker] = held - lease.amount

    def settle_dead(self, worker: WorkerRun, charged: Mapping[PoolKey, int]) -> None:
        """Put what a dead worker's journal shows in place of its leases."""
        self._drop(worker)
        for key, amount in charged.items():
            if amount:
                self._pool(key).settled += amount

    def roll(self) -> None:
        """Drop the pools whose window is forgotten, and empty ones without a window."""
        for key, pool in list(self._pools.items()):
            if self._past.covers(pool.end_ms) or not (pool.end_ms or pool.used()):
                del self._pools[key]

    def _check(self, wants: Sequence[Want]) -> None:
        if len({want.counter for want in wants}) != len(wants) or not wants:
            raise _bad("expected each counter of a draw once, and at least one")
        for want in wants:
            if window_end_ms(want.counter, want.window) != want.until:
                raise _bad(f"{want.counter[:120]}: the window does not end at {want.until}")
            if not 0 <= want.need <= want.like or want.limit < 0:
                raise _bad(f"{want.counter[:120]}: expected 0 <= need <= like and a limit from 0")

    def _shortage(self, short: Sequence[Want], *, recalled: bool) -> Shortage | RecallNeeded:
        holders: set[WorkerRun] = set()
        for want in short:
            pool = self._pools.get((want.counter, want.window))
            granted = {} if pool is None else pool.granted
            holders |= {name for name, amount in granted.items() if amount}
            # What is recalled can't help where the limit is below the need anyway.
            if recalled or want.need + (0 if pool is None else pool.settled) > want.limit:
                holders = set()
                break
        if holders:
            return RecallNeeded(
                counters=tuple(want.counter for want in short), workers=tuple(sorted(holders))
            )
        first = short[0]
        pool = self._pools.get((first.counter, first.window))
        return Shortage(
            counter=first.counter,
            window=first.window,
            limit=first.limit,
            spent=0 if pool is None else pool.settled,
            granted=0 if pool is None else sum(pool.granted.values()),
            reset=first.until,
        )

    def _grant(self, worker: WorkerRun, want: Want, *, exact: bool) -> Lease:
        pool = self._pool((want.counter, want.window))
        left = want.limit - pool.used()
        share = 0 if exact else left // (_SHARE * len(self._workers))
        amount = max(want.need, min(want.like, share))
        pool.granted[worker] = pool.granted.get(worker, 0) + amount
        return Lease(counter=want.counter, window=want.window, amount=amount)

    def _pool(self, key: PoolKey) -> _Pool:
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = _Pool(window_end_ms(*key))
        return pool

    def _drop(self, worker: WorkerRun) -> None:
        self._workers.discard(worker)
        for pool in self._pools.values():
            pool.granted.pop(worker, None)


def _bad(message: str) -> KeeperError:
    return KeeperError(message, code="bad_lease")
