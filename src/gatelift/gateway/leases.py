"""What a worker may spend of each cap without asking.

Invariants
- Balance = granted - reserved - spent, never below zero: a request is reserved in full or not.
- Only the keeper denies. A worker that holds too little draws the whole need in one frame, and sets
  nothing aside meanwhile: what it holds can be recalled for others.
- What was reserved and not spent comes back to the balance while its window lasts, and is worth
  nothing afterwards. `parallel` comes back at the end of the exchange; what was spent of `coverage`
  never does.
- A worker that dies settles nothing here: the keeper settles it from the journal.
- A window is forgotten some time after its end, and never comes back: nothing is granted, served or
  given back of it again. A clock that is set back by less than that time finds every window as it
  left it; one that is set back by more is refused, until a worker begins anew with an empty book.

Pure but for its own state; the clock is an argument.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator

import msgspec

from gatelift.gateway.keeper_link import KeeperUnavailableError
from gatelift.messages import Charge
from gatelift.messages.frames import Denied, Granted, Lease, Want
from gatelift.terms import WINDOWLESS, Cap, CapUnit, Envelope, Subject, window_ms
from gatelift.trust import Grant

__all__ = ["CapLine", "CapLines", "LeaseBook", "Reservation", "cap_lines"]

_SLICES = 32
_AHEAD = 64
"""How many requests' worth a worker would like to hold, so that it seldom asks."""
_RECALLED_FOR = 2
_KEPT_MS = 60_000

Slot = tuple[str, int, int]
"""Counter, window and the limit it was drawn under."""


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """What one exchange has set aside, by counter; `units` says what each counter counts.

    A want of `parallel` or of `coverage` has no end (`until` is 0). Counters of one unit need the same,
    but those of `coverage`: a prompt is new to one and known to another.
    """

    wants: tuple[Want, ...]
    units: tuple[CapUnit, ...]
    slots: tuple[Slot, ...] = ()
    """Where each want is booked."""

    def __post_init__(self) -> None:
        if len(self.slots) != len(self.wants):
            slots = tuple([_slot(want) for want in self.wants])
            msgspec.structs.force_setattr(self, "slots", slots)

    def charges(self) -> tuple[Charge, ...]:
        """Return the reserved amounts for the start record; `parallel` is never charged."""
        return tuple(
            [
                Charge(counter=want.counter, window=want.window, amount=want.need)
                for want, unit in zip(self.wants, self.units, strict=True)
                if unit is not CapUnit.PARALLEL
            ]
        )

    def spent(self, spent: dict[CapUnit, int]) -> tuple[Charge, ...]:
        """Return what was spent of each counter, for the finish record; never above the reserve."""
        return tuple(
            [
                Charge(counter=want.counter, window=want.window, amount=min(want.need, spent[unit]))
                for want, unit in zip(self.wants, self.units, strict=True)
                if unit is not CapUnit.PARALLEL
            ]
        )

    def amount(self, unit: CapUnit) -> int | None:
        """Return the most of a unit that was reserved under a counter, null when no cap counts it."""
        found = [w.need for w, held in zip(self.wants, self.units, strict=True) if held is unit]
        return max(found, default=None)


def _subject(cap: Cap, grant: Grant, stage: str) -> str:
    match cap.subject:
        case Subject.PRINCIPAL:
            return grant.principal
        case Subject.ORGANISATION:
            return grant.organisation
        case Subject.AUDIENCE:
            return grant.tier.value
        case Subject.STAGE:
            return stage


def _slot(want: Want) -> Slot:
    return (want.counter, want.window, want.limit)


class CapLine:
    """One cap as it counts for one grant: everything of a `Want` but the need and the time.

    `window_ms` is 0 where the unit has no window.
    """

    __slots__ = ("_last", "counter", "limit", "unit", "window_ms")

    def __init__(self, counter: str, unit: CapUnit, window_ms: int, limit: int) -> None:
        self.counter = counter
        self.unit = unit
        self.window_ms = window_ms
        self.limit = limit
        self._last: tuple[Want, Slot] | None = None

    def want(self, need: int, now_ms: int) -> tuple[Want, Slot]:
        """Return the want of a request that comes now, and where it is booked.

        Of most caps a request needs what the last one did, in the same window: then it is the same.
        """
        # Counted from the epoch, as `terms.window_start_ms` does.
        start = now_ms - now_ms % self.window_ms if self.window_ms else 0
        last = self._last
        if last is None or last[0].need != need or last[0].window != start:
            like = need
            if self.unit is not CapUnit.PARALLEL:
                like = max(need, min(need * _AHEAD, self.limit // _SLICES))
            want = Want(
                counter=self.counter,
                window=start,
                until=start + self.window_ms,
                limit=self.limit,
                need=need,
                like=like,
            )
            last = self._last = (want, _slot(want))
        return last


class CapLines:
    """The caps that count for one grant, in the order of its envelope."""

    __slots__ = ("_lines", "_units")

    def __init__(self, lines: Iterable[CapLine]) -> None:
        self._lines = tuple(lines)
        self._units = tuple([line.unit for line in self._lines])

    def __iter__(self) -> Iterator[CapLine]:
        return iter(self._lines)

    def wanted(
        self, needs: dict[CapUnit, int], now_ms: int, known: frozenset[str] = frozenset()
    ) -> Reservation:
        """Return what a request must set aside: one want for each cap, of `known` counters nothing."""
        pairs = [
            line.want(0 if line.counter in known else needs[line.unit], now_ms)
            for line in self._lines
        ]
        return Reservation(
            wants=tuple([want for want, _ in pairs]),
            units=self._units,
            slots=tuple([slot for _, slot in pairs]),
        )


def cap_lines(envelope: Envelope, grant: Grant, stage: str) -> CapLines:
    """Return the caps of an envelope as they count for a grant."""
    return CapLines(
        CapLine(
            counter=f"{stage}:{cap.key}:{_subject(cap, grant, stage)}",
            unit=cap.unit,
            window_ms=0 if cap.unit in WINDOWLESS else window_ms(cap.window),
            limit=cap.limit,
        )
        for cap in envelope.caps
    )


class LeaseBook:
    """The balances of one worker.

    `draw` asks the keeper and returns its answer, `release` gives back without being asked.
    """

    def __init__(
        self,
        draw: Callable[[tuple[Want, ...]], Awaitable[Granted | Denied]],
        release: Callable[[tuple[Lease, ...]], None],
    ) -> None:
        self._draw = draw
        self._release = release
        # Counters that the keeper has recalled, and for how many more calls of `forget_past`.
        self._recalled: dict[str, int] = {}
        # By the limit it was drawn under as well: what an order lowered is asked for anew.
        self._free: dict[tuple[str, int, int], int] = {}
        self._granted: dict[tuple[str, int], int] = {}
        self._until: dict[tuple[str, int], int] = {}
        self._used: dict[tuple[str, int], int] = {}
        self.past_ms = 0
        """Windows that ended by then are forgotten; it moves on with the clock and never back."""

    def held(self) -> tuple[Lease, ...]:
        """Return all that was granted and is not given back, for a keeper that starts anew."""
        return tuple(
            Lease(counter=counter, window=window, amount=amount)
            for (counter, window), amount in self._granted.items()
            if amount
        )

    def forget_past(self, now_ms: int) -> None:
        """Drop the windows that are long over, and let recalls pass; called once a second."""
        self.past_ms = max(self.past_ms, now_ms - _KEPT_MS)
        self._recalled = {name: left - 1 for name, left in self._recalled.items() if left > 1}
        for key in [k for k, until in self._until.items() if 0 < until <= self.past_ms]:
            for table in (self._granted, self._until, self._used):
                table.pop(key, None)
        for slot in [s for s in self._free if s[:2] not in self._until]:
            del self._free[slot]

    async def reserve(self, wanted: Reservation) -> Denied | None:
        """Set aside everything a request needs; return the keeper's denial if it may not.

        Raises `KeeperUnavailableError`; then nothing is set aside.
        """
        # What is set aside here is of windows that are kept: a forgotten one has no balance.
        short = self._take(wanted)
        if not short:
            return None
        self._check_kept(wanted.wants)
        for want in wanted.wants:
            self._until[want.counter, want.window] = want.until
        # Nothing is set aside while the keeper is asked: what a waiting request held back would be
        # missing elsewhere, and two of them could deny each other what either could have had.
        answer = await self._draw(tuple(map(self._whole, short)))
        if isinstance(answer, Granted):
            self._book(answer, wanted.wants)
            if not self._take(wanted):
                return None
            # The rest went elsewhere meanwhile: now all at once, which leaves nothing to chance.
            answer = await self._draw(tuple(map(self._whole, wanted.wants)))
        if isinstance(answer, Denied):
            return answer
        self._book(answer, wanted.wants)
        if self._take(wanted):
            raise KeeperUnavailableError("the keeper granted less than was asked")
        return None

    def _check_kept(self, wants: tuple[Want, ...]) -> None:
        if any(0 < want.until <= self.past_ms for want in wants):
            raise KeeperUnavailableError(
                "the wall clock was set back into a window that is closed: nothing is served in it "
                "until this worker has begun anew"
            )

    def _take(self, wanted: Reservation) -> list[Want]:
        """Set aside everything, or nothing: then return the wants that are short."""
        free = self._free
        rows = [
            (slot, free.get(slot, 0) - want.need, want)
            for slot, want in zip(wanted.slots, wanted.wants, strict=True)
        ]
        short = [want for _, left, want in rows if left < 0]
        if not short:
            for slot, left, _ in rows:
                free[slot] = left
        return short

    def _whole(self, want: Want) -> Want:
        like = max(want.need, want.like - self._free.get(_slot(want), 0))
        return msgspec.structs.replace(want, like=like)

    def _book(self, granted: Granted, wants: tuple[Want, ...]) -> None:
        try:
            self._check_kept(wants)
        except KeeperUnavailableError:
            self._release(granted.leases)
            raise
        asked = {(want.counter, want.window): want for want in wants}
        if len(granted.used) == len(granted.leases):
            for lease, used in zip(granted.leases, granted.used, strict=True):
                self._used[lease.counter, lease.window] = used
        for lease in granted.leases:
            key = (lease.counter, lease.window)
            want = asked[key]
            self._granted[key] = self._granted.get(key, 0) + lease.amount
            self._free[_slot(want)] = self._free.get(_slot(want), 0) + lease.amount

    def left(self, want: Want) -> int | None:
        """Return how much of a cap is left at least, as the keeper last said; null before it did."""
        used = self._used.get((want.counter, want.window))
        if used is None:
            return None
        free = self._free.get((want.counter, want.window, want.limit), 0)
        return max(0, want.limit - used) + free

    def settle(self, reservation: Reservation, spent: dict[CapUnit, int]) -> None:
        """Give back what was reserved and not spent; `parallel` comes back whole."""
        idle = []
        free, known = self._free, self._until
        for want, unit, slot in zip(
            reservation.wants, reservation.units, reservation.slots, strict=True
        ):
            gone = 0 if unit is CapUnit.PARALLEL else min(want.need, spent[unit])
            left = want.need - gone
            if left and slot[:2] in known:
                free[slot] = free.get(slot, 0) + left
            if want.counter in self._recalled:
                idle.append(want.counter)
        if idle and (leases := self._take_idle(idle)):
            self._release(leases)

    def give_back(self, counters: tuple[str, ...]) -> tuple[Lease, ...]:
        """Take what is idle of these counters out of the book, to be sent back to the keeper.

        What becomes idle of them in the next second or two is released without being asked for:
        somebody waits for it.
        """
        self._recalled.update(dict.fromkeys(counters, _RECALLED_FOR))
        return self._take_idle(counters)

    def _take_idle(self, counters: Iterable[str]) -> tuple[Lease, ...]:
        wanted = set(counters)
        returned = []
        for slot, amount in list(self._free.items()):
            key = slot[:2]
            if key[0] in wanted and amount:
                self._free[slot] = 0
                self._granted[key] = self._granted.get(key, 0) - amount
                returned.append(Lease(counter=key[0], window=key[1], amount=amount))
        return tuple(returned)
