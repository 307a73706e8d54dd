"""`gatelift copies` and `gatelift candidate export`: two people sign before a copy of the weights is made.

Invariants
- `candidate export` makes a copy only with the signed statement, its entry proved to be in a cosigned
  releases log under a root that this host names itself, not yet closed and not yet due back.
- What is copied is what was hashed: read through descriptors that are held, checked against the
  manifest before, and the copy hashed again from its own files after.
- The copy's folder must not be there: nothing is mixed with what was.

What it cannot do: stop somebody who copies the files by other means, or runs it twice to two places.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
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
from gatelift.cli.layout import read_bytes
from gatelift.cli.output import JsonFlag, at_text, facts, say, show, table
from gatelift.cli.weights import FolderArgument, ManifestOption, SignerOption, read_manifest
from gatelift.decide import COPY_QUORUM
from gatelift.encoding import Digest, encode_json, sha256_digest
from gatelift.messages import (
    CopyClosing,
    CopyEnd,
    EntryKind,
    Export,
    releases_policy,
    verify_body,
    verify_logged,
)
from gatelift.terms import parse_duration_ms
from gatelift.trust import Root, verify_quorum, verify_root
from gatelift.wire.files import sync_directory
from gatelift.wire.model_files import HeldModel, compare_files, hold_model

__all__ = ["copies", "export"]

copies = typer.Typer(no_args_is_help=True, help="Copies of the weights: register, close, list.")


@copies.command("register")
def register(
    manifest: ManifestOption,
    signer: SignerOption,
    destination: Annotated[
        str, typer.Option("--destination", help="One of the plan's exposures, word for word.")
    ],
    purpose: Annotated[str, typer.Option("--purpose", help="What the copy is for, in one line.")],
    custodian: Annotated[str, typer.Option("--custodian", help="Who answers for it.")],
    lasts: Annotated[str, typer.Option("--for", help="When it is due back, such as 30d.")],
    key: KeysOption,
    admin: AdminOption = None,
    token_file: TokenOption = None,
    out: OutOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Register a copy before it is made (operator and security, two people)."""
    data, value = read_manifest(manifest, signer)
    desk = Desk(admin, token_file)
    statement = Export(
        id=new_id("export"),
        release=desk.release,
        weights=value.weights,
        manifest=sha256_digest(data),
        destination=destination,
        purpose=purpose,
        custodian=custodian,
        expires_at=now_ms() + parse_duration_ms(lasts),
    )
    envelope = sign_statement("export", statement, desk.subject, load_keys(key))
    result = desk.send("export", envelope, out=out, attachments=(data,), cosigned=out is None)
    result |= {"id": statement.id, "expires_at": statement.expires_at}
    show_sent(
        result, f"A copy for {custodian} is registered, due back {at_text(statement.expires_at)}."
    )


@copies.command("close")
def close(
    export_id: Annotated[str, typer.Argument(metavar="ID", help="The export's id.")],
    end: Annotated[CopyEnd, typer.Option("--end", help="What became of it.")],
    note: Annotated[str, typer.Option("--note", help="How that is known, in one line.")],
    key: KeysOption,
    admin: AdminOption = None,
    token_file: TokenOption = None,
    out: OutOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Say that a copy is no more (operator and security, two people)."""
    desk = Desk(admin, token_file)
    statement = CopyClosing(export=export_id, release=desk.release, end=end, note=note)
    envelope = sign_statement("copy_closed", statement, desk.subject, load_keys(key))
    result = desk.send("copy_closed", envelope, out=out) | {"id": export_id}
    show_sent(result, f"Copy {export_id} {end.value}.")


@copies.command("list")
def list_copies(
    admin: AdminOption = None, token_file: TokenOption = None, json_output: JsonFlag = False
) -> None:
    """List every copy that was ever registered."""
    found = Desk(admin, token_file).state["copies"]
    known = [each for each in found if each["closing"] is None]

    def render() -> None:
        say(f"{len(known)} of {len(found)} registered copies are known to exist.")
        table(
            ("id", "destination", "custodian", "due back", "now"),
            [_row(each) for each in found],
        )

    show({"ok": True, "known": len(known), "copies": found}, render)


def _row(each: dict[str, Any]) -> tuple[str, ...]:
    said, closing = each["export"], each["closing"]
    now = "OVERDUE" if each["overdue"] else "out" if closing is None else closing["end"]
    due = at_text(said["expires_at"])
    return (said["id"], said["destination"], said["custodian"], due, now)


def export(
    folder: FolderArgument,
    to: Annotated[Path, typer.Argument(metavar="TO", help="The copy's folder; not there yet.")],
    manifest: ManifestOption,
    signer: SignerOption,
    statement: Annotated[Path, typer.Option("--statement", help="The signed export statement.")],
    root: Annotated[
        Path, typer.Option("--root", help="The root of trust (root.json) that this host pins.")
    ],
    admin: AdminOption = None,
    token_file: TokenOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Copy a sealed model to where two people signed that a copy may be, and verify the copy."""
    data, sealed = read_manifest(manifest, signer)
    envelope, now = read_bytes(statement), now_ms()
    trusted = verify_root(read_bytes(root), now)
    said = _signed(envelope, trusted, now)
    if (said.weights, said.manifest) != (sealed.weights, sha256_digest(data)):
        raise InputError(
            f"the statement is for manifest {said.manifest}, {manifest} is {sha256_digest(data)}",
            code="other_weights",
        )
    if to.exists() or to.is_symlink() or to.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"expected {to} not to be there yet, and not below {folder}")
    _check_logged(Desk(admin, token_file), envelope, trusted)
    with hold_model(folder, sealed.ignored) as model:
        compare_files(model.files, sealed.files)
        _copy(model, to, sealed.files)
    found = {"ok": True, "id": said.id, "to": str(to), "files": len(sealed.files)}

    def render() -> None:
        say(f"Copied to {to}, and every file of the copy is the sealed one.")
        facts((("export", said.id), ("custodian", said.custodian), ("files", len(sealed.files))))
        say(f"It is due back {at_text(said.expires_at)}: `gatelift copies close` says so.")

    show(found, render)


def _signed(envelope: bytes, root: Root, at_ms: int) -> Export:
    body = verify_body(EntryKind.EXPORT, envelope, root, at_ms)
    verify_quorum(root, body.signers, COPY_QUORUM)
    if not isinstance(body.value, Export):
        raise InputError("expected the statement of an export")
    if at_ms >= body.value.expires_at:
        raise InputError(
            f"export {body.value.id} was due back at {at_text(body.value.expires_at)}: register anew",
            code="export_expired",
        )
    return body.value


def _check_logged(desk: Desk, envelope: bytes, root: Root) -> None:
    """Return if the log holds the statement, under a cosigned head, and nothing closed it."""
    digest = sha256_digest(envelope)
    held = next((each for each in desk.state["copies"] if each["digest"] == digest), None)
    if held is None:
        raise InputError(
            "the releases log does not hold this statement: `gatelift submit` it first",
            code="not_logged",
        )
    if held["closing"] is not None:
        raise InputError(f"the copy was {held['closing']['end']}: register anew", code="closed")
    entry = desk.client.get(f"/entries/{held['index']}")
    proof = desk.client.get_bytes(f"/proof/{held['index']}")
    verify_logged(
        EntryKind.EXPORT, digest, encode_json(entry["header"]), proof, releases_policy(root)
    )


def _copy(model: HeldModel, to: Path, sealed: Mapping[str, Digest]) -> None:
    to.mkdir(mode=0o700)
    try:
        for path in model.files:
            target = to / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                for piece in model.pieces(path):
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            sync_directory(target.parent)
        sync_directory(to)
        with hold_model(to) as copied:
            compare_files(copied.files, sealed)
    except BaseException:
        # Half a copy, or another one, is a copy that nobody verified.
        shutil.rmtree(to)
        raise
