"""LiteLLM's configuration and database together, as what a release of ours would take.

Invariants
- It decides nothing and admits nobody: what comes out are proposals for admissions and for whoever
  signs the plan.
- Everything that was read ends in what is carried, in a difference, or in `left` with a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias

import msgspec

from gatelift.arrivals.budgets import budgets_left, limits_of_user
from gatelift.arrivals.errors import ArrivalError
from gatelift.arrivals.left import Left, Why
from gatelift.arrivals.limits import Choice, Limits, Proposal, caps_of, propose
from gatelift.arrivals.litellm_config import Config
from gatelift.arrivals.litellm_keys import CarriedKey, keys_of
from gatelift.arrivals.litellm_rows import Rows, budget_of, limits_of
from gatelift.arrivals.placements import CarriedPlacement, placements_of
from gatelift.arrivals.prices import CURRENCY, prices_of
from gatelift.arrivals.pseudonyms import Pseudonyms
from gatelift.terms import Cap, CapUnit, Prices, Subject, meet_caps

__all__ = ["Arrival", "carry_litellm", "model_of", "summary"]

_NOTHING = Config(deployments=(), each_key=Limits(), all_keys=Limits(), left=())
_STAGE = "stage all"
_Read: TypeAlias = Callable[[Subject, Limits], tuple[Cap, ...]]


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """What would come: keys for grants, placements, caps for the stage; and what would not.

    `prices` are those that caps on cost count at; `proposes_prices` if the plan does not have them.
    """

    model: str
    keys: tuple[CarriedKey, ...]
    placements: tuple[CarriedPlacement, ...]
    caps: Proposal
    prices: Prices | None
    proposes_prices: bool
    left: tuple[Left, ...]

    @property
    def currency(self) -> str:
        """The currency of what the caps on cost say."""
        return CURRENCY if self.prices is None else self.prices.currency

    @property
    def organisations(self) -> tuple[str, ...]:
        """The organisations that would have grants."""
        return tuple(sorted({key.organisation for key in self.keys}))


def model_of(config: Config | None, rows: Rows | None, given: str | None) -> str:
    """Return the one model that the release is to serve, by LiteLLM's name for it."""
    if given is not None:
        return given
    found = {each.name for each in (config or _NOTHING).deployments}
    found |= {each.model_name for each in (rows or Rows()).models}
    if len(found) == 1:
        return found.pop()
    raise ArrivalError(
        f"expected --model, one of {sorted(found)}: a release has one candidate"
        if found
        else "expected --model: LiteLLM's name for the model that the release serves"
    )


def carry_litellm(
    config: Config | None,
    rows: Rows | None,
    *,
    model: str,
    plan_caps: tuple[Cap, ...],
    plan_prices: Prices | None,
    choice: Choice,
    prices: Prices | None,
    names: Pseudonyms,
    now_ms: int,
) -> Arrival:
    """Return what a release of `model` would take.

    `plan_caps` are the stage's caps so far and `plan_prices` the plan's prices; `prices` are what
    somebody gave for the model, in LiteLLM's currency.
    """
    config, rows = config or _NOTHING, rows or Rows()
    keys, left = keys_of(rows, model, names, now_ms)
    placements, beside = placements_of(config.deployments, model)
    in_database = tuple(
        Left(what=f"model {each.model_name}", why=Why.MODELS_IN_DATABASE)
        for each in rows.models
        if each.model_name == model
    )
    here = [each for each in config.deployments if each.name == model]
    counted = prices_of([*here, *(None for _ in in_database)], prices, plan_prices)
    read = partial(caps_of, choice=choice, is_priced=isinstance(counted, Prices))
    there: dict[str, tuple[Cap, ...]] = {}
    _principals(there, rows, config, keys, read)
    beside += _organisations(there, rows, keys, read)
    _stage(there, config, model, read)
    proposal = propose(there, plan_caps, choice)
    needs_prices = any(cap.unit is CapUnit.COST for cap in proposal.caps)
    proposed = counted if isinstance(counted, Prices) and needs_prices else None
    money = budgets_left(rows, config, keys, counted if isinstance(counted, Why) else None)
    return Arrival(
        model=model,
        keys=keys,
        placements=placements,
        caps=proposal,
        prices=plan_prices or proposed,
        proposes_prices=plan_prices is None and proposed is not None,
        left=(*config.left, *beside, *in_database, *left, *money),
    )


def _principals(
    there: dict[str, tuple[Cap, ...]],
    rows: Rows,
    config: Config,
    keys: tuple[CarriedKey, ...],
    read: _Read,
) -> None:
    for key in keys:
        who = f"{Subject.PRINCIPAL.value} {key.principal}"
        found = read(Subject.PRINCIPAL, key.limits)
        if key.limits.parallel is None:
            found = meet_caps(found, read(Subject.PRINCIPAL, config.each_key))
        for own in limits_of_user(rows, key):
            found = meet_caps(found, read(Subject.PRINCIPAL, own))
        # Several keys of one principal count together here: the smallest limit of any counts.
        there[who] = meet_caps(there.get(who, ()), found)


def _organisations(
    there: dict[str, tuple[Cap, ...]],
    rows: Rows,
    keys: tuple[CarriedKey, ...],
    read: _Read,
) -> tuple[Left, ...]:
    left: dict[str, Left] = {}
    for key in keys:
        who = f"{Subject.ORGANISATION.value} {key.organisation}"
        team = None if key.team is None else limits_of(rows.teams[key.team])
        inner = team is not None and key.organisation_row is not None
        limits = team or Limits()
        if key.organisation_row is not None:
            limits = budget_of(rows, rows.organisations[key.organisation_row])
        there[who] = read(Subject.ORGANISATION, limits)
        if (
            inner
            and team is not None
            and (team.budget is not None or read(Subject.ORGANISATION, team))
        ):
            left[key.project] = Left(what=f"limits of {key.project}", why=Why.PROJECT_LIMIT)
    return tuple(left.values())


def _stage(
    there: dict[str, tuple[Cap, ...]],
    config: Config,
    model: str,
    read: _Read,
) -> None:
    found = read(Subject.STAGE, config.all_keys)
    for each in config.deployments:
        if each.name == model:
            # One placement may have to carry everything, so its own limit is the stage's.
            found = meet_caps(found, read(Subject.STAGE, each.limits))
    if found:
        there[_STAGE] = found


def summary(arrival: Arrival) -> Mapping[str, int]:
    """Return how much comes and how much does not."""
    return {
        "keys": len(arrival.keys),
        "organisations": len(arrival.organisations),
        "placements": len(arrival.placements),
        "left": len(arrival.left),
    }
