"""`gatelift erase`: prepare and sign an erasure on the host that holds the records, and see it carried out.

Invariants
- Whom it is about is named on this host alone: the statement and its lines hold no name.
- What takes the records' place is kept on this host before anything is signed.
- Two people sign: with both keys here, or the second by `gatelift submit --key`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from gatelift.cli.desk import (
    AdminOption,
    Desk,
    KeysOption,
    OutOption,
    TokenOption,
    load_keys,
    new_id,
    now_ms,
    show_sent,
    sign_statement,
)
from gatelift.cli.errors import Exit, InputError
from gatelift.cli.layout import Deployment
from gatelift.cli.output import JsonFlag, facts, say, show
from gatelift.journal import find_records
from gatelift.ledger.erasing import TombstoneLines, prepare_erasure
from gatelift.ledger.logged import logged_erasures
from gatelift.messages import Erasure, ErasureBasis, ErasureScope, Start
from gatelift.plan import parse_plan
from gatelift.trust import verify_root
from gatelift.watch import make_session, session_secret, session_window_start_ms
from gatelift.wire.files import FileStore
from gatelift.wire.keyfiles import load_signing_key

__all__ = ["erase"]

erase = typer.Typer(no_args_is_help=True, help="Erase records; two people, announced on the log.")
DirOption = Annotated[Path, typer.Option("--dir", help="The deployment's folder on this host.")]
Select = Callable[[Start], bool]


@erase.command("sign")
def sign_erasure(
    directory: DirOption,
    basis: Annotated[ErasureBasis, typer.Option("--basis", help="On what ground.")],
    key: KeysOption,
    end_user: Annotated[
        str | None, typer.Option("--end-user", help="All sessions of this end-user id.")
    ] = None,
    request: Annotated[
        str | None, typer.Option("--request", help="The session of this request id.")
    ] = None,
    principal: Annotated[
        str | None, typer.Option("--principal", help="All records of this principal.")
    ] = None,
    organisation: Annotated[
        str | None, typer.Option("--organisation", help="All records of this organisation.")
    ] = None,
    admin: AdminOption = None,
    token_file: TokenOption = None,
    out: OutOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Prepare the erasure of a subject's records and sign it (operator or admissions, then safety)."""
    scope, select = _subject(directory, end_user, request, principal, organisation)
    desk = Desk(admin, token_file)
    signers = load_keys(key)
    plan = parse_plan(desk.file(desk.plan_digest))
    erasure_id = new_id("erasure")
    prepared = prepare_erasure(
        directory,
        _root_name(directory),
        erasure=erasure_id,
        scope=scope,
        select=select,
        session_window_ms=plan.session_window_ms,
        secret=secrets.token_bytes(32),
        now_ms=now_ms(),
    )
    FileStore(directory / "files").put_all(list(prepared.lines.values()))
    value = Erasure(
        id=erasure_id,
        release=desk.release,
        basis=basis,
        scope=scope,
        covers=prepared.covers,
        supersedes=prepared.supersedes,
        at=now_ms(),
    )
    envelope = sign_statement("erasure", value, desk.subject, signers)
    result = desk.send("erasure", envelope, out=out, cosigned=out is None)
    records = sum(each.records for each in value.covers)
    result |= {"id": value.id, "records": records, "sessions": prepared.sessions}
    show_sent(result, f"Erasure of {records} records in {prepared.sessions} session(s).")


@erase.command("check")
def check(directory: DirOption, json_output: JsonFlag = False) -> None:
    """Say whether what the log says is erased is gone from this host's journals."""
    lines = TombstoneLines()
    files = FileStore(directory / "files")
    erasures = logged_erasures(directory)
    for erasure in erasures:
        lines.add(erasure, files)
    by_leaf = lines.by_leaf()
    left = sum(
        1
        for found in find_records(directory / "journal", by_leaf)
        if found.gone is None or found.gone.erasure != by_leaf[found.leaf].erasure
    )
    value = {
        "ok": not left,
        "erasures": [each.id for each in erasures],
        "records": len(lines),
        "left": left,
    }

    def render() -> None:
        say("All of it is gone." if not left else "NOT carried out yet: is the keeper running?")
        facts((("erasures", len(erasures)), ("records", len(lines)), ("still there", left)))

    show(value, render)
    raise typer.Exit(Exit.REFUSED if left else Exit.OK)


def _root_name(directory: Path) -> str:
    digest = Deployment(directory).read_root_digest()
    return verify_root(FileStore(directory / "files").get(digest), now_ms()).name


def _subject(
    directory: Path,
    end_user: str | None,
    request: str | None,
    principal: str | None,
    organisation: str | None,
) -> tuple[ErasureScope, Select]:
    given = [name for name in (end_user, request, principal, organisation) if name is not None]
    if len(given) != 1:
        raise InputError(
            "expected one of --end-user, --request, --principal, --organisation: whose records"
        )
    name = given[0]
    if organisation is not None:
        return ErasureScope.ORGANISATION, lambda start: start.organisation == name
    if principal is not None:
        return ErasureScope.PRINCIPAL, lambda start: start.principal == name
    if request is not None:
        return ErasureScope.SESSIONS, lambda start: start.request_id == name
    return ErasureScope.SESSIONS, _of_end_user(directory, name)


def _of_end_user(directory: Path, end_user: str) -> Select:
    # An id stands in no record: what it would have made is compared, with each node's own secret.
    paths = sorted((directory / "keys").glob("node-*-batch.key"))
    node_secrets = [session_secret(load_signing_key(path)) for path in paths]
    if not node_secrets:
        raise InputError(
            f"expected the nodes' batch keys in {directory}/keys: records are made there"
        )

    def is_theirs(start: Start) -> bool:
        window_ms = session_window_start_ms(start.session)
        # At the window's own start, its length drops out.
        return any(
            start.session == make_session(start.grant, end_user, window_ms, 1, secret)
            for secret in node_secrets
        )

    return is_theirs
