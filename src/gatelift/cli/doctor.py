"""`gatelift doctor`: what is wrong with this deployment, and what to do about it.

Invariants
- It changes nothing but a temporary file, and tells no secret: only names, modes and digests.
- `wrong` means that it does not or soon will not serve as it should: exit 1. `warning` is for people
  to judge.
- Every line that is not `ok` says what to do.
"""

from __future__ import annotations

import typer

from gatelift.cli.check_files import check_files
from gatelift.cli.check_processes import check_processes
from gatelift.cli.checkup import Checkup, Health
from gatelift.cli.errors import Exit
from gatelift.cli.layout import Deployment
from gatelift.cli.output import JsonFlag, say, show, table
from gatelift.cli.processes import DirOption

__all__ = ["doctor"]


def doctor(directory: DirOption, json_output: JsonFlag = False) -> None:
    """Check files, keys, ports, witness, status, drift and the upstream; say what to do."""
    deployment = Deployment(directory)
    _ = deployment.read_root_digest()
    checkup = Checkup()
    root = check_files(deployment, checkup)
    if root is not None:
        check_processes(deployment, root, checkup)
    wrong = sum(line.health is Health.WRONG for line in checkup.lines)
    value = {"ok": wrong == 0, "wrong": wrong, "checks": checkup.lines}

    def render() -> None:
        table(
            ("check", "", "found"),
            [
                (line.name, line.health.value, line.found + (f"\n-> {line.do}" if line.do else ""))
                for line in checkup.lines
            ],
        )
        say(f"{wrong} thing(s) wrong." if wrong else "Nothing is wrong.")

    show(value, render)
    raise typer.Exit(Exit.REFUSED if wrong else Exit.OK)
