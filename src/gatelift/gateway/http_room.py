"""What callers who have not said all may keep of a worker: bytes, and places at its table.

A caller that begins a request and stalls costs memory, and a place. One of them is nothing; a
thousand must not cost the others their service. So what all of them hold together is bounded, and
who has waited longest gives way, as callers in good order are never the ones who wait longest.

Invariants
- `held_bytes` is the sum of what unfinished requests and pipelined ones hold; it is above the bound
  only while `hold` runs.
- Who runs an exchange is never asked to leave.

It keeps no clock: deadlines are the connection's own.
"""

from __future__ import annotations

import contextlib
import resource
from typing import Final, Generic, Protocol, TypeVar

__all__ = ["Guest", "Room", "connections_that_fit"]

_OWN_FILES: Final = 256
"""Journal, sockets to the keeper, files of bundles: what a worker opens beside connections."""
_FEWEST: Final = 64

GuestT = TypeVar("GuestT", bound="Guest")


class Guest(Protocol):
    """A connection, as far as its place is concerned."""

    @property
    def may_be_closed(self) -> bool:
        """Say whether no exchange runs and none is being answered."""

    def give_way(self) -> None:
        """Let go of what is held and close, saying why if a request had begun."""


class Room(Generic[GuestT]):
    """The places and the bytes of one server."""

    __slots__ = ("_guests", "_holding", "_max_guests", "_max_held_bytes", "held_bytes")

    def __init__(self, *, max_guests: int, max_held_bytes: int) -> None:
        self._max_guests = max_guests
        self._max_held_bytes = max_held_bytes
        # Both in order of arrival: the first is the one who has waited longest.
        self._guests: dict[GuestT, None] = {}
        self._holding: dict[GuestT, int] = {}
        self.held_bytes = 0

    def __len__(self) -> int:
        return len(self._guests)

    @property
    def guests(self) -> list[GuestT]:
        """Everyone who is here."""
        return list(self._guests)

    def enter(self, guest: GuestT) -> bool:
        """Take a guest in; False if there is no place, and nobody who could give way."""
        self._guests[guest] = None
        if len(self._guests) <= self._max_guests:
            return True
        for other in self._guests:
            if other is not guest and other.may_be_closed:
                other.give_way()
                return True
        return False

    def leave(self, guest: GuestT) -> None:
        """Let a guest go, with all it held."""
        self._guests.pop(guest, None)
        self.hold(guest, 0)

    def hold(self, guest: GuestT, count: int) -> None:
        """Note that `guest` holds `count` bytes now; beyond the bound the longest holder goes."""
        self.held_bytes += count - self._holding.get(guest, 0)
        if count:
            self._holding[guest] = count
        else:
            self._holding.pop(guest, None)
        while self.held_bytes > self._max_held_bytes and self._holding:
            longest = next(iter(self._holding))
            longest.give_way()
            if longest in self._holding:
                self.hold(longest, 0)


def connections_that_fit(wanted: int) -> int:
    """Open as many files as the system lets this process; return how many callers then fit.

    A caller may need a connection to the upstream beside its own. Without this a worker that is
    allowed 1,024 files could neither serve nor write its journal once 1,000 callers stall.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # A system that refuses leaves the limit as it is, and fewer callers fit.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    if soft == resource.RLIM_INFINITY:
        return wanted
    return min(wanted, max(_FEWEST, (soft - _OWN_FILES) // 2))
