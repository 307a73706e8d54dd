"""The orders that one worker has seen, and the clears that lift some of them.

Invariants
- Everything kept was verified here; what comes before any root is known waits, unverified, and acts
  as soon as it can be verified. One that does not hold takes none of the others with it.
- An order is in force from the moment it arrives. A clear lifts none on a release or stage: only a
  certificate does that.

Pure but for its own state.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence

from gatelift.encoding import Digest
from gatelift.errors import CallerError
from gatelift.trust import Root, StandingOrder, TargetKind, verify_clear, verify_order

__all__ = ["OrderBook"]


class OrderBook:
    """Orders by the digest of their envelope."""

    def __init__(self) -> None:
        self._orders: dict[Digest, StandingOrder] = {}
        self._cleared: set[str] = set()
        self._waiting_orders: list[bytes] = []
        self._waiting_clears: list[bytes] = []

    @property
    def seen(self) -> tuple[StandingOrder, ...]:
        """All orders that were verified, lifted or not."""
        return tuple(self._orders.values())

    @property
    def in_force(self) -> tuple[StandingOrder, ...]:
        """The orders that no clear has lifted."""
        return tuple(
            standing
            for standing in self._orders.values()
            if standing.order.id not in self._cleared
            or standing.order.target.kind in (TargetKind.RELEASE, TargetKind.STAGE)
        )

    def lacks(self, digests: Iterable[Digest]) -> int:
        """Return how many of these orders were never seen here."""
        return len(set(digests) - set(self._orders))

    def adopt_order(
        self, data: bytes, root: Root | None, others: Sequence[Root] = ()
    ) -> StandingOrder | None:
        """Verify an order and put it in force; null while no root is known to verify it with.

        `others` are roots that were verified, by which it may hold as well.
        """
        if root is None:
            self._waiting_orders.append(data)
            return None
        standing = verify_order(data, root, *others)
        self._orders[standing.digest] = standing
        return standing

    def adopt_clear(self, data: bytes, root: Root | None) -> None:
        """Verify a clear and lift the orders that it names; it waits while no root is known."""
        if root is None:
            self._waiting_clears.append(data)
            return
        self._cleared.update(verify_clear(data, root).orders)

    def adopt_waiting(self, root: Root, others: Sequence[Root] = ()) -> None:
        """Verify what has waited for a root."""
        orders, self._waiting_orders = self._waiting_orders, []
        clears, self._waiting_clears = self._waiting_clears, []
        for data in orders:
            with contextlib.suppress(CallerError):
                self.adopt_order(data, root, others)
        for data in clears:
            with contextlib.suppress(CallerError):
                self.adopt_clear(data, root)
