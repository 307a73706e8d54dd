"""LiteLLM's keys: which may come along, and for whom.

Invariants
- A key comes only as its digest, with the id made from that digest, until its own expiry or for 90
  days, whichever is sooner.
- Whatever LiteLLM would refuse now (blocked, expired, spent, another model, no chat) does not come.
- The outermost body that owns a key is its organisation: LiteLLM's organisation, else its team. Keys
  that belong to no body share one organisation, so that they never count as several independent ones.
- Names are pseudonyms throughout.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from gatelift.arrivals.left import Left, Why
from gatelift.arrivals.limits import Limits
from gatelift.arrivals.litellm_rows import KeyRow, Rows, TeamRow, budget_of, limits_of
from gatelift.arrivals.pseudonyms import Pseudonyms
from gatelift.encoding import Digest
from gatelift.trust import MAX_CARRIED_MS, GrantKey, carried_key

__all__ = ["CarriedKey", "keys_of"]

_HEX_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_DASHBOARD = "litellm-dashboard"
# The proxy's own administrator, whom LiteLLM writes as owner of whatever the master key made.
_NOBODY = frozenset({None, "", "default_user_id"})
_ALL_MODELS = frozenset({"all-proxy-models", "*"})
_NO_MODELS = "no-default-models"
_CHAT_ROUTES = frozenset(
    {
        "llm_api_routes",
        "llm_api_routes_without_mcp",
        "openai_routes",
        "/chat/completions",
        "/v1/chat/completions",
        "/v1/*",
        "/*",
    }
)


class CarriedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that may come: whose it is by pseudonym, until when (ms UTC), and its own limits."""

    key: GrantKey
    organisation: str
    principal: str
    project: str
    not_after: int
    team: str | None
    organisation_row: str | None
    user: str | None
    limits: Limits


class _Owner(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that own a key."""

    organisation: str | None
    team: TeamRow | None


def keys_of(
    rows: Rows, model: str, names: Pseudonyms, now_ms: int
) -> tuple[tuple[CarriedKey, ...], tuple[Left, ...]]:
    """Return the keys that may come for `model`, and why each other one may not."""
    carried: list[CarriedKey] = []
    left: list[Left] = []
    for number, row in enumerate(rows.keys, 1):
        if _HEX_DIGEST.fullmatch(row.token) is None:
            # What stands there may be a key in clear: only its place is named.
            left.append(Left(what=f"key number {number}", why=Why.KEY_NOT_DIGEST))
            continue
        key = carried_key(Digest(f"sha256:{row.token}"))
        owner = _admissible(rows, row, model, now_ms)
        if isinstance(owner, Why):
            left.append(Left(what=f"key {key.public_id}", why=owner))
            continue
        carried.append(_carry(rows, row, owner, key, names, now_ms))
        left += _left_of(row, key)
    return tuple(carried), tuple(left)


def _owner(rows: Rows, row: KeyRow) -> _Owner | None:
    """Return who owns a key; null when a row that it names is not there."""
    team = None if row.team_id is None else rows.teams.get(row.team_id)
    user = None if row.user_id in _NOBODY else rows.users.get(str(row.user_id))
    organisation = row.organization_id or (team.organization_id if team else None)
    if organisation is None and row.team_id is None and user is not None:
        organisation = user.organization_id
    missing = (
        (row.team_id is not None and team is None)
        or (row.project_id is not None and row.project_id not in rows.projects)
        or (organisation is not None and organisation not in rows.organisations)
    )
    return None if missing else _Owner(organisation=organisation, team=team)


def _opens(models: Iterable[str], model: str, *, inherits: bool) -> bool:
    given = set(models)
    if not given:
        return True
    if _NO_MODELS in given:
        return False
    return bool(given & (_ALL_MODELS | {model})) or (inherits and "all-team-models" in given)


def _admissible(rows: Rows, row: KeyRow, model: str, now_ms: int) -> _Owner | Why:
    """Return who owns a key that may come, or why it may not."""
    if row.team_id == _DASHBOARD:
        return Why.KEY_DASHBOARD
    owner = _owner(rows, row)
    if owner is None:
        return Why.KEY_UNKNOWN_OWNER
    project = rows.projects.get(row.project_id) if row.project_id else None
    if row.blocked or (owner.team and owner.team.blocked) or (project and project.blocked):
        return Why.KEY_BLOCKED
    if row.expires is not None and row.expires <= now_ms:
        return Why.KEY_EXPIRED
    routes = set(row.allowed_routes)
    if row.key_type in {"management", "read_only"} or (routes and not routes & _CHAT_ROUTES):
        return Why.KEY_MANAGEMENT
    places: list[Iterable[str]] = [row.models]
    places += [each.models for each in (owner.team, project) if each is not None]
    if owner.organisation is not None:
        places.append(rows.organisations[owner.organisation].models)
    if not all(_opens(models, model, inherits=True) for models in places):
        return Why.KEY_OTHER_MODEL
    return Why.KEY_BUDGET_SPENT if _is_spent(rows, row, owner) else owner


def _is_spent(rows: Rows, row: KeyRow, owner: _Owner) -> bool:
    budget = rows.budgets.get(row.budget_id) if row.budget_id else None
    found = [limits_of(row, budget)]
    if owner.team is not None:
        found.append(limits_of(owner.team))
    if row.user_id in rows.users:
        found.append(limits_of(rows.users[str(row.user_id)]))
    if row.team_id is not None and row.user_id is not None:
        found.append(budget_of(rows, rows.members.get((row.team_id, row.user_id))))
    if owner.organisation is not None:
        found.append(budget_of(rows, rows.organisations[owner.organisation]))
    return any(limits.is_spent for limits in found)


def _carry(
    rows: Rows, row: KeyRow, owner: _Owner, key: GrantKey, names: Pseudonyms, now_ms: int
) -> CarriedKey:
    team = owner.team
    project = "default"
    if owner.organisation is not None:
        held = rows.organisations[owner.organisation]
        body = names.of("org", owner.organisation, shown=held.organization_alias)
        if team is not None:
            project = names.of("team", team.team_id, shown=team.team_alias)
    elif team is not None:
        body = names.of("team", team.team_id, shown=team.team_alias)
    else:
        body = names.of("org", "", shown="keys of no team")
    if row.project_id is not None:
        project = names.of("project", row.project_id)
    user = None if row.user_id in _NOBODY else row.user_id
    # One person in two organisations is two principals: their use is counted apart there as well.
    who = names.of("key", row.token) if user is None else names.of("user", body, user)
    end = now_ms + MAX_CARRIED_MS
    budget = rows.budgets.get(row.budget_id) if row.budget_id else None
    return CarriedKey(
        key=key,
        organisation=body,
        principal=who,
        project=project,
        not_after=end if row.expires is None else min(end, row.expires),
        team=row.team_id,
        organisation_row=owner.organisation,
        user=user,
        limits=limits_of(row, budget),
    )


def _left_of(row: KeyRow, key: GrantKey) -> list[Left]:
    what = f"key {key.public_id}"
    return [Left(what=f"{what}: {name}", why=Why.KEY_SETTING) for name in row.settings]
