"""`gatelift keys`: a signing key on this machine, for whoever will hold it, and its public half."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gatelift.cli.desk import now_ms
from gatelift.cli.layout import Deployment
from gatelift.cli.output import JsonFlag, facts, say, show
from gatelift.cli.published_keys import compare, publish
from gatelift.wire.keyfiles import create_signing_key, load_signing_key
from gatelift.wire.sealing import create_upstream_ca, load_upstream_ca, upstream_ca_paths

__all__ = ["keys"]

keys = typer.Typer(no_args_is_help=True, help="Make signing keys; publish their public halves.")
keys.command("publish")(publish)
keys.command("compare")(compare)


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


@keys.command("upstream-ca")
def upstream_ca(
    directory: Annotated[Path, typer.Option("--dir", help="The deployment's folder.")],
    node: Annotated[
        str | None, typer.Option("--node", help="The node's name; default the deployment's.")
    ] = None,
    json_output: JsonFlag = False,
) -> None:
    """Say where a node's upstream CA is, which a sealed upstream trusts; make it if there is none."""
    name = node or Deployment(directory).read_settings().node
    key_path, certificate = upstream_ca_paths(directory, name)
    made = not key_path.exists()
    if made:
        create_upstream_ca(directory, name, now_ms())
    else:
        load_upstream_ca(key_path, name)
    found = {"ok": True, "node": name, "made": made}
    found |= {"certificate": str(certificate), "key": str(key_path)}

    def render() -> None:
        say(f"The upstream CA of node {name}. Give the certificate to the upstream, never the key.")
        facts((("certificate", certificate), ("key", key_path)))
        if made:
            say("It is new: restart the node's keeper, so that it issues from it.")

    show(found, render)


@keys.command("show")
def show_key(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A key file.")],
    json_output: JsonFlag = False,
) -> None:
    """Print the public half of a key."""
    key = load_signing_key(path)
    value = {"ok": True, "file": str(path), "key_id": key.id, "public": key.public_text}
    show(value, lambda: facts((("key id", key.id), ("public", key.public_text))))
