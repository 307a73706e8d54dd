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

import msgspec

from gatelift.gateway.keeper_link import KeeperUnavailableError
from gatelift.gateway.reservation import Balance, CapWindows, Reservation, Slot
from gatelift.messages.frames import Denied, Granted, Lease, Want
from gatelift.terms import CapUnit

__all__ = ["LeaseBook", "Reservation"]

_RECALLED_FOR = 2
_KEPT_MS = 60_000


def _slot(want: Want) -> Slot:
    return (want.counter, want.window, want.limit)


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
        self._balances: dict[Slot, Balance] = {}
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
        for balance in [b for b in self._balances.values() if 0 < b.until_ms <= self.past_ms]:
            # Who still looks at it finds nothing, and gives nothing back.
            balance.free, balance.kept = 0, False
            del self._balances[balance.slot]

    def take(self, wanted: Reservation) -> bool:
        """Set aside everything a request needs if all of it is at hand, else nothing; say which."""
        # What is set aside here is of windows that are kept: a forgotten one has no balance.
        balances = self._balances_of(wanted.caps)
        for balance, need in zip(balances, wanted.needs, strict=True):
            if balance.free < need:
                return False
        for balance, need in zip(balances, wanted.needs, strict=True):
            balance.free -= need
        return True

    def _balances_of(self, caps: CapWindows) -> tuple[Balance, ...]:
        """Return where caps are booked in this book, looked up once for their windows."""
        if caps.book is not self:
            pairs = zip(caps.slots, caps.untils_ms, strict=True)
            caps.balances = tuple([self._balance(slot, until_ms) for slot, until_ms in pairs])
            caps.book = self
        return caps.balances

    def _balance(self, slot: Slot, until_ms: int) -> Balance:
        found = self._balances.get(slot)
        if found is None:
            found = self._balances[slot] = Balance(slot, until_ms)
        return found

    async def reserve(self, wanted: Reservation) -> Denied | None:
        """Set aside everything a request needs; return the keeper's denial if it may not.

        Raises `KeeperUnavailableError`; then nothing is set aside.
        """
        if self.take(wanted):
            return None
        short = self._short(wanted)
        self._check_kept(wanted.wants)
        for want in wanted.wants:
            self._until[want.counter, want.window] = want.until
        # Nothing is set aside while the keeper is asked: what a waiting request held back would be
        # missing elsewhere, and two of them could deny each other what either could have had.
        answer = await self._draw(tuple(map(self._whole, short)))
        if isinstance(answer, Granted):
            self._book(answer, wanted.wants)
            if self.take(wanted):
                return None
            # The rest went elsewhere meanwhile: now all at once, which leaves nothing to chance.
            answer = await self._draw(tuple(map(self._whole, wanted.wants)))
        if isinstance(answer, Denied):
            return answer
        self._book(answer, wanted.wants)
        if not self.take(wanted):
            raise KeeperUnavailableError("the keeper granted less than was asked")
        return None

    def _check_kept(self, wants: tuple[Want, ...]) -> None:
        if any(0 < want.until <= self.past_ms for want in wants):
            raise KeeperUnavailableError(
                "the wall clock was set back into a window that is closed: nothing is served in it "
                "until this worker has begun anew"
            )

    def _short(self, wanted: Reservation) -> list[Want]:
        """Return the wants of which too little is at hand."""
        balances = self._balances_of(wanted.caps)
        rows = zip(balances, wanted.needs, wanted.wants, strict=True)
        return [want for balance, need, want in rows if balance.free < need]

    def _whole(self, want: Want) -> Want:
        free = self._balance(_slot(want), want.until).free
        return msgspec.structs.replace(want, like=max(want.need, want.like - free))

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
            self._balance(_slot(want), want.until).free += lease.amount

    def left(self, slot: Slot) -> int | None:
        """Return how much of a cap is left at least, as the keeper last said; null before it did."""
        counter, window, limit = slot
        used = self._used.get((counter, window))
        if used is None:
            return None
        balance = self._balances.get(slot)
        return max(0, limit - used) + (0 if balance is None else balance.free)

    def settle(self, reservation: Reservation, spent: dict[CapUnit, int]) -> None:
        """Give back what was reserved and not spent; `parallel` comes back whole."""
        caps = reservation.caps
        for balance, need, gone, comes_back in zip(
            self._balances_of(caps),
            reservation.needs,
            caps.amounts_of(spent),
            caps.come_back,
            strict=True,
        ):
            left = need if comes_back else need - gone
            if left > 0 and balance.kept:
                balance.free += left
        if self._recalled:
            self._release_recalled(caps)

    def _release_recalled(self, caps: CapWindows) -> None:
        idle = [counter for counter, _, _ in caps.slots if counter in self._recalled]
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
        for (counter, window, _), balance in self._balances.items():
            if counter in wanted and balance.free:
                amount, balance.free = balance.free, 0
                key = (counter, window)
                self._granted[key] = self._granted.get(key, 0) - amount
                returned.append(Lease(counter=counter, window=window, amount=amount))
        return tuple(returned)
