"""`gatelift up`: a whole deployment on this machine, made on the first run, supervised on every.

    no deployment --ceremony--> deployment --start processes--> running --bootstrap--> serving stage 0

Invariants
- The first run makes a development deployment and says so: assurance `dev`, loopback only, all keys
  in one folder. `--no-bootstrap` starts what is there and signs nothing.
- With `--json` exactly one line is printed, once a worker answers and the placement is up.
- SIGTERM and SIGINT stop the workers, then keeper, control and witness.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from gatelift.cli.announcing import announce
from gatelift.cli.beacons_here import add_beacons, parse_beacons
from gatelift.cli.bootstrap import Bootstrap
from gatelift.cli.cast import BeaconSeat, default_cast
from gatelift.cli.desk import now_ms
from gatelift.cli.errors import InputError
from gatelift.cli.health import check_ports_free, get_health
from gatelift.cli.init import NODE, OrderUrlOption, create_deployment, parse_member
from gatelift.cli.layout import (
    Deployment,
    SealSettings,
    Settings,
    TlsSettings,
    parse_tls_files,
    read_bytes,
)
from gatelift.cli.output import JsonFlag, note, say
from gatelift.cli.plan_template import DEFAULT_PROMPT, PlanSize, render_plan
from gatelift.cli.processes import (
    ReplicaOption,
    TlsCertOption,
    TlsClientCaOption,
    TlsKeyOption,
    second_store,
)
from gatelift.cli.seals import parse_seal
from gatelift.cli.supervisor import Supervisor
from gatelift.plan import Plan, parse_plan
from gatelift.terms import Durability
from gatelift.tlog import parse_vkey
from gatelift.trust import Root, verify_root
from gatelift.wire.keyfiles import load_secret_text, save_secret_text
from gatelift.wire.tls import ListenerContext, TlsFiles

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
    order_url: OrderUrlOption = None,
    beacon: Annotated[
        list[str] | None,
        typer.Option(
            "--beacon",
            metavar="ORG=URL",
            help="First run: whose silence stops service; on loopback it is run here too.",
        ),
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65533, help="Gateway; admin is +1.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, max=_MAX_WORKERS, help="Gateway processes.")
    ] = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    tls_client_ca: TlsClientCaOption = None,
    upstream_name: Annotated[
        str | None, typer.Option("--upstream-name", help="Sealed: whom its certificate must name.")
    ] = None,
    upstream_ca: Annotated[
        Path | None, typer.Option("--upstream-ca", help="Sealed: PEM certificates that prove it.")
    ] = None,
    observe: Annotated[
        bool,
        typer.Option("--observe", help="Record caps and safeguards of a first week, enforce none."),
    ] = False,
    no_bootstrap: Annotated[
        bool, typer.Option("--no-bootstrap", help="Only run what is there; sign nothing.")
    ] = False,
    replica: ReplicaOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Run control, keeper, workers and witness here, and serve stage zero in development."""
    tls = parse_tls_files(tls_cert, tls_key, tls_client_ca)
    _check_tls(tls)
    seal = parse_seal(upstream_name, upstream_ca)
    deployment = Deployment(directory)
    if not deployment.exists:
        if no_bootstrap:
            raise InputError(f"no deployment in {directory}: make one with `gatelift init`")
        beacons = parse_beacons(beacon or [])
        _create(deployment, upstream, model, plan, tuple(order_url or ()), beacons, observe=observe)
    _say_what_is_observed(deployment, asked=observe)
    settings = _settings(deployment, port, workers, tls, seal)
    _check_tls(settings.tls_files)
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
    deployment: Deployment,
    upstream: str | None,
    model: str | None,
    plan: Path | None,
    order_urls: tuple[str, ...],
    beacons: tuple[BeaconSeat, ...],
    *,
    observe: bool,
) -> None:
    if upstream is None or (model is None and plan is None):
        raise InputError(
            "a first run needs --upstream URL and --model NAME (or --plan FILE): what is served?"
        )
    if plan is None:
        data = render_plan(release="dev", model=model or "", size=PlanSize.SMALL, observe=observe)
        prompt: str | None = DEFAULT_PROMPT
    else:
        data = read_bytes(plan)
        named = parse_plan(data).candidate.system_prompt_file
        prompt = None if named is None else read_bytes(plan.parent / named).decode("utf-8")
    value = parse_plan(data)
    _refuse_unless_observing(value, asked=observe)
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
    cast = msgspec.structs.replace(cast, beacons=beacons)
    create_deployment(deployment, settings, cast, data, prompt, order_urls)
    note(
        f"Made a DEVELOPMENT deployment in {deployment.directory}: assurance dev, loopback only, "
        "every role's key in one folder. It proves nothing to anybody; `gatelift init` is for the "
        "real thing."
    )


def _refuse_unless_observing(plan: Plan, *, asked: bool) -> None:
    if asked and all(stage.observe is None for stage in plan.stages):
        raise InputError(
            "--observe selects nothing here: no stage of the plan has observe:. What is enforced is "
            "the plan's to say, and signed with it",
            code="nothing_observed",
        )


def _say_what_is_observed(deployment: Deployment, *, asked: bool) -> None:
    plan = parse_plan(deployment.read("plan.yaml"))
    _refuse_unless_observing(plan, asked=asked)
    names = [stage.name for stage in plan.stages if stage.observe is not None]
    if names:
        note(
            f"OBSERVING in {', '.join(names)}: tighter caps and safeguards are recorded, not "
            "enforced. See `gatelift report would-have-refused`."
        )


def _settings(
    deployment: Deployment,
    port: int | None,
    workers: int | None,
    tls: TlsFiles | None,
    seal: SealSettings | None,
) -> Settings:
    held = deployment.read_settings()
    settings = msgspec.structs.replace(
        held,
        port=port or held.port,
        workers=workers or held.workers,
        tls=held.tls if tls is None else _kept(tls),
        seal=seal or held.seal,
    )
    if settings != held:
        deployment.write_settings(settings)
    return settings


def _check_tls(tls: TlsFiles | None) -> None:
    # Before anything is kept or runs: a worker's own words would stand in its log only.
    if tls is not None:
        ListenerContext(tls, now_ms=now_ms())


def _kept(tls: TlsFiles) -> TlsSettings:
    return TlsSettings(
        certificate=str(tls.certificate),
        key=str(tls.key),
        client_ca=None if tls.client_ca is None else str(tls.client_ca),
    )


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
    add_beacons(supervisor, deployment, settings, root, _START_S)
    supervisor.add("keeper", ["keeper", *where, *copies])
    supervisor.add_workers(
        settings.workers,
        lambda name: ["worker", *where, "--name", name, *copies],
        ("127.0.0.1", settings.port),
    )
    supervisor.wait_until(
        lambda: (
            _control_is_well(settings, connected=True)
            and get_health(settings.port, tls=settings.tls_files) is not None
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
        tls = settings.tls_files
        health = get_health(settings.port, tls=tls)
        access = get_health(settings.port, "/v1/access", api_key=api_key, tls=tls)
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
    announce(deployment, settings, api_key, until)
    return True
