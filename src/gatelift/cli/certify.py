"""`gatelift certify`: look at what is asked, on which evidence, what changed; then sign.

Invariants
- What is signed is built from control's draft, but its release, plan, candidate and envelope are
  checked here: the envelope must lie within the plan's, which is fetched by digest and parsed here.
- Extra postures and block phrases only tighten.
- Nothing is signed without a yes (`--yes`, or the question), and nothing that could not verify.
- The certificate counts once a cosigned head holds it: the command waits for that.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

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
from gatelift.cli.envelopes import describe, differences
from gatelift.cli.errors import InputError
from gatelift.cli.narrowing import block_rule, narrowed
from gatelift.cli.output import JsonFlag, at_text, facts, note, say, visible
from gatelift.encoding import EncodingError
from gatelift.plan import Plan, parse_plan
from gatelift.terms import Assurance, is_within, parse_duration_ms
from gatelift.trust import Certificate

__all__ = ["certify", "drafted", "finish"]


def drafted(desk: Desk, stage: str) -> tuple[Certificate, Certificate | None, dict[str, Any]]:
    """Return control's draft for a stage, the one that stands, and the whole answer."""
    # The draft names a cosigned head; it must be one that holds the evidence and orders it rests on.
    desk.wait_until_cosigned()
    answer = desk.client.get("/draft/certificate", stage=stage)
    held = [each["certificate"] for each in desk.state["stages"] if each["name"] == stage]
    try:
        draft = msgspec.convert(answer["certificate"], Certificate)
        last = msgspec.convert(held[0], Certificate) if held and held[0] is not None else None
    except (KeyError, msgspec.ValidationError) as error:
        raise EncodingError(f"control's draft is no certificate: {error}") from error
    return draft, last, answer


def finish(
    draft: Certificate,
    plan: Plan,
    *,
    postures: tuple[str, ...] = (),
    phrases: tuple[str, ...] = (),
    assurance: str | None = None,
    lasts_ms: int | None = None,
) -> Certificate:
    """Return the draft tightened, with its window counted from now; raises `InputError`."""
    stage = plan.stage(draft.stage)
    if draft.release != plan.name or not is_within(draft.envelope, stage.envelope):
        raise InputError(
            f"control's draft goes beyond stage {stage.name!r} of the plan: do not sign it",
            code="draft_too_wide",
        )
    at = now_ms()
    end = at + min(lasts_ms or stage.certificate_ms, stage.certificate_ms)
    if draft.not_after - draft.not_before < stage.certificate_ms:
        # The root ends before the plan's time is over, and the certificate with it.
        end = min(end, draft.not_after)
    rules = (block_rule(f"{stage.name}-{draft.sequence}", phrases),) if phrases else ()
    levels = draft.levels
    if assurance is not None:
        levels = msgspec.structs.replace(levels, assurance=Assurance(assurance))
    return msgspec.structs.replace(
        draft,
        envelope=narrowed(draft.envelope, postures, rules),
        levels=levels,
        not_before=at,
        not_after=end,
    )


def certify(
    stage: Annotated[str, typer.Option("--stage", help="The stage to open or renew.")],
    key: KeysOption,
    block_phrase: Annotated[
        list[str] | None, typer.Option("--block-phrase", help="Refuse prompts that hold this.")
    ] = None,
    posture: Annotated[
        list[str] | None, typer.Option("--posture", help="Tighten, such as misuse=block.")
    ] = None,
    assurance: Annotated[
        Assurance | None, typer.Option("--assurance", help="Say less than the signers could.")
    ] = None,
    lasts: Annotated[
        str | None, typer.Option("--for", help="Shorter than the plan allows, such as 2h.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Sign without asking.")] = False,
    admin: AdminOption = None,
    token_file: TokenOption = None,
    out: OutOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Show what is asked and why, sign the certificate, wait until it is witnessed."""
    keys = load_keys(key)
    desk = Desk(admin, token_file)
    draft, last, answer = drafted(desk, stage)
    plan = parse_plan(desk.file(draft.plan))
    certificate = finish(
        draft,
        plan,
        postures=tuple(posture or ()),
        phrases=tuple(block_phrase or ()),
        assurance=assurance.value if assurance else None,
        lasts_ms=None if lasts is None else parse_duration_ms(lasts),
    )
    _show_question(certificate, last, answer)
    if plan.stage(stage).observe is not None:
        say("This stage also records tighter terms that are NOT enforced (observe: in the plan).")
    if not yes and not json_output and not typer.confirm("Sign this?"):
        note("Not signed.")
        raise typer.Exit(1)
    envelope = sign_statement("certificate", certificate, desk.subject, keys)
    result = desk.send(
        "certificate",
        envelope,
        out=out,
        cosigned=out is None,
    )
    result |= {
        "stage": stage,
        "sequence": certificate.sequence,
        "not_after": certificate.not_after,
        "clears": certificate.clears,
        "levels": certificate.levels,
    }
    show_sent(result, f"Stage {stage} certified until {at_text(certificate.not_after)}.")


def _show_question(
    certificate: Certificate, last: Certificate | None, answer: dict[str, Any]
) -> None:
    say(f"You are asked to permit stage {certificate.stage} of {certificate.release}.")
    facts(
        (
            ("candidate", certificate.fingerprint),
            ("plan", certificate.plan),
            ("until", at_text(certificate.not_after)),
            ("assurance", certificate.levels.assurance.value),
            ("sealing", certificate.levels.sealing.value),
            ("binding", certificate.levels.binding.value),
            *((f"threshold {name}", v.value) for name, v in certificate.thresholds.items()),
            ("evidence", "\n".join(certificate.evidence) or "none"),
            ("clears orders", ", ".join(certificate.clears) or "none"),
        )
    )
    say("What it allows:")
    facts((f"  {name}", value) for name, value in describe(certificate.envelope))
    if last is None:
        say("No certificate of this stage stands.")
    else:
        changed = differences(last.envelope, certificate.envelope)
        say(
            "What changed since the one that stands:"
            if changed
            else "Nothing in the envelope changed since the one that stands."
        )
        facts((f"  {name}", f"{before} -> {after}") for name, before, after in changed)
    for number, text in enumerate(answer.get("conditions") or ()):
        if number == 0:
            say("Approved on these conditions:")
        say(f"  - {visible(text)}")
    blocked = answer.get("reasons") or ()
    if blocked:
        say("Its gate is shut; control will refuse the certificate because:")
        for each in blocked:
            say(f"  - {each['message']} [{each['code']}]")
