"""`gatelift sign`: one more signature on an envelope, on a machine that reaches nobody.

Invariants
- What is signed is shown first, read from the very bytes, and asked for unless `--yes` says so.
- Payload bytes are never written anew: who signs later signs what was signed first.
- With `--root-file` a key that the root does not name is refused before agent, token or browser is asked.
- A draft of a root is checked before its first signature. A draft of a review is signed only beside its
  sheet, made again here from the bytes that the review binds; nothing else is signed without an envelope.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from gatelift.cli.desk import KeysOption, load_keys
from gatelift.cli.errors import InputError
from gatelift.cli.layout import read_bytes
from gatelift.cli.output import JsonFlag, at_text, facts, note, say, show
from gatelift.cli.review_packet import check_packet, open_packet, parse_packet
from gatelift.cli.review_sheet import make_sheet
from gatelift.cli.reviews import person_of, print_sheet, sheet_path
from gatelift.cli.submit import kind_of
from gatelift.encoding import parse_json, sha256_digest
from gatelift.messages import Review
from gatelift.trust import (
    ROOT_TYPE,
    STATEMENT_TYPE,
    MessageSigner,
    Root,
    add_signature,
    parse_envelope,
    parse_root,
    parse_statement,
    predicate_type,
    sign_envelope,
    unverified_root,
)
from gatelift.wire.files import replace_durably

__all__ = ["sign"]


def sign(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="An envelope, or a draft of a root or review.")
    ],
    key: KeysOption = [],  # noqa: B006 (typer copies defaults)
    out: Annotated[
        Path | None, typer.Option("--out", help="Write here; default: FILE itself, if signed.")
    ] = None,
    root_file: Annotated[
        Path | None,
        typer.Option("--root-file", help="root.json: refuse a key that it does not name."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Sign without asking.")] = False,
    json_output: JsonFlag = False,
) -> None:
    """Add signatures to an envelope, without any connection; `submit` delivers it."""
    data = read_bytes(file)
    signers = load_keys(key)
    draft = _draft_of(data)
    if draft is not None and out is None:
        raise InputError("expected --out FILE: a draft stays as it is, its envelope is new")
    payload = data if draft else parse_envelope(data).unverified_payload()
    kind = draft or kind_of(data)
    root = parse_root(payload) if kind == "root" else None
    if root_file is not None:
        _check_named(signers, root_file, root)
    if kind != "review" or not _show_review(
        file, payload, signers, root_file, needed=draft is not None
    ):
        _show(kind, payload, root)
    if not yes and not typer.confirm("Sign this?", err=True):
        raise InputError("nothing was signed", code="not_signed")
    if draft is not None:
        data = sign_envelope(payload, ROOT_TYPE if draft == "root" else STATEMENT_TYPE, signers)
    else:
        for signer in signers:
            data = add_signature(data, signer)
    path = file if out is None else out
    replace_durably(path, data)
    signed = [each.keyid for each in parse_envelope(data).signatures]
    value = {
        "ok": True,
        "kind": kind,
        "payload": sha256_digest(payload),
        "digest": sha256_digest(data),
        "signatures": signed,
        "out": str(path),
    }

    def render() -> None:
        say(f"Signed {kind}: {len(signed)} signature(s) in {path}.")
        facts((("digest", value["digest"]), *((f"key {n}", k) for n, k in enumerate(signed, 1))))

    show(value, render)


def _draft_of(data: bytes) -> str | None:
    found = parse_json(data)
    if not isinstance(found, dict) or "payload" in found:
        return None
    if found.get("predicateType") == predicate_type("review"):
        return "review"
    return "root" if "roles" in found else None


def _show_review(
    file: Path,
    payload: bytes,
    signers: Sequence[MessageSigner],
    root_file: Path | None,
    *,
    needed: bool,
) -> bool:
    """Print the sheet that lies beside a review; return whether there is one."""
    beside = sheet_path(file)
    if not beside.exists():
        if needed:
            raise InputError(
                f"expected the sheet of this review in {beside}: carry both files, a judgement is "
                "not signed unseen",
                code="no_sheet",
            )
        return False
    opened = open_packet(parse_packet(read_bytes(beside)))
    judged = parse_statement(payload, "review", Review).predicate
    check_packet(opened, judged)
    if root_file is not None and read_bytes(root_file) != opened.packet.root.encode("utf-8"):
        raise InputError(
            f"expected the root of {root_file} in the sheet, got {opened.root_digest[:23]}: signers "
            "and roles on it would be another root's",
            code="sheet_of_another",
        )
    note(f"review, payload {sha256_digest(payload)}")
    print_sheet(make_sheet(opened, person_of(opened, signers), judged))
    return True


def _check_named(signers: Sequence[MessageSigner], root_file: Path, draft: Root | None) -> None:
    held = unverified_root(read_bytes(root_file))
    known = held.keys.keys() | (draft.keys.keys() if draft is not None else frozenset())
    for signer in signers:
        if signer.id not in known:
            raise InputError(
                f"expected a key that {root_file} names, got {signer.id[:23]}: is it the right "
                "card or file? Nothing was signed",
                code="key_not_in_root",
            )


def _show(kind: str, payload: bytes, root: Root | None) -> None:
    note(f"{kind}, payload {sha256_digest(payload)}")
    if root is None:
        note(_plain(payload.decode("utf-8")))
        return
    note(f"{_plain(root.name)} version {root.version}, expires {at_text(root.expires_at)}")
    for name, role in sorted(root.roles.items()):
        people = [f"{root.keys[kid].person} ({root.keys[kid].scheme.value})" for kid in role.keys]
        note(_plain(f"  {name}: {role.threshold} of {', '.join(people)}"))


def _plain(text: str) -> str:
    # What could turn the terminal's text around, or hide a part of it, is shown as an escape.
    return text.encode("ascii", "backslashreplace").decode("ascii")
