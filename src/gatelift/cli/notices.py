"""`gatelift announce` and `gatelift object`: public notice of what will be certified, and a word against it.

Invariants
- What is announced is what control's draft would certify now, checked against the plan as `certify` does;
  the gate may still be shut for other reasons.
- The time of a notice is the witnesses': the commands wait until a cosigned head holds the entry.
"""

from __future__ import annotations

from typing import Annotated

import typer

from gatelift.cli.certify import drafted, finish
from gatelift.cli.desk import (
    AdminOption,
    Desk,
    KeysOption,
    OutOption,
    TokenOption,
    load_keys,
    new_id,
    show_sent,
    sign_statement,
)
from gatelift.cli.envelopes import describe
from gatelift.cli.errors import InputError
from gatelift.cli.output import JsonFlag, facts, note, say
from gatelift.encoding import parse_digest
from gatelift.messages import Revocation
from gatelift.plan import parse_plan
from gatelift.terms import format_duration
from gatelift.trust import Announcement, Objection

__all__ = ["announce", "object_to"]


def announce(
    stage: Annotated[str, typer.Option("--stage", help="The stage to be certified.")],
    key: KeysOption,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is published.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Sign without asking.")] = False,
    admin: AdminOption = None,
    token_file: TokenOption = None,
    out: OutOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Say on the log what will be certified: the plan's notice counts from its cosignature."""
    keys = load_keys(key)
    desk = Desk(admin, token_file)
    draft, _, _ = drafted(desk, stage)
    plan = parse_plan(desk.file(draft.plan))
    certificate = finish(draft, plan)
    notice_ms = plan.stage(stage).notice_ms
    if not notice_ms:
        raise InputError(
            f"the plan asks for no notice of stage {stage!r}: certify it", code="no_notice_asked"
        )
    value = Announcement(
        id=new_id("announcement"),
        release=certificate.release,
        stage=stage,
        fingerprint=certificate.fingerprint,
        plan=certificate.plan,
        envelope=certificate.envelope,
        clears=certificate.clears,
        reason=reason,
    )
    say(f"You announce stage {stage} of {value.release}, {format_duration(notice_ms)} ahead.")
    facts((f"  {name}", text) for name, text in describe(value.envelope))
    if value.clears:
        say(f"It would lift the orders {', '.join(value.clears)}.")
    if not yes and not json_output and not typer.confirm("Sign this?"):
        note("Not signed.")
        raise typer.Exit(1)
    envelope = sign_statement("announcement", value, desk.subject, keys)
    result = desk.send("announcement", envelope, out=out, cosigned=out is None)
    show_sent(
        result | {"id": value.id, "stage": stage, "notice_ms": notice_ms},
        f"Announced. A certificate may begin {format_duration(notice_ms)} from the cosignature on.",
    )


def object_to(
    key: KeysOption,
    announcement: Annotated[
        str | None, typer.Option("--announcement", help="Digest of what you object to.")
    ] = None,
    grounds: Annotated[str, typer.Option("--grounds", help="Why; it is published.")] = "",
    withdraw: Annotated[
        str | None, typer.Option("--withdraw", help="Digest of your objection, to take it back.")
    ] = None,
    admin: AdminOption = None,
    token_file: TokenOption = None,
    out: OutOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Object, as the overseer, to what was announced: it holds for the plan's notice."""
    if (announcement is None) == (withdraw is None) or not grounds.strip():
        raise InputError("expected --grounds and one of --announcement and --withdraw")
    keys = load_keys(key)
    desk = Desk(admin, token_file)
    if withdraw is not None:
        taken = Revocation(body=parse_digest(withdraw), reason=grounds)
        envelope = sign_statement("revocation", taken, desk.subject, keys)
        sent = desk.send("revocation", envelope, out=out, cosigned=out is None)
        show_sent(sent, "Withdrawn. The announcement's own notice goes on counting.")
        return
    value = Objection(
        id=new_id("objection"),
        release=desk.release,
        announcement=parse_digest(announcement or ""),
        grounds=grounds,
    )
    envelope = sign_statement("objection", value, desk.subject, keys)
    sent = desk.send("objection", envelope, out=out, cosigned=out is None)
    show_sent(
        sent | {"id": value.id},
        "Objected. Nothing begins under this announcement until the notice has run anew.",
    )
