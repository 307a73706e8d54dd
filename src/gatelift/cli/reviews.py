"""`gatelift review`: a human judgement of one stage, bound to the digests that were looked at.

The evidence that is bound is all that counts on the log now; what comes later was not reviewed.
"""

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
    show_sent,
    sign_statement,
)
from gatelift.cli.output import JsonFlag, say, table
from gatelift.encoding import Digest
from gatelift.messages import Review

__all__ = ["review"]


def review(
    stage: Annotated[str, typer.Option("--stage", help="The stage that is judged.")],
    note: Annotated[str, typer.Option("--note", help="The judgement, in a sentence or more.")],
    key: KeysOption,
    approve: Annotated[bool, typer.Option("--approve/--refuse", help="Whether it may open.")],
    admin: AdminOption = None,
    token_file: TokenOption = None,
    out: OutOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Approve or refuse a stage, on the evidence that is on the log now."""
    keys = load_keys(key)
    desk = Desk(admin, token_file)
    found = [e for e in desk.state["evidence"] if e["usable"] and not e["revoked"]]
    if found:
        say("This review is bound to:")
        table(
            ("evidence", "result", "digest"),
            [
                (
                    f"{e['evidence']['assessment']}/{e['evidence']['metric']}",
                    f"{e['evidence']['s']} of {e['evidence']['n']}",
                    e["digest"],
                )
                for e in found
            ],
        )
    judged = Review(
        id=new_id("review"),
        release=desk.release,
        stage=stage,
        approves=approve,
        plan=desk.plan_digest,
        fingerprint=desk.fingerprint,
        evidence=tuple(Digest(e["digest"]) for e in found),
        note=note,
    )
    envelope = sign_statement("review", judged, desk.subject, keys)
    result = desk.send("review", envelope, out=out)
    result |= {"id": judged.id, "stage": stage, "approves": approve, "evidence": judged.evidence}
    show_sent(result, f"Stage {stage} {'approved' if approve else 'refused'}: {note}")
