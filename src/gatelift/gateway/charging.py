"""What an exchange is charged, as its records say it.

Invariants
- Each counter of the reservation stands there once, in its order, `parallel` never; nothing is
  spent beyond what was reserved.
- Counters and windows are the same for each request of a grant: they are written once.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Final

from gatelift.gateway.leases import Reservation, Slot
from gatelift.messages import charges_form
from gatelift.terms import CapUnit

__all__ = ["NOTHING_CHARGED", "Charging"]

_MAX_FORMS: Final = 4096


@functools.lru_cache(maxsize=_MAX_FORMS)
def _form(units: tuple[CapUnit, ...], slots: tuple[Slot, ...]) -> str:
    return charges_form(
        (None if unit is CapUnit.PARALLEL else (counter, window))
        for (counter, window, _), unit in zip(slots, units, strict=True)
    )


class Charging:
    """What one reservation charges: JSON for a start, and for the finish that follows it."""

    __slots__ = ("_form", "_needs", "_units")

    def __init__(self, held: Reservation) -> None:
        self._form = _form(held.units, held.slots)
        self._units = held.units
        self._needs = tuple([want.need for want in held.wants])

    def reserved(self) -> str:
        """Return what was reserved under each counter."""
        return self._form % self._needs

    def spent(self, spent: Mapping[CapUnit, int]) -> str:
        """Return what was spent of each counter, never above the reserve."""
        return self._form % tuple(map(min, self._needs, map(spent.__getitem__, self._units)))


NOTHING_CHARGED: Final = Charging(Reservation(wants=(), units=()))
"""Of an exchange that was recorded and reserved nothing."""
