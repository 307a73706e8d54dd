"""Money as a plan writes it, `50 EUR/d`, and what an exchange costs by the plan's prices.

    cost = ceil((tokens in * price in + tokens out * price out) / 10**6)

in micro-units of the plan's currency (a millionth of a euro), with prices in micro-units for a
million tokens. What is set aside before an exchange and what it has spent are this same function,
of the bounds and of the counts; it never falls as tokens rise, so nothing spent is above its
reserve.

Invariants
- Whole numbers only, from the digits of the file to the counter: no binary float, no division but
  the one above, which rounds up once an exchange.
- A written amount is at most 10**9 - 1 of the currency and a price at most 10**6; a cost stays at
  `MAX_SAFE_INTEGER` however many tokens are asked for, which is above every written limit.
- Without prices a cost is that bound: a cap on cost that nobody can count lets nothing through.

Does not know which currencies there are: three capital letters, as ISO 4217 forms its codes.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from gatelift.encoding import MAX_SAFE_INTEGER
from gatelift.terms.quantities import QuantityError
from gatelift.terms.words import Window

__all__ = [
    "AMOUNT_PATTERN",
    "CURRENCY_PATTERN",
    "MAX_PRICE_MICROS",
    "MICROS",
    "Prices",
    "cost_of",
    "format_money",
    "parse_cost_limit",
    "parse_currency",
    "parse_micros",
]

MICROS: Final = 1_000_000
"""Micro-units in one of a currency; and tokens that a price is for."""
MAX_PRICE_MICROS: Final = 1_000_000 * MICROS
AMOUNT_PATTERN: Final = r"(0|[1-9][0-9]{0,8})(\.[0-9]{1,6})?"
CURRENCY_PATTERN: Final = "[A-Z]{3}"

_AMOUNT = re.compile(AMOUNT_PATTERN, re.ASCII)
_CURRENCY = re.compile(CURRENCY_PATTERN, re.ASCII)
_SHOWN_CHARS = 40


class Prices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a million tokens cost, each way, in micro-units of `currency`."""

    currency: str
    input_micros: int
    output_micros: int


def cost_of(prices: Prices | None, input_tokens: int, output_tokens: int) -> int:
    """Return what these tokens cost in micro-units, rounded up; without prices the most there is."""
    if prices is None:
        return MAX_SAFE_INTEGER
    parts = input_tokens * prices.input_micros + output_tokens * prices.output_micros
    return min(MAX_SAFE_INTEGER, -(-parts // MICROS))


def parse_micros(text: str) -> int:
    """Return micro-units of `50` or `0.25`: at most 9 digits before and 6 after the point."""
    if _AMOUNT.fullmatch(text) is None:
        raise QuantityError(
            "expected an amount of money such as 50 or 0.25, at most 6 digits after the point, "
            f"got {text[:_SHOWN_CHARS]!r}"
        )
    whole, _, rest = text.partition(".")
    return int(whole) * MICROS + int(rest.ljust(6, "0"))


def parse_currency(text: str) -> str:
    """Return an ISO 4217 code by its form, such as `EUR`."""
    if _CURRENCY.fullmatch(text) is None:
        raise QuantityError(
            f"expected an ISO 4217 code such as EUR or USD, got {text[:_SHOWN_CHARS]!r}"
        )
    return text


def parse_cost_limit(text: str) -> tuple[int, Window, str]:
    """Return (micro-units, window, currency) from `50 EUR/d`, `0.25 USD/min`."""
    money, slash, window = text.partition("/")
    amount, space, currency = money.partition(" ")
    if not slash or not space or window not in (Window.MINUTE, Window.HOUR, Window.DAY):
        raise QuantityError(f"expected money such as 50 EUR/d, got {text[:_SHOWN_CHARS]!r}")
    return parse_micros(amount), Window(window), parse_currency(currency)


def format_money(micros: int, currency: str) -> str:
    """Return micro-units as people write them: `50 EUR`, `0.25 EUR`."""
    whole, rest = divmod(micros, MICROS)
    digits = f"{rest:06d}".rstrip("0")
    return f"{whole}.{digits} {currency}" if digits else f"{whole} {currency}"
