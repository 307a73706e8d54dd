"""LiteLLM's configuration and database together, as what a release of ours would take.

Invariants
- It decides nothing and admits nobody: what comes out are proposals for admissions and for whoever
  signs the plan.
- Everything that was read ends in what is carried, in a difference, or in `left` with a reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from gatelift.arrivals.errors import ArrivalError
from gatelift.arrivals.left import Left, Why
from gatelift.arrivals.limits import Choice, Limits, Price, Proposal, caps_of, propose
from gatelift.arrivals.litellm_config import Config
from gatelift.arrivals.litellm_keys import CarriedKey, keys_of
from gatelift.arrivals.litellm_rows import Rows, budget_of, limits_of
from gatelift.arrivals.placements import CarriedPlacement, placements_of
from gatelift.arrivals.pseudonyms import Pseudonyms
from gatelift.terms import Cap, Subject, meet_caps

__all__ = ["Arrival", "carry_litellm", "model_of", "summary"]

_NOTHING = Config(deployments=(), each_key=Limits(), all_keys=Limits(), left=())
_STAGE = "stage all"


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """What would come: keys for grants, placements, caps for the stage; and what would not."""

    model: str
    keys: tuple[CarriedKey, ...]
    placements: tuple[CarriedPlacement, ...]
    caps: Proposal
    left: tuple[Left, ...]

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
    choice: Choice,
    price: Price | None,
    names: Pseudonyms,
    now_ms: int,
) -> Arrival:
    """Return what a release of `model` would take; `plan_caps` are the stage's caps so far."""
    config, rows = config or _NOTHING, rows or Rows()
    keys, left = keys_of(rows, model, names, now_ms)
    placements, beside = placements_of(config.deployments, model)
    price = price or _price_of(config, model)
    there: dict[str, tuple[Cap, ...]] = {}
    _principals(there, rows, config, keys, choice, price)
    beside += _organisations(there, rows, keys, choice, price)
    _stage(there, config, model, choice, price)
    in_database = tuple(
        Left(what=f"model {each.model_name}", why=Why.MODELS_IN_DATABASE)
        for each in rows.models
        if each.model_name == model
    )
    money = _money_left(rows, config, keys, price)
    return Arrival(
        model=model,
        keys=keys,
        placements=placements,
        caps=propose(there, plan_caps, choice),
        left=(*config.left, *beside, *in_database, *left, *money),
    )


def _price_of(config: Config, model: str) -> Price | None:
    """Return the dearest price of a model's deployments, null when one of them names none."""
    found = [each for each in config.deployments if each.name == model]
    into, out = [each.input_price for each in found], [each.output_price for each in found]
    known_in = [each for each in into if each is not None]
    known_out = [each for each in out if each is not None]
    if not found or len(known_in) < len(found) or len(known_out) < len(found):
        return None
    return Price(input=max(known_in), output=max(known_out))


def _principals(
    there: dict[str, tuple[Cap, ...]],
    rows: Rows,
    config: Config,
    keys: tuple[CarriedKey, ...],
    choice: Choice,
    price: Price | None,
) -> None:
    for key in keys:
        who = f"{Subject.PRINCIPAL.value} {key.principal}"
        found = caps_of(Subject.PRINCIPAL, key.limits, choice, price)
        if key.limits.parallel is None:
            found = meet_caps(found, caps_of(Subject.PRINCIPAL, config.each_key, choice, price))
        for own in _of_user(rows, key):
            found = meet_caps(found, caps_of(Subject.PRINCIPAL, own, choice, price))
        # Several keys of one principal count together here: the smallest limit of any counts.
        there[who] = meet_caps(there.get(who, ()), found)


def _of_user(rows: Rows, key: CarriedKey) -> tuple[Limits, ...]:
    """Return a key's user's own limits and those as a member of the key's team."""
    if key.user is None:
        return ()
    user = rows.users.get(key.user)
    member = None if key.team is None else rows.members.get((key.team, key.user))
    return (Limits() if user is None else limits_of(user), budget_of(rows, member))


def _organisations(
    there: dict[str, tuple[Cap, ...]],
    rows: Rows,
    keys: tuple[CarriedKey, ...],
    choice: Choice,
    price: Price | None,
) -> tuple[Left, ...]:
    left: dict[str, Left] = {}
    for key in keys:
        who = f"{Subject.ORGANISATION.value} {key.organisation}"
        team = None if key.team is None else limits_of(rows.teams[key.team])
        inner = team is not None and key.organisation_row is not None
        limits = team or Limits()
        if key.organisation_row is not None:
            limits = budget_of(rows, rows.organisations[key.organisation_row])
        there[who] = caps_of(Subject.ORGANISATION, limits, choice, price)
        if inner and team is not None and caps_of(Subject.ORGANISATION, team, choice, price):
            left[key.project] = Left(what=f"limits of {key.project}", why=Why.PROJECT_LIMIT)
    return tuple(left.values())


def _stage(
    there: dict[str, tuple[Cap, ...]],
    config: Config,
    model: str,
    choice: Choice,
    price: Price | None,
) -> None:
    found = caps_of(Subject.STAGE, config.all_keys, choice, price)
    for each in config.deployments:
        if each.name == model:
            # One placement may have to carry everything, so its own limit is the stage's.
            found = meet_caps(found, caps_of(Subject.STAGE, each.limits, choice, price))
    if found:
        there[_STAGE] = found


def _money_left(
    rows: Rows, config: Config, keys: tuple[CarriedKey, ...], price: Price | None
) -> tuple[Left, ...]:
    budgets = {f"key {key.key.public_id}": key.limits for key in keys}
    for key in keys:
        for number, own in enumerate(_of_user(rows, key)):
            budgets[f"{('user', 'membership')[number]} of {key.principal}"] = own
        if key.team is not None:
            budgets[f"team of {key.organisation} {key.project}"] = limits_of(rows.teams[key.team])
        if key.organisation_row is not None:
            held = rows.organisations[key.organisation_row]
            budgets[f"organisation {key.organisation}"] = budget_of(rows, held)
    budgets["litellm_settings"] = config.all_keys
    left = []
    for what, limits in budgets.items():
        if limits.budget is None:
            continue
        if limits.budget_duration_ms is None:
            left.append(Left(what=f"{what}: max_budget", why=Why.NO_WINDOW))
        elif price is None or price == Price(input=Decimal(0), output=Decimal(0)):
            left.append(Left(what=f"{what}: max_budget", why=Why.MONEY))
    return tuple(left)


def summary(arrival: Arrival) -> Mapping[str, int]:
    """Return how much comes and how much does not."""
    return {
        "keys": len(arrival.keys),
        "organisations": len(arrival.organisations),
        "placements": len(arrival.placements),
        "left": len(arrival.left),
    }
