"""`gatelift commit` and `gatelift evidence`: promise a measurement, then hand in its result.

Invariants
- What is committed comes from the plan, by the name of a threshold or of a measure's assessment, so
  that nobody retypes a limit.
- A result is a file that the assessment wrote; it is signed as it stands, and its rows are attached.
"""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from gatelift.cli.desk import (
    AdminOption,
    Desk,
    KeysOption,
    OutOption,
    TokenOption,
    load_keys,
    new_id,
    now_ms,
    show_sent,
    sign_statement,
)
from gatelift.cli.errors import InputError
from gatelift.cli.layout import read_bytes
from gatelift.cli.output import JsonFlag
from gatelift.encoding import Digest, decode_json, parse_digest, sha256_digest
from gatelift.messages import Commit, Evidence, Revocation
from gatelift.plan import Plan, parse_plan
from gatelift.terms import parse_duration_ms

__all__ = ["commit", "demand_of", "evidence"]

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """What the plan asks of one measurement."""

    assessment: str
    metric: str
    limit: Decimal
    margin: Decimal
    confidence: Decimal
    attempts: int


def demand_of(plan: Plan, threshold: str | None, measure: str | None) -> Demand:
    """Return what the plan asks of a threshold, or of the measure with that assessment's name."""
    for each in plan.thresholds:
        if measure is None and each.name == threshold:
            e = each.evidence
            return Demand(
                assessment=e.assessment,
                metric=e.metric,
                limit=e.limit,
                margin=e.margin,
                confidence=e.confidence,
                attempts=e.attempts,
            )
        for asked in each.unless_ruled_out.evidence:
            if asked.assessment == measure and threshold in {None, each.name}:
                return Demand(
                    assessment=asked.assessment,
                    metric=asked.metric,
                    limit=asked.below,
                    margin=Decimal(0),
                    confidence=asked.confidence,
                    attempts=asked.min_attempts,
                )
    measures = [a.assessment for t in plan.thresholds for a in t.unless_ruled_out.evidence]
    raise InputError(
        f"expected --threshold of {[t.name for t in plan.thresholds]} or --measure of {measures}, "
        f"got {threshold!r} and {measure!r}"
    )


def _data_set(text: str) -> tuple[Digest, tuple[bytes, ...]]:
    if _DIGEST.fullmatch(text):
        return parse_digest(text), ()
    data = read_bytes(Path(text))
    return sha256_digest(data), (data,)


def commit(
    key: KeysOption,
    data_set: Annotated[
        str, typer.Option("--data-set", metavar="FILE|DIGEST", help="What will be asked.")
    ],
    threshold: Annotated[
        str | None, typer.Option("--threshold", help="A threshold of the plan, by name.")
    ] = None,
    measure: Annotated[
        str | None, typer.Option("--measure", help="A measure's assessment, by name.")
    ] = None,
    attempts: Annotated[
        int | None, typer.Option("--attempts", help="More attempts than the plan asks for.")
    ] = None,
    deadline: Annotated[
        str, typer.Option("--deadline", help="When a missing result counts as failed.")
    ] = "1d",
    admin: AdminOption = None,
    token_file: TokenOption = None,
    out: OutOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Commit to a measurement before it is made (evaluator or safety)."""
    keys = load_keys(key)
    desk = Desk(admin, token_file)
    demand = demand_of(parse_plan(desk.file(desk.plan_digest)), threshold, measure)
    digest, attachments = _data_set(data_set)
    promised = Commit(
        id=new_id("commit"),
        fingerprint=desk.fingerprint,
        assessment=demand.assessment,
        metric=demand.metric,
        comparator="below",
        limit=demand.limit,
        margin=demand.margin,
        confidence=demand.confidence,
        attempts=attempts or demand.attempts,
        data_set=digest,
        deadline=now_ms() + parse_duration_ms(deadline),
    )
    envelope = sign_statement("commit", promised, desk.subject, keys)
    result = desk.send("commit", envelope, out=out, attachments=attachments, cosigned=out is None)
    result |= {"id": promised.id, "commit": promised}
    show_sent(
        result,
        f"Committed: {promised.attempts} attempts of {promised.assessment}/{promised.metric}, "
        f"below {promised.limit} by {promised.margin}.",
    )


evidence = typer.Typer(no_args_is_help=True, help="Submit or revoke results.")


@evidence.command("submit")
def submit(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The result, as JSON.")],
    key: KeysOption,
    results: Annotated[
        Path | None, typer.Option("--results", help="The rows that the result was counted from.")
    ] = None,
    admin: AdminOption = None,
    token_file: TokenOption = None,
    out: OutOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Sign the result of a commit and submit it with its rows (evaluator or safety)."""
    found = decode_json(read_bytes(file), Evidence)
    rows = () if results is None else (read_bytes(results),)
    if rows and sha256_digest(rows[0]) != found.results:
        raise InputError(
            f"the result names rows {found.results[:24]}, {results} has other bytes",
            code="wrong_results",
        )
    desk = Desk(admin, token_file)
    envelope = sign_statement("evidence", found, desk.subject, load_keys(key))
    result = desk.send("evidence", envelope, out=out, attachments=rows)
    result |= {"id": found.id, "commit": found.commit, "n": found.n, "s": found.s}
    show_sent(result, f"Evidence: {found.s} of {found.n} in {found.assessment}/{found.metric}.")


@evidence.command("revoke")
def revoke(
    body: Annotated[str, typer.Argument(metavar="DIGEST", help="Evidence or review, by digest.")],
    reason: Annotated[str, typer.Option("--reason", help="Why it no longer counts.")],
    key: KeysOption,
    admin: AdminOption = None,
    token_file: TokenOption = None,
    out: OutOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Say that evidence or a review no longer counts."""
    desk = Desk(admin, token_file)
    revocation = Revocation(body=parse_digest(body), reason=reason)
    envelope = sign_statement("revocation", revocation, desk.subject, load_keys(key))
    show_sent(desk.send("revocation", envelope, out=out), f"Revoked: {body}.")
