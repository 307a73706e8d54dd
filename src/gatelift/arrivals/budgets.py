"""LiteLLM's budgets of whoever has a key, and what of each does not come along.

Invariants
- Every budget that limits a carried key ends in a cap on cost, in a `Left`, or in both: a cap that is
  a share of the budget has lost what a window leaves unspent.
- A budget of a team inside an organisation is no cap here at all; `PROJECT_LIMIT` says so elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gatelift.arrivals.left import Left, Why
from gatelift.arrivals.limits import Limits, share_of
from gatelift.arrivals.litellm_config import Config
from gatelift.arrivals.litellm_keys import CarriedKey
from gatelift.arrivals.litellm_rows import Rows, budget_of, limits_of
from gatelift.terms import Window

__all__ = ["budgets_left", "limits_of_user"]

_WORDS = {Window.MINUTE: "a minute", Window.HOUR: "an hour", Window.DAY: "a day"}


def limits_of_user(rows: Rows, key: CarriedKey) -> tuple[Limits, ...]:
    """Return a key's user's own limits and those as a member of the key's team."""
    if key.user is None:
        return ()
    user = rows.users.get(key.user)
    member = None if key.team is None else rows.members.get((key.team, key.user))
    return (Limits() if user is None else limits_of(user), budget_of(rows, member))


def budgets_left(
    rows: Rows, config: Config, keys: tuple[CarriedKey, ...], unpriced: Why | None
) -> tuple[Left, ...]:
    """Return what of the budgets is left; `unpriced` is why nothing prices them, if nothing does."""
    return tuple(
        left
        for what, limits in _budgets(rows, config, keys).items()
        for left in _left_of(what, limits, unpriced)
    )


def _budgets(rows: Rows, config: Config, keys: tuple[CarriedKey, ...]) -> Mapping[str, Limits]:
    found = {f"key {key.key.public_id}": key.limits for key in keys}
    for key in keys:
        for number, own in enumerate(limits_of_user(rows, key)):
            found[f"{('user', 'membership')[number]} of {key.principal}"] = own
        if key.organisation_row is not None:
            held = rows.organisations[key.organisation_row]
            found[f"organisation {key.organisation}"] = budget_of(rows, held)
        elif key.team is not None:
            found[f"team of {key.organisation}"] = limits_of(rows.teams[key.team])
    found["litellm_settings"] = config.all_keys
    return found


def _left_of(what: str, limits: Limits, unpriced: Why | None) -> Iterator[Left]:
    if limits.warns:
        yield Left(what=f"{what}: soft_budget", why=Why.SOFT_BUDGET)
    if limits.budget is None:
        return
    share = share_of(limits)
    what = f"{what}: max_budget"
    if share is None:
        yield Left(what=what, why=Why.NO_WINDOW)
    elif unpriced is not None:
        yield Left(what=what, why=unpriced)
    elif not share.micros:
        yield Left(what=what, why=Why.BUDGET_SMALL)
    elif not share.is_whole:
        part = f"1/{share.parts} of it" if share.parts > 1 else "all of it"
        yield Left(what=f"{what}, {part} {_WORDS[share.window]}", why=Why.BUDGET_SHARE)
