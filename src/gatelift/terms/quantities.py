"""Quantities as people write them in a plan: `500k/d`, `72h`, `14d`, `0.05`.

Invariants
- Amounts are whole numbers; k, M and G are decimal (1000, 10**6, 10**9).
- Durations become integer milliseconds; `d` is 24 hours of elapsed time.
- Amounts and milliseconds stay within 2**53 - 1, so that JSON carries them exactly.
- Rates are `decimal.Decimal` in [0, 1], never binary floats.
- Digits are ASCII, without leading zeros, signs, underscores or exponents: one reading everywhere.

Business days (`bd`) are refused by name: nothing here enforces them yet. Money is in `money`.
"""

from __future__ import annotations

import re
from decimal import Decimal

from gatelift.encoding import MAX_SAFE_INTEGER
from gatelift.errors import CallerError
from gatelift.terms.words import Window

__all__ = [
    "QuantityError",
    "format_duration",
    "parse_amount",
    "parse_duration_ms",
    "parse_number",
    "parse_rate",
    "parse_windowed",
    "window_ms",
    "window_start_ms",
]

_AMOUNT = re.compile(r"(0|[1-9]\d{0,15})([kMG]?)", re.ASCII)
_DURATION = re.compile(r"(0|[1-9]\d{0,15})(ms|s|min|h|d)", re.ASCII)
_NUMBER = re.compile(r"(0|[1-9]\d{0,8})(\.\d{1,17})?", re.ASCII)
_SHOWN_CHARS = 40
_SCALE = {"": 1, "k": 1_000, "M": 1_000_000, "G": 1_000_000_000}
_DURATION_MS = {"ms": 1, "s": 1_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_WINDOW_MS = {Window.MINUTE: 60_000, Window.HOUR: 3_600_000, Window.DAY: 86_400_000}


class QuantityError(CallerError):
    """A number in a plan is not written as a quantity."""

    code = "bad_quantity"


def _within_json(value: int, text: str) -> int:
    if value > MAX_SAFE_INTEGER:
        raise QuantityError(f"expected at most 2**53 - 1 ({MAX_SAFE_INTEGER}), got {text!r}")
    return value


def parse_amount(text: str) -> int:
    """Return a whole number from `12`, `500k`, `2M` or `1G`."""
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise QuantityError(
            f"expected a whole number with optional k, M or G, got {text[:_SHOWN_CHARS]!r}"
        )
    return _within_json(int(match[1]) * _SCALE[match[2]], text)


def parse_windowed(text: str) -> tuple[int, Window]:
    """Return (limit, window) from `60/min`, `500k/d` or a bare `4` (window `none`)."""
    amount, slash, window = text.partition("/")
    if not slash:
        return parse_amount(amount), Window.NONE
    if window not in (Window.MINUTE, Window.HOUR, Window.DAY):
        raise QuantityError(f"expected a window of /min, /h or /d, got {text[:_SHOWN_CHARS]!r}")
    return parse_amount(amount), Window(window)


def parse_duration_ms(text: str) -> int:
    """Return milliseconds from `250ms`, `10s`, `5min`, `72h` or `14d`."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise QuantityError(
            f"expected a duration such as 250ms, 10s, 5min, 72h or 14d, got {text[:_SHOWN_CHARS]!r}"
        )
    return _within_json(int(match[1]) * _DURATION_MS[match[2]], text)


def format_duration(ms: int) -> str:
    """Return milliseconds in the largest unit that divides them, as a plan would write it."""
    for unit in ("d", "h", "min", "s"):
        if ms and ms % _DURATION_MS[unit] == 0:
            return f"{ms // _DURATION_MS[unit]}{unit}"
    return f"{ms}ms"


def parse_number(text: str) -> Decimal:
    """Return the exact decimal of `0`, `0.05` or `1.5`: 9 digits before and 17 after the point."""
    if _NUMBER.fullmatch(text) is None:
        raise QuantityError(
            f"expected a decimal number such as 0.05 or 1.5, got {text[:_SHOWN_CHARS]!r}"
        )
    return Decimal(text)


def parse_rate(text: str) -> Decimal:
    """Return a share between 0 and 1 from decimal text."""
    if _NUMBER.fullmatch(text) is None or Decimal(text) > 1:
        raise QuantityError(
            f"expected a share between 0 and 1 such as 0.05, got {text[:_SHOWN_CHARS]!r}"
        )
    return Decimal(text)


def window_ms(window: Window) -> int:
    """Return the length of a window; raises `QuantityError` for `none`, which has no length."""
    try:
        return _WINDOW_MS[window]
    except KeyError:
        raise QuantityError("a cap without a window has no window length") from None


def window_start_ms(window: Window, now_ms: int) -> int:
    """Return the start of the fixed UTC window that holds `now_ms`; 0 for `none`."""
    if window is Window.NONE:
        return 0
    length = _WINDOW_MS[window]
    return now_ms - now_ms % length
