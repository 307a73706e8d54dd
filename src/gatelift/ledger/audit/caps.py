"""Caps, recounted: for every counter and window, what was charged against what was allowed.

    sum of `spent` of all finishes  +  sum of `reserved` of open starts  <=  limit

The limit of a counter is that of the certificate that its exchanges name, met with the orders that
had to be obeyed; where an order changed it inside a window, the largest limit of that window.

Invariants
- Every cap of an exchange's envelope was charged, to its own subject, in a window that holds it.
- No exchange spent more than it had reserved, or less than it says it released, nor less than that
  costs by the plan's prices.
- Exchanges with the same counters under the same terms are judged together as far as they are alike;
  whatever is not plainly right is judged again, charge by charge, and reported from there.
- `coverage` is charged in the window 0, for ever; `parallel` is never charged: nothing here can show
  it. Which prompts are the same nobody can tell from records, so what coverage is charged for one
  exchange is the worker's word, and only its sum is held against the limit.

Does not trust a counter's name further than it fits the exchange that charges it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from gatelift.errors import CallerError
from gatelift.ledger.audit.authority import Authority, CertificateFact, OrderFact
from gatelift.ledger.audit.exchanges import Exchange
from gatelift.ledger.audit.own_calls import OWN_CAP
from gatelift.ledger.audit.report import Findings
from gatelift.messages import Charge, Finish
from gatelift.terms import Cap, CapUnit, Subject, Tier, Window, cost_of, window_ms

__all__ = ["CapRecount"]

_GRACE_MS = 60_000
"""A request reserves in the window of its arrival and may start a little after it has ended."""

_Key = tuple[str, int]
_Limits = dict[str, Cap]


class _Term(NamedTuple):
    """One charge of a shape: its window (0: endless), what it is at least of, and its limit."""

    length_ms: int
    least: int
    limit: int


class _Shape(NamedTuple):
    """What holds of every exchange that charges the same counters under the same terms."""

    terms: tuple[_Term, ...]
    asks_cost: bool


@dataclass(slots=True)
class _Counted:
    """A counter's charges in one window, the largest limit that held, and where it was charged last."""

    total: int
    where: str
    limit: int | None


_COST: Final = 3
_LEAST: Final = {CapUnit.REQUESTS: 1, CapUnit.OUTPUT_TOKENS: 2, CapUnit.COST: _COST}
"""Places in a list of the least amounts of an exchange."""

_Kind = tuple[tuple[str, ...], str, str, str, Tier | None]
_ShapeKey = tuple[_Kind, int, int]


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
        self._counted: dict[_Key, _Counted] = {}
        self._tables: dict[tuple[int, tuple[str, ...]], _Limits] = {}
        self._shapes: dict[_ShapeKey, _Shape | None] = {}

    @property
    def counters(self) -> int:
        """How many counters and windows were added up."""
        return len(self._counted)

    def take(self, exchange: Exchange) -> None:
        """Take one exchange; an open one counts what it reserved."""
        finish = exchange.finish
        if finish is None or exchange.fact is None or not self._took_plainly(exchange, finish):
            self._take(exchange, finish)

    def _took_plainly(self, exchange: Exchange, finish: Finish) -> bool:
        """Count an exchange of a known shape in which nothing is wrong; say whether it was one.

        Nothing is counted or reported otherwise: then `_take` looks at each charge by itself.
        """
        start, spent, at = exchange.start, finish.spent, exchange.start.at
        shape = self._shape(exchange, spent)
        if shape is None or len(start.reserved) != len(spent) or not finish.upstream:
            return False
        least = (0, 1, finish.output_tokens, 0)
        if shape.asks_cost:
            least = (0, 1, finish.output_tokens, self._cost(exchange, finish))
        for charge, reserved, term in zip(spent, start.reserved, shape.terms, strict=True):
            window, length_ms = charge.window, term.length_ms
            if (
                charge.counter != reserved.counter
                or window != reserved.window
                or not least[term.least] <= charge.amount <= reserved.amount
            ):
                return False
            if length_ms == 0:
                if window != 0:
                    return False
            elif window % length_ms or not 0 <= at - window < length_ms + _GRACE_MS:
                return False
        for charge, term in zip(spent, shape.terms, strict=True):
            self._count(charge, exchange.where, term.limit)
        return True

    def _shape(self, exchange: Exchange, spent: tuple[Charge, ...]) -> _Shape | None:
        start, grant = exchange.start, exchange.grant
        binding, possible = self._limits_of(exchange)
        counters = tuple([charge.counter for charge in spent])
        tier = None if grant is None else grant.tier
        kind = (counters, start.stage, start.principal, start.organisation, tier)
        key = (kind, id(binding), id(possible))
        if key not in self._shapes:
            self._shapes[key] = _shape_of(exchange, spent, binding, possible)
        return self._shapes[key]

    def _count(self, charge: Charge, where: str, limit: int | None) -> None:
        key = (charge.counter, charge.window)
        counted = self._counted.get(key)
        if counted is None:
            self._counted[key] = _Counted(charge.amount, where, limit)
            return
        counted.total += charge.amount
        counted.where = where
        if limit is not None and (counted.limit is None or limit > counted.limit):
            counted.limit = limit

    def _take(self, exchange: Exchange, finish: Finish | None) -> None:
        charges = exchange.start.reserved if finish is None else finish.spent
        binding, possible = self._limits_of(exchange)
        for charge in charges:
            limit = None
            if self._fits(exchange, charge) and exchange.fact is not None:
                name = _cap_of(charge.counter)
                cap = binding.get(name) or possible.get(name)
                if cap is None and exchange.own is not None and name == OWN_CAP:
                    limit = exchange.own.own.requests_per_day
                elif cap is None:
                    self._error(
                        exchange, "unknown_counter", f"{charge.counter} is no cap of its stage"
                    )
                else:
                    limit = cap.limit
            self._count(charge, exchange.where, limit)
        if finish is not None:
            self._check_settlement(exchange, finish, binding)

    def close(self) -> None:
        """Report every counter whose charges add up to more than its limit."""
        for key, counted in self._counted.items():
            if counted.limit is not None and counted.total > counted.limit:
                self._findings.error(
                    "cap_exceeded",
                    counted.where,
                    f"{key[0]} in the window from {key[1]}: expected at most {counted.limit}, "
                    f"{counted.total} were charged",
                )

    def _limits_of(self, exchange: Exchange) -> tuple[_Limits, _Limits]:
        start, fact, grant = exchange.start, exchange.fact, exchange.grant
        if fact is None:
            return {}, {}
        if not self._authority.orders:
            table = self._table(fact, ())
            return table, table
        binding = self._authority.binding_orders(fact, start, grant, start.at)
        possible = self._authority.any_orders(fact, start, grant)
        return self._table(fact, binding), self._table(fact, possible)

    def _table(self, fact: CertificateFact, orders: tuple[OrderFact, ...]) -> _Limits:
        key = (id(fact), tuple([held.order.id for held in orders]))
        if key not in self._tables:
            # A stop allows nothing, which `exchanges` judges; caps are counted by what it left.
            narrowing = tuple(held for held in orders if held.order.ceiling is not None)
            envelope = self._authority.envelope(fact, narrowing)
            caps: Iterable[Cap] = () if envelope is None else envelope.caps
            self._tables[key] = {cap.key: cap for cap in caps}
        return self._tables[key]

    def _fits(self, exchange: Exchange, charge: Charge) -> bool:
        start = exchange.start
        try:
            length_ms = _length_ms(exchange, charge.counter)
        except (CallerError, ValueError) as error:
            self._error(exchange, "bad_charge", str(error))
            return False
        if length_ms == 0:
            inside = charge.window == 0
        else:
            late = start.at - charge.window
            inside = charge.window % length_ms == 0 and 0 <= late < length_ms + _GRACE_MS
        if charge.amount < 0 or not inside:
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
        charged = {_cap_of(name) for name, _ in spent}
        for name, cap in caps.items():
            if cap.unit is not CapUnit.PARALLEL and name not in charged:
                self._error(exchange, "cap_not_charged", f"cap {name} of its stage was not charged")
        self._check_amounts(exchange, finish, caps)

    def _check_amounts(self, exchange: Exchange, finish: Finish, caps: _Limits) -> None:
        for charge in finish.spent:
            cap = caps.get(_cap_of(charge.counter))
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


def _length_ms(exchange: Exchange, counter: str) -> int:
    """Return the length of a counter's window, 0 for one that never ends; raises if it is not theirs."""
    start, grant = exchange.start, exchange.grant
    name = _parse_counter(counter)
    ids = {
        Subject.PRINCIPAL: start.principal,
        Subject.ORGANISATION: start.organisation,
        Subject.STAGE: start.stage,
        Subject.AUDIENCE: "" if grant is None else grant.tier.value,
    }
    subject = Subject(name.cap.partition(".")[0])
    # A tier stands in the grant: nobody finds it once its names were erased, or while it is sealed.
    is_hidden = grant is None and (exchange.is_nameless or exchange.own is not None)
    is_own = name.subject == ids[subject] or (is_hidden and subject is Subject.AUDIENCE)
    if name.stage != start.stage or not is_own:
        raise ValueError(f"{counter} is not a counter of this exchange, of stage {start.stage!r}")
    endless = name.cap.endswith(f".{CapUnit.COVERAGE}/{Window.NONE}")
    return 0 if endless else window_ms(name.window)


def _shape_of(
    exchange: Exchange, charges: tuple[Charge, ...], binding: _Limits, possible: _Limits
) -> _Shape | None:
    """Return what holds of every exchange with these counters and terms; null if something is wrong."""
    names = {_cap_of(charge.counter) for charge in charges}
    wanted = {name for name, cap in binding.items() if cap.unit is not CapUnit.PARALLEL}
    if len({charge.counter for charge in charges}) != len(charges) or not wanted <= names:
        return None
    terms = []
    for charge in charges:
        try:
            length_ms = _length_ms(exchange, charge.counter)
        except (CallerError, ValueError):
            return None
        own = binding.get(_cap_of(charge.counter))
        cap = own or possible.get(_cap_of(charge.counter))
        if cap is None:
            return None
        terms.append(_Term(length_ms, _LEAST.get(own.unit, 0) if own else 0, cap.limit))
    return _Shape(tuple(terms), any(term.least == _COST for term in terms))


def _cap_of(counter: str) -> str:
    return counter.partition(":")[2].partition(":")[0]
