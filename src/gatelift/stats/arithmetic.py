"""The one arithmetic in which every figure of this room is computed.

Invariants
- Figures are `Decimal`s under `PINNED`: 34 digits, half-even, wide exponents. Of the functions
  beyond + - * / only `exp` and `ln` are used, because IEEE 754 decimal rounds exactly those
  correctly everywhere (`power` is not), so that every platform records the same digits.
- A float never enters: mixing one in raises.
- What leaves the room is rounded to the safe side: log-e-values down (evidence is understated),
  upper bounds up, lower bounds down.
- Log-e-values carry `LOG_PLACES` places. With six, `str` never falls into exponent notation, so
  that a recorded value has one spelling.

Does not: choose limits, weights or grids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import (
    ROUND_FLOOR,
    ROUND_HALF_EVEN,
    Context,
    Decimal,
    DivisionByZero,
    FloatOperation,
    InvalidOperation,
    Overflow,
    localcontext,
)

from gatelift.errors import CallerError

__all__ = [
    "BOUND_PLACES",
    "LOG_PLACES",
    "MAX_UNITS",
    "ONE",
    "PINNED",
    "ZERO",
    "StatsError",
    "check_count",
    "check_log_e",
    "check_open_unit",
    "first_true",
    "grid_rate",
    "pinned",
    "round_log_e",
]

PINNED = Context(
    prec=34,
    rounding=ROUND_HALF_EVEN,
    Emin=-99_999_999,
    Emax=99_999_999,
    capitals=1,
    clamp=0,
    flags=[],
    traps=[InvalidOperation, DivisionByZero, Overflow, FloatOperation],
)
LOG_PLACES = 6
BOUND_PLACES = 12
MAX_UNITS = 10_000_000
"""More units than this in one process are refused: the exponents stay far inside the context."""

ZERO = Decimal(0)
ONE = Decimal(1)
_LOG_STEP = Decimal(1).scaleb(-LOG_PLACES)


class StatsError(CallerError):
    """A count, a rate or a level is outside of what the formula means."""

    code = "bad_statistic"


@contextmanager
def pinned() -> Iterator[Context]:
    """Run the block under a private copy of `PINNED`, whatever the caller's own context is."""
    with localcontext(PINNED) as context:
        yield context


def check_count(name: str, value: int, *, at_most: int = MAX_UNITS) -> int:
    """Return `value` as a count of 0 to `at_most`, or raise `StatsError`."""
    if type(value) is not int or not 0 <= value <= at_most:
        raise StatsError(f"{name}: expected a whole number from 0 to {at_most}, got {value!r}")
    return value


def check_open_unit(name: str, value: Decimal, *, zero: bool = False, one: bool = False) -> Decimal:
    """Return `value` if it lies between 0 and 1 (ends only if `zero`, `one`), or raise."""
    if not isinstance(value, Decimal) or not value.is_finite():
        raise StatsError(f"{name}: expected a finite Decimal between 0 and 1, got {value!r}")
    inside = ZERO < value < ONE or (zero and value == ZERO) or (one and value == ONE)
    if not inside:
        raise StatsError(
            f"{name}: expected a value {'from' if zero else 'above'} 0 and "
            f"{'up to' if one else 'below'} 1, got {value}"
        )
    return value


def check_log_e(name: str, value: Decimal) -> Decimal:
    """Return `value` as a finite log-e-value, or raise `StatsError`."""
    if not isinstance(value, Decimal) or not value.is_finite():
        raise StatsError(f"{name}: expected a finite Decimal log-e-value, got {value!r}")
    return value


def round_log_e(e_value: Decimal) -> Decimal:
    """Return ln of a positive e-value, rounded down to `LOG_PLACES`."""
    with pinned():
        return e_value.ln().quantize(_LOG_STEP, rounding=ROUND_FLOOR)


def grid_rate(step: int) -> Decimal:
    """Return the rate `step` / 10**`BOUND_PLACES`, the grid on which bounds are searched."""
    return Decimal(step).scaleb(-BOUND_PLACES) if step else ZERO


def first_true(low: int, high: int, holds: Callable[[int], bool]) -> int | None:
    """Return the smallest integer in [low, high] at which the monotone `holds` is true, or None."""
    if low > high or not holds(high):
        return None
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low
