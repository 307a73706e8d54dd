"""`gatelift assess run`: commit, draw the items from the log, ask through the gateway, hand in.

Invariants
- The commit is on the log and cosigned before an item exists; the head that seeds the items is the
  one fetched as soon as that is so, and the evidence names it.
- A run that is refused or void leaves its commit behind: unless another result comes in time, it
  counts as failed. That is the rule, not an accident of this command.
- The API key is an ordinary grant's, read from a file.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from gatelift.assess import (
    EvidenceDraft,
    RunSettings,
    commit_for,
    run,
    sign_commit,
    sign_evidence,
    threshold_of,
)
from gatelift.cli.desk import AdminOption, Desk, KeysOption, TokenOption, new_id, now_ms, show_sent
from gatelift.cli.errors import AdminUnreachableError, InputError
from gatelift.cli.output import JsonFlag, note
from gatelift.encoding import Digest, parse_digest, sha256_digest
from gatelift.messages import Commit
from gatelift.plan import Plan, parse_plan
from gatelift.terms import Category, Posture, parse_duration_ms
from gatelift.trust import MessageSigner, verify_root
from gatelift.wire.files import replace_durably
from gatelift.wire.keyfiles import load_secret_text
from gatelift.wire.signers import load_signer

__all__ = ["assess"]

assess = typer.Typer(no_args_is_help=True, help="Measure the candidate through the gateway.")


@assess.command("run")
def run_one(
    threshold: Annotated[str, typer.Option("--threshold", help="A threshold of the plan.")],
    api_key_file: Annotated[Path, typer.Option("--api-key-file", help="A grant's API key (0600).")],
    gateway: Annotated[
        str, typer.Option("--gateway", envvar="GATELIFT_GATEWAY", help="The gateway's base URL.")
    ],
    key: KeysOption,
    measure: Annotated[
        str | None, typer.Option("--measure", help="Test its measure instead, by assessment.")
    ] = None,
    attempts: Annotated[
        int | None, typer.Option("--attempts", help="More attempts than the plan asks for.")
    ] = None,
    deadline: Annotated[
        str, typer.Option("--deadline", help="When a missing result counts as failed.")
    ] = "1h",
    root: Annotated[
        str | None, typer.Option("--root", help="The root's digest, from elsewhere.")
    ] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, max=64)] = 4,
    results_out: Annotated[
        Path | None, typer.Option("--results-out", help="Keep the rows here as well.")
    ] = None,
    admin: AdminOption = None,
    token_file: TokenOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Commit to a measurement, make it, and submit its result (evaluator or safety)."""
    if len(key) != 1:
        raise InputError(f"expected one --key, the evaluator's, got {len(key)}")
    signer = load_signer(key[0])
    desk = Desk(admin, token_file)
    plan = parse_plan(desk.file(desk.plan_digest))
    promised = commit_for(
        plan,
        threshold,
        measure,
        fingerprint=desk.fingerprint,
        deadline_ms=now_ms() + parse_duration_ms(deadline),
        commit_id=new_id("commit"),
        attempts=attempts,
    )
    index = _log_commit(desk, promised, signer)
    head = desk.client.get_bytes("/checkpoint")
    drafted = run(
        commit=promised,
        commit_index=index,
        note=head,
        root=verify_root(desk.file(_root_digest(desk, root)), now_ms()),
        gateway_url=gateway.rstrip("/").removesuffix("/v1"),
        api_key=load_secret_text(api_key_file),
        candidate=desk.file(desk.fingerprint),
        demanded=_demanded(plan, threshold, measure),
        settings=RunSettings(concurrency=concurrency),
        progress=_tell,
    )
    if results_out is not None:
        replace_durably(results_out, drafted.results)
    _hand_in(desk, promised, drafted, signer)


def _log_commit(desk: Desk, promised: Commit, signer: MessageSigner) -> int:
    # The specification goes with the commit, so that a stranger can draw the same items.
    specification = resources.files("gatelift.assess").joinpath(f"{promised.assessment}.json")
    data_set = specification.read_bytes()
    if sha256_digest(data_set) != promised.data_set:
        raise InputError(f"the specification of {promised.assessment} is not the committed one")
    sent = desk.send(
        "commit", sign_commit(promised, signer), attachments=(data_set,), cosigned=True
    )
    if not sent["cosigned"]:
        raise AdminUnreachableError(
            "the commit is logged but not cosigned: a seed needs a witnessed head; "
            "see the witness, then commit again",
            code="not_cosigned",
        )
    return int(sent["index"])


def _root_digest(desk: Desk, root: str | None) -> Digest:
    if root is not None:
        return parse_digest(root)
    note("no --root given: taking control's word for the root of trust")
    return parse_digest(desk.state["root_digest"])


def _demanded(plan: Plan, threshold: str, measure: str | None) -> dict[Category, Posture] | None:
    return None if measure is None else threshold_of(plan, threshold).unless_ruled_out.safeguards


def _tell(done: int, of: int) -> None:
    if done == of or done % 20 == 0:
        note(f"{done} of {of} items")


def _hand_in(desk: Desk, promised: Commit, drafted: EvidenceDraft, signer: MessageSigner) -> None:
    found = drafted.evidence
    result = desk.send(
        "evidence",
        sign_evidence(drafted, signer),
        attachments=(drafted.results,),
        cosigned=True,
    )
    result |= {
        "id": found.id,
        "commit": promised.id,
        "n": found.n,
        "s": found.s,
        "undetermined": found.undetermined,
        "errors": found.errors,
        "stage": found.stage,
        "under": found.under,
    }
    show_sent(
        result,
        f"{found.assessment}/{found.metric}: {found.s} of {found.n}, {found.undetermined} "
        f"undetermined, {found.errors} errors.",
    )
