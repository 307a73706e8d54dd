"""`gatelift candidate` and `gatelift placement`: what answers, and where it runs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from gatelift.cli.copies import export
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
from gatelift.cli.layout import Deployment, read_bytes
from gatelift.cli.output import JsonFlag, facts, say, show
from gatelift.cli.plans import candidate_bytes, read_plan
from gatelift.cli.seals import identities_of, parse_seal, pinned_of, upstream_tls_of
from gatelift.cli.weights import (
    SidecarKeyOption,
    SidecarManifestOption,
    SidecarSignerOption,
    SidecarUrlOption,
    check,
    read_sidecar,
    seal,
)
from gatelift.encoding import sha256_digest
from gatelift.messages import PlacementEnrolment
from gatelift.plan import Candidate, Plan, fingerprint, parse_candidate, parse_plan
from gatelift.wire.files import replace_durably
from gatelift.wire.keyfiles import load_secret_text
from gatelift.wire.probes import ProbeTarget, measure_baseline
from gatelift.wire.sealing import PinnedServer, ProbeIdentities

__all__ = ["candidate", "measure", "placement"]

candidate = typer.Typer(no_args_is_help=True, help="What answers, and its fingerprint.")
placement = typer.Typer(no_args_is_help=True, help="Where the candidate runs.")
candidate.command("seal")(seal)
candidate.command("check")(check)
candidate.command("export")(export)


@candidate.command("make")
def make(
    file: Annotated[Path, typer.Argument(metavar="PLAN", help="The plan, its prompt beside it.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Where candidate.json goes; default beside it.")
    ] = None,
    json_output: JsonFlag = False,
) -> None:
    """Write candidate.json from a plan and print its fingerprint."""
    _, plan = read_plan(file)
    data = candidate_bytes(file, plan)
    where = out or file.parent / "candidate.json"
    replace_durably(where, data)
    value = parse_candidate(data)
    unknown = value.unknown_parts()
    found = {
        "ok": True,
        "file": str(where),
        "fingerprint": fingerprint(data),
        "model": value.model_part.model,
        "unknown": unknown,
    }

    def render() -> None:
        say(f"Candidate of {plan.name} in {where}.")
        facts((("fingerprint", found["fingerprint"]), ("unknown parts", ", ".join(unknown))))

    show(found, render)


@placement.command("enrol")
def enrol(
    base_url: Annotated[str, typer.Option("--base-url", help="Base URL of the model server.")],
    key: KeysOption,
    name: Annotated[str, typer.Option("--name", help="The placement's name.")] = "p1",
    model: Annotated[
        str | None, typer.Option("--model", help="The model's name there; default the candidate's.")
    ] = None,
    upstream_key_file: Annotated[
        Path | None, typer.Option("--upstream-key-file", help="The credential it asks for.")
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option("--baseline", help="A measured baseline; default: measure now.")
    ] = None,
    no_baseline: Annotated[
        bool, typer.Option("--no-baseline", help="Enrol without: drift cannot be seen then.")
    ] = False,
    server_name: Annotated[
        str | None, typer.Option("--server-name", help="Sealed: whom its certificate must name.")
    ] = None,
    server_ca: Annotated[
        Path | None, typer.Option("--server-ca", help="Sealed: PEM certificates that prove it.")
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option("--dir", help="Sealed: the node's folder, for its upstream CA."),
    ] = None,
    sidecar_url: SidecarUrlOption = None,
    sidecar_key: SidecarKeyOption = None,
    manifest: SidecarManifestOption = None,
    signer: SidecarSignerOption = None,
    admin: AdminOption = None,
    token_file: TokenOption = None,
    out: OutOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Measure how a placement answers the drift probes, and enrol it (operator).

    With a sidecar it takes two people: the keys of operator and security.
    """
    keys = load_keys(key)
    desk = Desk(admin, token_file)
    value = parse_candidate(desk.file(desk.fingerprint))
    plan = parse_plan(desk.file(desk.plan_digest))
    name_there = model or value.model_part.model
    pinned = pinned_of(parse_seal(server_name, server_ca))
    beside = read_sidecar(value, url=sidecar_url, key=sidecar_key, manifest=manifest, signer=signer)
    data: bytes | None = None
    if baseline is not None:
        data = read_bytes(baseline)
    elif not no_baseline:
        credential = load_secret_text(upstream_key_file) if upstream_key_file else None
        identities = None
        if directory is not None:
            deployment = Deployment(directory)
            identities = identities_of(deployment, deployment.read_settings())
        data = measure(
            plan, value, base_url, name_there, credential, pinned=pinned, identities=identities
        )
    enrolment = PlacementEnrolment(
        name=name,
        base_url=base_url,
        model=name_there,
        fingerprint=desk.fingerprint,
        baseline=None if data is None else sha256_digest(data),
        tls=upstream_tls_of(pinned),
        sidecar=None if beside is None else beside[0],
    )
    envelope = sign_statement("placement", enrolment, desk.subject, keys)
    files = (data, pinned.ca if pinned else None, beside[1] if beside else None)
    attachments = tuple(each for each in files if each is not None)
    result = desk.send("placement", envelope, out=out, attachments=attachments)
    result |= {"name": name, "base_url": base_url, "baseline": enrolment.baseline}
    show_sent(result, f"Placement {name} at {base_url} enrolled for {desk.release}.")


def measure(
    plan: Plan,
    value: Candidate,
    base_url: str,
    model: str,
    credential: str | None,
    *,
    pinned: PinnedServer | None = None,
    identities: ProbeIdentities | None = None,
) -> bytes:
    """Return the drift baseline of a placement; raises `ProbeError`."""
    target = ProbeTarget(
        base_url=base_url,
        model=model,
        system_prompt=value.model_part.system_prompt,
        max_tokens=plan.drift.tokens,
        pinned=pinned,
    )
    return asyncio.run(measure_baseline(target, plan.drift.probes, credential, identities))
