"""`gatelift keys`: a signing key on this machine, for whoever will hold it, and its public half."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from gatelift.cli.desk import now_ms
from gatelift.cli.errors import InputError
from gatelift.cli.key_cards import enrol_passkey_card, enrol_token
from gatelift.cli.layout import Deployment, read_bytes
from gatelift.cli.output import JsonFlag, facts, note, say, show
from gatelift.cli.paper import PAPER_LINES, format_paper, parse_paper
from gatelift.cli.published_keys import compare, publish
from gatelift.encoding import encode_base64, encode_json, sha256_digest
from gatelift.trust import Scheme, SigningKey
from gatelift.wire.files import replace_durably
from gatelift.wire.keyfiles import create_signing_key, load_seed, save_seed
from gatelift.wire.p256_files import create_p256_key
from gatelift.wire.sealing import create_upstream_ca, load_upstream_ca, upstream_ca_paths
from gatelift.wire.signers import load_verifying_key

__all__ = ["keys"]

_MAX_TYPED_CHARS = 1024

keys = typer.Typer(no_args_is_help=True, help="Make, show, keep and publish signing keys.")
keys.command("publish")(publish)
keys.command("compare")(compare)
keys.command("enrol-token")(enrol_token)
keys.command("enrol-passkey")(enrol_passkey_card)


@keys.command("new")
def new(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Where the key is kept (0600).")],
    scheme: Annotated[
        Scheme, typer.Option("--scheme", help="ed25519, or ecdsa-p256.")
    ] = Scheme.ED25519,
    json_output: JsonFlag = False,
) -> None:
    """Draw a key; print its public half for the root of trust."""
    if scheme not in (Scheme.ED25519, Scheme.ECDSA_P256):
        raise InputError(
            f"expected --scheme ed25519 or ecdsa-p256, got {scheme.value}: make an SSH key with "
            "ssh-keygen, a passkey with `gatelift keys enrol-passkey`"
        )
    p256 = scheme is Scheme.ECDSA_P256
    key = create_p256_key(path) if p256 else create_signing_key(path)
    value = {"ok": True, "file": str(path), "key_id": key.id, "public": key.public_text}
    value |= {"scheme": scheme.value}

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
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="A key file, an SSH FILE.pub, or a card.")
    ],
    person: Annotated[
        str | None, typer.Option("--person", help="Whose it is: a pseudonym, for a ceremony.")
    ] = None,
    organisation: Annotated[
        str | None, typer.Option("--organisation", help="The person's organisation.")
    ] = None,
    identity: Annotated[
        Path | None,
        typer.Option("--identity", help="Evidence of who it is; its digest becomes the proof."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the entry for `gatelift root next` here.")
    ] = None,
    json_output: JsonFlag = False,
) -> None:
    """Print the public half of a key, as it stands in a root of trust."""
    key = load_verifying_key(path)
    public = encode_base64(key.public)
    value = {"ok": True, "file": str(path), "key_id": key.id, "public": public}
    value |= {"scheme": key.scheme.value}
    if key.rp_id is not None:
        value |= {"rp_id": key.rp_id}
    if person is not None and organisation is not None:
        value |= {"person": person, "organisation": organisation}
        if identity is not None:
            value |= {"proof": sha256_digest(read_bytes(identity))}
    if out is not None:
        if "person" not in value:
            raise InputError("expected --person and --organisation with --out")
        replace_durably(out, encode_json(value))
    names = ("key_id", "scheme", "public", "rp_id", "person", "organisation", "proof")
    show(value, lambda: facts((n.replace("_", " "), value[n]) for n in names if n in value))


@keys.command("paper")
def paper(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A key file.")],
) -> None:
    """Print a key to be written down: whoever reads it can sign with it."""
    seed = load_seed(path)
    note("Write this down, read it back with `gatelift keys from-paper`, then clear the screen.")
    for line in ("Gatelift key", SigningKey(seed).id, "", *format_paper(seed)):
        sys.stdout.write(line + "\n")


@keys.command("from-paper")
def from_paper(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Where the key is kept (0600).")],
    json_output: JsonFlag = False,
) -> None:
    """Read a key back from paper; it is asked for, never an argument."""
    seed = parse_paper(_typed())
    save_seed(path, seed)
    key = SigningKey(seed)
    value = {"ok": True, "file": str(path), "key_id": key.id, "public": key.public_text}

    def render() -> None:
        say(f"The checksum fits. The key is in {path}; remove it when you have signed.")
        facts((("key id", key.id), ("public", key.public_text)))

    show(value, render)


def _typed() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.read(_MAX_TYPED_CHARS)
    lines = range(1, PAPER_LINES + 1)
    return "".join(typer.prompt(f"line {n}", hide_input=True, err=True) for n in lines)
