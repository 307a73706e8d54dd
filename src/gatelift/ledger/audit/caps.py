"""Caps, recounted: for every counter and window, what was charged against what was allowed.

    sum of `spent` of all finishes  +  sum of `reserved` of open starts  <=  limit

The limit of a counter is that of the certificate that its exchanges name, met with the orders that
had to be obeyed; where an order changed it inside a window, the largest limit of that window.

Invariants
- Every cap of an exchange's envelope was charged, to its own subject, in a window that holds it.
- No exchange spent more than it had reserved, or less than it says it released, nor less than that
  costs by the plan's prices.
- `coverage` is charged in the window 0, for ever; `parallel` is never charged: nothing here can show
  it. Which prompts are the same nobody can tell from records, so what coverage is charged for one
  exchange is the worker's word, and only its sum is held against the limit.

Does not trust a counter's name further than it fits the exchange that charges it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from gatelift.encoding import Digest
from gatelift.errors import CallerError
from gatelift.ledger.audit.authority import Authority, OrderFact
from gatelift.ledger.audit.exchanges import Exchange
from gatelift.ledger.audit.report import Findings
from gatelift.messages import Charge, Finish
from gatelift.terms import Cap, CapUnit, Subject, Window, cost_of, window_ms

__all__ = ["CapRecount"]

_GRACE_MS = 60_000
"""A request reserves in the window of its arrival and may start a little after it has ended."""

_Key = tuple[str, int]
_Limits = dict[str, Cap]


class CounterName(NamedTuple):
    """A counter's name in parts."""

    stage: str
    cap: str
    subject: str
    window: Window


@lru_cache(maxsize=65_536)
def _parse_counter(counter: str) -> CounterName:
    parts = counter.split(":", 2)
    if len(parts) != 3:
        raise ValueError(f"expected <stage>:<cap key>:<subject id>, got {counter[:120]!r}")
    return CounterName(parts[0], parts[1], parts[2], Window(parts[1].rpartition("/")[2]))


class CapRecount:
    """Adds up charges and holds them against the limits."""

    def __init__(self, authority: Authority, findings: Findings) -> None:
        self._authority = authority
        self._findings = findings
        self._totals: dict[_Key, int] = {}
        self._limits: dict[_Key, int] = {}
        self._where: dict[_Key, str] = {}
        self._tables: dict[tuple[Digest, tuple[str, ...]], _Limits] = {}

    @property
    def counters(self) -> int:
        """How many counters and windows were added up."""
        return len(self._totals)

    def take(self, exchange: Exchange) -> None:
        """Take one exchange; an open one counts what it reserved."""
        finish = exchange.finish
        charges = exchange.start.reserved if finish is None else finish.spent
        binding, possible = self._limits_of(exchange)
        for charge in charges:
            key = (charge.counter, charge.window)
            self._totals[key] = self._totals.get(key, 0) + charge.amount
            self._where[key] = exchange.where
            if not self._fits(exchange, charge) or exchange.fact is None:
                continue
            name = _parse_counter(charge.counter)
            cap = binding.get(name.cap) or possible.get(name.cap)
            if cap is None:
                self._error(exchange, "unknown_counter", f"{charge.counter} is no cap of its stage")
            else:
                self._limits[key] = max(self._limits.get(key, 0), cap.limit)
        if finish is not None:
            self._check_settlement(exchange, finish, binding)

    def close(self) -> None:
        """Report every counter whose charges add up to more than its limit."""
        for key, total in self._totals.items():
            limit = self._limits.get(key)
            if limit is not None and total > limit:
                self._findings.error(
                    "cap_exceeded",
                    self._where[key],
                    f"{key[0]} in the window from {key[1]}: expected at most {limit}, "
                    f"{total} were charged",
                )

    def _limits_of(self, exchange: Exchange) -> tuple[_Limits, _Limits]:
        start, fact, grant = exchange.start, exchange.fact, exchange.grant
        if fact is None:
            return {}, {}
        binding = self._authority.binding_orders(fact, start, grant, start.at)
        possible = self._authority.any_orders(fact, start, grant)
        return self._table(exchange, binding), self._table(exchange, possible)

    def _table(self, exchange: Exchange, orders: tuple[OrderFact, ...]) -> _Limits:
        fact = exchange.fact
        if fact is None:
            return {}
        # A stop allows nothing, which `exchanges` judges; caps are counted by what it left.
        narrowing = tuple(held for held in orders if held.order.ceiling is not None)
        key = (fact.held.digest, tuple(held.order.id for held in narrowing))
        if key not in self._tables:
            envelope = self._authority.envelope(fact, narrowing)
            caps: Iterable[Cap] = () if envelope is None else envelope.caps
            self._tables[key] = {cap.key: cap for cap in caps}
        return self._tables[key]

    def _fits(self, exchange: Exchange, charge: Charge) -> bool:
        start, grant = exchange.start, exchange.grant
        try:
            name = _parse_counter(charge.counter)
            endless = name.cap.endswith(f".{CapUnit.COVERAGE}/{Window.NONE}")
            length = 0 if endless else window_ms(name.window)
            subject = Subject(name.cap.partition(".")[0])
        except (CallerError, ValueError) as error:
            self._error(exchange, "bad_charge", str(error))
            return False
        ids = {
            Subject.PRINCIPAL: start.principal,
            Subject.ORGANISATION: start.organisation,
            Subject.STAGE: start.stage,
            Subject.AUDIENCE: "" if grant is None else grant.tier.value,
        }
        if endless:
            inside = charge.window == 0
        else:
            late = start.at - charge.window
            inside = charge.window % length == 0 and 0 <= late < length + _GRACE_MS
        if (
            name.stage != start.stage
            or name.subject != ids[subject]
            or charge.amount < 0
            or not inside
        ):
            self._error(
                exchange,
                "bad_charge",
                f"{charge.amount} against {charge.counter} in the window from {charge.window} "
                f"does not fit a start of {start.stage!r} at {start.at}",
            )
            return False
        return True

    def _check_settlement(self, exchange: Exchange, finish: Finish, caps: _Limits) -> None:
        reserved = {(c.counter, c.window): c.amount for c in exchange.start.reserved}
        spent = {(c.counter, c.window): c.amount for c in finish.spent}
        if len(spent) != len(finish.spent) or len(reserved) != len(exchange.start.reserved):
            self._error(exchange, "bad_charge", "a counter is charged twice in one record")
        for key, amount in spent.items():
            if amount > reserved.get(key, 0):
                self._error(
                    exchange,
                    "spent_above_reserved",
                    f"{key[0]}: reserved {reserved.get(key, 0)}, spent {amount}",
                )
        if not finish.upstream:
            return
        charged = {name.partition(":")[2].partition(":")[0] for name, _ in spent}
        for name, cap in caps.items():
            if cap.unit is not CapUnit.PARALLEL and name not in charged:
                self._error(exchange, "cap_not_charged", f"cap {name} of its stage was not charged")
        self._check_amounts(exchange, finish, caps)

    def _check_amounts(self, exchange: Exchange, finish: Finish, caps: _Limits) -> None:
        for charge in finish.spent:
            cap = caps.get(charge.counter.partition(":")[2].partition(":")[0])
            if cap is None:
                continue
            least = {
                CapUnit.REQUESTS: 1,
                CapUnit.OUTPUT_TOKENS: finish.output_tokens,
                CapUnit.COST: self._cost(exchange, finish),
            }
            if charge.amount < least.get(cap.unit, 0):
                self._error(
                    exchange,
                    "charged_too_little",
                    f"{charge.counter}: expected at least {least[cap.unit]}, got {charge.amount}",
                )

    def _cost(self, exchange: Exchange, finish: Finish) -> int:
        prices = None if exchange.fact is None else exchange.fact.plan.prices
        return cost_of(prices, finish.input_tokens, finish.output_tokens)

    def _error(self, exchange: Exchange, code: str, message: str) -> None:
        start = exchange.start
        self._findings.error(
            code, exchange.where, f"record {start.worker}/{start.run}/{start.seq}: {message}"
        )
