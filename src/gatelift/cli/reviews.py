"""`gatelift review`: a human judgement of one stage, bound to the digests that were looked at.

Invariants
- What is judged is shown first, from the bytes that the review binds (`review_sheet`), then asked for.
- The evidence that is bound is all that counts on the log now; what comes later was not reviewed.
- Without a key nothing is signed: `--show` prints the sheet, `--out` writes what is to be signed with its
  sheet beside it, for `gatelift sign` on a machine that reaches nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

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
from gatelift.cli.output import JsonFlag, facts, note, say, show, visible
from gatelift.cli.review_packet import Opened, Packet, encode_packet, gather, open_packet
from gatelift.cli.review_sheet import Sheet, make_sheet
from gatelift.encoding import sha256_digest
from gatelift.messages import Condition, Review, Revocation
from gatelift.terms import parse_duration_ms
from gatelift.trust import STATEMENT_TYPE, MessageSigner, encode_statement, sign_envelope
from gatelift.wire.files import replace_all_durably

__all__ = ["person_of", "print_sheet", "review", "sheet_path"]


def sheet_path(path: Path) -> Path:
    """Return where the sheet of what is signed in `path` lies."""
    return path.with_name(f"{path.name}.sheet")


def person_of(opened: Opened, signers: Sequence[MessageSigner]) -> str | None:
    """Return whose keys these are by the packet's root; none if it names none of them."""
    keys = opened.root.keys
    return next((keys[each.id].person for each in signers if each.id in keys), None)


def print_sheet(sheet: Sheet) -> None:
    """Print a sheet, 80 columns wide where the terminal says nothing else."""
    say(visible(sheet.headline))
    for section in sheet.sections:
        say()
        say(section.title)
        facts((visible(f"  {name}"), visible(value)) for name, value in section.rows)
    say()


def review(
    stage: Annotated[str, typer.Option("--stage", help="The stage that is judged.")],
    words: Annotated[
        str | None, typer.Option("--note", help="The judgement, in a sentence or more.")
    ] = None,
    key: KeysOption = [],  # noqa: B006 (typer copies defaults)
    approve: Annotated[
        bool | None, typer.Option("--approve/--refuse", help="Whether it may open.")
    ] = None,
    show_only: Annotated[
        bool, typer.Option("--show", help="Print the sheet and sign nothing; needs no key.")
    ] = False,
    condition: Annotated[
        list[str] | None, typer.Option("--condition", help="Approve on this condition, published.")
    ] = None,
    max_organisations: Annotated[
        int | None,
        typer.Option("--max-organisations", help="Approve for at most so many; the log holds it."),
    ] = None,
    lasts: Annotated[
        str | None, typer.Option("--for", help="The approval ends after this, such as 30d.")
    ] = None,
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="Take back your own newest review, with --note.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Sign without asking.")] = False,
    admin: AdminOption = None,
    token_file: TokenOption = None,
    out: OutOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Show what is asked, the evidence, what changed and conflicts; then approve or refuse."""
    desk = Desk(admin, token_file)
    subject = desk.subject  # raises while no plan was adopted: there is nothing to judge then
    packet = _gathered(desk, stage)
    opened = open_packet(packet)
    keys = load_keys(key) if key else []
    person = person_of(opened, keys)
    if show_only:
        sheet = make_sheet(opened, person)
        show({"ok": True, "sheet": sheet}, lambda: print_sheet(sheet))
        return
    if withdraw:
        _withdraw(desk, opened, keys, words, out)
        return
    if words is None or approve is None:
        raise InputError("expected --note TEXT and --approve or --refuse, or --show to only look")
    judged = Review(
        id=new_id("review"),
        release=desk.release,
        stage=stage,
        approves=approve,
        plan=opened.plan_digest,
        fingerprint=opened.fingerprint,
        evidence=tuple(
            run.digest
            for run in opened.runs
            if run.counts and run.evidence.fingerprint == opened.fingerprint
        ),
        note=words,
        conditions=_conditions(condition or (), max_organisations),
        until=None if lasts is None else now_ms() + parse_duration_ms(lasts),
    )
    print_sheet(make_sheet(opened, person, judged))
    payload = encode_statement("review", (subject,), judged)
    if not keys:
        _write_draft(payload, packet, out)
        return
    if not yes and not json_output and not typer.confirm("Sign this?"):
        note("Not signed.")
        raise typer.Exit(1)
    envelope = sign_envelope(payload, STATEMENT_TYPE, keys)
    if out is not None:
        replace_all_durably({sheet_path(out): encode_packet(packet)})
    result = desk.send("review", envelope, out=out)
    result |= {"id": judged.id, "stage": stage, "approves": approve, "evidence": judged.evidence}
    show_sent(result, f"Stage {stage} {'approved' if approve else 'refused'}: {words}")


def _conditions(texts: Sequence[str], max_organisations: int | None) -> tuple[Condition, ...]:
    made = [Condition(text=text) for text in texts]
    if max_organisations is not None:
        text = f"at most {max_organisations} organisations"
        made.append(Condition(text=text, max_organisations=max_organisations))
    return tuple(made)


def _withdraw(
    desk: Desk,
    opened: Opened,
    keys: Sequence[MessageSigner],
    words: str | None,
    out: Path | None,
) -> None:
    person = person_of(opened, keys)
    if words is None or person is None:
        raise InputError("expected --note TEXT and --key FILE of who signed the review")
    mine = [r for r in opened.reviews if any(signer.person == person for signer in r.signers)]
    newest = max(mine, key=lambda each: each.index, default=None)
    if newest is None or not newest.counts:
        stage = opened.packet.stage
        raise InputError(f"no review of stage {stage!r} by {person} stands", code="no_review")
    taken = Revocation(body=newest.digest, reason=words)
    result = desk.send(
        "revocation", sign_statement("revocation", taken, desk.subject, keys), out=out
    )
    word = "approval" if newest.review.approves else "refusal"
    show_sent(result, f"The {word} of stage {opened.packet.stage} is withdrawn: {words}")


def _gathered(desk: Desk, stage: str) -> Packet:
    preview: dict[str, Any] = desk.client.get("/preview")
    shut = tuple(
        f"{each['message']} [{each['code']}]"
        for held in preview["stages"]
        if held["stage"] == stage
        for each in held["blocked_by"]
    )
    return gather(desk.state, stage, desk.file, shut)


def _write_draft(payload: bytes, packet: Packet, out: Path | None) -> None:
    if out is None:
        raise InputError("expected --key FILE to sign here, or --out FILE to sign elsewhere")
    beside = sheet_path(out)
    replace_all_durably({out: payload, beside: encode_packet(packet)})
    result = {
        "ok": True,
        "kind": "review",
        "payload": sha256_digest(payload),
        "out": str(out),
        "sheet": str(beside),
        "signed": False,
    }

    def render() -> None:
        say("Nothing is signed yet. Carry both files to the machine with the key.")
        facts(
            (
                ("to sign", result["out"]),
                ("its sheet", result["sheet"]),
                ("payload", result["payload"]),
                ("there", f"gatelift sign {out} --key FILE --out signed.json"),
            )
        )

    show(result, render)
