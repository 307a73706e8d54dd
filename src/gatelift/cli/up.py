"""`gatelift up`: a whole deployment on this machine, made on the first run, supervised on every.

    no deployment --ceremony--> deployment --start processes--> running --bootstrap--> serving stage 0

Invariants
- The first run makes a development deployment and says so: assurance `dev`, loopback only, all keys
  in one folder. `--no-bootstrap` starts what is there and signs nothing.
- With `--json` exactly one line is printed, once a worker answers and the placement is up.
- SIGTERM and SIGINT stop the workers, then keeper, control and witness.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from gatelift.cli.bootstrap import Bootstrap
from gatelift.cli.cast import default_cast
from gatelift.cli.desk import now_ms
from gatelift.cli.errors import InputError
from gatelift.cli.health import check_ports_free, get_health
from gatelift.cli.init import NODE, create_deployment, parse_member
from gatelift.cli.layout import Deployment, Settings, read_bytes
from gatelift.cli.output import JsonFlag, at_text, facts, note, say, show
from gatelift.cli.plan_template import DEFAULT_PROMPT, PlanSize, render_plan
from gatelift.cli.processes import ReplicaOption, second_store
from gatelift.cli.supervisor import Supervisor
from gatelift.plan import parse_plan
from gatelift.terms import Durability
from gatelift.tlog import parse_vkey
from gatelift.trust import Root, verify_root
from gatelift.wire.keyfiles import load_secret_text, save_secret_text

__all__ = ["up"]

_START_S = 30.0
_PLACEMENT_S = 300.0
_MAX_WORKERS = 64
_CONNECTIONS_A_WORKER = 4


def up(
    directory: Annotated[
        Path, typer.Option("--dir", help="The deployment's folder; made on the first run.")
    ] = Path("gatelift-dev"),
    upstream: Annotated[
        str | None, typer.Option("--upstream", help="Base URL of the model's server.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="The model's name there.")] = None,
    upstream_key_file: Annotated[
        Path | None, typer.Option("--upstream-key-file", help="The credential it asks for (0600).")
    ] = None,
    plan: Annotated[
        Path | None, typer.Option("--plan", help="Your own plan, its prompt beside it.")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65533, help="Gateway; admin is +1.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, max=_MAX_WORKERS, help="Gateway processes.")
    ] = None,
    no_bootstrap: Annotated[
        bool, typer.Option("--no-bootstrap", help="Only run what is there; sign nothing.")
    ] = False,
    replica: ReplicaOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Run control, keeper, workers and witness here, and serve stage zero in development."""
    deployment = Deployment(directory)
    if not deployment.exists:
        if no_bootstrap:
            raise InputError(f"no deployment in {directory}: make one with `gatelift init`")
        _create(deployment, upstream, model, plan)
    settings = _settings(deployment, port, workers)
    deployment.make_folders()
    _keep_upstream_key(deployment, upstream_key_file)
    copies = _copies(deployment, replica)
    root = verify_root(deployment.read("root.json"), now_ms())
    supervisor = Supervisor(deployment.path("run"))
    supervisor.take_over()
    check_ports_free(settings.port)
    try:
        _start(supervisor, deployment, settings, root, copies)
        if _serve(supervisor, deployment, settings, bootstrap=not no_bootstrap):
            supervisor.watch(note)
    finally:
        supervisor.stop()


def _create(
    deployment: Deployment, upstream: str | None, model: str | None, plan: Path | None
) -> None:
    if upstream is None or (model is None and plan is None):
        raise InputError(
            "a first run needs --upstream URL and --model NAME (or --plan FILE): what is served?"
        )
    if plan is None:
        data = render_plan(release="dev", model=model or "", size=PlanSize.SMALL)
        prompt: str | None = DEFAULT_PROMPT
    else:
        data = read_bytes(plan)
        named = parse_plan(data).candidate.system_prompt_file
        prompt = None if named is None else read_bytes(plan.parent / named).decode("utf-8")
    value = parse_plan(data)
    settings = Settings(
        release=value.name,
        node=NODE,
        port=8080,
        workers=1,
        upstream=upstream.rstrip("/").removesuffix("/v1"),
        placement="p1",
        model=model or value.candidate.model,
    )
    cast = default_cast(
        parse_member("operator@lab.example"), parse_member("overseer@oversight.example")
    )
    create_deployment(deployment, settings, cast, data, prompt)
    note(
        f"Made a DEVELOPMENT deployment in {deployment.directory}: assurance dev, loopback only, "
        "every role's key in one folder. It proves nothing to anybody; `gatelift init` is for the "
        "real thing."
    )


def _settings(deployment: Deployment, port: int | None, workers: int | None) -> Settings:
    held = deployment.read_settings()
    settings = msgspec.structs.replace(
        held, port=port or held.port, workers=workers or held.workers
    )
    if settings != held:
        deployment.write_settings(settings)
    return settings


def _keep_upstream_key(deployment: Deployment, source: Path | None) -> None:
    if source is None:
        return
    text = load_secret_text(source)
    kept = deployment.key("upstream")
    if kept.exists():
        if load_secret_text(kept) == text:
            return
        kept.unlink()
    save_secret_text(kept, text)


def _copies(deployment: Deployment, replica: Path | None) -> list[str]:
    """Return the words that tell keeper and workers of the second store."""
    asked = parse_plan(deployment.read("plan.yaml")).trust.durability
    if asked is Durability.REPLICATED and replica is None:
        raise InputError(
            "the plan says durability: replicated: name a folder on another disk with --replica",
            code="no_replica",
        )
    store = second_store(deployment.directory, replica)
    return [] if store is None else ["--replica", str(store.resolve())]


def _start(
    supervisor: Supervisor,
    deployment: Deployment,
    settings: Settings,
    root: Root,
    copies: list[str],
) -> None:
    where = ["--dir", str(deployment.directory)]
    witness = parse_vkey(root.witnesses[0].vkey)
    supervisor.add(
        "witness",
        [
            *("witness", "serve", "--name", witness.name, "--port", str(settings.port + 2)),
            *("--folder", str(deployment.path("witness"))),
            *("--key", str(deployment.key("witness"))),
            *("--log-vkey", root.releases_vkey),
        ],
    )
    supervisor.wait_until(
        lambda: get_health(settings.port + 2, "/") is not None, "the witness", _START_S
    )
    supervisor.add("control", ["control", *where])
    supervisor.wait_until(lambda: _control_is_well(settings), "control", _START_S)
    supervisor.add("keeper", ["keeper", *where, *copies])
    for number in range(settings.workers):
        words = ["worker", *where, "--name", f"w{number}", *copies]
        supervisor.add(f"worker-{number}", words)
    supervisor.wait_until(
        lambda: (
            _control_is_well(settings, connected=True) and get_health(settings.port) is not None
        ),
        "keeper and workers",
        _START_S,
    )


def _control_is_well(settings: Settings, *, connected: bool = False) -> bool:
    found = get_health(settings.port + 1)
    if found is None or found[0] != 200 or not found[1].get("cosigned_size"):
        return False
    return not connected or bool(found[1].get("node_connected"))


def _workers_serve(settings: Settings, api_key: str) -> bool:
    # The kernel picks the worker: several connections in a row, to have met each of them.
    for _ in range(_CONNECTIONS_A_WORKER * settings.workers):
        health = get_health(settings.port)
        access = get_health(settings.port, "/v1/access", api_key=api_key)
        if health is None or health[0] != 200 or access is None or not access[1].get("may"):
            return False
    return True


def _serve(
    supervisor: Supervisor, deployment: Deployment, settings: Settings, *, bootstrap: bool
) -> bool:
    """Bring the deployment to where it serves and say so; false when asked to stop meanwhile."""
    api_key: str | None = None
    until: int | None = None
    if bootstrap and not supervisor.was_stopped():
        steps = Bootstrap(deployment, settings)
        steps.adopt_plan()
        say("Measuring how the upstream answers (drift baseline)...")
        steps.enrol_placement()
        supervisor.wait_until(steps.placement_is_up, "the placement", _PLACEMENT_S)
        if supervisor.was_stopped():
            return False
        until = steps.certify_stage_zero()
        api_key = key = steps.grant_developer()
        supervisor.wait_until(lambda: _workers_serve(settings, key), "serving workers", _START_S)
    if supervisor.was_stopped():
        return False
    _announce(deployment, settings, api_key, until)
    return True


def _announce(
    deployment: Deployment, settings: Settings, api_key: str | None, until: int | None
) -> None:
    root = deployment.read_root_digest()
    value = {
        "base_url": settings.base_url,
        "admin_url": settings.admin_url,
        "api_key": api_key,
        "model": settings.model,
        "root": root,
        "pid": os.getpid(),
    }

    def render() -> None:
        rows: list[tuple[str, object]] = [
            ("base URL", settings.base_url),
            ("admin URL", settings.admin_url),
            ("model", settings.model),
            ("root", root),
        ]
        if api_key is not None:
            rows.insert(2, ("API key", api_key))
        facts(rows)
        if until is not None:
            say(
                f"Stage zero is certified until {at_text(until)}, by the development keys. Every "
                "other stage waits for evidence, reviews and signatures: `gatelift plan preview`."
            )
        say("Stop with Ctrl-C.")

    show(value, render)
    sys.stdout.flush()
