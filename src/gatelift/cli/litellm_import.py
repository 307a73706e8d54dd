"""`gatelift import`: read what another gateway holds, write drafts; then admissions signs them.

    LiteLLM --import litellm--> a folder of drafts --import sign (admissions)--> grants

Invariants
- `import litellm` signs nothing and submits nothing; with `--dry-run` it writes nothing either.
- What is written holds pseudonyms and digests of keys. The names behind the pseudonyms, with the
  salt that makes them, lie in one file of mode 0600 (`pseudonyms.json`), which is never handed on.
- `import sign` signs only what lies inside the stage's envelope of the plan in force, after a yes;
  a draft that was submitted moves aside, so that a second run goes on where the first one stopped.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from gatelift.arrivals import (
    CURRENCY,
    Arrival,
    ArrivalError,
    Choice,
    Config,
    Difference,
    Pseudonyms,
    carry_litellm,
    limit_text,
    model_of,
    parse_config,
    prices_yaml,
    report_value,
    summary,
)
from gatelift.cli.desk import (
    AdminOption,
    Desk,
    KeysOption,
    TokenOption,
    load_keys,
    now_ms,
    sign_statement,
)
from gatelift.cli.errors import InputError
from gatelift.cli.layout import read_bytes
from gatelift.cli.litellm_database import read_database
from gatelift.cli.litellm_drafts import Drafts, draft_grants, read_salt, write_drafts
from gatelift.cli.output import JsonFlag, at_text, facts, note, say, show, table
from gatelift.cli.plans import read_plan
from gatelift.plan import Stage, parse_plan
from gatelift.terms import MAX_PRICE_MICROS, MICROS, Prices, parse_micros
from gatelift.trust import Grant, check_grant_within
from gatelift.wire.files import make_directory, replace_durably

__all__ = ["arrivals"]

arrivals = typer.Typer(no_args_is_help=True, help="Come from another gateway.")
_SHOWN_ROWS = 20
_SALT_BYTES = 32


def _prices(into: str | None, out: str | None) -> Prices | None:
    if into is None or out is None:
        if into != out:
            raise InputError("expected --input-price and --output-price together")
        return None
    return Prices(currency=CURRENCY, input_micros=_micros(into), output_micros=_micros(out))


def _micros(text: str) -> int:
    found = parse_micros(text)
    if found > MAX_PRICE_MICROS:
        raise InputError(
            f"expected a price of at most {MAX_PRICE_MICROS // MICROS} for a million tokens"
        )
    return found


def _warn_of_password(context: typer.Context, db: str | None) -> None:
    source = context.get_parameter_source("db")
    try:
        shown = db is not None and urlsplit(db).password is not None
    except ValueError:
        return
    if shown and source is not None and source.name == "COMMANDLINE":
        note(
            "The URL holds a password: on a command line others on this machine can read it. Put "
            "the URL in LITELLM_DATABASE_URL, or the password in ~/.pgpass."
        )


def _config(path: Path | None) -> Config | None:
    if path is None:
        return None
    try:
        return parse_config(read_bytes(path))
    except ArrivalError as error:
        raise InputError(f"{path}: {error}", code=error.code) from None


@arrivals.command("litellm")
def litellm(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG]", help="LiteLLM's config.yaml.")
    ] = None,
    db: Annotated[
        str | None,
        typer.Option("--db", metavar="URL", envvar="LITELLM_DATABASE_URL", help="Its Postgres."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="LiteLLM's name of the model to be served.")
    ] = None,
    plan_file: Annotated[
        Path | None, typer.Option("--plan", help="The plan that they come under.")
    ] = None,
    stage: Annotated[str | None, typer.Option("--stage", help="The stage they come to.")] = None,
    proof: Annotated[
        list[str] | None,
        typer.Option("--proof", help="What was checked of all of them, such as identity."),
    ] = None,
    choice: Annotated[
        Choice, typer.Option("--caps", help="Which of many limits becomes everybody's.")
    ] = Choice.SMALLEST,
    input_price: Annotated[
        str | None, typer.Option("--input-price", help="USD for a million tokens in.")
    ] = None,
    output_price: Annotated[
        str | None, typer.Option("--output-price", help="USD for a million tokens out.")
    ] = None,
    pseudonyms: Annotated[
        Path | None,
        typer.Option("--pseudonyms", help="An earlier import's pseudonyms.json: the same names."),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where the drafts go; a new folder.")
    ] = Path("litellm-import"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be written; write nothing.")
    ] = False,
    json_output: JsonFlag = False,
) -> None:
    """Read LiteLLM's config.yaml, its database or both; write drafts and a report."""
    if config is None and db is None:
        raise InputError("expected LiteLLM's config.yaml, --db URL, or both")
    if (plan_file is None) != (stage is None):
        raise InputError("expected --plan FILE and --stage NAME together")
    _warn_of_password(context, db)
    plan = None if plan_file is None else read_plan(plan_file)[1]
    place = None if plan is None or stage is None else plan.stage(stage)
    found, rows = _config(config), None if db is None else read_database(db)
    salt = secrets.token_bytes(_SALT_BYTES) if pseudonyms is None else read_salt(pseudonyms)
    names = Pseudonyms(salt)
    at = now_ms()
    arrival = carry_litellm(
        found,
        rows,
        model=model_of(found, rows, model),
        plan_caps=() if place is None else place.envelope.caps,
        plan_prices=None if plan is None else plan.prices,
        choice=choice,
        prices=_prices(input_price, output_price),
        names=names,
        now_ms=at,
    )
    grants: tuple[Grant, ...] = ()
    if plan is not None and place is not None:
        grants = draft_grants(plan, place.name, arrival.keys, tuple(proof or ()), at)
    elif arrival.keys and not dry_run:
        raise InputError("expected --plan FILE and --stage NAME: what do the keys' owners come to?")
    if not dry_run:
        write_drafts(out, arrival, grants, names, salt)
    _show_arrival(arrival, place, None if dry_run else out)


def _show_arrival(arrival: Arrival, place: Stage | None, out: Path | None) -> None:
    most = None if place is None else place.envelope.audience.max_organisations
    too_many = most is not None and len(arrival.organisations) > most
    value = {"ok": True, "dry_run": out is None, "out": None if out is None else str(out)}

    def render() -> None:
        say("Would write:" if out is None else f"Drafts in {out}:")
        facts([("model", arrival.model), *summary(arrival).items()])
        for each in arrival.placements:
            say(f"- placement {each.name}: {each.base_url}, model {each.model}")
            say(f"  its credential: {each.credential}")
        if arrival.caps.changed:
            say("Caps that the stage does not have so yet:")
            facts(
                (f"  {cap.key}", limit_text(cap.key, cap.limit, arrival.currency))
                for cap in arrival.caps.changed
            )
        if arrival.prices is not None and arrival.proposes_prices:
            say("Prices that the plan needs for them, rounded up:")
            say(f"  {prices_yaml(arrival.prices).strip()}")
        _show_rows(
            "Had another limit",
            ("who", "cap", "there", "here"),
            [_difference(each, arrival.currency) for each in arrival.caps.differences],
        )
        _show_rows(
            "Does not come along",
            ("what", "line", "why"),
            [(each.what, each.line or "-", each.why.reason) for each in arrival.left],
        )
        if too_many:
            say(
                f"The stage admits {most} organisations: the rest will be refused. Choose another "
                "stage, or fewer teams."
            )
        say(
            "Nothing is in force. Nothing was written."
            if out is None
            else "Nothing is in force until admissions signs: gatelift import sign."
        )

    show(value | report_value(arrival), render)


def _difference(each: Difference, currency: str) -> tuple[object, ...]:
    there = "none" if each.there is None else limit_text(each.cap, each.there, currency)
    here = limit_text(each.cap, each.here, currency)
    return (each.who, each.cap, there, f"{here} ({each.effect})")


def _show_rows(title: str, columns: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    if not rows:
        return
    say()
    table(columns, rows[:_SHOWN_ROWS], title=f"{title}: {len(rows)}")
    if len(rows) > _SHOWN_ROWS:
        say(f"and {len(rows) - _SHOWN_ROWS} more: --json or report.md has them all")


@arrivals.command("sign")
def sign(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What `import litellm` wrote.")],
    key: KeysOption,
    yes: Annotated[bool, typer.Option("--yes", help="Sign without asking.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Write the envelopes here, don't submit."),
    ] = None,
    admin: AdminOption = None,
    token_file: TokenOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Sign the drafts of an import and submit them (admissions)."""
    keys = load_keys(key)
    drafts = Drafts(folder)
    waiting = drafts.waiting()
    desk = Desk(admin, token_file)
    plan = parse_plan(desk.file(desk.plan_digest))
    for grant in waiting:
        if grant.release != plan.name:
            raise InputError(f"draft {grant.id} is for release {grant.release}, not {plan.name}")
        check_grant_within(grant, grant.stage, plan.stage(grant.stage).envelope)
    _show_question(waiting)
    if waiting and not yes and not json_output and not typer.confirm("Sign these?"):
        note("Not signed.")
        raise typer.Exit(1)
    if out is not None:
        make_directory(out)
    for grant in waiting:
        envelope = sign_statement("grant", grant, desk.subject, keys)
        if out is not None:
            replace_durably(out / f"{grant.id}.grant.json", envelope)
            continue
        desk.send("grant", envelope)
        drafts.submitted(grant, envelope)
    done = [grant.id for grant in waiting]
    value = {"ok": True, "grants": done, "submitted": out is None}
    word = "admitted" if out is None else "signed, not submitted"
    show(value, lambda: say(f"{len(done)} grants {word}."))


def _show_question(waiting: list[Grant]) -> None:
    organisations = sorted({grant.organisation for grant in waiting})
    say(f"You are asked to admit {len(waiting)} keys of {len(organisations)} organisations.")
    if waiting:
        table(
            ("organisation", "principal", "stage", "proofs", "until"),
            [
                (g.organisation, g.principal, g.stage, ", ".join(g.proofs), at_text(g.not_after))
                for g in waiting[:_SHOWN_ROWS]
            ],
        )
    if len(waiting) > _SHOWN_ROWS:
        say(f"and {len(waiting) - _SHOWN_ROWS} more in the folder's grants/")
