"""What another gateway limits, turned into caps of a stage.

There a limit belongs to a key; here a cap counts by principal, organisation or stage and is the same
for everybody in the stage. So the import proposes one cap for all and says who had another one.

Invariants
- A proposal never loosens a cap that the plan has already: both are met.
- With `smallest` nobody may do more here than there: a limit on tokens in and out together becomes
  half of it for each way, and of many limits the smallest counts. With `largest` the largest one
  counts, and whoever had less is named.
- A budget becomes a cap on cost in the longest window within its duration: its share of one window,
  exact, rounded down to whole micro-units. All windows of one duration are never more than the budget.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from decimal import Decimal

import msgspec

from gatelift.terms import MICROS, Cap, CapKey, CapUnit, Subject, Window, meet_caps, window_ms

__all__ = [
    "Choice",
    "Difference",
    "Limits",
    "Proposal",
    "Share",
    "budget_ms",
    "caps_of",
    "propose",
    "share_of",
]

_DURATION = re.compile(r"(\d{1,6})(s|m|h|d|w|mo)", re.ASCII)
_MONTH_MS = 31 * 86_400_000
# A month counts as its longest: the share of a day comes out smaller.
_UNIT_MS = {
    "s": 1_000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 7 * 86_400_000,
    "mo": _MONTH_MS,
}
# LiteLLM resets what lasts 30 days on the first of a month, so one budget may last 31.
_AS_MONTH_MS = 30 * 86_400_000
# The most that a plan can write: nine digits before the point.
_MOST_MONEY = Decimal(10**9 - 1)
_LEAST_MONEY = Decimal(1).scaleb(-6)


class Choice(enum.StrEnum):
    """Which of many limits becomes the cap of all."""

    SMALLEST = "smallest"
    LARGEST = "largest"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one key, user, team, organisation or model is limited to. Null is no limit."""

    requests_min: int | None = None
    tokens_min: int | None = None
    tokens_day: int | None = None
    parallel: int | None = None
    budget: Decimal | None = None
    budget_duration_ms: int | None = None
    spent: Decimal = Decimal(0)
    warns: bool = False
    """Whether there is a soft budget, which refuses nothing."""

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


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """A budget's share of one window, in micro-units; `parts` windows are its duration."""

    window: Window
    parts: int
    micros: int
    is_whole: bool


def budget_ms(text: str | None) -> int | None:
    """Return a budget's duration in ms from `30d`, `1mo`, `1h`; null when it says none."""
    match = _DURATION.fullmatch(text or "")
    found = None if match is None else int(match[1]) * _UNIT_MS[match[2]]
    return _MONTH_MS if found == _AS_MONTH_MS else found


def share_of(limits: Limits) -> Share | None:
    """Return what a budget allows in one window; null without a budget or without a duration."""
    if limits.budget is None or limits.budget_duration_ms is None:
        return None
    duration_ms = limits.budget_duration_ms
    window = next(
        (each for each in (Window.DAY, Window.HOUR) if duration_ms >= window_ms(each)),
        Window.MINUTE,
    )
    parts = max(1, -(-duration_ms // window_ms(window)))
    return Share(
        window=window,
        parts=parts,
        micros=_micros(limits.budget, parts),
        is_whole=duration_ms == window_ms(window),
    )


def _micros(budget: Decimal, parts: int) -> int:
    # Bounded on both sides before it becomes a fraction, which could fill the memory (1e999999999).
    if budget < _LEAST_MONEY:
        return 0
    above, below = min(budget, _MOST_MONEY).as_integer_ratio()
    return above * MICROS // (below * parts)


def _of_tokens(limit: int, window: Window, choice: Choice) -> list[tuple[CapUnit, Window, int]]:
    each = limit // 2 if choice is Choice.SMALLEST else limit
    return [(unit, window, each) for unit in (CapUnit.INPUT_TOKENS, CapUnit.OUTPUT_TOKENS)]


def _of_money(limits: Limits) -> list[tuple[CapUnit, Window, int]]:
    share = share_of(limits)
    # A plan writes no cap of nothing: whoever lists what is left names it.
    return [(CapUnit.COST, share.window, share.micros)] if share and share.micros else []


def caps_of(
    subject: Subject, limits: Limits, *, choice: Choice, is_priced: bool
) -> tuple[Cap, ...]:
    """Return the caps that say what `limits` say, of one subject; budgets only if `is_priced`."""
    found: list[tuple[CapUnit, Window, int]] = []
    if limits.requests_min is not None:
        found.append((CapUnit.REQUESTS, Window.MINUTE, limits.requests_min))
    if limits.parallel is not None:
        found.append((CapUnit.PARALLEL, Window.NONE, limits.parallel))
    if limits.tokens_min is not None:
        found += _of_tokens(limits.tokens_min, Window.MINUTE, choice)
    if limits.tokens_day is not None:
        found += _of_tokens(limits.tokens_day, Window.DAY, choice)
    if is_priced:
        found += _of_money(limits)
    return meet_caps(
        (),
        tuple(
            Cap(subject=subject, unit=unit, window=window, limit=limit)
            for unit, window, limit in found
        ),
    )


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
