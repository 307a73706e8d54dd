"""`gatelift report would-have-refused`: what tighter terms would have refused on this node.

Invariants
- It reads the node's journals and writes nothing; what no batch covers was never served.
- The terms are a stage's `observe`, or with `--plan` the caps and safeguards of a stage in another
  plan: what would have happened under it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from gatelift.cli.errors import InputError
from gatelift.cli.layout import Deployment
from gatelift.cli.output import JsonFlag, at_text, facts, say, show, table
from gatelift.cli.plans import read_plan
from gatelift.cli.processes import DirOption
from gatelift.journal import RunFollower, list_runs
from gatelift.messages import Finish, RecordRef, Start
from gatelift.plan import Observed, Plan, Stage, parse_plan
from gatelift.terms import Prices
from gatelift.watch import Exchange, WouldHave, would_have_refused

__all__ = ["read_exchanges", "report"]

report = typer.Typer(no_args_is_help=True, help="What the records say.")


def read_exchanges(journal: Path, release: str, stage: str) -> Iterator[Exchange]:
    """Return the exchanges of a stage in all journals of a node; raises `JournalError`."""
    starts: dict[RecordRef, Start] = {}
    finishes: dict[RecordRef, Finish] = {}
    for folder in sorted(path for path in journal.iterdir() if path.is_dir()):
        for run in list_runs(folder):
            for batch in RunFollower(folder, run).poll():
                for stored in batch.records:
                    record = stored.record
                    if isinstance(record, Start):
                        ref = RecordRef(
                            node=record.node, worker=record.worker, run=record.run, seq=record.seq
                        )
                        starts[ref] = record
                    elif isinstance(record, Finish):
                        finishes[record.of] = record
    for ref, start in starts.items():
        if (start.release, start.stage) == (release, stage):
            yield Exchange(start, finishes.get(ref))


class _Judged(NamedTuple):
    """A stage, the terms that it is judged by, and the prices that stand beside those."""

    place: Stage
    terms: Observed
    prices: Prices | None


def _judged(plan: Plan, stage: str | None, other: Path | None) -> list[_Judged]:
    """Return the stages that are judged."""
    if stage is None:
        if other is not None:
            raise InputError("expected --stage with --plan: which stage's records are judged?")
        found = [(each, each.observe) for each in plan.stages if each.observe is not None]
        if not found:
            raise InputError("no stage of the plan has observe: write it, or give --plan")
        return [_Judged(each, terms, plan.prices) for each, terms in found if terms is not None]
    place = plan.stage(stage)
    if other is not None:
        against = read_plan(other)[1]
        envelope = against.stage(place.name).envelope
        terms = Observed(caps=envelope.caps, safeguards=envelope.safeguards.postures)
        return [_Judged(place, terms, against.prices)]
    if place.observe is None:
        raise InputError(f"stage {place.name} has no observe: write it, or give --plan")
    return [_Judged(place, place.observe, plan.prices)]


@report.command("would-have-refused")
def would_have(
    directory: DirOption,
    stage: Annotated[
        str | None, typer.Option("--stage", help="Only this stage; default all that observe.")
    ] = None,
    other: Annotated[
        Path | None, typer.Option("--plan", help="Judge by this plan's stage of the same name.")
    ] = None,
    json_output: JsonFlag = False,
) -> None:
    """Say what would have been refused, had the observed terms been in force."""
    deployment = Deployment(directory)
    _ = deployment.read_root_digest()
    plan = parse_plan(deployment.read("plan.yaml"))
    results = [
        (
            place,
            terms,
            would_have_refused(
                read_exchanges(deployment.path("journal"), plan.name, place.name),
                terms,
                place.envelope.scope.unlocked,
                prices,
            ),
        )
        for place, terms, prices in _judged(plan, stage, other)
    ]
    value = {
        "ok": True,
        "stages": [
            {"stage": place.name, "judged_by": terms, "result": found}
            for place, terms, found in results
        ],
    }

    def render() -> None:
        for place, _, found in results:
            _show(plan.name, place.name, found)
        say(
            "Tokens and bytes count as spent; a cap in force reserves the worst case and refuses a "
            "little earlier. Caps on coverage are not judged: records do not tell prompts apart. This "
            "node's journals alone were read."
        )

    show(value, render)


def _show(release: str, stage: str, found: WouldHave) -> None:
    say(f"Stage {stage} of {release}:")
    facts(
        (
            ("from", at_text(found.first_at)),
            ("to", at_text(found.last_at)),
            ("served", found.served),
            ("would have refused", found.refused),
            ("would have cut", found.cut),
        )
    )
    for title, rows in (("reason", found.reasons), ("principal", found.principals)):
        if rows:
            say()
            table((title, "exchanges"), rows)
    say()
