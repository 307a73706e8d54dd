"""`gatelift submit`: deliver an envelope that was signed on another machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gatelift.cli.desk import AdminOption, Desk, KeysOption, TokenOption, show_sent
from gatelift.cli.errors import InputError
from gatelift.cli.layout import read_bytes
from gatelift.cli.output import JsonFlag
from gatelift.encoding import parse_json
from gatelift.trust import (
    OWN_GRANT,
    ROOT_TYPE,
    add_signature,
    open_root,
    parse_envelope,
    predicate_type,
)
from gatelift.wire.files import replace_durably
from gatelift.wire.order_client import submit_order
from gatelift.wire.signers import load_signer
from gatelift.wire.sockets import socket_path

__all__ = ["kind_of", "submit"]


def kind_of(envelope: bytes) -> str:
    """Return the kind of entry that an envelope says it is; nothing is verified."""
    if open_root(envelope)[1] is not None:
        return "root"
    parsed = parse_envelope(envelope)
    if parsed.payload_type == ROOT_TYPE:
        return "root"
    statement = parse_json(parsed.unverified_payload())
    name = statement.get("predicateType") if isinstance(statement, dict) else None
    parts = str(name).split(":")
    if len(parts) != 4 or predicate_type(parts[2]) != name:
        raise InputError(f"expected a statement of one of our kinds, got {str(name)[:80]!r}")
    return parts[2]


def submit(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The signed envelope.")],
    admin: AdminOption = None,
    token_file: TokenOption = None,
    attach: Annotated[
        list[Path] | None, typer.Option("--attach", help="A file that the statement names.")
    ] = None,
    key: KeysOption = [],  # noqa: B006 (typer copies defaults)
    out: Annotated[
        Path | None, typer.Option("--out", help="With --key: write the co-signed envelope here.")
    ] = None,
    socket: Annotated[
        Path | None,
        typer.Option(
            "--socket",
            metavar="DIR",
            help="An order or own grant: hand it to the keeper that runs in DIR.",
        ),
    ] = None,
    cosigned: Annotated[
        bool, typer.Option("--cosigned", help="Wait until the witnesses have cosigned.")
    ] = False,
    json_output: JsonFlag = False,
) -> None:
    """Submit a signed envelope as it is; with --key, add a signature to it first."""
    envelope = read_bytes(file)
    kind = kind_of(envelope)
    for path in key:
        envelope = add_signature(envelope, load_signer(path))
    desk = Desk(admin, token_file)
    if out is not None:
        replace_durably(out, envelope)
        result = desk.send(kind, envelope, out=out)
        show_sent(result, f"Signed {kind}, not submitted.")
        return
    if socket is not None:
        if kind not in {"order", OWN_GRANT}:
            raise InputError(f"the host's socket takes orders and own grants, this is a {kind}")
        digest = submit_order(socket_path(socket, "orders.sock"), envelope)
        taken = {"ok": True, "kind": kind, "digest": digest, "submitted": True, "accepted": True}
        show_sent(taken, f"The keeper has taken the {kind}.")
        return
    attachments = tuple(read_bytes(path) for path in attach or ())
    result = desk.send(kind, envelope, attachments=attachments, cosigned=cosigned)
    show_sent(result, f"Submitted: {kind}.")
