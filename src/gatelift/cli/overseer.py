"""`gatelift overseer`: calls that nobody sees coming, and promises that nobody kept.

Invariants
- `grant` needs nobody's leave: the API key is drawn here, what it admits to is sealed here, and with
  `--plan` nothing is asked of control. It goes where an order goes: control, a list, a socket, a file.
- The API key is printed once, or written to a file of mode 0600; only who has it can disclose.
- What the stage does not admit, or the root does not allow, is refused before anything is signed.
- `commitments` hides nothing, and takes control's word only where no dossier is given.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from gatelift.cli.admin_client import AdminClient
from gatelift.cli.desk import (
    AdminOption,
    Desk,
    KeysOption,
    OutOption,
    TokenOption,
    load_keys,
    now_ms,
    show_sent,
    sign_statement,
)
from gatelift.cli.dossiers import PolicyOption, RootOption
from gatelift.cli.errors import InputError
from gatelift.cli.grants import ApiKey, draw_api_key, make_grant
from gatelift.cli.layout import Deployment, read_bytes
from gatelift.cli.orders import DropOption, ListOption, SocketOption, append_order
from gatelift.cli.output import JsonFlag, ago, at_text, facts, note, say, show, table
from gatelift.decide import open_commitments
from gatelift.encoding import encode_base64, parse_digest, sha256_digest
from gatelift.ledger.exports import open_verified
from gatelift.plan import Plan, parse_plan
from gatelift.terms import parse_duration_ms
from gatelift.trust import (
    Disclosure,
    Grant,
    MessageSigner,
    OwnGrant,
    Subject,
    locator_of,
    seal_grant,
    seed_of,
)
from gatelift.wire.files import replace_durably
from gatelift.wire.keyfiles import load_secret_text, save_secret_text
from gatelift.wire.order_client import submit_order
from gatelift.wire.sockets import socket_path

__all__ = ["overseer"]

overseer = typer.Typer(
    no_args_is_help=True, help="Make calls nobody sees coming; see what was promised and not kept."
)
_PSEUDONYM_BYTES = 5


@overseer.command("grant")
def grant(
    stage: Annotated[str, typer.Option("--stage", help="The stage to be called.")],
    key: KeysOption,
    requests: Annotated[
        int, typer.Option("--requests-per-day", min=1, help="At most so many a UTC day.")
    ] = 20,
    lasts: Annotated[str, typer.Option("--for", help="How long, such as 7d; 31d at most.")] = "7d",
    disclose: Annotated[
        str, typer.Option("--disclose-within", help="After its end, such as 30d; 90d at most.")
    ] = "30d",
    principal: Annotated[
        str | None, typer.Option("--principal", help="A pseudonym; drawn if not given.")
    ] = None,
    organisation: Annotated[
        str | None, typer.Option("--organisation", help="A pseudonym; drawn if not given.")
    ] = None,
    plan: Annotated[
        Path | None, typer.Option("--plan", help="The plan in force: control is not asked for it.")
    ] = None,
    api_key_out: Annotated[
        Path | None, typer.Option("--api-key-out", help="Write the key here (0600), don't print.")
    ] = None,
    admin: AdminOption = None,
    token_file: TokenOption = None,
    out: OutOption = None,
    drop: DropOption = None,
    socket: SocketOption = None,
    listed: ListOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Seal a grant of your own: nobody can refuse the key, or knows it before it is shown (overseer)."""
    keys, desk = load_keys(key), Desk(admin, token_file)
    found = parse_plan(desk.file(desk.plan_digest) if plan is None else read_bytes(plan))
    api_key = draw_api_key()
    inner = _inner(found, stage, principal, organisation, parse_duration_ms(lasts), api_key)
    seed = seed_of(api_key.text.encode("ascii"))
    own = OwnGrant(
        id=inner.id,
        release=inner.release,
        requests_per_day=requests,
        not_before=inner.not_before,
        not_after=inner.not_after,
        disclose_by=inner.not_after + parse_duration_ms(disclose),
        locator=locator_of(seed),
        sealed=seal_grant(inner, seed),
    )
    if api_key_out is not None:
        # Before it goes anywhere: a key that is lost after that can be neither used nor disclosed.
        save_secret_text(api_key_out, api_key.text)
    result = _deliver(own, keys, desk, out=out, drop=drop, socket=socket, listed=listed)
    result |= {"id": own.id, "stage": stage, "requests_per_day": requests}
    result |= {"not_after": own.not_after, "disclose_by": own.disclose_by}
    result |= {"principal": inner.principal, "organisation": inner.organisation}
    if api_key_out is None:
        result["api_key"] = api_key.text
    else:
        result["api_key_file"] = str(api_key_out)

    def render() -> None:
        say(f"You admit yourself to {stage}, as {inner.principal} of {inner.organisation}.")
        facts(
            (
                ("own grant", own.id),
                ("until", at_text(own.not_after)),
                ("requests a day", requests),
                ("disclose by", at_text(own.disclose_by)),
                ("went to", result.get("out", result.get("index", "the keeper"))),
                ("API key", result.get("api_key", api_key_out)),
            )
        )
        say("Keep the key: without it nobody can disclose what it sealed.")

    show(result, render)


def _inner(
    plan: Plan,
    stage: str,
    principal: str | None,
    organisation: str | None,
    lasts_ms: int,
    api_key: ApiKey,
) -> Grant:
    return make_grant(
        plan,
        stage=stage,
        principal=principal or f"p-{secrets.token_hex(_PSEUDONYM_BYTES)}",
        organisation=organisation or f"o-{secrets.token_hex(_PSEUDONYM_BYTES)}",
        project="default",
        # What a partner would have been vetted for: the overseer vouches for itself.
        proofs=plan.stage(stage).envelope.audience.requires,
        keys=(api_key.entry(),),
        lasts_ms=lasts_ms,
    )


def _deliver(
    own: OwnGrant,
    keys: list[MessageSigner],
    desk: Desk,
    *,
    out: Path | None,
    drop: Path | None,
    socket: Path | None,
    listed: Path | None,
) -> dict[str, Any]:
    # About the release, not the candidate: which one answers is the certificate's to say.
    digest = sha256_digest(own.release.encode("utf-8"))
    subject = Subject(name=f"release:{own.release}", digest=digest)
    envelope = sign_statement("own_grant", own, subject, keys)
    result: dict[str, Any] = {
        "ok": True,
        "kind": "own_grant",
        "digest": sha256_digest(envelope),
        "submitted": False,
    }
    if listed is not None:
        append_order(listed, envelope)
        return result | {"out": str(listed), "listed": True}
    if socket is not None:
        submit_order(socket_path(socket, "orders.sock"), envelope)
        return result | {"submitted": True, "accepted": True}
    if drop is not None:
        path = Deployment(drop).path("incoming", f"{own.id}.order.json")
        replace_durably(path, envelope)
        return result | {"out": str(path), "dropped": True}
    return desk.send("own_grant", envelope, out=out)


@overseer.command("disclose")
def disclose(
    key: KeysOption,
    api_key_file: Annotated[
        Path, typer.Option("--api-key-file", help="The API key of the own grant.")
    ],
    calls: Annotated[int, typer.Option("--calls", min=0, help="How many calls you made.")],
    result_files: Annotated[
        list[Path] | None,
        typer.Option("--result", help="A file that you publish; its digest is logged."),
    ] = None,
    text: Annotated[str, typer.Option("--note", help="What you found; it is published.")] = "",
    own_grant: Annotated[
        str | None, typer.Option("--own-grant", help="Its digest, when control is not to be asked.")
    ] = None,
    admin: AdminOption = None,
    token_file: TokenOption = None,
    out: OutOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Open an own grant to everybody, and say what came of its calls (overseer)."""
    keys, desk = load_keys(key), Desk(admin, token_file)
    seed = seed_of(load_secret_text(api_key_file).encode("ascii"))
    if own_grant is None:
        locator = locator_of(seed)
        held = desk.state["own_grants"]
        digests = [each["digest"] for each in held if each["own_grant"]["locator"] == locator]
        if not digests:
            raise InputError(
                "the log holds no own grant of this API key: submit it first, or give --own-grant",
                code="unknown_digest",
            )
        own_grant = digests[0]
    value = Disclosure(
        release=desk.release,
        own_grant=parse_digest(own_grant),
        seed=encode_base64(seed),
        calls=calls,
        results=tuple(sha256_digest(read_bytes(each)) for each in result_files or ()),
        note=text,
    )
    envelope = sign_statement("disclosure", value, desk.subject, keys)
    sent = desk.send("disclosure", envelope, out=out, cosigned=out is None)
    show_sent(sent | {"own_grant": own_grant}, f"Disclosed, calls made: {calls}.")


@overseer.command("commitments")
def commitments(
    dossier: Annotated[
        Path | None, typer.Argument(metavar="[DOSSIER]", help="Its folder or archive.")
    ] = None,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="The folder of a running deployment.")
    ] = None,
    root: RootOption = None,
    policy: PolicyOption = None,
    admin: AdminOption = None,
    token_file: TokenOption = None,
    json_output: JsonFlag = False,
) -> None:
    """List every promise on the log that has no result there."""
    if dossier is not None:
        opened = open_verified(
            dossier,
            anchor_root=None if root is None else parse_digest(root),
            policy=None if policy is None else read_bytes(policy),
            now_ms=now_ms(),
        )
        found = msgspec.to_builtins(open_commitments(opened.state, now_ms()))
        size, authenticated = opened.state.size, opened.authenticated
    else:
        state = _state_of(directory, admin, token_file)
        found, size, authenticated = state["commitments"], state["size"], False
    late = sum(each["overdue"] for each in found)
    value = {
        "ok": True,
        "size": size,
        "authenticated": authenticated,
        "open": len(found),
        "overdue": late,
        "commitments": found,
    }
    show(value, lambda: _render(found, size, late, authenticated=authenticated))


def _state_of(directory: Path | None, admin: str | None, token_file: Path | None) -> dict[str, Any]:
    if directory is None:
        return Desk(admin, token_file).state
    deployment = Deployment(directory)
    client = AdminClient.with_token_file(
        admin or deployment.read_settings().admin_url, token_file or deployment.token("reader")
    )
    state: dict[str, Any] = client.get("/state")
    return state


def _render(
    found: Iterable[Mapping[str, Any]], size: int, late: int, *, authenticated: bool
) -> None:
    rows = list(found)
    say(f"{len(rows)} promises of {size} entries have no result on the log, {late} are overdue.")
    table(
        ("entry", "kind", "what", "by", "age", "due", "settled by"),
        [
            (
                each["index"],
                each["kind"],
                each["what"],
                "\n".join(each["by"]),
                ago(each["age_ms"]),
                ("OVERDUE " if each["overdue"] else "") + at_text(each["due"]),
                each["settled_by"],
            )
            for each in rows
        ],
    )
    if not authenticated:
        note(
            "taken as told: a dossier with --root or --policy from elsewhere shows that none is hidden"
        )
