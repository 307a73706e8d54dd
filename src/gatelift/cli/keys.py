"""`gatelift keys`: a signing key on this machine, for whoever will hold it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gatelift.cli.output import JsonFlag, facts, say, show
from gatelift.wire.keyfiles import create_signing_key, load_signing_key

__all__ = ["keys"]

keys = typer.Typer(no_args_is_help=True, help="Make signing keys.")


@keys.command("new")
def new(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Where the key is kept (0600).")],
    json_output: JsonFlag = False,
) -> None:
    """Draw an Ed25519 key; print its public half for the root of trust."""
    key = create_signing_key(path)
    value = {"ok": True, "file": str(path), "key_id": key.id, "public": key.public_text}

    def render() -> None:
        say(f"New key in {path}. Keep it; give its public half to whoever holds the ceremony.")
        facts((("key id", key.id), ("public", key.public_text)))

    show(value, render)


@keys.command("show")
def show_key(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A key file.")],
    json_output: JsonFlag = False,
) -> None:
    """Print the public half of a key."""
    key = load_signing_key(path)
    value = {"ok": True, "file": str(path), "key_id": key.id, "public": key.public_text}
    show(value, lambda: facts((("key id", key.id), ("public", key.public_text))))
