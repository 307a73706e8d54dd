"""What a request sets aside of each cap that counts for it.

A cap is written down in three steps, each made when what it follows from changes and no earlier:
`CapLines` once for a grant, `CapWindows` once for the windows of a moment (a minute lasts for
thousands of requests), and `Reservation` for each request, which adds nothing but the amounts.

Invariants
- Lines, windows, amounts and charges stand in the order of the envelope's caps.
- A window is counted from the epoch, as `terms.window_start_ms` does; `parallel` and `coverage` have
  none, and their window and its end are 0.
- `parallel` is never charged; nothing is charged above what was reserved.

Pure; the clock is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import gt, itemgetter

from gatelift.messages import charges_form
from gatelift.messages.frames import Want
from gatelift.terms import WINDOWLESS, Cap, CapUnit, Envelope, Subject, window_ms
from gatelift.trust import Grant

__all__ = [
    "Balance",
    "CapLine",
    "CapLines",
    "CapWindows",
    "Reservation",
    "Slot",
    "cap_lines",
    "reservation_of",
]

_SLICES = 32
_AHEAD = 64
"""How many requests' worth a worker would like to hold, so that it seldom asks."""
_NEVER_MS = 2**63 - 1

Slot = tuple[str, int, int]
"""Counter, window and the limit it was drawn under."""


class Balance:
    """What is free of one slot: granted, and neither set aside nor spent.

    `until_ms` is the window's end. Where it is no longer `kept`, its window was forgotten: nothing
    comes back to it.
    """

    __slots__ = ("free", "kept", "slot", "until_ms")

    def __init__(self, slot: Slot, until_ms: int) -> None:
        self.slot = slot
        self.until_ms = until_ms
        self.free = 0
        self.kept = True


class CapLine:
    """One cap as it counts for one grant: everything of a `Want` but the need and the time.

    `window_ms` is 0 where the unit has no window.
    """

    __slots__ = ("counter", "limit", "unit", "window_ms")

    def __init__(self, counter: str, unit: CapUnit, window_ms: int, limit: int) -> None:
        self.counter = counter
        self.unit = unit
        self.window_ms = window_ms
        self.limit = limit

    def window(self, now_ms: int) -> int:
        """Return the start of the window that `now_ms` lies in."""
        return now_ms - now_ms % self.window_ms if self.window_ms else 0


class CapWindows:
    """Caps with the windows in which they count now, from `begins_ms` until `ends_ms`.

    `charges_form` is filled in with an amount for each cap; it leaves out `parallel`.
    `balances` belong to the lease book `book`, which looks them up once.
    """

    __slots__ = (
        "amounts_of",
        "balances",
        "begins_ms",
        "book",
        "charges_form",
        "come_back",
        "ends_ms",
        "slots",
        "units",
        "untils_ms",
    )

    def __init__(
        self,
        slots: Iterable[Slot],
        units: Iterable[CapUnit],
        untils_ms: Iterable[int],
        *,
        begins_ms: int = 0,
        ends_ms: int = _NEVER_MS,
    ) -> None:
        self.slots = tuple(slots)
        self.units = tuple(units)
        self.untils_ms = tuple(untils_ms)
        self.begins_ms = begins_ms
        self.ends_ms = ends_ms
        self.amounts_of = _picker(self.units)
        self.come_back = tuple([unit is CapUnit.PARALLEL for unit in self.units])
        self.charges_form = charges_form(
            None if comes_back else (counter, window)
            for (counter, window, _), comes_back in zip(self.slots, self.come_back, strict=True)
        )
        self.book: object = None
        self.balances: tuple[Balance, ...] = ()

    def want(self, number: int, need: int) -> Want:
        """Return the want of one cap, of which a request needs `need`."""
        counter, window, limit = self.slots[number]
        like = need
        if not self.come_back[number]:
            like = max(need, min(need * _AHEAD, limit // _SLICES))
        return Want(
            counter=counter,
            window=window,
            until=self.untils_ms[number],
            limit=limit,
            need=need,
            like=like,
        )


def _picker(units: tuple[CapUnit, ...]) -> Callable[[Mapping[CapUnit, int]], tuple[int, ...]]:
    """Return a function that looks up the amount of each unit, in this order."""
    if len(units) > 1:
        # One call in C for all of them; with a single key it would return no tuple.
        return itemgetter(*units)
    return lambda amounts: tuple([amounts[unit] for unit in units])


class Reservation:
    """What one exchange has set aside: `needs`, of the caps in `caps`.

    Counters of one unit need the same, but those of `coverage`: a prompt is new to one and known to
    another.
    """

    __slots__ = ("_wants", "caps", "needs")

    def __init__(
        self, caps: CapWindows, needs: tuple[int, ...], wants: tuple[Want, ...] | None = None
    ) -> None:
        self.caps = caps
        self.needs = needs
        self._wants = wants

    @property
    def wants(self) -> tuple[Want, ...]:
        """The wants, as the keeper is asked. Most requests need not ask, so they are made late."""
        if self._wants is None:
            want = self.caps.want
            self._wants = tuple([want(number, need) for number, need in enumerate(self.needs)])
        return self._wants

    @property
    def units(self) -> tuple[CapUnit, ...]:
        """What each want counts."""
        return self.caps.units

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Where each want is booked."""
        return self.caps.slots

    def charges(self) -> str:
        """Return the reserved amounts for the start record, as JSON; `parallel` is never charged."""
        return self.caps.charges_form % self.needs

    def spent(self, spent: dict[CapUnit, int]) -> str:
        """Return what was spent of each counter, for the finish record; never above the reserve."""
        amounts = self.caps.amounts_of(spent)
        if any(map(gt, amounts, self.needs)):
            amounts = tuple(map(min, amounts, self.needs))
        return self.caps.charges_form % amounts

    def amount(self, unit: CapUnit) -> int | None:
        """Return the most of a unit that was reserved under a counter, null when no cap counts it."""
        found = [n for n, held in zip(self.needs, self.caps.units, strict=True) if held is unit]
        return max(found, default=None)


def reservation_of(wants: tuple[Want, ...], units: tuple[CapUnit, ...]) -> Reservation:
    """Return the reservation that asks for exactly these wants."""
    caps = CapWindows(
        [(want.counter, want.window, want.limit) for want in wants],
        units,
        [want.until for want in wants],
    )
    return Reservation(caps, tuple([want.need for want in wants]), wants)


class CapLines:
    """The caps that count for one grant, in the order of its envelope."""

    __slots__ = ("_lines", "_now", "coverage")

    def __init__(self, lines: Iterable[CapLine]) -> None:
        self._lines = tuple(lines)
        self.coverage = tuple([line for line in self._lines if line.unit is CapUnit.COVERAGE])
        """The caps of distinct prompts, which need nothing of a prompt that they know."""
        self._now: CapWindows | None = None

    def __iter__(self) -> Iterator[CapLine]:
        return iter(self._lines)

    def wanted(
        self, needs: Mapping[CapUnit, int], now_ms: int, known: frozenset[str] = frozenset()
    ) -> Reservation:
        """Return what a request must set aside of each cap, of `known` counters nothing."""
        caps = self._now
        if caps is None or not caps.begins_ms <= now_ms < caps.ends_ms:
            caps = self._now = self._windows(now_ms)
        amounts = caps.amounts_of(needs)
        if known:
            amounts = tuple(
                [
                    0 if line.counter in known else amount
                    for line, amount in zip(self._lines, amounts, strict=True)
                ]
            )
        return Reservation(caps, amounts)

    def _windows(self, now_ms: int) -> CapWindows:
        lines = [(line, line.window(now_ms)) for line in self._lines]
        edges = [(start, start + line.window_ms) for line, start in lines if line.window_ms]
        return CapWindows(
            [(line.counter, start, line.limit) for line, start in lines],
            [line.unit for line in self._lines],
            [start + line.window_ms for line, start in lines],
            begins_ms=max([begin for begin, _ in edges], default=-_NEVER_MS),
            ends_ms=min([end for _, end in edges], default=_NEVER_MS),
        )


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
