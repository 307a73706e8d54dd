"""`gatelift dossier`: making what an auditor gets, and saying it in other people's formats.

Invariants
- A dossier appears whole or not at all, and nothing that is there is overwritten.
- What is exported in another format comes from a log that was verified first, and says whether an
  anchor authenticated it: without one the exit code is 3, as with `verify`.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from gatelift.cli.admin_client import AdminClient
from gatelift.cli.desk import AdminOption, TokenOption, now_ms
from gatelift.cli.errors import AdminUnreachableError, Exit, InputError
from gatelift.cli.layout import Deployment, read_bytes
from gatelift.cli.output import JsonFlag, facts, note, say, show
from gatelift.encoding import parse_digest, sha256_digest
from gatelift.ledger.archive import write_archive
from gatelift.ledger.dossier import export_dossier
from gatelift.ledger.exports import VerifiedDossier, make_ml_bom, make_statements, open_verified

__all__ = ["dossier"]

dossier = typer.Typer(no_args_is_help=True, help="Export what an auditor gets.")
DossierArgument = Annotated[Path, typer.Argument(metavar="DOSSIER", help="Its folder or archive.")]
RootOption = Annotated[
    str | None, typer.Option("--root", help="The root's digest, from elsewhere.")
]
PolicyOption = Annotated[
    Path | None, typer.Option("--policy", help="A tlog policy, from elsewhere.")
]


@dossier.command("export")
def export(
    directory: Annotated[Path, typer.Option("--dir", help="The deployment's folder.")],
    out: Annotated[Path | None, typer.Option("--out", help="A new folder.")] = None,
    archive: Annotated[
        Path | None, typer.Option("--archive", help="A new plain tar file, the same in one piece.")
    ] = None,
    admin: AdminOption = None,
    token_file: TokenOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Copy logs, statements, records and proofs of a deployment into one folder or archive."""
    if out is None and archive is None:
        raise InputError("expected --out DIR, --archive FILE or both: where the dossier goes")
    if archive is not None and (archive.exists() or archive.is_symlink()):
        raise InputError(f"{archive} is there already: name a new file", code="archive_exists")
    deployment = Deployment(directory)
    head = _cosigned_head(deployment, admin, token_file)
    found: dict[str, Any] = {}
    with contextlib.ExitStack() as kept:
        if out is None:
            # Beside the archive: what fits there once may not fit on the disk of /tmp.
            place = (archive or Path()).parent
            folder = Path(kept.enter_context(tempfile.TemporaryDirectory(dir=place))) / "dossier"
        else:
            folder = out
            found["path"] = str(out)
        manifest = export_dossier(directory, folder, checkpoint_note=head, now_ms=now_ms()).manifest
        if archive is not None:
            digest = write_archive(folder, archive)
            found["archive"] = {"path": str(archive), "digest": digest}
    value = {"ok": True, **found, "manifest": manifest, "root": manifest.root}

    def render() -> None:
        where = " and ".join(str(each) for each in (out, archive) if each is not None)
        say(f"Dossier of {manifest.release} in {where}.")
        facts(
            (
                ("root", manifest.root),
                ("releases log", f"{manifest.releases.size} entries"),
                ("requests logs", len(manifest.requests)),
                ("records", manifest.records),
                ("files", manifest.files),
                ("missing", "\n".join(manifest.missing) or "nothing"),
                *((("archive", found["archive"]["digest"]),) if archive is not None else ()),
            )
        )
        say("An auditor needs the root digest from you by another way than this folder.")

    show(value, render)


def _cosigned_head(deployment: Deployment, admin: str | None, token_file: Path | None) -> bytes:
    url = admin or deployment.read_settings().admin_url
    client = AdminClient.with_token_file(url, token_file or deployment.token("submitter"))
    try:
        # First the newest heads of the requests logs, so that the dossier holds all records.
        client.post_heads()
        return client.get_bytes("/checkpoint")
    except AdminUnreachableError:
        note("control does not answer: exporting up to the last head that was published")
        return deployment.read("logs/releases/checkpoint")


@dossier.command("export-bom")
def export_bom(
    path: DossierArgument,
    out: Annotated[Path, typer.Option("--out", help="A new file.")],
    root: RootOption = None,
    policy: PolicyOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Write the candidate as a CycloneDX 1.6 ML-BOM, from the log of a dossier."""
    opened = _opened(path, root, policy)
    _finish(opened, out, {out.name: make_ml_bom(opened)}, out.parent)


@dossier.command("export-in-toto")
def export_in_toto(
    path: DossierArgument,
    out: Annotated[Path, typer.Option("--out", help="A new folder.")],
    root: RootOption = None,
    policy: PolicyOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Write evidence, certificates and candidate as unsigned in-toto statements."""
    opened = _opened(path, root, policy)
    if out.exists() or out.is_symlink():
        raise InputError(f"{out} is there already: name a new folder", code="export_exists")
    out.mkdir(parents=True)
    _finish(opened, out, make_statements(opened), out)


def _opened(path: Path, root: str | None, policy: Path | None) -> VerifiedDossier:
    if not path.exists():
        raise InputError(f"expected a dossier's folder or archive, found nothing at {path}")
    return open_verified(
        path,
        anchor_root=None if root is None else parse_digest(root),
        policy=None if policy is None else read_bytes(policy),
        now_ms=now_ms(),
    )


def _finish(
    opened: VerifiedDossier, out: Path, files: Mapping[str, dict[str, Any]], folder: Path
) -> None:
    digests: dict[str, str] = {}
    for name, value in files.items():
        data = json.dumps(value, indent=2, ensure_ascii=False).encode("utf-8") + b"\n"
        try:
            with (folder / name).open("xb") as file:
                file.write(data)
        except FileExistsError as error:
            raise InputError(
                f"{folder / name} is there already: name a new file", code="export_exists"
            ) from error
        digests[name] = sha256_digest(data)
    value = {
        "ok": opened.authenticated,
        "path": str(out),
        "authenticated": opened.authenticated,
        "files": digests,
    }

    def render() -> None:
        say(
            f"{len(files)} file(s) of {opened.plan.name} in {out}. They are views: nobody signed them."
        )
        facts(digests.items())
        if not opened.authenticated:
            say("NOT authenticated: give --root or --policy from elsewhere.")

    show(value, render)
    raise typer.Exit(Exit.OK if opened.authenticated else Exit.NOT_AUTHENTICATED)
