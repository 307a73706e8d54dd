"""What tokens cost there, as the `prices` of a plan: dollars for a million tokens, each way.

    micro-dollars for a million tokens = ceil(dollars for one token * 10**12)

Invariants
- A price rounds up: the same exchange never costs less here than there, so no cap gets wider.
- Exact: from the digits that stand there to whole micro-units, with no rounding but that one.
- A budget is counted at one price each way. Deployments of the model that differ, or one whose price
  is unknown, leave it uncounted; prices that somebody gave go before those of the deployments.
- Prices that a plan has stay. They count budgets only if they are dollars and nowhere below a price
  that is known there.

Other prices of LiteLLM (a second, a request, a cached or a far token) are left with their names.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from gatelift.arrivals.left import Why
from gatelift.arrivals.litellm_config import Deployment
from gatelift.terms import MAX_PRICE_MICROS, MICROS, Prices

__all__ = ["CURRENCY", "prices_of"]

CURRENCY: Final = "USD"
"""What LiteLLM counts in."""
_SCALE = MICROS * MICROS


def prices_of(
    deployments: Iterable[Deployment | None], given: Prices | None, plan: Prices | None
) -> Prices | Why:
    """Return the prices that budgets are counted at, or why there are none.

    `deployments` are the model's, null for one that cannot be read; `given` are prices that somebody
    said, `plan` those that the plan has.
    """
    known = [None if each is None else _of_deployment(each) for each in deployments]
    there = known if given is None else [given]
    found: Prices
    if plan is not None:
        if plan.currency != CURRENCY:
            return Why.PLAN_CURRENCY
        if any(each is not None and _is_below(plan, each) for each in there):
            return Why.PLAN_PRICES
        found = plan
    else:
        first = there[0] if there else None
        if first is None or None in there:
            return Why.MONEY
        if any(each != first for each in there):
            return Why.PRICES_DIFFER
        found = first
    return found if found.input_micros or found.output_micros else Why.PRICE_ZERO


def _is_below(one: Prices, other: Prices) -> bool:
    return one.input_micros < other.input_micros or one.output_micros < other.output_micros


def _of_deployment(deployment: Deployment) -> Prices | None:
    into, out = _micros(deployment.input_price), _micros(deployment.output_price)
    if into is None or out is None:
        return None
    return Prices(currency=CURRENCY, input_micros=into, output_micros=out)


def _micros(price: Decimal | None) -> int | None:
    """Return micro-units for a million tokens; null for none and for what no plan can hold."""
    if price is None or price > MAX_PRICE_MICROS // MICROS:
        return None
    if 0 < price <= Decimal(1).scaleb(-12):
        # Below what a plan can say; as a fraction it could fill the memory (1e-999999999).
        return 1
    above, below = price.as_integer_ratio()
    found = -(-above * _SCALE // below)
    return found if found <= MAX_PRICE_MICROS else None
