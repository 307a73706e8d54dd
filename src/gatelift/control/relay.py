"""Orders and clears on their way to the keepers: an order acts before it is logged.

Invariants
- An order is verified, pushed, and only then logged: its signature alone makes it act. If logging
  fails it stays pushed and is pushed again to every keeper that connects.
- A clear is pushed only once it is logged, because it takes something back.
- Everything ever pushed and everything logged is in `frames`, orders first: a node that was away
  misses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gatelift.control.assembling import Prepared
from gatelift.control.errors import ControlError
from gatelift.control.node_reports import Submit
from gatelift.control.signing import Draft
from gatelift.decide import State
from gatelift.encoding import Digest, sha256_digest
from gatelift.messages import EntryKind
from gatelift.messages.frames import ClearFrame, OrderFrame
from gatelift.trust import StandingOrder, verify_order

__all__ = ["OrderRelay"]


class OrderRelay:
    """Holds the envelopes of all orders and clears. `on_order` is called when a new one came."""

    def __init__(
        self,
        *,
        state: Callable[[], State],
        push: Callable[[OrderFrame | ClearFrame], None],
        submit: Submit,
        on_order: Callable[[], None],
    ) -> None:
        self._state = state
        self._push = push
        self._submit = submit
        self._on_order = on_order
        self._orders: dict[Digest, bytes] = {}
        self._clears: dict[Digest, bytes] = {}

    def load(self, logged: Iterable[tuple[EntryKind, bytes]]) -> None:
        """Take what the log held at the start."""
        for kind, body in logged:
            held = self._orders if kind is EntryKind.ORDER else self._clears
            held[sha256_digest(body)] = body

    def frames(self) -> tuple[OrderFrame | ClearFrame, ...]:
        """Return what a node must hold."""
        return (
            *(OrderFrame(envelope=each) for each in self._orders.values()),
            *(ClearFrame(envelope=each) for each in self._clears.values()),
        )

    def push(self, frame: OrderFrame) -> None:
        """Push an order that control signed itself."""
        self._take_order(frame.envelope)

    async def give(self, envelope: bytes) -> tuple[StandingOrder, int]:
        """Have an order act at once, then log it; return it with its index.

        Raises the error of its verification (then it does not act), or of logging (then it does).
        """
        state = self._state()
        if state.root is None or state.release is None:
            raise ControlError(
                "no plan was adopted, so nothing is served that an order could narrow",
                code="no_plan",
            )
        standing = verify_order(envelope, state.root)
        if standing.order.release != state.release:
            raise ControlError(
                f"expected an order on release {state.release!r}, "
                f"got one on {standing.order.release[:80]!r}",
                code="wrong_release",
            )
        self._take_order(envelope)
        (index,) = await self._submit([Draft(kind=EntryKind.ORDER, body=envelope)])
        return standing, index

    def on_logged(self, entries: Iterable[Prepared]) -> None:
        """Push the orders and clears among entries that were committed."""
        for entry in entries:
            if entry.header.kind is EntryKind.ORDER:
                self._take_order(entry.body)
            elif entry.header.kind is EntryKind.CLEAR:
                self._clears[entry.header.body] = entry.body
                self._push(ClearFrame(envelope=entry.body))

    def _take_order(self, envelope: bytes) -> None:
        digest = sha256_digest(envelope)
        if digest not in self._orders:
            self._orders[digest] = envelope
            self._push(OrderFrame(envelope=envelope))
            self._on_order()
