"""`gatelift init`: six questions, then plan, prompt, root of trust, keys and a to-do list.

Invariants
- The plan that is written parses; nothing is written when it does not.
- With `--yes` every question is answered by its default; a given option is never asked about.
- An existing deployment, plan or prompt is never overwritten.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from gatelift.cli.cast import Cast, Member, default_cast, read_cast
from gatelift.cli.ceremony import hold_ceremony
from gatelift.cli.desk import now_ms
from gatelift.cli.errors import InputError
from gatelift.cli.layout import Deployment, Settings, read_bytes
from gatelift.cli.output import JsonFlag, facts, say, show
from gatelift.cli.plan_template import DEFAULT_PROMPT, PlanSize, render_plan
from gatelift.cli.todo import render_todo
from gatelift.encoding import Digest, sha256_digest
from gatelift.plan import Plan, encode_candidate, fingerprint, make_candidate, parse_plan

__all__ = ["OrderUrlOption", "create_deployment", "init", "parse_member"]

NODE = "n1"
OrderUrlOption = Annotated[
    list[str] | None,
    typer.Option(
        "--overseer-orders",
        metavar="URL",
        help="List of orders that an overseer publishes; keepers ask there themselves.",
    ),
]
_PERSON = re.compile(r"[a-z0-9][a-z0-9_.-]{0,39}@[a-z0-9][a-z0-9.-]{0,80}")


def parse_member(text: str) -> Member:
    """Return the member written as `person@organisation`."""
    if _PERSON.fullmatch(text) is None:
        raise InputError(
            f"expected person@organisation in lower case, such as olga@lab.example, got {text!r}"
        )
    person, _, organisation = text.partition("@")
    return Member(person=person, organisation=organisation)


def create_deployment(
    deployment: Deployment,
    settings: Settings,
    cast: Cast,
    plan_data: bytes,
    prompt: str | None,
    order_urls: tuple[str, ...] = (),
) -> tuple[Digest, Digest]:
    """Hold the ceremony and write all files; return the digests of root and candidate."""
    plan = parse_plan(plan_data)
    candidate = encode_candidate(make_candidate(plan, prompt))
    deployment.directory.mkdir(parents=True, exist_ok=True)
    for name, data in (("plan.yaml", plan_data), (plan.candidate.system_prompt_file, prompt)):
        if name is not None and data is not None:
            _write_once(deployment, name, data if isinstance(data, bytes) else data.encode())
    root = hold_ceremony(
        deployment,
        release=plan.name,
        cast=cast,
        node=settings.node,
        now_ms=now_ms(),
        order_urls=order_urls,
    )
    deployment.write("candidate.json", candidate)
    deployment.write_settings(settings)
    deployment.write("TODO.md", render_todo(settings, cast, plan, root))
    return root, fingerprint(candidate)


def _write_once(deployment: Deployment, name: str, data: bytes) -> None:
    path = deployment.path(name)
    if path.exists():
        if path.read_bytes() != data:
            raise InputError(f"{path} exists and is not overwritten: move it away first")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    deployment.write(name, data)


def _answer(question: str, given: str | None, default: str, *, yes: bool) -> str:
    if given is not None:
        return given
    return default if yes else str(typer.prompt(question, default=default))


def _plan_and_prompt(path: Path | None, made: bytes) -> tuple[bytes, Plan, str | None]:
    if path is None:
        return made, parse_plan(made), DEFAULT_PROMPT
    data = read_bytes(path)
    plan = parse_plan(data)
    named = plan.candidate.system_prompt_file
    return data, plan, None if named is None else read_bytes(path.parent / named).decode("utf-8")


def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where it goes.")] = Path(),
    yes: Annotated[bool, typer.Option("--yes", help="Take the default of every question.")] = False,
    release: Annotated[str | None, typer.Option("--release", help="The release's name.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="The model's name at its server.")
    ] = None,
    upstream: Annotated[
        str | None, typer.Option("--upstream", help="Base URL of the model's server.")
    ] = None,
    operator: Annotated[
        str | None, typer.Option("--operator", help="Who operates: person@organisation.")
    ] = None,
    overseer: Annotated[
        str | None, typer.Option("--overseer", help="Who oversees, from elsewhere.")
    ] = None,
    size: Annotated[
        PlanSize | None, typer.Option("--plan-size", help="Two stages, or all five.")
    ] = None,
    session_window: Annotated[
        str, typer.Option("--session-window", help="How long a session is.")
    ] = "1h",
    people: Annotated[
        Path | None, typer.Option("--people", help="JSON of who holds which key, with proofs.")
    ] = None,
    plan_file: Annotated[
        Path | None, typer.Option("--plan", help="Your own plan, its prompt beside it.")
    ] = None,
    order_url: OrderUrlOption = None,
    port: Annotated[int, typer.Option("--port", min=1, max=65533, help="The gateway's.")] = 8080,
    json_output: JsonFlag = False,
) -> None:
    """Ask six questions; write plan, prompt, root, keys and TODO.md with names."""
    name, serves = release or "my-model-1", model or "my-model"
    if plan_file is None:
        name = _answer("1. Name of the release", release, name, yes=yes)
        serves = _answer("2. Name of the model at its server", model, serves, yes=yes)
    where = _answer("3. Base URL of that server", upstream, "http://127.0.0.1:8000", yes=yes)
    olga = _answer("4. Who operates it", operator, "operator@lab.example", yes=yes)
    vera = _answer("5. Who oversees it", overseer, "overseer@oversight.example", yes=yes)
    made = b""
    if plan_file is None:
        wanted = size.value if size else None
        asked = _answer("6. Stages: small (two) or full (five)", wanted, "full", yes=yes)
        if asked not in set(PlanSize):
            raise InputError(f"expected small or full, got {asked!r}")
        made = render_plan(
            release=name, model=serves, size=PlanSize(asked), session_window=session_window
        )
    cast = default_cast(parse_member(olga), parse_member(vera))
    if people is not None:
        cast = read_cast(people, cast)
    data, plan, prompt = _plan_and_prompt(plan_file, made)
    settings = Settings(
        release=plan.name,
        node=NODE,
        port=port,
        workers=1,
        upstream=where,
        placement="p1",
        model=model or plan.candidate.model,
    )
    deployment = Deployment(directory)
    root, candidate = create_deployment(
        deployment, settings, cast, data, prompt, tuple(order_url or ())
    )
    _report(deployment, settings, cast, root, candidate, sha256_digest(data))


def _report(
    deployment: Deployment,
    settings: Settings,
    cast: Cast,
    root: Digest,
    candidate: Digest,
    plan: Digest,
) -> None:
    found: dict[str, Any] = {
        "ok": True,
        "dir": str(deployment.directory),
        "release": settings.release,
        "root": root,
        "plan": plan,
        "fingerprint": candidate,
        "keys": {name: str(deployment.key(name)) for name in cast.members},
        "people": cast.members,
        "admin_url": settings.admin_url,
        "base_url": settings.base_url,
        "token_files": {role: str(deployment.token(role)) for role in ("reader", "submitter")},
    }

    def render() -> None:
        say(f"Release {settings.release} is ready to be reviewed in {deployment.directory}.")
        facts(
            (
                ("root", root),
                ("plan", plan),
                ("candidate", candidate),
                ("operates", cast.members["operator"].person),
                ("oversees", cast.members["overseer"].person),
            )
        )
        say("All keys lie in keys/ until you move them: read TODO.md, it says who does what.")

    show(found, render)
