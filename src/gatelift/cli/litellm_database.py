"""Reads LiteLLM's Postgres, read-only, in one snapshot.

Invariants
- Only the columns of `arrivals.COLUMNS` are selected, and of JSON columns only whether something
  stands there: no secret reaches this process's memory but the digests of keys.
- The session is read-only by its own setting and its transaction's; statements have a deadline.
- No message of the driver is shown: it could quote the address, and with it a password.

The driver is `psycopg` 3, an extra (`gatelift[postgres]`).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from gatelift.arrivals import COLUMNS, NEEDED, Rows, parse_rows
from gatelift.cli.errors import InputError, LitellmUnreachableError

__all__ = ["read_database"]

_CONNECT_S = 10
_STATEMENT_MS = 60_000
_MAX_ROWS = 200_000
_REFUSALS = (
    ("password authentication failed", "the password is not the right one"),
    ("no password supplied", "it asks for a password, and the URL holds none"),
    ("no pg_hba.conf entry", "it lets no such user in from here"),
    ("does not exist", "there is no such database or user"),
    ("42501", "this user may not read LiteLLM's tables"),
    ("57014", f"a statement took more than {_STATEMENT_MS // 1000} s"),
)
_ORDER = {
    "LiteLLM_VerificationToken": "token",
    "LiteLLM_TeamTable": "team_id",
    "LiteLLM_OrganizationTable": "organization_id",
    "LiteLLM_UserTable": "user_id",
    "LiteLLM_ProjectTable": "project_id",
    "LiteLLM_BudgetTable": "budget_id",
    "LiteLLM_TeamMembership": "team_id, user_id",
    "LiteLLM_ProxyModelTable": "model_name",
}
_EXPECTED_URL = "expected --db as postgresql://user@host:port/database"
# What Prisma takes in its URL and libpq would refuse.
_PRISMA_ONLY = frozenset(
    {
        "schema",
        "connection_limit",
        "pool_timeout",
        "pgbouncer",
        "socket_timeout",
        "statement_cache_size",
        "connect_timeout",
        "single_use_connections",
    }
)
_KEYS = "LiteLLM_VerificationToken"
# Settings of a key that a grant has no place for: columns in JSON, lists, and names in metadata.
_JSON_SETTINGS = ("model_max_budget", "budget_limits", "aliases", "permissions", "router_settings")
_LIST_SETTINGS = ("policies", "access_group_ids", "allowed_cache_controls")
_OTHER_SETTINGS = ("object_permission_id", "agent_id")
_METADATA_SETTINGS = ("guardrails", "model_rpm_limit", "model_tpm_limit", "tags", "priority")


def read_database(url: str) -> Rows:
    """Return LiteLLM's rows; raises `InputError`, `ArrivalError` or `LitellmUnreachableError`."""
    try:
        psycopg: Any = importlib.import_module("psycopg")
    except ImportError:
        raise InputError(
            "to read a database the extra is needed: pip install 'gatelift[postgres]'",
            code="extra_missing",
        ) from None
    address, schema = _address(url)
    try:
        with psycopg.connect(
            address,
            connect_timeout=_CONNECT_S,
            row_factory=psycopg.rows.dict_row,
            application_name="gatelift-import",
        ) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            return parse_rows(_read_all(connection, schema))
    except psycopg.ProgrammingError as error:
        raise InputError(_refused(error)) from None
    except psycopg.Error as error:
        raise LitellmUnreachableError(_refused(error)) from None


def _address(url: str) -> tuple[str, str | None]:
    """Return the URL without what only LiteLLM's own driver knows, and the schema it names."""
    try:
        parts = urlsplit(url)
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise InputError(_EXPECTED_URL) from None
    if parts.scheme not in {"postgresql", "postgres"}:
        raise InputError(_EXPECTED_URL)
    kept = [(name, value) for name, value in pairs if name not in _PRISMA_ONLY]
    return urlunsplit(parts._replace(query=urlencode(kept))), dict(pairs).get("schema")


def _refused(error: Any) -> str:
    # What the server said is looked at, never shown. While connecting there is no SQLSTATE.
    said, state = str(error), getattr(error, "sqlstate", None)
    found = (sentence for words, sentence in _REFUSALS if words in said or words == state)
    why = next(found, "is the address right, and does the server answer?")
    return f"LiteLLM's database refused: {why} ({state or type(error).__name__})"


def _read_all(connection: Any, schema: str | None) -> dict[str, list[Mapping[str, Any]]]:
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = {_STATEMENT_MS}")
        if schema is not None:
            cursor.execute("SELECT set_config('search_path', quote_ident(%s), true)", (schema,))
        cursor.execute(
            "SELECT table_name, column_name FROM information_schema.columns "
            "WHERE table_schema = current_schema() AND table_name = ANY(%s)",
            (list(COLUMNS),),
        )
        there: dict[str, set[str]] = {}
        for row in cursor.fetchall():
            there.setdefault(row["table_name"], set()).add(row["column_name"])
        _check(there)
        return {table: _read(cursor, table, there[table]) for table in COLUMNS if table in there}


def _check(there: Mapping[str, set[str]]) -> None:
    for table, needed in NEEDED.items():
        missing = [name for name in needed if name not in there.get(table, ())]
        if table not in there:
            raise InputError(
                f"expected LiteLLM's table {table} in the schema that this user sees first, and "
                "the right to read it; add ?schema=NAME to the URL if it is in another one"
            )
        if missing:
            raise InputError(
                f"table {table} lacks {', '.join(missing)}: this LiteLLM is older than can be "
                "read; upgrade it first"
            )


def _read(cursor: Any, table: str, there: set[str]) -> list[Mapping[str, Any]]:
    # Names come from our own tables only; nothing of the database's or the caller's is quoted in.
    wanted = [_column(name) for name in COLUMNS[table] if name in there]
    if table == _KEYS:
        wanted.append(f"{_settings(there)} AS settings")
    # By its own id, so that the same database gives the same report.
    order = _ORDER[table]
    cursor.execute(
        f'SELECT {", ".join(wanted)} FROM "{table}" ORDER BY {order} LIMIT {_MAX_ROWS + 1}'
    )
    found: list[Mapping[str, Any]] = cursor.fetchall()
    if len(found) > _MAX_ROWS:
        raise InputError(f"table {table} has more than {_MAX_ROWS} rows: too many for one import")
    return found


def _column(name: str) -> str:
    if name == "expires":
        # LiteLLM keeps UTC without a zone; either way the epoch comes out.
        return "(EXTRACT(EPOCH FROM \"expires\" AT TIME ZONE 'UTC') * 1000)::bigint AS expires"
    return f'"{name}"'


def _settings(there: set[str]) -> str:
    """Return SQL for the names of a key's settings that a grant has no place for."""
    tests = [
        (name, f"""coalesce("{name}"::text, '') NOT IN ('', '{{}}', '[]', 'null')""")
        for name in _JSON_SETTINGS
        if name in there
    ]
    tests += [
        (name, f'coalesce(cardinality("{name}"), 0) > 0')
        for name in _LIST_SETTINGS
        if name in there
    ]
    tests += [(name, f'"{name}" IS NOT NULL') for name in _OTHER_SETTINGS if name in there]
    if "metadata" in there:
        tests += [
            (
                f"metadata.{name}",
                f"""coalesce("metadata"->>'{name}', '') NOT IN ('', '{{}}', '[]')""",
            )
            for name in _METADATA_SETTINGS
        ]
    cases = ", ".join(f"CASE WHEN {test} THEN '{name}' END" for name, test in tests)
    return f"array_remove(ARRAY[{cases}]::text[], NULL)"
