"""Checks of a plan's prices against its caps on cost.

Invariants
- A cap on cost without prices would count nothing, so it is a problem; so is one in another currency
  than the prices', and one at prices of nothing.

Source: DESIGN.md section 5.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gatelift.plan.kinds import BAD
from gatelift.plan.problems import Report
from gatelift.plan.shapes import WrittenLimit
from gatelift.terms import CapUnit

__all__ = ["check_prices"]

Tree = Mapping[str, Any]


def check_prices(tree: Tree, stages: list[Tree], report: Report) -> None:
    """Report caps on cost that the plan's prices cannot count."""
    limits = list(_cost_limits(stages))
    prices = tree.get("prices")
    if prices is None:
        if not report.given("prices"):
            for path, limit in dict(limits).items():
                report.add(
                    path,
                    "a cap on cost counts nothing without prices",
                    f"prices: {{currency: {limit.currency}, input: 2.5, output: 10}} beside stages:, "
                    "in money for a million tokens",
                )
        return
    currency = prices.get("currency")
    for path, limit in limits:
        if currency is not None and limit.currency != currency:
            report.add(
                path,
                f"the plan's prices are in {currency}, got {limit.currency}",
                f"it in {currency}",
            )
    if limits and prices.get("input") == 0 and prices.get("output") == 0:
        report.add(
            "prices",
            "at prices of 0 no cap on cost is ever reached",
            "a price above 0, or the plan without caps on cost",
        )


def _cost_limits(stages: list[Tree]) -> Iterator[tuple[str, WrittenLimit]]:
    for index, stage in enumerate(stages):
        for inner, caps in (
            ("caps", stage.get("caps", {})),
            ("observe.caps", stage.get("observe", {}).get("caps", {})),
        ):
            for subject, units in caps.items():
                for limit in units.get(CapUnit.COST, ()):
                    if limit is not BAD:
                        yield f"stages[{index}].{inner}.{subject}.{CapUnit.COST}", limit
