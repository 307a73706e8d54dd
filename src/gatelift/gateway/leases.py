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

from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

import msgspec

from gatelift.gateway.keeper_link import KeeperUnavailableError
from gatelift.messages import Charge
from gatelift.messages.frames import Denied, Granted, Lease, Want
from gatelift.terms import WINDOWLESS, Cap, CapUnit, Envelope, Subject, window_ms
from gatelift.trust import Grant

__all__ = ["CapLine", "LeaseBook", "Reservation", "cap_lines", "wants_of"]

_SLICES = 32
_AHEAD = 64
"""How many requests' worth a worker would like to hold, so that it seldom asks."""
_RECALLED_FOR = 2
_KEPT_MS = 60_000


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """What one exchange has set aside, by counter; `units` says what each counter counts.

    A want of `parallel` or of `coverage` has no end (`until` is 0). Counters of one unit need the same,
    but those of `coverage`: a prompt is new to one and known to another.
    """

    wants: tuple[Want, ...]
    units: tuple[CapUnit, ...]
    slots: tuple[tuple[str, int, int], ...] = ()

    def __post_init__(self) -> None:
        # Where each want is booked, looked up several times in the life of an exchange.
        msgspec.structs.force_setattr(self, "slots", tuple([_slot(want) for want in self.wants]))

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


class CapLine(NamedTuple):
    """One cap as it counts for one grant: everything of a `Want` but the need and the time."""

    counter: str
    unit: CapUnit
    window_ms: int
    limit: int


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


def _slot(want: Want) -> tuple[str, int, int]:
    return (want.counter, want.window, want.limit)


def cap_lines(envelope: Envelope, grant: Grant, stage: str) -> tuple[CapLine, ...]:
    """Return the caps of an envelope as they count for a grant; 0 where a unit has no window."""
    return tuple(
        CapLine(
            counter=f"{stage}:{cap.key}:{_subject(cap, grant, stage)}",
            unit=cap.unit,
            window_ms=0 if cap.unit in WINDOWLESS else window_ms(cap.window),
            limit=cap.limit,
        )
        for cap in envelope.caps
    )


def _ahead(need: int, limit: int) -> int:
    return max(need, min(need * _AHEAD, limit // _SLICES))


def wants_of(
    lines: tuple[CapLine, ...],
    needs: dict[CapUnit, int],
    now_ms: int,
    known: frozenset[str] = frozenset(),
) -> Reservation:
    """Return what a request must set aside: one want for each cap, of `known` counters nothing."""
    wants = []
    for counter, unit, length_ms, limit in lines:
        need = 0 if counter in known else needs[unit]
        if not length_ms:
            like = need if unit is CapUnit.PARALLEL else _ahead(need, limit)
            want = Want(counter=counter, window=0, until=0, limit=limit, need=need, like=like)
        else:
            # Counted from the epoch, as `terms.window_start_ms` does.
            start = now_ms - now_ms % length_ms
            want = Want(
                counter=counter,
                window=start,
                until=start + length_ms,
                limit=limit,
                need=need,
                like=_ahead(need, limit),
            )
        wants.append(want)
    return Reservation(wants=tuple(wants), units=tuple(line.unit for line in lines))


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
        self._check_kept(wanted.wants)
        for want in wanted.wants:
            self._until[want.counter, want.window] = want.until
        short = self._take(wanted)
        if not short:
            return None
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
        have = [free.get(slot, 0) for slot in wanted.slots]
        short = [w for w, left in zip(wanted.wants, have, strict=True) if left < w.need]
        if not short:
            for slot, want, left in zip(wanted.slots, wanted.wants, have, strict=True):
                free[slot] = left - want.need
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
