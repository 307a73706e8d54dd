"""`gatelift verify`, `replay`, `ticket`: checking the evidence.

Invariants
- Checks run offline, on the bytes that were handed over; nothing is fetched.
- `verify` without an anchor from elsewhere exits with 3, however well everything fits together.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gatelift.cli.desk import now_ms
from gatelift.cli.errors import Exit, InputError
from gatelift.cli.layout import read_bytes
from gatelift.cli.output import JsonFlag, at_text, facts, say, show
from gatelift.encoding import Digest, encode_base64, parse_digest, sha256_digest
from gatelift.ledger.audit import AuditReport, Finding
from gatelift.ledger.audit.archive import open_dossier
from gatelift.ledger.audit.decisions import replay_decisions
from gatelift.ledger.audit.folder import RELEASES, ROOT
from gatelift.ledger.audit.releases import open_first_root, read_releases
from gatelift.ledger.audit.report import Findings
from gatelift.ledger.exports import open_verified
from gatelift.ledger.story import verify_story
from gatelift.ledger.verify import verify_dossier
from gatelift.ledger.verify_ticket import verify_receipt, verify_ticket_file
from gatelift.trust import verify_root

__all__ = ["replay", "ticket", "verify"]

ticket = typer.Typer(no_args_is_help=True, help="Verify a ticket and its receipt.")


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
    html: Annotated[
        Path | None, typer.Option("--html", help="A new file: the report as one static page.")
    ] = None,
    json_output: JsonFlag = False,
) -> None:
    """Verify a dossier offline: 0 holds, 1 does not, 2 unreadable, 3 not authenticated."""
    if not path.exists():
        raise InputError(f"expected a dossier's folder or archive, found nothing at {path}")
    if html is not None and (html.exists() or html.is_symlink()):
        raise InputError(f"{html} is there already: name a new file")
    anchor: Digest | None = None if root is None else parse_digest(root)
    report = verify_dossier(
        path,
        anchor_root=anchor,
        policy=None if policy is None else read_bytes(policy),
        now_ms=now_ms(),
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
        "commitments": report.commitments,
    }
    if html is not None:
        _write_page(path, report, html, anchor, policy)
    show(value, lambda: _render_report(report, told, code, with_story=story is not None))
    raise typer.Exit(code)


def _write_page(
    path: Path, report: AuditReport, html: Path, anchor: Digest | None, policy: Path | None
) -> None:
    # Loaded only for who asks for a page: the web takes longer to load than most dossiers to verify.
    from gatelift.web import build_audit_view, render_audit  # noqa: PLC0415

    opened = None
    if report.exit_code in {Exit.OK, Exit.NOT_AUTHENTICATED}:
        opened = open_verified(
            path,
            anchor_root=anchor,
            policy=None if policy is None else read_bytes(policy),
            now_ms=now_ms(),
        )
    by = [f"the root {anchor}"] if anchor is not None else []
    by += [f"the policy {policy.name}"] if policy is not None else []
    said = f"Held against {' and '.join(by)}." if by else "Held against nothing from elsewhere."
    view = build_audit_view(report, opened, name=path.name, anchor=said, now_ms=now_ms())
    with html.open("x", encoding="utf-8") as file:
        file.write(render_audit(view))


_STORY_DIFFERS = "The dossier holds, and the story does NOT follow from it."


def _render_report(
    report: AuditReport, told: tuple[Finding, ...], code: int, *, with_story: bool
) -> None:
    say(report.verdict if code == report.exit_code else _STORY_DIFFERS)
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
    if report.commitments:
        say("Promised on the log, and without a result there:")
        for owed in report.commitments:
            late = "OVERDUE, " if owed.overdue else ""
            by = ", ".join(owed.by)
            say(f"  - entry {owed.index}, {by}: {owed.what}; {late}settled by {owed.settled_by}")
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
            recorded = replay_decisions(folder, releases, findings).recorded
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
