"""A bound on requests for each client address: a bucket of tokens that fills at a steady rate.

Invariants
- Memory is bounded: the addresses seen longest ago are forgotten first.
- Time comes in as an argument.

It guards control's own time, not its secrets; what is public is bound like the rest, and an order
that is turned away here still has the keeper's file and the overseer's endpoint.
"""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["RateBound"]

_MAX_CLIENTS = 1024


class RateBound:
    """Lets `burst` requests through at once and `per_s` a second on."""

    def __init__(self, *, per_s: float, burst: int) -> None:
        self._per_s = per_s
        self._burst = burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str, now_s: float) -> float:
        """Return 0 and count a request, or the seconds after which the next one may come."""
        level, since = self._buckets.pop(client, (float(self._burst), now_s))
        level = min(float(self._burst), level + max(0.0, now_s - since) * self._per_s)
        wait_s = 0.0 if level >= 1 else (1 - level) / self._per_s
        self._buckets[client] = (level - 1 if level >= 1 else level, now_s)
        while len(self._buckets) > _MAX_CLIENTS:
            self._buckets.popitem(last=False)
        return wait_s
