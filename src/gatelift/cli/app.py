"""The entry: which command lives in which module, and how every error ends.

Invariants
- A module is imported only when its command runs; help is made from the table below.
- Every command ends with an exit code of `errors.Exit`; no error on purpose shows a traceback.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, NamedTuple, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from gatelift.cli.errors import Exit, exit_code, first_error
from gatelift.cli.output import fail
from gatelift.errors import GateliftError

__all__ = ["COMMANDS", "main"]


class Entry(NamedTuple):
    """A command: its module, the function or group in it, one line of help, its panel."""

    name: str
    module: str
    attribute: str
    help: str
    panel: str


_RUN, _WIDEN, _STOP, _READ = "Run", "Propose, assess, approve", "Stop", "Look and check"

COMMANDS = (
    Entry(
        "init", "init", "init", "Ask six questions; write plan, root, keys and a to-do list", _RUN
    ),
    Entry("up", "up", "up", "Run everything on this machine, and serve", _RUN),
    Entry("restart", "restart", "restart", "Renew the workers without losing a request", _RUN),
    Entry("doctor", "doctor", "doctor", "Say what is wrong here and what to do", _RUN),
    Entry("control", "processes", "control", "Run control alone", _RUN),
    Entry("keeper", "processes", "keeper", "Run this node's keeper alone", _RUN),
    Entry("worker", "processes", "worker", "Run one worker: the gateway", _RUN),
    Entry("witness", "witnessing", "witness", "Run a witness, or compare what witnesses saw", _RUN),
    Entry("sidecar", "sidecar", "sidecar", "Start a model server and measure its weights", _RUN),
    Entry("beacon", "beacons", "beacon", "Run a beacon: its silence stops service", _RUN),
    Entry("keys", "keys", "keys", "Make signing keys, show them, keep them on paper", _RUN),
    Entry("root", "roots", "root", "Draft, check and adopt the next root of trust", _RUN),
    Entry("plan", "plans", "plan", "Check, adopt and preview the release plan", _WIDEN),
    Entry(
        "candidate", "candidates", "candidate", "Write candidate.json and its fingerprint", _WIDEN
    ),
    Entry("copies", "copies", "copies", "Register copies of the weights, and close them", _WIDEN),
    Entry("placement", "candidates", "placement", "Enrol where the candidate runs", _WIDEN),
    Entry("assess", "assessing", "assess", "Commit, measure through the gateway, hand in", _WIDEN),
    Entry("commit", "evidence", "commit", "Commit to a measurement before it is made", _WIDEN),
    Entry("evidence", "evidence", "evidence", "Submit or revoke results", _WIDEN),
    Entry("review", "reviews", "review", "Judge a stage: approve or refuse", _WIDEN),
    Entry("announce", "notices", "announce", "Say on the log what will be certified", _WIDEN),
    Entry("object", "notices", "object_to", "Object, as the overseer, to an announcement", _WIDEN),
    Entry("certify", "certify", "certify", "Sign the certificate of a stage", _WIDEN),
    Entry("grant", "grants", "grant", "Admit a principal and hand out its API key", _WIDEN),
    Entry("import", "litellm_import", "arrivals", "Come from another gateway: LiteLLM", _WIDEN),
    Entry("sign", "signing", "sign", "Add a signature, offline, to what others signed", _WIDEN),
    Entry("submit", "submit", "submit", "Submit an envelope that was signed elsewhere", _WIDEN),
    Entry("halt", "orders", "halt", "Stop: nobody, or nobody of one kind, is served", _STOP),
    Entry("order", "orders", "order", "Narrow: lower a ceiling or add block rules", _STOP),
    Entry("clear", "orders", "clear", "Lift orders on organisations, principals or keys", _STOP),
    Entry("hold", "holds", "hold", "Keep records from being erased", _STOP),
    Entry("erase", "erasing", "erase", "Erase records: two people, announced on the log", _WIDEN),
    Entry("incident", "incidents", "incident", "Open and change incidents", _STOP),
    Entry("status", "reading", "status", "What is live, what blocks, what comes next", _READ),
    Entry("log", "reading", "log", "Entries of the releases log", _READ),
    Entry("overseer", "overseer", "overseer", "Call unannounced; list promises not kept", _READ),
    Entry("report", "observing", "report", "What tighter terms would have refused", _READ),
    Entry("ledger", "fsck", "ledger", "Check the logs on this disk, and mend them", _READ),
    Entry("dossier", "dossiers", "dossier", "Export what an auditor gets", _READ),
    Entry("verify", "audit", "verify", "Verify a dossier offline", _READ),
    Entry("replay", "audit", "replay", "Replay every decision of a dossier", _READ),
    Entry("ticket", "audit", "ticket", "Verify a ticket and its receipt", _READ),
    Entry("receipt", "receipts", "receipt", "Prove what was sent and answered", _READ),
)
_BY_NAME = {entry.name: entry for entry in COMMANDS}


def _load(entry: Entry) -> Any:
    found = getattr(importlib.import_module(f"gatelift.cli.{entry.module}"), entry.attribute)
    if isinstance(found, typer.Typer):
        # A group stays one, even with a single command in it.
        return typer.main.get_group(found)
    single = typer.Typer(add_completion=False)
    single.command(entry.name)(found)
    return typer.main.get_command(single)


class _LazyGroup(TyperGroup):
    """Lists commands from the table and imports the one that runs."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name is None else _load(_BY_NAME[name]), rest


def _root() -> TyperGroup:
    return _LazyGroup(
        name="gatelift",
        help="Releases an AI model in stages, behind an API that cannot serve wider than its "
        "evidence allows.",
        epilog="Exit codes: 0 done or holds; 1 refused or does not hold; 2 bad usage or unreadable "
        "input; 3 consistent but not authenticated; 4 a peer failed; 70 a fault of Gatelift.",
        no_args_is_help=True,
        commands={
            entry.name: TyperCommand(name=entry.name, help=entry.help, rich_help_panel=entry.panel)
            for entry in COMMANDS
        },
    )


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with the code of what happened."""
    try:
        _root().main(args=arguments, prog_name="gatelift")
    except Exception as error:  # noqa: BLE001  the one place where everything ends
        _end(first_error(error))
    sys.exit(Exit.OK)


def _end(error: BaseException) -> NoReturn:
    if isinstance(error, GateliftError):
        fail(str(error), error.code, getattr(error, "detail", None))
        sys.exit(exit_code(error))
    if isinstance(error, BrokenPipeError):
        # The reader of our output went away; Python must not complain again at its own exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(Exit.PEER)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        fail(f"{where}{error.strerror or type(error).__name__}", "system_error")
        sys.exit(Exit.UNREADABLE)
    if os.environ.get("GATELIFT_TRACE"):
        raise error
    fail(
        f"a fault of Gatelift: {type(error).__name__}: {error}. Please report it with the trace "
        "that GATELIFT_TRACE=1 shows",
        "internal_fault",
    )
    sys.exit(Exit.FAULT)
