"""`gatelift grant`: admit a principal to a stage and hand out the API key, once.

Invariants
- The key is drawn here; admissions signs its digest, control and the gateways see nothing else.
- The key is printed once, on standard output, or written to a file of mode 0600 (`--api-key-out`);
  it is never submitted and cannot be shown again.
- With `--private-endpoint` the path of the base URL is drawn here too, shown or written as the key
  is (`FILE.endpoint`), and stands in the grant by its digest only.
- What the stage does not admit is refused before anything is signed.
"""

from __future__ import annotations

import base64
import secrets
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from gatelift.cli.bindings import read_binding
from gatelift.cli.desk import (
    AdminOption,
    Desk,
    KeysOption,
    OutOption,
    TokenOption,
    load_keys,
    new_id,
    now_ms,
    sign_statement,
)
from gatelift.cli.layout import read_bytes
from gatelift.cli.output import JsonFlag, at_text, facts, say, show
from gatelift.encoding import sha256_digest
from gatelift.plan import Plan, parse_plan
from gatelift.terms import Endpoint, parse_duration_ms
from gatelift.trust import Grant, GrantKey, KeyBinding, check_grant_within, key_digest
from gatelift.wire.keyfiles import save_secret_text

__all__ = ["ApiKey", "draw_api_key", "draw_segment", "grant", "make_grant"]

_PUBLIC_ID_BYTES = 8
_SECRET_BYTES = 24
_SEGMENT_BYTES = 20


class ApiKey(NamedTuple):
    """A new API key: its text is shown once."""

    public_id: str
    text: str

    def entry(self, binding: KeyBinding | None = None) -> GrantKey:
        """Return what a grant says of it."""
        return GrantKey(public_id=self.public_id, digest=key_digest(self.text), binding=binding)


def draw_api_key() -> ApiKey:
    """Draw a key as `gl_<public id>_<secret>`."""
    public_id = secrets.token_hex(_PUBLIC_ID_BYTES)
    return ApiKey(public_id, f"gl_{public_id}_{secrets.token_hex(_SECRET_BYTES)}")


def draw_segment() -> str:
    """Draw the path segment of a private endpoint: 160 bits in 32 characters of base32."""
    return base64.b32encode(secrets.token_bytes(_SEGMENT_BYTES)).decode("ascii").lower()


def make_grant(
    plan: Plan,
    *,
    stage: str,
    principal: str,
    organisation: str,
    project: str,
    proofs: tuple[str, ...],
    keys: tuple[GrantKey, ...],
    lasts_ms: int,
    vetting: bytes | None = None,
    at_ms: int | None = None,
    segment: str | None = None,
) -> Grant:
    """Return a grant for all that a stage's scope opens; raises `GrantError` if it goes beyond.

    It begins at `at_ms`, by default now.
    """
    envelope = plan.stage(stage).envelope
    at = now_ms() if at_ms is None else at_ms
    found = Grant(
        id=new_id("grant"),
        release=plan.name,
        stage=stage,
        principal=principal,
        organisation=organisation,
        project=project,
        tier=envelope.audience.tier,
        endpoints=envelope.scope.endpoints or tuple(Endpoint),
        proofs=proofs,
        vetting=None if vetting is None else sha256_digest(vetting),
        keys=keys,
        not_before=at,
        not_after=at + lasts_ms,
        private_endpoint=None if segment is None else sha256_digest(segment.encode("ascii")),
    )
    check_grant_within(found, stage, envelope)
    return found


def grant(
    principal: Annotated[str, typer.Option("--principal", help="Who, by pseudonym.")],
    organisation: Annotated[str, typer.Option("--organisation", help="Whose people they are.")],
    stage: Annotated[str, typer.Option("--stage", help="The stage they are admitted to.")],
    key: KeysOption,
    project: Annotated[str, typer.Option("--project", help="What for.")] = "default",
    proof: Annotated[
        list[str] | None,
        typer.Option("--proof", help="What was checked, such as identity or terms@1."),
    ] = None,
    lasts: Annotated[str, typer.Option("--for", help="How long, such as 30d.")] = "30d",
    vetting: Annotated[
        Path | None, typer.Option("--vetting", help="Vetting evidence; only its digest is kept.")
    ] = None,
    bind_mtls: Annotated[
        Path | None,
        typer.Option("--bind-mtls", help="Bind the key to this TLS client certificate (PEM)."),
    ] = None,
    bind_dpop: Annotated[
        Path | None,
        typer.Option("--bind-dpop", help="Bind the key to this public DPoP key (JWK or PEM)."),
    ] = None,
    api_key_out: Annotated[
        Path | None, typer.Option("--api-key-out", help="Write the key here (0600), don't print.")
    ] = None,
    private_endpoint: Annotated[
        bool,
        typer.Option(
            "--private-endpoint", help="Take the key only at a base URL that can't be guessed."
        ),
    ] = False,
    admin: AdminOption = None,
    token_file: TokenOption = None,
    out: OutOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Admit a principal to a stage; the new API key is handed over once (admissions)."""
    keys = load_keys(key)
    desk = Desk(admin, token_file)
    binding = read_binding(bind_mtls, bind_dpop)
    api_key = draw_api_key()
    segment = draw_segment() if private_endpoint else None
    base_path = None if segment is None else f"/e/{segment}/v1"
    found = make_grant(
        parse_plan(desk.file(desk.plan_digest)),
        stage=stage,
        principal=principal,
        organisation=organisation,
        project=project,
        proofs=tuple(proof or ()),
        keys=(api_key.entry(binding),),
        lasts_ms=parse_duration_ms(lasts),
        vetting=None if vetting is None else read_bytes(vetting),
        segment=segment,
    )
    envelope = sign_statement("grant", found, desk.subject, keys)
    if api_key_out is not None:
        # Before submitting: a key that is lost after its grant was logged helps nobody.
        save_secret_text(api_key_out, api_key.text)
        if base_path is not None:
            save_secret_text(api_key_out.with_name(f"{api_key_out.name}.endpoint"), base_path)
    result = desk.send("grant", envelope, out=out)
    result |= {"id": found.id, "public_id": api_key.public_id, "stage": stage}
    result |= {"not_after": found.not_after, "binding": binding}
    if api_key_out is None:
        result["api_key"] = api_key.text
        if base_path is not None:
            result["base_path"] = base_path
    else:
        result["api_key_file"] = str(api_key_out)

    def render() -> None:
        say(f"{principal} of {organisation} is admitted to {stage}.")
        facts(
            (
                ("grant", found.id),
                ("until", at_text(found.not_after)),
                ("bound to", "nothing" if binding is None else binding.kind.value),
                ("entry", result.get("index", result.get("out"))),
                ("API key", result.get("api_key", api_key_out)),
            )
        )
        if base_path is not None:
            shown = result.get("base_path", f"{api_key_out}.endpoint")
            facts((("base URL", f"https://HOST{shown}" if api_key_out is None else shown),))
        if api_key_out is None:
            say("Hand the key over now: it is not kept anywhere and cannot be shown again.")

    show(result, render)
