"""`gatelift candidate seal` and `check`: the signed manifest of a model's files.

Invariants
- What is left out is named on the command line and stands in the manifest; nothing is left out by
  itself.
- The manifest is written outside the folder that it describes, so that it never describes itself.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from gatelift.cli.errors import InputError
from gatelift.cli.layout import read_bytes
from gatelift.cli.output import JsonFlag, facts, say, show
from gatelift.encoding import sha256_digest
from gatelift.messages import Sidecar
from gatelift.plan import Candidate
from gatelift.trust import ModelManifest, parse_public_key, sign_manifest, verify_manifest
from gatelift.wire.files import replace_durably
from gatelift.wire.manifest_keys import load_manifest_key, load_manifest_signer
from gatelift.wire.model_files import compare_files, hold_model

__all__ = [
    "FolderArgument",
    "ManifestOption",
    "SidecarKeyOption",
    "SidecarManifestOption",
    "SidecarSignerOption",
    "SidecarUrlOption",
    "SignerOption",
    "check",
    "read_manifest",
    "read_sidecar",
    "seal",
]

FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The model's folder.")]
ManifestOption = Annotated[Path, typer.Option("--manifest", help="The signed manifest.")]
SignerOption = Annotated[
    Path, typer.Option("--signer", help="Public key (PEM, P-256) of who sealed the model.")
]
SidecarUrlOption = Annotated[
    str | None, typer.Option("--sidecar-url", help="Where the placement's sidecar is asked.")
]
SidecarKeyOption = Annotated[
    str | None, typer.Option("--sidecar-key", help="The sidecar's public key, base64.")
]
SidecarManifestOption = Annotated[
    Path | None, typer.Option("--manifest", help="Sidecar: the signed manifest that it checks.")
]
SidecarSignerOption = Annotated[
    Path | None, typer.Option("--signer", help="Sidecar: public key (PEM) of who sealed the model.")
]


def read_manifest(path: Path, signer: Path) -> tuple[bytes, ModelManifest]:
    """Return a manifest's bytes and what it says, signed by the key in `signer`."""
    data = read_bytes(path)
    return data, verify_manifest(data, load_manifest_signer(signer))


def read_sidecar(
    candidate: Candidate,
    *,
    url: str | None,
    key: str | None,
    manifest: Path | None,
    signer: Path | None,
) -> tuple[Sidecar, bytes] | None:
    """Return the sidecar that four options describe, and the manifest's bytes; null for none.

    Raises `InputError` when some are missing or the manifest is of other weights.
    """
    if url is None and key is None and manifest is None and signer is None:
        return None
    if url is None or key is None or manifest is None or signer is None:
        raise InputError("expected --sidecar-url, --sidecar-key, --manifest and --signer together")
    data, value = read_manifest(manifest, signer)
    named = candidate.model_part.weights
    if named != value.weights:
        raise InputError(
            f"the candidate in force names weights {named or 'none'}, {manifest} is of "
            f"{value.weights}: write that digest into the plan and adopt it first",
            code="other_weights",
        )
    parse_public_key(key)
    return Sidecar(url=url, key=key, manifest=sha256_digest(data)), data


def seal(
    folder: FolderArgument,
    key: Annotated[Path, typer.Option("--key", help="Private key in PEM (P-256, mode 0600).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the manifest goes.")],
    ignore: Annotated[
        list[str] | None,
        typer.Option("--ignore", help="A path below DIR that is left out, with all below it."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="The model's name; default the folder's.")
    ] = None,
    json_output: JsonFlag = False,
) -> None:
    """Hash a model's files and sign their manifest, as OpenSSF model-signing does."""
    if out.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"expected --out outside {folder}: a manifest can't describe itself")
    signer = load_manifest_key(key)
    ignored = tuple(dict.fromkeys(ignore or ()))
    began = time.monotonic()
    with hold_model(folder, ignored) as model:
        data = sign_manifest(name or folder.resolve().name, model.files, ignored, signer)
        value = verify_manifest(data, signer.public)
    replace_durably(out, data)
    _show(value, data, f"Sealed {value.model} in {out}.", time.monotonic() - began)


def check(
    folder: FolderArgument,
    manifest: ManifestOption,
    signer: SignerOption,
    json_output: JsonFlag = False,
) -> None:
    """Verify a manifest's signature, and a model's files against it."""
    data, value = read_manifest(manifest, signer)
    began = time.monotonic()
    with hold_model(folder, value.ignored) as model:
        compare_files(model.files, value.files)
    _show(value, data, f"{folder} holds what was sealed.", time.monotonic() - began)


def _show(value: ModelManifest, data: bytes, headline: str, took_s: float) -> None:
    found = {
        "ok": True,
        "model": value.model,
        "weights": value.weights,
        "manifest": sha256_digest(data),
        "files": len(value.files),
        "ignored": value.ignored,
    }

    def render() -> None:
        say(headline)
        facts(
            (
                ("weights", value.weights),
                ("manifest", found["manifest"]),
                ("files", f"{len(value.files)}, read in {took_s:.1f} s"),
                ("left out", ", ".join(value.ignored) or "nothing"),
            )
        )
        say("The plan's candidate names them: `weights:` with that digest.")

    show(found, render)
