"""`gatelift root announce` and `root noticed`: a root that the overseer does not sign, 30 public days ahead.

Invariants
- What is announced is a whole signed root; what takes effect later are the same bytes.
- The days are the witnesses'. The file that `root noticed` writes proves them, and whoever takes it checks
  that: control, each host at `root adopt`, auditors. Here nothing is judged that they do not judge again.
"""

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
    now_ms,
    show_sent,
    sign_statement,
)
from gatelift.cli.errors import InputError
from gatelift.cli.layout import read_bytes
from gatelift.cli.output import JsonFlag, facts, note, say, show
from gatelift.encoding import decode_json, encode_json, parse_digest, sha256_digest
from gatelift.terms import format_duration
from gatelift.trust import (
    ROOT_ANNOUNCEMENT,
    ROOT_NOTICE_MS,
    NoticedRoot,
    RootAnnouncement,
    unverified_root,
    verify_announced_root,
    verify_root,
)
from gatelift.wire.files import replace_durably

__all__ = ["announce_root", "write_noticed"]

_FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A signed root.")]


def announce_root(
    file: _FileArgument,
    key: KeysOption,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is published.")],
    yes: Annotated[bool, typer.Option("--yes", help="Sign without asking.")] = False,
    admin: AdminOption = None,
    token_file: TokenOption = None,
    out: OutOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Say on the log which root will follow without the overseer: 30 days count from its cosignature."""
    keys, data = load_keys(key), read_bytes(file)
    if not reason.strip():
        raise InputError("expected --reason with a text: it is published with the root")
    desk = Desk(admin, token_file)
    value = RootAnnouncement(root=sha256_digest(data), envelope=data.decode("utf-8"), reason=reason)
    before = unverified_root(desk.file(parse_digest(desk.state["root_digest"])))
    made = verify_announced_root(value, now_ms(), before)
    days = format_duration(ROOT_NOTICE_MS)
    say(f"You announce root {made.version} of {made.name}, {days} ahead.")
    if not yes and not json_output and not typer.confirm("Sign this?"):
        note("Not signed.")
        raise typer.Exit(1)
    envelope = sign_statement(ROOT_ANNOUNCEMENT, value, desk.subject, keys)
    result = desk.send(ROOT_ANNOUNCEMENT, envelope, out=out, cosigned=out is None)
    show_sent(
        result | {"root": value.root, "notice_ms": ROOT_NOTICE_MS},
        f"Announced. It may take effect {days} from the cosignature on, if no other root comes first.",
    )


def write_noticed(
    file: _FileArgument,
    out: Annotated[Path, typer.Option("--out", help="Where the root with its proofs is written.")],
    admin: AdminOption = None,
    token_file: TokenOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Write the announced root FILE with the proofs of its 30 days; submit and adopt that file."""
    desk = Desk(admin, token_file)
    root = sha256_digest(read_bytes(file))
    answer = desk.client.get("/draft/root", root=root)
    held = decode_json(encode_json(answer), NoticedRoot)
    data = encode_json(held)
    before = unverified_root(desk.file(parse_digest(desk.state["root_digest"])))
    made = verify_root(data, now_ms(), before)
    replace_durably(out, data)
    value = {
        "ok": True,
        "root": root,
        "version": made.version,
        "digest": sha256_digest(data),
        "objections": held.objections,
        "out": str(out),
    }

    def render() -> None:
        say(
            f"Root {made.version} was public for 30 days: submit {out}, then adopt it on each host."
        )
        facts((("digest", value["digest"]), *(("objection", each) for each in held.objections)))

    show(value, render)
