"""Money in a plan: prices for a million tokens, and limits such as `50 EUR/d`.

Invariants
- Amounts are read from their digits into whole micro-units; what has more than six digits after the
  point is refused, not rounded.
- A limit names its currency; `price_checks` holds it against the plan's.

Source: DESIGN.md section 5, quantities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from gatelift.errors import CallerError
from gatelift.plan.kinds import BAD, Bad, Text, expected
from gatelift.plan.problems import Report
from gatelift.plan.shapes import Field, Record, WrittenLimit, limits_of
from gatelift.plan.yaml_nodes import Node, Scalar
from gatelift.terms import (
    AMOUNT_PATTERN,
    CURRENCY_PATTERN,
    MAX_PRICE_MICROS,
    MICROS,
    parse_cost_limit,
    parse_micros,
)

__all__ = ["PRICES", "CostLimits"]


@dataclass(frozen=True, kw_only=True)
class Price:
    """An amount of money without its currency, in micro-units once read."""

    high_micros: int

    def read(self, node: Node, path: str, report: Report) -> int | Bad:
        """Return micro-units."""
        try:
            value = parse_micros(node.text) if isinstance(node, Scalar) and node.plain else None
        except CallerError:
            value = None
        if value is None or value > self.high_micros:
            what = f"an amount of money from 0 to {self.high_micros // MICROS}"
            return expected(node, path, report, what, "a decimal without quotes, such as 2.5")
        return value

    def schema(self) -> dict[str, Any]:
        """Return a bounded number; how fine it may be is the parser's."""
        return {"type": "number", "minimum": 0, "maximum": self.high_micros // MICROS}


@dataclass(frozen=True, kw_only=True)
class CostLimits:
    """The limits of cost: `50 EUR/d`, or a list `[5 EUR/h, 50 EUR/d]`."""

    def read(self, node: Node, path: str, report: Report) -> tuple[WrittenLimit, ...] | Bad:
        """Return the limits in micro-units with their currency, each window once."""
        form = "money of at least 0.000001 in a window of /min, /h or /d"
        found = limits_of(node, path, report, _limit, form, "50 EUR/d, or [5 EUR/h, 50 EUR/d]")
        return BAD if found is None else found

    def schema(self) -> dict[str, Any]:
        """Return one limit or a list of them."""
        form = f"^{AMOUNT_PATTERN} {CURRENCY_PATTERN}/(min|h|d)$"
        one = {"type": "string", "pattern": form}
        return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1, "maxItems": 3}]}


def _limit(text: str) -> WrittenLimit | None:
    micros, window, currency = parse_cost_limit(text)
    return WrittenLimit(micros, window, currency) if micros else None


PRICES: Final = Record(
    title="prices",
    fields=(
        Field(
            name="currency",
            kind=Text(pattern=CURRENCY_PATTERN, form="an ISO 4217 code", example="EUR"),
            says="the currency of all that costs, by its ISO 4217 code",
        ),
        Field(
            name="input",
            kind=Price(high_micros=MAX_PRICE_MICROS),
            says="money for a million tokens of prompts",
        ),
        Field(
            name="output",
            kind=Price(high_micros=MAX_PRICE_MICROS),
            says="money for a million tokens of answers",
        ),
    ),
)
