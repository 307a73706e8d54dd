"""What another gateway limits, turned into caps of a stage.

There a limit belongs to a key; here a cap counts by principal, organisation or stage and is the same
for everybody in the stage. So the import proposes one cap for all and says who had another one.

Invariants
- A proposal never loosens a cap that the plan has already: both are met.
- With `smallest` nobody may do more here than there: a limit on tokens in and out together becomes
  half of it for each way, and of many limits the smallest counts. With `largest` the largest one
  counts, and whoever had less is named.
- Money becomes tokens only by a price that somebody gave; a division rounds down.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from decimal import Decimal

import msgspec

from gatelift.encoding import MAX_SAFE_INTEGER
from gatelift.terms import Cap, CapKey, CapUnit, Subject, Window, meet_caps, window_ms

__all__ = [
    "Choice",
    "Difference",
    "Limits",
    "Price",
    "Proposal",
    "budget_ms",
    "caps_of",
    "propose",
]

_DURATION = re.compile(r"(\d{1,6})(s|m|h|d|w|mo)", re.ASCII)
# A month counts as its longest: the share of a day comes out smaller.
_UNIT_MS = {
    "s": 1_000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 7 * 86_400_000,
    "mo": 31 * 86_400_000,
}


class Choice(enum.StrEnum):
    """Which of many limits becomes the cap of all."""

    SMALLEST = "smallest"
    LARGEST = "largest"


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """Money for one token, in the budgets' own currency."""

    input: Decimal
    output: Decimal


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one key, user, team, organisation or model is limited to. Null is no limit."""

    requests_min: int | None = None
    tokens_min: int | None = None
    tokens_day: int | None = None
    parallel: int | None = None
    budget: Decimal | None = None
    budget_duration_ms: int | None = None
    spent: Decimal = Decimal(0)

    @property
    def is_spent(self) -> bool:
        """Whether the budget is used up."""
        return self.budget is not None and self.spent >= self.budget


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody whose own limit was another one. `there` is null for no limit."""

    who: str
    cap: CapKey
    there: int | None
    here: int

    @property
    def effect(self) -> str:
        """Whether they may do more or less here."""
        return "looser" if self.there is not None and self.there < self.here else "tighter"


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """Caps for the stage: all of them, those that the plan does not have so, and who differs."""

    caps: tuple[Cap, ...]
    changed: tuple[Cap, ...]
    differences: tuple[Difference, ...]


def budget_ms(text: str | None) -> int | None:
    """Return a budget's duration in ms from `30d`, `1mo`, `1h`; null when it says none."""
    match = _DURATION.fullmatch(text or "")
    return None if match is None else int(match[1]) * _UNIT_MS[match[2]]


def _window_of(duration_ms: int) -> tuple[Window, int]:
    """Return the longest window within a duration, and into how many the duration is split."""
    for window in (Window.DAY, Window.HOUR):
        if duration_ms >= window_ms(window):
            return window, -(-duration_ms // window_ms(window))
    return Window.MINUTE, max(1, -(-duration_ms // window_ms(Window.MINUTE)))


def _of_tokens(limit: int, window: Window, choice: Choice) -> list[tuple[CapUnit, Window, int]]:
    each = limit // 2 if choice is Choice.SMALLEST else limit
    return [(unit, window, each) for unit in (CapUnit.INPUT_TOKENS, CapUnit.OUTPUT_TOKENS)]


def _of_money(
    limits: Limits, price: Price | None, choice: Choice
) -> list[tuple[CapUnit, Window, int]]:
    if limits.budget is None or limits.budget_duration_ms is None or price is None:
        return []
    window, parts = _window_of(limits.budget_duration_ms)
    paid = [
        (unit, each)
        for unit, each in (
            (CapUnit.INPUT_TOKENS, price.input),
            (CapUnit.OUTPUT_TOKENS, price.output),
        )
        if each > 0
    ]
    split = len(paid) if choice is Choice.SMALLEST else 1
    return [
        (unit, window, min(MAX_SAFE_INTEGER, int(limits.budget / (parts * split * each))))
        for unit, each in paid
    ]


def caps_of(
    subject: Subject, limits: Limits, choice: Choice, price: Price | None
) -> tuple[Cap, ...]:
    """Return the caps that say what `limits` say, of one subject."""
    found: list[tuple[CapUnit, Window, int]] = []
    if limits.requests_min is not None:
        found.append((CapUnit.REQUESTS, Window.MINUTE, limits.requests_min))
    if limits.parallel is not None:
        found.append((CapUnit.PARALLEL, Window.NONE, limits.parallel))
    if limits.tokens_min is not None:
        found += _of_tokens(limits.tokens_min, Window.MINUTE, choice)
    if limits.tokens_day is not None:
        found += _of_tokens(limits.tokens_day, Window.DAY, choice)
    found += _of_money(limits, price, choice)
    caps: tuple[Cap, ...] = ()
    for unit, window, limit in found:
        # Two limits of one kind (by tokens and by money) both hold: the smaller one counts.
        caps = meet_caps(caps, (Cap(subject=subject, unit=unit, window=window, limit=limit),))
    return caps


def propose(
    there: Mapping[str, tuple[Cap, ...]], plan: tuple[Cap, ...], choice: Choice
) -> Proposal:
    """Return one cap for each kind of limit in `there` (caps by who has them), met with the plan's.

    Everybody in `there` is compared with what comes out, also who had no limit at all.
    """
    values: dict[CapKey, list[Cap]] = {}
    for caps in there.values():
        for cap in caps:
            values.setdefault(cap.key, []).append(cap)
    pick = min if choice is Choice.SMALLEST else max
    proposed = tuple(pick(caps, key=lambda cap: cap.limit) for caps in values.values())
    together = meet_caps(plan, proposed)
    here = {cap.key: cap for cap in together}
    differences: list[Difference] = []
    for who, caps in there.items():
        own = {cap.key: cap.limit for cap in caps}
        differences += [
            Difference(who=who, cap=key, there=own.get(key), here=here[key].limit)
            for key in sorted(values)
            if own.get(key) != here[key].limit and _concerns(who, key)
        ]
    held = set(plan)
    return Proposal(
        caps=together,
        changed=tuple(cap for cap in together if cap not in held),
        differences=tuple(differences),
    )


def _concerns(who: str, key: CapKey) -> bool:
    # `who` reads `<subject> <pseudonym>`: a cap on organisations says nothing about a principal.
    return key.startswith(who.split(" ", maxsplit=1)[0] + ".")
