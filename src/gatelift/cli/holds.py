"""`gatelift hold`: records stay as long as it stands. One person places it, two lift it."""

from __future__ import annotations

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
from gatelift.cli.output import JsonFlag
from gatelift.messages import Hold, HoldLift, HoldReason, HoldScope

__all__ = ["hold"]

hold = typer.Typer(no_args_is_help=True, help="Keep records from being erased.")


@hold.command("place")
def place(
    reason: Annotated[HoldReason, typer.Option("--reason", help="Why records must stay.")],
    key: KeysOption,
    incident: Annotated[
        str | None, typer.Option("--incident", help="The incident's id, for that reason.")
    ] = None,
    records: Annotated[
        list[str] | None,
        typer.Option(
            "--records", metavar="ORIGIN:FIRST[-LAST]", help="Only these batches; default: all."
        ),
    ] = None,
    admin: AdminOption = None,
    token_file: TokenOption = None,
    out: OutOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Keep all records, or some batches of a requests log, from being erased."""
    desk = Desk(admin, token_file)
    value = Hold(
        id=new_id("hold"),
        release=desk.release,
        reason=reason,
        incident=incident,
        covers=tuple(_scope(text) for text in records or ()),
        at=now_ms(),
    )
    envelope = sign_statement("hold", value, desk.subject, load_keys(key))
    result = desk.send("hold", envelope, out=out) | {"id": value.id}
    show_sent(result, f"Hold ({reason.value}): nothing that it covers is erased.")


@hold.command("lift")
def lift(
    hold_id: Annotated[str, typer.Argument(metavar="ID", help="The hold's id.")],
    key: KeysOption,
    admin: AdminOption = None,
    token_file: TokenOption = None,
    out: OutOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Lift a hold (operator or admissions, and safety or the overseer)."""
    desk = Desk(admin, token_file)
    value = HoldLift(id=hold_id, release=desk.release, at=now_ms())
    envelope = sign_statement("hold_lift", value, desk.subject, load_keys(key))
    show_sent(desk.send("hold_lift", envelope, out=out), f"Hold {hold_id} is lifted.")


def _scope(text: str) -> HoldScope:
    origin, found, span = text.rpartition(":")
    first, _, last = span.partition("-")
    if not found or not first.isdecimal() or not (last.isdecimal() or not last):
        raise InputError(
            f"expected --records ORIGIN:FIRST or ORIGIN:FIRST-LAST, got {text[:120]!r}"
        )
    return HoldScope(origin=origin, first=int(first), last=int(last) if last else None)
