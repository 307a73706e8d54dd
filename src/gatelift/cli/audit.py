"""`gatelift dossier`, `verify`, `replay`, `ticket`: taking the evidence away, and checking it.

Invariants
- Checks run offline, on the bytes that were handed over; nothing is fetched.
- `verify` without an anchor from elsewhere exits with 3, however well everything fits together.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from gatelift.cli.admin_client import AdminClient
from gatelift.cli.desk import AdminOption, TokenOption, now_ms
from gatelift.cli.errors import AdminUnreachableError, Exit, InputError
from gatelift.cli.layout import Deployment, read_bytes
from gatelift.cli.output import JsonFlag, at_text, facts, note, say, show
from gatelift.encoding import Digest, encode_base64, parse_digest, sha256_digest
from gatelift.ledger.archive import write_archive
from gatelift.ledger.audit import AuditReport, Finding
from gatelift.ledger.audit.apart import seldom_collect
from gatelift.ledger.audit.archive import open_dossier
from gatelift.ledger.audit.decisions import replay_decisions
from gatelift.ledger.audit.folder import RELEASES, ROOT
from gatelift.ledger.audit.releases import open_first_root, read_releases
from gatelift.ledger.audit.report import Findings
from gatelift.ledger.dossier import export_dossier
from gatelift.ledger.story import verify_story
from gatelift.ledger.verify import verify_dossier
from gatelift.ledger.verify_ticket import verify_receipt, verify_ticket_file
from gatelift.trust import verify_root

__all__ = ["dossier", "replay", "ticket", "verify"]

dossier = typer.Typer(no_args_is_help=True, help="Export what an auditor gets.")
ticket = typer.Typer(no_args_is_help=True, help="Verify a ticket and its receipt.")


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


def verify(
    path: Annotated[Path, typer.Argument(metavar="DOSSIER", help="Its folder or archive.")],
    root: Annotated[
        str | None, typer.Option("--root", help="The root's digest, from elsewhere.")
    ] = None,
    policy: Annotated[
        Path | None, typer.Option("--policy", help="A tlog policy, from elsewhere.")
    ] = None,
    story: Annotated[
        Path | None, typer.Option("--story", help="Figures to be computed again.")
    ] = None,
    json_output: JsonFlag = False,
) -> None:
    """Verify a dossier offline: 0 holds, 1 does not, 2 unreadable, 3 not authenticated."""
    if not path.exists():
        raise InputError(f"expected a dossier's folder or archive, found nothing at {path}")
    anchor: Digest | None = None if root is None else parse_digest(root)
    seldom_collect()
    report = verify_dossier(
        path,
        anchor_root=anchor,
        policy=None if policy is None else read_bytes(policy),
        now_ms=now_ms(),
        cores=os.cpu_count() or 1,
    )
    told: tuple[Finding, ...] = ()
    if story is not None:
        told = verify_story(read_bytes(story), path)
    code = report.exit_code
    if told and code in {Exit.OK, Exit.NOT_AUTHENTICATED}:
        code = Exit.REFUSED
    value = {
        "ok": code == Exit.OK,
        "exit_code": code,
        "authenticated": report.authenticated,
        "readable": report.readable,
        "findings": report.findings,
        "story_findings": told,
        "proved": report.proved,
        "cannot_prove": report.cannot_prove,
        "counts": report.counts,
    }
    show(value, lambda: _render_report(report, told, code, with_story=story is not None))
    raise typer.Exit(code)


_VERDICTS = {
    0: "It holds, and it is the deployment that you named.",
    1: "It does NOT hold.",
    2: "It cannot be read.",
    3: "Consistent with itself, NOT authenticated: a forger could have made it. Give --root or "
    "--policy from elsewhere.",
}


def _render_report(
    report: AuditReport, told: tuple[Finding, ...], code: int, *, with_story: bool
) -> None:
    say(_VERDICTS[code])
    if report.proved:
        say("Proved:")
        for sentence in report.proved:
            say(f"  - {sentence}")
    if with_story and not told:
        say("  - every figure of the story is what the dossier gives")
    findings = (*report.findings, *told)
    if findings:
        say("Found:")
        for each in findings:
            say(f"  - {each.severity.value} {each.where}: {each.message} [{each.code}]")
    say("What no dossier can prove:")
    for sentence in report.cannot_prove:
        say(f"  - {sentence}")


def replay(
    path: Annotated[Path, typer.Argument(metavar="DOSSIER", help="Its folder or archive.")],
    json_output: JsonFlag = False,
) -> None:
    """Compute every decision again from the entries before it."""
    if not path.exists():
        raise InputError(f"expected a dossier's folder or archive, found nothing at {path}")
    findings = Findings()
    recorded = 0
    entries = 0
    with findings.reading(path.name, "unreadable"):
        folder = open_dossier(path)
        releases = read_releases(folder, RELEASES, open_first_root(folder.read(ROOT)), findings)
        if releases is not None:
            entries = len(releases.entries)
            recorded = replay_decisions(folder, releases, findings)
    found = findings.kept()
    value: dict[str, Any] = {
        "ok": not found,
        "entries": entries,
        "decisions": recorded,
        "findings": found,
    }

    def render() -> None:
        if not found:
            say(f"All {recorded} decisions follow from the {entries} entries, with their reasons.")
            return
        say(f"{len(found)} finding(s) over {recorded} decisions:")
        for each in found:
            say(f"  - {each.where}: {each.message} [{each.code}]")

    show(value, render)
    raise typer.Exit(Exit.REFUSED if found else Exit.OK)


@ticket.command("verify")
def verify_one(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The gatelift-ticket header.")],
    root_file: Annotated[Path, typer.Option("--root-file", help="root.json of the release.")],
    root: Annotated[
        str | None, typer.Option("--root", help="The root's digest, from elsewhere.")
    ] = None,
    receipt: Annotated[
        Path | None, typer.Option("--receipt", help="The proof from /v1/receipts/...")
    ] = None,
    json_output: JsonFlag = False,
) -> None:
    """Check that a node committed this exchange, and with a receipt that the log holds it."""
    envelope = read_bytes(root_file)
    if root is not None and sha256_digest(envelope) != parse_digest(root):
        raise InputError(f"{root_file} is not the root {root}", code="wrong_root")
    value = verify_root(envelope, now_ms())
    held = verify_ticket_file(read_bytes(file), value)
    batch_digest = sha256_digest(held.ticket.entry.encode("utf-8"))
    found: dict[str, Any] = {
        "ok": True,
        "authenticated": root is not None,
        "node": held.batch.node,
        "at": held.batch.at,
        "batch": batch_digest,
        "receipt_path": f"/v1/receipts/{batch_digest.removeprefix('sha256:')}",
        "record": held.record,
        "logged": None,
    }
    if receipt is not None:
        head = verify_receipt(read_bytes(receipt), held, value)
        found["logged"] = {
            "origin": head.origin,
            "size": head.size,
            "root": encode_base64(head.root),
        }

    def render() -> None:
        say("The ticket holds: the node signed a batch that commits to this record.")
        rows: list[tuple[str, object]] = [
            ("node", held.batch.node),
            ("committed", at_text(held.batch.at)),
            ("batch", batch_digest),
        ]
        if receipt is not None:
            rows.append(("in the log", f"{found['logged']['origin']} of {found['logged']['size']}"))
        else:
            rows.append(("in the log", f"not shown: fetch {found['receipt_path']}"))
        facts(rows)
        if root is None:
            say("NOT authenticated: the root came with the ticket. Give --root from elsewhere.")

    show(found, render)
    raise typer.Exit(Exit.OK if root is not None else Exit.NOT_AUTHENTICATED)
