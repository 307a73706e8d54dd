"""`gatelift receipt check`: a caller proves what was sent and what was answered, offline.

Invariants
- Nothing is fetched: ticket, proof and root are files, the root's digest comes from elsewhere.
- Each thing that can be wrong has a code of its own: another ticket, another receipt, another salt,
  another text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gatelift.cli.desk import now_ms
from gatelift.cli.errors import Exit, InputError
from gatelift.cli.layout import read_bytes
from gatelift.cli.output import JsonFlag, at_text, facts, say, show
from gatelift.encoding import parse_digest, sha256_digest
from gatelift.ledger.verify_opening import verify_answer, verify_request
from gatelift.ledger.verify_ticket import verify_receipt, verify_ticket_file
from gatelift.messages import RecordError
from gatelift.tlog import MerkleError, ProofError
from gatelift.trust import verify_root

__all__ = ["receipt"]

receipt = typer.Typer(no_args_is_help=True, help="Prove what was sent and answered, offline.")


@receipt.command("check")
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The gatelift-ticket header.")],
    root_file: Annotated[Path, typer.Option("--root-file", help="root.json of the release.")],
    prompt: Annotated[
        Path | None, typer.Option("--prompt", help="The request's body, byte for byte.")
    ] = None,
    answer: Annotated[
        Path | None, typer.Option("--answer", help="The answer's body; of a stream its text.")
    ] = None,
    proof: Annotated[
        Path | None, typer.Option("--proof", help="The proof from /v1/receipts/...")
    ] = None,
    root: Annotated[
        str | None, typer.Option("--root", help="The root's digest, from elsewhere.")
    ] = None,
    json_output: JsonFlag = False,
) -> None:
    """Check that a record which a node signed commits to these texts, and that the log holds it."""
    if prompt is None and answer is None:
        raise InputError("expected --prompt FILE, --answer FILE or both: what is to be proved")
    envelope = read_bytes(root_file)
    if root is not None and sha256_digest(envelope) != parse_digest(root):
        raise InputError(f"{root_file} is not the root {root}", code="wrong_root")
    value = verify_root(envelope, now_ms())
    held = verify_ticket_file(read_bytes(file), value)
    logged: str | None = None
    if proof is not None:
        try:
            logged = verify_receipt(read_bytes(proof), held, value).origin
        except (MerkleError, ProofError) as error:
            raise RecordError(
                f"the receipt is not of this ticket's batch: {error}", code="other_receipt"
            ) from error
    if prompt is not None:
        verify_request(held, read_bytes(prompt))
    if answer is not None:
        verify_answer(held, read_bytes(answer))
    found: dict[str, Any] = {
        "ok": True,
        "authenticated": root is not None,
        "prompt": prompt is not None,
        "answer": answer is not None,
        "logged": logged,
        "at": held.record.at,
        "record": held.record,
    }

    def render() -> None:
        what = " and ".join(
            name for name, path in (("the request", prompt), ("the answer", answer)) if path
        )
        say(f"It is so: the node signed a record that commits to {what}.")
        facts(
            (
                ("recorded", at_text(held.record.at)),
                ("in the log", logged or "not shown: give --proof"),
            )
        )
        if root is None:
            say("NOT authenticated: the root came with the ticket. Give --root from elsewhere.")

    show(found, render)
    raise typer.Exit(Exit.OK if root is not None else Exit.NOT_AUTHENTICATED)
