"""Checks of what runs: control, witness, keeper, workers, status, placements, the upstream's door."""

from __future__ import annotations

import asyncio
import stat
from typing import Any

from gatelift.cli.admin_client import AdminClient
from gatelift.cli.checkup import Checkup
from gatelift.cli.desk import now_ms
from gatelift.cli.health import get_health
from gatelift.cli.layout import Deployment, Settings
from gatelift.cli.output import ago, at_text
from gatelift.cli.seals import identities_of, pinned_of
from gatelift.plan import Plan, parse_plan
from gatelift.terms import Sealing
from gatelift.trust import Root
from gatelift.wire.keyfiles import load_secret_text
from gatelift.wire.probes import (
    ProbeTarget,
    ask_probe,
    open_upstream,
    probe_prompts,
)
from gatelift.wire.sealing_probes import probe_sealing
from gatelift.wire.sockets import socket_path

__all__ = ["check_processes"]

_START = "start it: `gatelift up --dir DIR --no-bootstrap`; its log is in DIR/run"
_EXPIRES_SOON_MS = 3_600_000


def check_processes(deployment: Deployment, root: Root, checkup: Checkup) -> None:
    """Check what answers on this host's ports and sockets, and what control says of the rest."""
    settings = deployment.read_settings()
    plan = parse_plan(deployment.read("plan.yaml"))
    _check_witness(settings, root, checkup)
    running = _check_control(settings, checkup)
    _check_sockets(deployment, checkup)
    _check_gateway(settings, checkup)
    if running:
        with checkup.looking("state", "see control's log"):
            client = AdminClient.with_token_file(settings.admin_url, deployment.token("reader"))
            _check_state(client.get("/state"), plan, checkup)
    with checkup.looking("upstream", "start the model's server, or mend its address or key"):
        asyncio.run(_check_upstream(deployment, settings, plan, checkup))


def _check_witness(settings: Settings, root: Root, checkup: Checkup) -> None:
    if not root.witnesses:
        checkup.warn("witness", "the root names none", "name one: nobody else keeps the log honest")
    elif get_health(settings.port + 2, "/") is None:
        checkup.wrong("witness", f"no answer at {settings.witness_url}", _START)
    else:
        checkup.ok("witness", f"answers at {settings.witness_url}")


def _check_control(settings: Settings, checkup: Checkup) -> bool:
    found = get_health(settings.port + 1)
    if found is None:
        checkup.wrong("control", f"no answer at {settings.admin_url}", _START)
        return False
    status, body = found
    if status != 200:
        checkup.wrong("control", f"unhealthy ({status})", "restart it; its log says why it stopped")
        return False
    behind = int(body.get("size", 0)) - int(body.get("cosigned_size", 0))
    if behind > 16:
        checkup.wrong(
            "cosigning", f"{behind} entries wait for the witness", "see the witness's log"
        )
    else:
        checkup.ok("cosigning", f"{body.get('cosigned_size')} of {body.get('size')} entries")
    if body.get("node_connected"):
        checkup.ok("control", "writes, signs, and the node is connected")
    else:
        checkup.wrong("keeper", "is not connected to control", _START)
    return True


def _check_sockets(deployment: Deployment, checkup: Checkup) -> None:
    missing = []
    for name in ("control.sock", "keeper.sock"):
        path = socket_path(deployment.directory, name)
        if not path.exists() or not stat.S_ISSOCK(path.stat().st_mode):
            missing.append(name)
    if missing:
        checkup.wrong("sockets", f"no {' and no '.join(missing)}", _START)
    else:
        checkup.ok("sockets", "control and keeper listen")


def _check_gateway(settings: Settings, checkup: Checkup) -> None:
    found = get_health(settings.port, tls=settings.tls_files)
    if found is None:
        checkup.wrong("gateway", f"no answer at {settings.gateway_url}", _START)
    elif found[0] != 200:
        checkup.wrong(
            "gateway",
            f"{found[1].get('status', found[0])}: it serves nothing",
            "it needs a status: is control up, is the log cosigned, is a certificate in force?",
        )
    else:
        checkup.ok("gateway", f"holds a live status at {settings.gateway_url}")


def _check_state(state: dict[str, Any], plan: Plan, checkup: Checkup) -> None:
    at = now_ms()
    signed = state["status_signed_at"]
    if signed is None:
        checkup.wrong("status", "none was signed yet", "adopt a plan; see control's log")
    elif at - signed > plan.trust.status_ttl_ms:
        checkup.wrong("status", f"the last is {ago(at - signed)} old", "see control's log")
    else:
        checkup.ok("status", f"signed {ago(at - signed)} ago")
    if state["plan_digest"] is None:
        checkup.wrong("adopted plan", "none", "`gatelift plan adopt`")
        return
    if state["plan_problem"]:
        checkup.wrong("adopted plan", state["plan_problem"], "adopt a plan that holds")
    for each in state["stages"]:
        held = each["certificate"]
        if each["standing"] and held["not_after"] - at < _EXPIRES_SOON_MS:
            checkup.warn(
                f"stage {each['name']}",
                f"its certificate ends {at_text(held['not_after'])}",
                "`gatelift certify` again",
            )
    if not any(each["standing"] for each in state["stages"]):
        checkup.wrong("stages", "none stands: nobody is served", "`gatelift plan preview` says why")
    else:
        names = [each["name"] for each in state["stages"] if each["standing"]]
        checkup.ok("stages", f"{', '.join(names)} stand")
    _check_placements(state, checkup)


def _check_placements(state: dict[str, Any], checkup: Checkup) -> None:
    if not state["placements"]:
        checkup.wrong("placements", "none is enrolled", "`gatelift placement enrol`")
    for each in state["probes"]:
        probe = each["probe"]
        name = f"placement {probe['placement']}"
        found = f"{probe['changed']} of {probe['of']} answers changed"
        if probe["up"]:
            checkup.ok(name, found)
        elif probe["reason"] == "drift":
            checkup.wrong(
                name,
                f"drifted: {found}",
                "find out what changed; if it is right, make a new candidate and assess it",
            )
        else:
            checkup.wrong(name, f"down: {probe['reason']}", "start the model's server")


async def _check_upstream(
    deployment: Deployment, settings: Settings, plan: Plan, checkup: Checkup
) -> None:
    target = ProbeTarget(
        base_url=settings.upstream,
        model=settings.model,
        system_prompt=None,
        max_tokens=1,
        pinned=pinned_of(settings.seal),
    )
    identities = identities_of(deployment, settings)
    key = deployment.key("upstream")
    credential = load_secret_text(key) if key.exists() else None
    async with open_upstream(target, identities) as upstream:
        await ask_probe(upstream, target, probe_prompts(1)[0], credential)
    checkup.ok("upstream", f"answers at {settings.upstream}")
    sealing = await probe_sealing(target, credential, identities)
    if sealing is not Sealing.OPEN:
        what = "a certificate that lives now" if sealing is Sealing.SEALED else "our credential"
        checkup.ok("upstream's door", f"{sealing.value}: refuses calls without {what}")
        return
    asks = [stage.name for stage in plan.stages if stage.sealing is not Sealing.OPEN]
    do = "give it an API key and put that into keys/upstream.key; open it to the gateway alone"
    found = "OPEN: it answers anybody who reaches it, past every cap and safeguard"
    if asks:
        checkup.wrong("upstream's door", f"{found}. {', '.join(asks)} cannot open", do)
    else:
        checkup.warn("upstream's door", found, do)
