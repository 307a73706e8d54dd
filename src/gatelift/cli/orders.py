"""`gatelift halt`, `order`, `clear`: to narrow takes one signature; to lift what was narrowed, two.

Invariants
- An order needs no control plane: with `--release` it can be signed on a machine without a network
  (`--out`), delivered to control without a token, dropped as a file on the gateway's host
  (`--drop`), handed to its keeper (`--socket`), or put into the list that an overseer publishes and
  keepers ask for (`--list`).
- `halt` allows its target nothing. `order` lowers a ceiling or adds block rules; it cannot widen.
- Release and stage orders are lifted by a certificate; `clear` lifts the others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gatelift.cli.admin_client import AdminClient
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
from gatelift.cli.layout import Deployment, read_bytes
from gatelift.cli.narrowing import block_rule, narrowed
from gatelift.cli.output import JsonFlag
from gatelift.encoding import Digest, sha256_digest
from gatelift.plan import parse_plan
from gatelift.terms import BlockRule, Envelope, parse_duration_ms
from gatelift.trust import Clear, MessageSigner, Order, Subject, Target, TargetKind
from gatelift.wire.files import replace_durably
from gatelift.wire.order_client import submit_order
from gatelift.wire.sockets import socket_path

__all__ = ["clear", "halt", "order"]

ReasonOption = Annotated[list[str], typer.Option("--reason", help="Why; once for each reason.")]
StageOption = Annotated[str | None, typer.Option("--stage", help="Only this stage.")]
OrganisationOption = Annotated[
    str | None, typer.Option("--organisation", help="Only this organisation.")
]
PrincipalOption = Annotated[str | None, typer.Option("--principal", help="Only this principal.")]
ApiKeyOption = Annotated[
    str | None, typer.Option("--api-key-id", help="Only this API key, by its public id.")
]
UntilOption = Annotated[
    str | None,
    typer.Option("--for", help="How long, such as 1h; not for a release or stage."),
]
ReleaseOption = Annotated[
    str | None, typer.Option("--release", help="The release, when control is not to be asked.")
]
DropOption = Annotated[
    Path | None,
    typer.Option("--drop", metavar="DIR", help="Put it into DIR/incoming of a gateway's host."),
]

SocketOption = Annotated[
    Path | None,
    typer.Option(
        "--socket", metavar="DIR", help="Hand it to the keeper on this host, which runs in DIR."
    ),
]
ListOption = Annotated[
    Path | None,
    typer.Option(
        "--list", metavar="FILE", help="Add it to the list that the overseer's endpoint offers."
    ),
]


def _target(
    release: str,
    stage: str | None,
    organisation: str | None,
    principal: str | None,
    api_key_id: str | None,
) -> Target:
    named = [
        (TargetKind.STAGE, stage),
        (TargetKind.ORGANISATION, organisation),
        (TargetKind.PRINCIPAL, principal),
        (TargetKind.KEY, api_key_id),
    ]
    given = [(kind, name) for kind, name in named if name is not None]
    if len(given) > 1:
        raise InputError(
            "an order has one target: give one of --stage, --organisation, "
            "--principal, --api-key-id, or none for the whole release"
        )
    kind, name = given[0] if given else (TargetKind.RELEASE, release)
    return Target(kind=kind, name=name)


class _Delivery:
    """Where an order goes. Each way works by the signature alone."""

    def __init__(
        self,
        admin: str | None,
        token_file: Path | None,
        release: str | None,
        out: Path | None,
        drop: Path | None,
        socket: Path | None,
        listed: Path | None,
    ) -> None:
        self._admin = admin
        self._out = out
        self._drop = drop
        self._socket = socket
        self._list = listed
        self._release = release
        self.desk = Desk(admin, token_file)

    @property
    def release(self) -> str:
        """The release by the command line, by the host's plan, or by control."""
        if self._release is not None:
            return self._release
        host = self._drop or self._socket
        if host is not None:
            return Deployment(host).read_settings().release
        return self.desk.release

    def subject(self) -> Subject:
        """Return what it is about: the candidate where control can be asked, else the release."""
        if self._release is None and self._drop is None and self._socket is None:
            return self.desk.subject
        # Nothing is looked up: the order's own fields say what it narrows.
        return Subject(name=f"release:{self.release}", digest=_name_digest(self.release))

    def deliver(self, order: Order, keys: list[MessageSigner]) -> dict[str, Any]:
        """Sign the order and bring it there."""
        envelope = sign_statement("order", order, self.subject(), keys)
        result: dict[str, Any] = {
            "ok": True,
            "kind": "order",
            "id": order.id,
            "digest": sha256_digest(envelope),
            "target": order.target,
        }
        if self._out is not None:
            replace_durably(self._out, envelope)
            return result | {"submitted": False, "out": str(self._out)}
        if self._drop is not None:
            path = Deployment(self._drop).path("incoming", f"{order.id}.order.json")
            replace_durably(path, envelope)
            return result | {"submitted": False, "out": str(path), "dropped": True}
        if self._socket is not None:
            submit_order(socket_path(self._socket, "orders.sock"), envelope)
            return result | {"submitted": True, "accepted": True}
        if self._list is not None:
            append_order(self._list, envelope)
            return result | {"submitted": False, "out": str(self._list), "listed": True}
        if self._admin is None:
            raise InputError(
                "expected --admin URL, --drop DIR, --socket DIR, --list FILE or --out FILE: "
                "where does it go?"
            )
        return result | {"submitted": True} | AdminClient(self._admin, None).post_order(envelope)


def append_order(path: Path, envelope: bytes) -> None:
    """Add an order to a published list, which readers always see whole: one order a line."""
    held = read_bytes(path) if path.exists() else b""
    if held and not held.endswith(b"\n"):
        held += b"\n"
    if b"\n" in envelope:
        raise InputError("expected an order of one line, as our own commands sign it")
    replace_durably(path, held + envelope + b"\n")


def _name_digest(release: str) -> Digest:
    return sha256_digest(release.encode("utf-8"))


def _until(text: str | None) -> int | None:
    return None if text is None else now_ms() + parse_duration_ms(text)


def halt(
    reason: ReasonOption,
    key: KeysOption,
    stage: StageOption = None,
    organisation: OrganisationOption = None,
    principal: PrincipalOption = None,
    api_key_id: ApiKeyOption = None,
    lasts: UntilOption = None,
    release: ReleaseOption = None,
    admin: AdminOption = None,
    token_file: TokenOption = None,
    out: OutOption = None,
    drop: DropOption = None,
    socket: SocketOption = None,
    listed: ListOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Stop at once: nobody is served, or nobody of one stage, organisation, principal or key."""
    delivery = _Delivery(admin, token_file, release, out, drop, socket, listed)
    target = _target(delivery.release, stage, organisation, principal, api_key_id)
    given = Order(
        id=new_id("order"),
        release=delivery.release,
        target=target,
        ceiling=None,
        reasons=tuple(reason),
        at=now_ms(),
        until=_until(lasts),
    )
    result = delivery.deliver(given, load_keys(key))
    show_sent(result, f"Halt of {target.kind.value} {target.name}: {'; '.join(reason)}")


def order(
    reason: ReasonOption,
    key: KeysOption,
    ceiling_stage: Annotated[
        str | None,
        typer.Option("--ceiling-stage", help="The ceiling is this stage's envelope in the plan."),
    ] = None,
    posture: Annotated[
        list[str] | None, typer.Option("--posture", help="Tighten, such as misuse=block.")
    ] = None,
    block_phrase: Annotated[
        list[str] | None, typer.Option("--block-phrase", help="Refuse prompts that hold this.")
    ] = None,
    stage: StageOption = None,
    organisation: OrganisationOption = None,
    principal: PrincipalOption = None,
    api_key_id: ApiKeyOption = None,
    lasts: UntilOption = None,
    release: ReleaseOption = None,
    admin: AdminOption = None,
    token_file: TokenOption = None,
    out: OutOption = None,
    drop: DropOption = None,
    socket: SocketOption = None,
    listed: ListOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Narrow: lower the ceiling to a stage's envelope, tighten postures, add block rules."""
    if ceiling_stage is None and not posture and not block_phrase:
        raise InputError("expected --ceiling-stage, --posture or --block-phrase; `halt` stops all")
    delivery = _Delivery(admin, token_file, release, out, drop, socket, listed)
    ceiling = Envelope()
    if ceiling_stage is not None:
        plan = parse_plan(delivery.desk.file(delivery.desk.plan_digest))
        ceiling = plan.stage(ceiling_stage).envelope
    ceiling = narrowed(ceiling, tuple(posture or ()), ())
    order_id = new_id("order")
    rules: tuple[BlockRule, ...] = ()
    if block_phrase:
        rules = (block_rule(order_id, tuple(block_phrase)),)
    target = _target(delivery.release, stage, organisation, principal, api_key_id)
    given = Order(
        id=order_id,
        release=delivery.release,
        target=target,
        ceiling=ceiling,
        block_rules=rules,
        reasons=tuple(reason),
        at=now_ms(),
        until=_until(lasts),
    )
    result = delivery.deliver(given, load_keys(key))
    show_sent(result, f"Order on {target.kind.value} {target.name}: {'; '.join(reason)}")


def clear(
    orders: Annotated[list[str], typer.Argument(metavar="ORDER...", help="Orders, by id.")],
    key: KeysOption,
    admin: AdminOption = None,
    token_file: TokenOption = None,
    out: OutOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Lift orders on organisations, principals or keys (admissions and a second role)."""
    desk = Desk(admin, token_file)
    lifted = Clear(release=desk.release, orders=tuple(orders), at=now_ms())
    envelope = sign_statement("clear", lifted, desk.subject, load_keys(key))
    show_sent(desk.send("clear", envelope, out=out), f"Cleared: {', '.join(orders)}.")
