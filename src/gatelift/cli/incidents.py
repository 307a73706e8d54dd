"""`gatelift incident`: open one, and say what changed about it."""

from __future__ import annotations

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
from gatelift.cli.errors import InputError
from gatelift.cli.layout import read_bytes
from gatelift.cli.output import JsonFlag
from gatelift.encoding import sha256_digest
from gatelift.messages import IncidentChange, IncidentOpening
from gatelift.terms import Severity

__all__ = ["incident"]

incident = typer.Typer(no_args_is_help=True, help="Open and change incidents.")
_TIMES = ("aware", "discovered", "reasonable-belief", "determined", "contained", "resolved")


@incident.command("open")
def open_incident(
    title: Annotated[str, typer.Option("--title", help="What happened, in one line.")],
    severity: Annotated[Severity, typer.Option("--severity", help="SEV-1 is the worst.")],
    key: KeysOption,
    occurred_ms: Annotated[
        int | None, typer.Option("--occurred-ms", help="When it happened, ms UTC, if known.")
    ] = None,
    admin: AdminOption = None,
    token_file: TokenOption = None,
    out: OutOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Open an incident; its clocks of detection and awareness start now."""
    desk = Desk(admin, token_file)
    at = now_ms()
    opening = IncidentOpening(
        id=new_id("incident"),
        release=desk.release,
        severity=severity,
        title=title,
        source="person",
        occurred_at=occurred_ms,
        detected_at=at,
        aware_at=at,
        discovered_at=None,
        reasonable_belief_at=None,
        determined_at=None,
    )
    envelope = sign_statement("incident", opening, desk.subject, load_keys(key))
    result = desk.send("incident", envelope, out=out) | {"id": opening.id}
    show_sent(result, f"Incident {severity.value} opened: {title}")


@incident.command("change")
def change(
    incident_id: Annotated[str, typer.Argument(metavar="ID", help="The incident's id.")],
    note: Annotated[str, typer.Option("--note", help="What changed, in one line.")],
    key: KeysOption,
    severity: Annotated[
        Severity | None, typer.Option("--severity", help="Up alone, down with two people.")
    ] = None,
    now: Annotated[
        list[str] | None,
        typer.Option("--now", help=f"A clock that starts now: {', '.join(_TIMES)}."),
    ] = None,
    retrospective: Annotated[
        Path | None, typer.Option("--retrospective", help="Its text; kept by digest.")
    ] = None,
    admin: AdminOption = None,
    token_file: TokenOption = None,
    out: OutOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Change an incident: severity, clocks, containment, resolution, retrospective."""
    clocks = set(now or ())
    if not clocks <= set(_TIMES):
        raise InputError(f"expected --now of {list(_TIMES)}, got {sorted(clocks - set(_TIMES))}")
    desk = Desk(admin, token_file)
    text = None if retrospective is None else read_bytes(retrospective)
    at = now_ms()

    def when(name: str) -> int | None:
        return at if name in clocks else None

    changed = IncidentChange(
        id=incident_id,
        severity=severity,
        aware_at=when("aware"),
        discovered_at=when("discovered"),
        reasonable_belief_at=when("reasonable-belief"),
        determined_at=when("determined"),
        contained_at=when("contained"),
        resolved_at=when("resolved"),
        retrospective=None if text is None else sha256_digest(text),
        note=note,
    )
    envelope = sign_statement("incident_change", changed, desk.subject, load_keys(key))
    attachments = () if text is None else (text,)
    result = desk.send("incident_change", envelope, out=out, attachments=attachments)
    result |= {"id": incident_id}
    show_sent(result, f"Incident {incident_id} changed: {note}")
