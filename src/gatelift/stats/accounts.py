"""The account of false alarm: what a release may spend on being stopped for nothing.

An account belongs to one (release, weights). It opens with the plan's whole `false_alarm`, divided
among the guardrail metrics in equal shares, and outlives stages and fingerprints. It breaches for a
metric at share * E >= 1/false_alarm and as a whole at sum(share * E) >= 1/false_alarm; the latter
covers the former, so that P(any false breach of the account) <= false_alarm.

Invariants
- Shares are fixed when the account opens, are equal, rounded down, and sum to at most 1.
- A breach latches: what crossed once stays crossed, with the figure and the entry of the crossing.
- Every metric of the account has a value at every judgement; one that has seen nothing has 0. A
  missing or a foreign metric raises.
- Only `reopen`, after a certificate that clears a breach, opens a new account with the full
  `false_alarm`; `number` counts them, because the bound holds for each and not for all together.

Does not: know why. A metric or a limit changed under a running release is another hypothesis and
needs another account.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_FLOOR, Decimal

import msgspec

from gatelift.stats.arithmetic import ONE, StatsError, check_count, check_open_unit, pinned
from gatelift.stats.stop import crossed, log_e_overall

__all__ = ["Account", "Breach", "judge", "open_account", "reopen"]

_SHARE_STEP = Decimal("0.000000001")


class Breach(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first crossing of a metric, or of the whole account where `metric` is None."""

    metric: str | None
    at: int
    """Index of the entry after which it was judged."""
    log_e: Decimal


class Account(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shares and breaches of one process of a release. `number` is 1 and one more each resume."""

    release: str
    weights: str
    """Which model weights: their digest, or the name under which they are claimed."""
    shares: dict[str, Decimal]
    false_alarm: Decimal
    opened_at: int
    number: int = 1
    breaches: tuple[Breach, ...] = ()

    def __post_init__(self) -> None:
        check_open_unit("false_alarm", self.false_alarm)
        check_count("opened_at", self.opened_at, at_most=2**53 - 1)
        if check_count("number", self.number) == 0:
            raise StatsError("number: accounts are counted from 1, got 0")
        if not self.release or not self.weights or not self.shares:
            raise StatsError("an account needs a release, its weights and at least one metric")
        with pinned():
            spent = sum(
                check_open_unit(f"share of {name}", share, one=True)
                for name, share in self.shares.items()
            )
        if spent > ONE:
            raise StatsError(f"expected shares with a sum of at most 1, got {spent}")


def open_account(
    *,
    release: str,
    weights: str,
    metrics: Sequence[str],
    false_alarm: Decimal,
    opened_at: int,
) -> Account:
    """Return the first account of (release, weights) over its guardrail `metrics`."""
    if not metrics or len(set(metrics)) != len(metrics):
        raise StatsError(f"expected distinct guardrail metrics, at least one; got {list(metrics)}")
    with pinned():
        share = (ONE / len(metrics)).quantize(_SHARE_STEP, rounding=ROUND_FLOOR)
    return Account(
        release=release,
        weights=weights,
        shares=dict.fromkeys(sorted(metrics), share),
        false_alarm=false_alarm,
        opened_at=opened_at,
    )


def judge(account: Account, log_es: Mapping[str, Decimal], at: int) -> Account:
    """Return `account` with what crosses now latched; `at` is the index of the entry judged."""
    if set(log_es) != set(account.shares):
        raise StatsError(
            f"expected a log-e-value for each of {sorted(account.shares)}, got {sorted(log_es)}: "
            "a metric without units has 0"
        )
    check_count("at", at, at_most=2**53 - 1)
    latched = {breach.metric for breach in account.breaches}
    found: list[Breach] = []
    for metric, share in account.shares.items():
        log_e = log_es[metric]
        if metric not in latched and crossed(log_e, share, account.false_alarm):
            found.append(Breach(metric=metric, at=at, log_e=log_e))
    if None not in latched:
        overall = log_e_overall([(share, log_es[m]) for m, share in account.shares.items()])
        # Rounding down twice could hide from the sum what one of its terms has shown.
        if found or crossed(overall, ONE, account.false_alarm):
            found.append(Breach(metric=None, at=at, log_e=overall))
    if not found:
        return account
    return msgspec.structs.replace(account, breaches=(*account.breaches, *found))


def reopen(account: Account, opened_at: int) -> Account:
    """Return the next account after a breach was cleared: full `false_alarm`, one number on."""
    if not account.breaches:
        raise StatsError("an account without a breach goes on: it is never reset")
    if opened_at <= account.breaches[-1].at:
        raise StatsError(
            f"the new account must open after entry {account.breaches[-1].at}, got {opened_at}"
        )
    return msgspec.structs.replace(
        account, opened_at=opened_at, number=account.number + 1, breaches=()
    )
