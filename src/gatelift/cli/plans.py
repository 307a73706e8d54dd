"""`gatelift plan`: check a plan file, print its schema, adopt it, preview what comes next."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from gatelift.cli.desk import (
    AdminOption,
    Desk,
    KeysOption,
    OutOption,
    TokenOption,
    load_keys,
    show_sent,
    sign_statement,
)
from gatelift.cli.errors import Exit
from gatelift.cli.layout import read_bytes
from gatelift.cli.output import JsonFlag, facts, say, show, table
from gatelift.cli.preview import show_preview
from gatelift.encoding import sha256_digest
from gatelift.messages import PlanAdoption
from gatelift.plan import (
    Plan,
    PlanError,
    encode_candidate,
    fingerprint,
    make_candidate,
    parse_plan,
    plan_json_schema,
    units_needed,
)
from gatelift.terms import format_duration
from gatelift.trust import Subject

__all__ = ["candidate_bytes", "plan", "read_plan"]

plan = typer.Typer(no_args_is_help=True, help="Check, adopt and preview the release plan.")
PlanArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The plan, in YAML.")]


def read_plan(path: Path) -> tuple[bytes, Plan]:
    """Return a plan file's bytes and value; raises `PlanError` or `InputError`."""
    data = read_bytes(path)
    return data, parse_plan(data)


def candidate_bytes(path: Path, value: Plan) -> bytes:
    """Return candidate.json of the plan at `path`, with the prompt that lies beside it."""
    named = value.candidate.system_prompt_file
    prompt = None if named is None else read_bytes(path.parent / named).decode("utf-8")
    return encode_candidate(make_candidate(value, prompt))


@plan.command("check")
def check(file: PlanArgument, json_output: JsonFlag = False) -> None:
    """Check a plan: every problem at once, each with what to write instead."""
    try:
        data, value = read_plan(file)
    except PlanError as error:
        _show_problems(file, error)
        raise typer.Exit(Exit.UNREADABLE) from None
    needs = [units_needed(value, stage) for stage in value.stages]
    found = {
        "ok": True,
        "release": value.name,
        "plan": sha256_digest(data),
        "stages": [stage.name for stage in value.stages],
        "needs": needs,
    }

    def render() -> None:
        say(f"{file}: a valid plan for release {value.name}.")
        facts((("digest", sha256_digest(data)),))
        rows = []
        for stage, need in zip(value.stages, needs, strict=True):
            sessions = [each.clean_sessions for each in need.clear if each.clean_sessions]
            sessions += [need.soak.sessions] if need.soak else []
            rows.append(
                (
                    stage.name,
                    stage.envelope.audience.tier.value,
                    " + ".join(stage.quorum),
                    stage.assurance.value,
                    format_duration(stage.certificate_ms),
                    str(max(sessions)) if sessions else "-",
                )
            )
        table(("stage", "audience", "who signs", "assurance", "lives", "clean sessions"), rows)

    show(found, render)


def _show_problems(file: Path, error: PlanError) -> None:
    def render() -> None:
        for each in error.problems:
            say(f"{file}:{each.line}:{each.column}: {each.path or 'plan'}")
            say(f"    {each.message}")
            say(f"    write {each.write_instead}")

    show({"ok": False, "error": {"code": error.code}, "problems": error.problems}, render)
    sys.stdout.flush()
    sys.stderr.write(f"error: {len(error.problems)} problem(s) in {file} [{error.code}]\n")


@plan.command("schema")
def schema(json_output: JsonFlag = False) -> None:
    """Print the JSON Schema of the plan file, for editors."""
    found = plan_json_schema()
    show(found, lambda: print(json.dumps(found, indent=2)))


@plan.command("adopt")
def adopt(
    file: PlanArgument,
    key: KeysOption,
    admin: AdminOption = None,
    token_file: TokenOption = None,
    out: OutOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Put the release under a plan, for the candidate that the plan describes (operator)."""
    data, value = read_plan(file)
    candidate = candidate_bytes(file, value)
    adoption = PlanAdoption(
        release=value.name, plan=sha256_digest(data), candidate=fingerprint(candidate)
    )
    subject = Subject(name=f"plan:{value.name}", digest=adoption.plan)
    envelope = sign_statement("plan", adoption, subject, load_keys(key))
    desk = Desk(admin, token_file)
    result = desk.send("plan", envelope, out=out, attachments=(data, candidate))
    result |= {"release": value.name, "plan": adoption.plan, "fingerprint": adoption.candidate}
    show_sent(result, f"Plan of {value.name} adopted for candidate {adoption.candidate}.")


@plan.command("preview")
def preview(
    admin: AdminOption = None, token_file: TokenOption = None, json_output: JsonFlag = False
) -> None:
    """Show for every stage what blocks it, who must sign, and when it could open."""
    show_preview(Desk(admin, token_file).client.get("/preview"))
