"""`gatelift ledger fsck`: are the logs on this disk what was signed, and what can be mended.

Invariants
- It works on a stopped deployment: while control or the keeper runs it is refused, exit 4.
- Exit 0 when nothing is wrong, or all of it was mended; 1 when something is left.
"""

from __future__ import annotations

from typing import Annotated

import typer

from gatelift.cli.errors import Exit
from gatelift.cli.layout import Deployment
from gatelift.cli.output import JsonFlag, facts, say, show
from gatelift.cli.processes import DirOption
from gatelift.ledger.faults import Fault
from gatelift.ledger.fsck import FsckReport
from gatelift.ledger.fsck import fsck as check_logs

__all__ = ["ledger"]

ledger = typer.Typer(no_args_is_help=True, help="Check the logs on this disk.")


@ledger.command("fsck")
def fsck(
    directory: DirOption,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Write again what can be derived. Nothing is ever signed."),
    ] = False,
    json_output: JsonFlag = False,
) -> None:
    """Compute every leaf, root and tile again, and compare with what lies on the disk."""
    _ = Deployment(directory).read_root_digest()
    report = check_logs(directory, repair=repair)
    show(report, lambda: _render(report))
    raise typer.Exit(Exit.OK if report.ok else Exit.REFUSED)


def _render(report: FsckReport) -> None:
    for log in report.logs:
        say(f"{log.origin}: {log.size} entries, published at {log.published}.")
    for fault in report.repaired:
        say(f"mended {fault.where} [{fault.code}]")
    for fault in report.faults:
        _tell(fault)
    for code, count in report.left_out.items():
        say(f"and {count} more [{code}]")
    for line in report.notes:
        say(f"note: {line}.")
    if report.ok:
        say("Everything leads to what was signed.")
    else:
        left = len(report.faults) + sum(report.left_out.values())
        say(f"{left} thing(s) wrong; nothing was signed and no key was opened.")


def _tell(fault: Fault) -> None:
    say(f"WRONG {fault.where} [{fault.code}]")
    facts((("  expected", fault.expected), ("  found", fault.found), ("  do", fault.do)))
