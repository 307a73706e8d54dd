"""LiteLLM's tables, as far as they are read: which columns, and each row as a value.

Read against the schema of litellm-proxy-extras 0.4.110 (LiteLLM 1.109). Older databases lack some
columns; which ones are needed is said here.

Invariants
- `COLUMNS` is everything that is ever selected. No column that holds a secret in clear is among
  them: no password, no parameter of a model, no credential, no metadata but the names of settings.
- A row that is not as the schema says raises, naming table and column, never the value.

Does not open a connection; whoever does hands over rows as mappings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from gatelift.arrivals.errors import ArrivalError
from gatelift.arrivals.limits import Limits, budget_ms

__all__ = [
    "COLUMNS",
    "NEEDED",
    "BudgetRow",
    "KeyRow",
    "MemberRow",
    "ModelRow",
    "OrganisationRow",
    "ProjectRow",
    "Rows",
    "TeamRow",
    "UserRow",
    "budget_of",
    "limits_of",
    "parse_rows",
]

T = TypeVar("T", bound=msgspec.Struct)


class _Limited(msgspec.Struct, frozen=True, kw_only=True):
    max_budget: float | None = None
    soft_budget: float | None = None
    budget_duration: str | None = None
    spend: float = 0.0
    tpm_limit: int | None = None
    rpm_limit: int | None = None
    tpd_limit: int | None = None
    max_parallel_requests: int | None = None


class BudgetRow(_Limited, frozen=True, kw_only=True):
    """A row of LiteLLM_BudgetTable."""

    budget_id: str


class OrganisationRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of LiteLLM_OrganizationTable."""

    organization_id: str
    organization_alias: str | None = None
    budget_id: str | None = None
    models: tuple[str, ...] = ()
    spend: float = 0.0


class TeamRow(_Limited, frozen=True, kw_only=True):
    """A row of LiteLLM_TeamTable."""

    team_id: str
    team_alias: str | None = None
    organization_id: str | None = None
    models: tuple[str, ...] = ()
    blocked: bool | None = False


class UserRow(_Limited, frozen=True, kw_only=True):
    """A row of LiteLLM_UserTable."""

    user_id: str
    organization_id: str | None = None


class ProjectRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of LiteLLM_ProjectTable."""

    project_id: str
    budget_id: str | None = None
    models: tuple[str, ...] = ()
    blocked: bool | None = False


class KeyRow(_Limited, frozen=True, kw_only=True):
    """A row of LiteLLM_VerificationToken. `expires` in ms UTC; `settings` are names alone."""

    token: str
    team_id: str | None = None
    organization_id: str | None = None
    user_id: str | None = None
    project_id: str | None = None
    budget_id: str | None = None
    expires: int | None = None
    blocked: bool | None = None
    models: tuple[str, ...] = ()
    allowed_routes: tuple[str, ...] = ()
    key_type: str | None = None
    settings: tuple[str, ...] = ()


class MemberRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of LiteLLM_TeamMembership: what one user may spend in one team."""

    user_id: str
    team_id: str
    budget_id: str | None = None
    spend: float = 0.0


class ModelRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of LiteLLM_ProxyModelTable: its name alone, the rest is encrypted."""

    model_name: str


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was read of a database, by id."""

    keys: tuple[KeyRow, ...] = ()
    teams: Mapping[str, TeamRow] = {}
    organisations: Mapping[str, OrganisationRow] = {}
    users: Mapping[str, UserRow] = {}
    projects: Mapping[str, ProjectRow] = {}
    budgets: Mapping[str, BudgetRow] = {}
    members: Mapping[tuple[str, str], MemberRow] = {}
    models: tuple[ModelRow, ...] = ()


_LIMITED = tuple(_Limited.__struct_fields__)
_SHAPES: dict[str, type[msgspec.Struct]] = {
    "LiteLLM_VerificationToken": KeyRow,
    "LiteLLM_TeamTable": TeamRow,
    "LiteLLM_OrganizationTable": OrganisationRow,
    "LiteLLM_UserTable": UserRow,
    "LiteLLM_ProjectTable": ProjectRow,
    "LiteLLM_BudgetTable": BudgetRow,
    "LiteLLM_TeamMembership": MemberRow,
    "LiteLLM_ProxyModelTable": ModelRow,
}
COLUMNS: Mapping[str, tuple[str, ...]] = {
    table: tuple(name for name in shape.__struct_fields__ if name != "settings")
    for table, shape in _SHAPES.items()
}
"""Every column that is selected, by table."""

NEEDED: Mapping[str, tuple[str, ...]] = {
    "LiteLLM_VerificationToken": (
        "token",
        "team_id",
        "user_id",
        "expires",
        "blocked",
        "models",
        "max_budget",
        "spend",
        "budget_duration",
        "tpm_limit",
        "rpm_limit",
        "max_parallel_requests",
    ),
    "LiteLLM_TeamTable": ("team_id", "blocked", "models", "max_budget", "spend"),
    "LiteLLM_OrganizationTable": ("organization_id", "budget_id"),
    "LiteLLM_UserTable": ("user_id", "max_budget", "spend"),
    "LiteLLM_BudgetTable": ("budget_id", "max_budget", "budget_duration"),
}
"""Without these nothing is imported: a key whose limits or blocks are unknown is not let in."""


def parse_rows(tables: Mapping[str, Iterable[Mapping[str, Any]]]) -> Rows:
    """Return the rows of a database; raises `ArrivalError` naming the table and the column."""
    found: dict[str, tuple[Any, ...]] = {
        table: tuple(_row(table, row, shape) for row in tables.get(table, ()))
        for table, shape in _SHAPES.items()
    }
    return Rows(
        keys=found["LiteLLM_VerificationToken"],
        teams={row.team_id: row for row in found["LiteLLM_TeamTable"]},
        organisations={row.organization_id: row for row in found["LiteLLM_OrganizationTable"]},
        users={row.user_id: row for row in found["LiteLLM_UserTable"]},
        projects={row.project_id: row for row in found["LiteLLM_ProjectTable"]},
        budgets={row.budget_id: row for row in found["LiteLLM_BudgetTable"]},
        members={(row.team_id, row.user_id): row for row in found["LiteLLM_TeamMembership"]},
        models=found["LiteLLM_ProxyModelTable"],
    )


def _row(table: str, row: Mapping[str, Any], shape: type[T]) -> T:
    # An array may be null in old rows, where the schema's default came later.
    given = {
        name: () if value is None and name in _LISTS else value
        for name, value in row.items()
        if value is not None or name not in _DEFAULTED
    }
    try:
        return msgspec.convert(given, shape)
    except msgspec.ValidationError as error:
        # msgspec names path and types, not values.
        raise ArrivalError(f"table {table}: {error}") from None


_LISTS = frozenset({"models", "allowed_routes", "settings"})
_DEFAULTED = frozenset({"spend"})


def _amount(value: int | None) -> int | None:
    return None if value is None else max(0, value)


def budget_of(rows: Rows, held: OrganisationRow | MemberRow | None) -> Limits:
    """Return the limits that a row has by the budget it names, with what the row has spent."""
    budget = None if held is None or held.budget_id is None else rows.budgets.get(held.budget_id)
    if budget is None or held is None:
        return Limits()
    return limits_of(msgspec.structs.replace(budget, spend=held.spend))


def limits_of(row: _Limited, budget: BudgetRow | None = None) -> Limits:
    """Return the limits of a row; where it has none of its own, those of the budget it names."""

    def own(name: str) -> Any:
        value = getattr(row, name)
        return getattr(budget, name) if value is None and budget is not None else value

    money = own("max_budget")
    return Limits(
        requests_min=_amount(own("rpm_limit")),
        tokens_min=_amount(own("tpm_limit")),
        tokens_day=_amount(own("tpd_limit")),
        parallel=_amount(own("max_parallel_requests")),
        budget=None if money is None else max(Decimal(0), Decimal(str(money))),
        budget_duration_ms=budget_ms(own("budget_duration")),
        spent=Decimal(str(row.spend)),
        warns=own("soft_budget") is not None,
    )
