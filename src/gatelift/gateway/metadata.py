"""What a caller may ask without the model: models, its own access, receipts, liveness.

Invariants
- `models` is an exchange like any other: admitted, counted, recorded, ticketed.
- `access` and receipts reveal nothing but the caller's own terms and the proof of a batch whose
  digest the caller must already hold; they are not exchanges and spend nothing.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

import msgspec

from gatelift.encoding import encode_json, parse_digest
from gatelift.errors import CallerError
from gatelift.gateway.admission import Denial, identify, permitted, reserve
from gatelift.gateway.context import Context, boot_ms, now_ms
from gatelift.gateway.exchange import Event
from gatelift.gateway.holdings import Identified
from gatelift.gateway.honey_touch import honey_model
from gatelift.gateway.http_messages import Request
from gatelift.gateway.http_responder import Responder
from gatelift.gateway.keeper_link import KeeperUnavailableError
from gatelift.gateway.recorded import NOTHING_SPENT, RecordedExchange, send_reply
from gatelift.gateway.recording import Ending, Subject
from gatelift.gateway.replies import Reply, error_reply
from gatelift.journal import JournalError
from gatelift.messages import Outcome
from gatelift.messages.frames import Denied
from gatelift.safeguards import Verdict
from gatelift.terms import CapUnit, Endpoint, Envelope
from gatelift.trust import Refusal

__all__ = ["ModelsExchange", "serve_access", "serve_health", "serve_receipt"]

_JSON = ((b"content-type", b"application/json"),)


def _unknown_key(context: Context) -> Reply:
    context.refused["invalid_api_key"] += 1
    return error_reply(
        "invalid_api_key",
        "expected one key, as 'Authorization: Bearer gl_...' or 'x-api-key: gl_...', of a grant in force",
    )


def serve_health(context: Context, responder: Responder) -> None:
    """Say whether a status stands; no key needed and nothing revealed."""
    alive = context.holdings.is_alive(boot_ms())
    body = encode_json({"status": "ok" if alive else "lapsed"})
    send_reply(responder, Reply(status=200 if alive else 503, headers=_JSON, body=body))


def _must_provide(envelope: Envelope) -> list[dict[str, str]]:
    """Return what every request must carry beside its key."""
    if not envelope.audience.safety_identifier:
        return []
    says = "a stable pseudonym of the end user, without personal data; metadata.user_id of messages"
    return [{"field": "safety_identifier", "says": says}]


def _access(context: Context, who: Identified) -> dict[str, Any]:
    bundle = context.holdings.bundle
    found = context.holdings.standing(who, now_ms(), boot_ms())
    grant = who.grant
    body: dict[str, Any] = {
        "grant": {
            "id": grant.id,
            "stage": grant.stage,
            "project": grant.project,
            "endpoints": list(grant.endpoints),
            "proofs": list(grant.proofs),
            "not_after": grant.not_after,
        },
        "release": grant.release,
    }
    if bundle is not None:
        names = [stage.name for stage in bundle.plan.stages]
        here = names.index(grant.stage) if grant.stage in names else -1
        body["candidate"] = bundle.bundle.candidate
        body["model"] = bundle.candidate.model_part.model
        body["prices"] = json.loads(encode_json(bundle.plan.prices))
        # What probes show now: beside what the certificate says, never instead of it.
        body["sealing_seen"] = context.holdings.sealing
        body["binding_seen"] = context.holdings.binding
        body["next_stage"] = names[here + 1] if 0 <= here < len(names) - 1 else None
    if isinstance(found, Refusal):
        return body | {"may": False, "reason": {"code": found.code, "message": found.message}}
    certificate = found.permission.certificate.certificate
    stage = None if bundle is None else bundle.plan.stage(certificate.stage)
    observed = None if stage is None else stage.observe
    return body | {
        "may": True,
        "observed": None if observed is None else json.loads(encode_json(observed)),
        "stage": certificate.stage,
        "refusal": None if stage is None else stage.refusal,
        "certificate": found.certificate,
        "levels": json.loads(encode_json(certificate.levels)),
        "envelope": json.loads(encode_json(found.envelope)),
        "must_provide": _must_provide(found.envelope),
        "orders": list(found.permission.orders),
        "certificate_until": certificate.not_after,
    }


async def _caps_left(context: Context, who: Identified) -> list[dict[str, Any]] | None:
    """Return each cap with what is used of it, by asking the keeper for nothing of it."""
    found = context.holdings.standing(who, now_ms(), boot_ms())
    if isinstance(found, Refusal):
        return None
    asked = found.cap_lines.wanted(NOTHING_SPENT, now_ms()).wants
    wants = tuple(msgspec.structs.replace(want, need=0, like=0) for want in asked)
    if not wants:
        return []
    try:
        answer = await context.link.draw(wants)
    except KeeperUnavailableError:
        return None
    if isinstance(answer, Denied) or not len(answer.used) == len(answer.reserved) == len(wants):
        return None
    return [
        {
            "cap": want.counter.split(":")[1],
            "limit": want.limit,
            "used": used - reserved,
            "reserved": reserved,
            "left": max(0, want.limit - used),
            "reset_at_ms": want.until,
            **({"currency": context.currency} if line.unit is CapUnit.COST else {}),
        }
        for line, want, used, reserved in zip(
            found.cap_lines, wants, answer.used, answer.reserved, strict=True
        )
    ]


async def serve_access(context: Context, request: Request, responder: Responder) -> None:
    """Tell a caller what it may do, may not do, must provide, what is left, and what comes next."""
    who = identify(context, request)
    if who is None:
        send_reply(responder, _unknown_key(context))
        return
    status = context.holdings.status
    told = _access(context, who) | {
        "caps": await _caps_left(context, who),
        "incidents": list(status.incidents) if status else None,
    }
    body = encode_json(told)
    send_reply(responder, Reply(status=200, headers=_JSON, body=body))


async def serve_receipt(
    context: Context, request: Request, responder: Responder, hexes: str
) -> None:
    """Send the proof that a batch is in the requests log; 202 while it is not yet published."""
    if identify(context, request) is None:
        send_reply(responder, _unknown_key(context))
        return
    try:
        digest = parse_digest(f"sha256:{hexes}")
        answer = await context.link.receipt(digest)
    except KeeperUnavailableError as error:
        send_reply(responder, error_reply("keeper_unavailable", str(error)))
        return
    except CallerError as error:
        send_reply(responder, error_reply("invalid_request", str(error)))
        return
    if not answer.known:
        send_reply(responder, error_reply("not_found", "no batch of that digest is known here"))
        return
    if answer.proof is None:
        send_reply(responder, Reply(status=202, headers=((b"retry-after", b"1"),), body=b""))
        return
    headers = ((b"content-type", b"text/plain; charset=utf-8"),)
    send_reply(responder, Reply(status=200, headers=headers, body=answer.proof))


def _no_model(name: str, verdicts: tuple[Verdict, ...]) -> Denial:
    return Denial(
        code="not_found",
        message=f"no model {name[:60]!r} here",
        outcome=Outcome.STOPPED,
        detail={"param": "model"},
        verdicts=verdicts,
    )


class ModelsExchange(RecordedExchange):
    """Lists the one candidate that a grant reaches, or shows it, as a recorded exchange."""

    async def run(self, request: Request, name: str | None = None) -> None:
        """Answer the request: the list, or the one model of this name, as it stands in the path."""
        who = identify(self.context, request)
        bundle = self.context.holdings.bundle
        if who is None or bundle is None:
            self.turn_away(
                "invalid_api_key",
                "expected one key, as 'Authorization: Bearer gl_...' or 'x-api-key: gl_...', of a grant in force",
            )
            return
        self.steps.on(Event.IDENTIFY)
        found = permitted(self.context, who, Endpoint.MODELS)
        held = None if isinstance(found, Denial) else found
        stage = who.grant.stage if held is None else held.stage
        subject = Subject(
            request_id=self.id,
            release=bundle.plan.name,
            stage=stage,
            certificate=None if held is None else held.certificate,
            fingerprint=bundle.bundle.candidate,
            grant=who.grant,
            session=self.context.session(who.grant.id, "", bundle.plan.session_window_ms),
            endpoint=Endpoint.MODELS,
            stream=False,
        )
        self.begin(subject)
        if isinstance(found, Denial):
            await self.deny(found, b"")
            return
        self.steps.on(Event.ADMIT)
        model = bundle.candidate.model_part.model
        if name is not None and (asked := unquote(name)) != model:
            bait = honey_model(self.context, asked, request)
            await self.deny(_no_model(asked, bait), b"")
            return
        needs = NOTHING_SPENT | {CapUnit.REQUESTS: 1, CapUnit.PARALLEL: 1}
        reserved = await reserve(self.context, found, needs)
        if isinstance(reserved, Denial):
            await self.deny(reserved, b"")
            return
        self.reserved(reserved)
        shown = {"id": model, "object": "model", "created": 0, "owned_by": f"gatelift:{stage}"}
        listed = {"object": "list", "data": [shown]}
        await self._answer(encode_json(listed if name is None else shown))

    async def _answer(self, body: bytes) -> None:
        try:
            self.write_start(b"")
            await self.finish(Ending(outcome=Outcome.SERVED), body, NOTHING_SPENT)
        except JournalError as error:
            self.journal_failed(error)
            return
        finally:
            self.abandon()
            self.settle(NOTHING_SPENT)
        self.send_with_ticket(Reply(status=200, headers=(*_JSON, *self.headers), body=body))
