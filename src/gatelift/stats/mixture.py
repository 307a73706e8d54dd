"""Likelihood ratios of a rate against a limit, over a fixed grid of odds.

For a limit p0 and an odds ratio r, let q have r times the odds of p0. The likelihood ratio of a
harmful unit is q/p0 and of a harmless one (1-q)/(1-p0); written with r they are r/d and 1/d, where
d = 1 + p0 (r - 1). So n units with s harmful give

    LR_r(n, s) = r**s / d**n = exp(s ln r - n ln d).

Under any conditional rate p the next factor has the mean (1 + p (r - 1)) / d, which is at most 1
iff p <= p0 for r > 1, and iff p >= p0 for r < 1. Hence for every grid each LR_r, and every fixed
average of them, is a test supermartingale for its composite null, with no independence assumed.
(reference/statistics.md section 1, M3.) Working with odds keeps q below 1 at any limit.

Invariants
- A grid is fixed before any unit is seen; parts are divided by their sum.
- `s` may be a fraction: previews ask for the ratio along an expected path.

Does not: restart, threshold, or round.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

from gatelift.stats.arithmetic import ONE, ZERO, pinned

__all__ = ["DOWNWARD", "UPWARD", "Grid", "blend", "likelihood_ratios", "log_spaced", "log_steps"]

Step = tuple[Decimal, Decimal]
"""(ln r, ln d): what a harmful unit adds, and what every unit takes."""


class Grid(NamedTuple):
    """Odds ratios against the limit, and the parts of the stake that each holds.

    Parts are whole numbers, because a share such as 1/12 has no exact decimal.
    """

    ratios: tuple[Decimal, ...]
    parts: tuple[int, ...]


def log_spaced(first: Decimal, last: Decimal, points: int) -> tuple[Decimal, ...]:
    """Return `points` (at least 2) values from `first` to `last`, equally spaced in the logarithm."""
    with pinned():
        step = (last / first).ln() / (points - 1)
        middle = [(first.ln() + step * i).exp() for i in range(1, points - 1)]
    return (first, *middle, last)


UPWARD = Grid(log_spaced(Decimal("1.25"), Decimal(30), 12), (1,) * 12)
"""12 ratios from 1.25 to 30: the alternatives of a halt."""
DOWNWARD = Grid((Decimal("0.002"), *log_spaced(Decimal("0.05"), Decimal("0.8"), 8)), (8, *(1,) * 8))
"""9 ratios below 1, half of the stake on 0.002: a gate is mostly opened by no harm at all."""


def log_steps(grid: Grid, limit: Decimal) -> tuple[Step, ...]:
    """Return (ln r, ln d) of each ratio of `grid` against `limit`."""
    with pinned():
        return tuple((r.ln(), (ONE + limit * (r - ONE)).ln()) for r in grid.ratios)


_cached_steps = lru_cache(maxsize=64)(log_steps)


@lru_cache(maxsize=2048)
def likelihood_ratios(grid: Grid, limit: Decimal, n: int, s: Decimal) -> tuple[Decimal, ...]:
    """Return LR_r(n, s) for each ratio of `grid`. Remembered, because stretches rarely change."""
    with pinned():
        return tuple((s * up - n * down).exp() for up, down in _cached_steps(grid, limit))


def blend(grid: Grid, values: Sequence[Decimal]) -> Decimal:
    """Return the average of one value a ratio, weighted by the grid's parts."""
    with pinned():
        total = sum((part * v for part, v in zip(grid.parts, values, strict=True)), ZERO)
        return total / sum(grid.parts)
