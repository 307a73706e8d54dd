"""What a worker may spend of each cap without asking.

Invariants
- Balance = granted - reserved - spent, never below zero: a request is reserved in full or not.
- Only the keeper denies. A worker that holds too little draws the whole need in one frame, and sets
  nothing aside meanwhile: what it holds can be recalled for others.
- What was reserved and not spent comes back to the balance while its window lasts, and is worth
  nothing afterwards. `parallel` comes back at the end of the exchange.
- A worker that dies settles nothing here: the keeper settles it from the journal.

Pure but for its own state; the clock is an argument.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import msgspec

from gatelift.gateway.keeper_link import KeeperUnavailableError
from gatelift.messages import Charge
from gatelift.messages.frames import Denied, Granted, Lease, Want
from gatelift.terms import Cap, CapUnit, Envelope, Subject, window_ms, window_start_ms
from gatelift.trust import Grant

__all__ = ["LeaseBook", "Reservation", "wants_of"]

_SLICES = 32
_RECALLED_FOR = 2


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """What one exchange has set aside, by counter; `units` says what each counter counts."""

    wants: tuple[Want, ...]
    units: tuple[CapUnit, ...]

    def charges(self) -> tuple[Charge, ...]:
        """Return the reserved amounts for the start record; `parallel` is never charged."""
        return tuple(
            Charge(counter=want.counter, window=want.window, amount=want.need)
            for want, unit in zip(self.wants, self.units, strict=True)
            if unit is not CapUnit.PARALLEL
        )

    def spent(self, spent: dict[CapUnit, int]) -> tuple[Charge, ...]:
        """Return what was spent of each counter, for the finish record; never above the reserve."""
        return tuple(
            Charge(counter=want.counter, window=want.window, amount=min(want.need, spent[unit]))
            for want, unit in zip(self.wants, self.units, strict=True)
            if unit is not CapUnit.PARALLEL
        )

    def amount(self, unit: CapUnit) -> int | None:
        """Return how much of a unit was reserved, null when no cap counts it."""
        for want, held in zip(self.wants, self.units, strict=True):
            if held is unit:
                return want.need
        return None


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


def wants_of(
    envelope: Envelope, grant: Grant, stage: str, needs: dict[CapUnit, int], now_ms: int
) -> Reservation:
    """Return what a request must set aside: one want for each cap of the envelope."""
    wants, units = [], []
    for cap in envelope.caps:
        start = window_start_ms(cap.window, now_ms)
        parallel = cap.unit is CapUnit.PARALLEL
        need = needs[cap.unit]
        like = need if parallel else max(need, min(need * 8, cap.limit // _SLICES))
        wants.append(
            Want(
                counter=f"{stage}:{cap.key}:{_subject(cap, grant, stage)}",
                window=start,
                until=0 if parallel else start + window_ms(cap.window),
                limit=cap.limit,
                need=need,
                like=like,
            )
        )
        units.append(cap.unit)
    return Reservation(wants=tuple(wants), units=tuple(units))


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

    def held(self) -> tuple[Lease, ...]:
        """Return all that was granted and is not given back, for a keeper that starts anew."""
        return tuple(
            Lease(counter=counter, window=window, amount=amount)
            for (counter, window), amount in self._granted.items()
            if amount > 0  # below zero where a window was forgotten and the clock then set back
        )

    def forget_past(self, now_ms: int) -> None:
        """Drop the windows that have ended, and let recalls pass; called once a second."""
        self._recalled = {name: left - 1 for name, left in self._recalled.items() if left > 1}
        for key in [k for k, until in self._until.items() if until and until <= now_ms]:
            for table in (self._granted, self._until, self._used):
                table.pop(key, None)
        for slot in [s for s in self._free if s[:2] not in self._until]:
            del self._free[slot]

    async def reserve(self, wanted: Reservation) -> Denied | None:
        """Set aside everything a request needs; return the keeper's denial if it may not.

        Raises `KeeperUnavailableError`; then nothing is set aside.
        """
        for want in wanted.wants:
            self._until[want.counter, want.window] = want.until
        short = self._take(wanted.wants)
        if not short:
            return None
        # Nothing is set aside while the keeper is asked: what a waiting request held back would be
        # missing elsewhere, and two of them could deny each other what either could have had.
        answer = await self._draw(tuple(map(self._whole, short)))
        if isinstance(answer, Granted):
            self._book(answer, wanted.wants)
            if not self._take(wanted.wants):
                return None
            # The rest went elsewhere meanwhile: now all at once, which leaves nothing to chance.
            answer = await self._draw(tuple(map(self._whole, wanted.wants)))
        if isinstance(answer, Denied):
            return answer
        self._book(answer, wanted.wants)
        if self._take(wanted.wants):
            raise KeeperUnavailableError("the keeper granted less than was asked")
        return None

    def _take(self, wants: tuple[Want, ...]) -> list[Want]:
        """Set aside all of `wants`, or nothing: then return those that are short."""
        short = [want for want in wants if self._free.get(_slot(want), 0) < want.need]
        if not short:
            for want in wants:
                self._free[_slot(want)] = self._free.get(_slot(want), 0) - want.need
        return short

    def _whole(self, want: Want) -> Want:
        like = max(want.need, want.like - self._free.get(_slot(want), 0))
        return msgspec.structs.replace(want, like=like)

    def _book(self, granted: Granted, wants: tuple[Want, ...]) -> None:
        asked = {(want.counter, want.window): want for want in wants}
        if len(granted.used) == len(granted.leases):
            for lease, used in zip(granted.leases, granted.used, strict=True):
                self._used[lease.counter, lease.window] = used
        for lease in granted.leases:
            key = (lease.counter, lease.window)
            want = asked[key]
            # Forgotten if the window ended while the keeper was asked; the request began in it.
            self._until[key] = want.until
            self._granted[key] = self._granted.get(key, 0) + lease.amount
            self._free[_slot(want)] = self._free.get(_slot(want), 0) + lease.amount

    def left(self, want: Want) -> int | None:
        """Return how much of a cap is left at least, as the keeper last said; null before it did."""
        used = self._used.get((want.counter, want.window))
        if used is None:
            return None
        free = self._free.get((want.counter, want.window, want.limit), 0)
        return max(0, want.limit - used) + free

    def _give(self, slot: tuple[str, int, int], amount: int) -> None:
        if slot[:2] in self._until:
            self._free[slot] = self._free.get(slot, 0) + amount

    def settle(self, reservation: Reservation, spent: dict[CapUnit, int]) -> tuple[Charge, ...]:
        """Give back what was reserved and not spent; return what was spent, for the finish record."""
        charges, idle = [], []
        for want, unit in zip(reservation.wants, reservation.units, strict=True):
            used = 0 if unit is CapUnit.PARALLEL else min(want.need, spent[unit])
            self._give(_slot(want), want.need - used)
            if want.counter in self._recalled:
                idle.append(want.counter)
            if unit is not CapUnit.PARALLEL:
                charges.append(Charge(counter=want.counter, window=want.window, amount=used))
        if idle and (leases := self._take_idle(idle)):
            self._release(leases)
        return tuple(charges)

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
