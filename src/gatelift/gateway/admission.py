"""The steps before anything is forwarded: receive, identify, admit, reserve, inspect.

Each step is a function of its own. It returns what the next one needs, or a `Denial`: what the
caller reads and what the record says.

Invariants
- Before `identify` nothing of the caller is recorded, only counted by reason.
- After it every way out is a `Denial`, recorded with a start and a finish.
- Every cap of the effective envelope is reserved in full before the prompt goes anywhere.
- Input is reserved at one token for each byte of text that the model reads, and 16 for each
  message: the stated bound, never less than a byte-level tokenizer makes of it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gatelift.encoding import Digest
from gatelift.gateway.bindings import check_bound
from gatelift.gateway.context import Context, boot_ms, now_ms
from gatelift.gateway.dialect import ChatRequest
from gatelift.gateway.holdings import Identified
from gatelift.gateway.http_messages import DuplicateHeaderError, Request
from gatelift.gateway.keeper_link import KeeperUnavailableError
from gatelift.gateway.leases import Reservation, wants_of
from gatelift.messages import Outcome
from gatelift.messages.frames import Denied
from gatelift.safeguards import Verdict, refuses
from gatelift.terms import CapUnit, Endpoint, Envelope, Window
from gatelift.trust import GrantError, Permission, Refusal

__all__ = [
    "Admitted",
    "Denial",
    "admit",
    "identify",
    "inspect_prompt",
    "needs_of",
    "permitted",
    "reserve",
]

BYTES_PER_TOKEN_BOUND = 32
_MESSAGE_TOKENS = 16
_DEFAULT_OUTPUT_TOKENS = 256


class Denial(msgspec.Struct, frozen=True, kw_only=True):
    """A way out past `identify`: the reply's code, message and detail, and the outcome recorded."""

    code: str
    message: str
    outcome: Outcome
    detail: dict[str, Any] | None = None
    retry_after_s: int | None = None
    retry: bool = True
    verdicts: tuple[Verdict, ...] = ()


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """What an exchange may do: permission, and the bounds that were reserved for it."""

    permission: Permission
    max_tokens: int
    input_bound: int

    @property
    def envelope(self) -> Envelope:
        """The effective envelope."""
        return self.permission.envelope

    @property
    def stage(self) -> str:
        """The stage whose certificate is served under."""
        return self.permission.certificate.certificate.stage

    @property
    def certificate(self) -> Digest:
        """The certificate served under."""
        return self.permission.certificate.digest


def identify(context: Context, request: Request) -> Identified | None:
    """Return whose key the request carries, null when it is nobody's.

    Raises `BindingError` for a bound key without what it is bound to: that identifies nobody either.
    """
    try:
        value = request.header(b"authorization")
    except DuplicateHeaderError:
        return None
    if value is None or not value.startswith((b"Bearer ", b"DPoP ")):
        return None
    scheme, _, shown = value.partition(b" ")
    try:
        api_key = shown.decode("ascii")
        who = context.holdings.identify(api_key)
    except (GrantError, UnicodeDecodeError):
        return None
    if who is not None and who.binding is not None:
        check_bound(who.binding, request, api_key, context.proofs, now_ms())
    elif scheme != b"Bearer":
        return None
    return who


def _input_bound(chat: ChatRequest) -> int:
    text = sum(len(part.text.encode("utf-8", "surrogatepass")) for part in chat.parts)
    return text + _MESSAGE_TOKENS * len(chat.messages)


def permitted(context: Context, who: Identified, endpoint: Endpoint) -> Permission | Denial:
    """Return what the grant may do at an endpoint now."""
    found = context.holdings.permission(who, now_ms(), boot_ms())
    if isinstance(found, Refusal):
        return Denial(code=found.code, message=found.message, outcome=Outcome.STOPPED)
    allowed = found.envelope.scope.endpoints
    if endpoint not in who.grant.endpoints or (allowed is not None and endpoint not in allowed):
        return Denial(
            code="endpoint_not_granted",
            message=f"{endpoint.value} is not open for this grant at stage "
            f"{found.certificate.certificate.stage!r}: see /v1/access",
            outcome=Outcome.STOPPED,
        )
    return found


def admit(context: Context, who: Identified, chat: ChatRequest) -> Admitted | Denial:
    """Return what a chat request may do, or why it may not go on."""
    found = permitted(context, who, Endpoint.CHAT)
    if isinstance(found, Denial):
        return found
    scope = found.envelope.scope
    bound = _input_bound(chat)
    if scope.context_tokens is not None and bound > scope.context_tokens:
        return Denial(
            code="invalid_request",
            message=f"the prompt may take {bound} tokens (one a byte), the stage allows "
            f"{scope.context_tokens}: shorten it",
            outcome=Outcome.STOPPED,
        )
    ceiling = scope.output_tokens if scope.output_tokens is not None else _DEFAULT_OUTPUT_TOKENS
    asked = chat.max_tokens if chat.max_tokens is not None else ceiling
    if ceiling < 1:
        return Denial(
            code="stopped", message="the stage now allows no output", outcome=Outcome.STOPPED
        )
    if scope.output_tokens is None:
        ceiling = asked
    return Admitted(permission=found, max_tokens=min(asked, ceiling), input_bound=bound)


async def reserve(
    context: Context, who: Identified, envelope: Envelope, stage: str, needs: dict[CapUnit, int]
) -> Reservation | Denial:
    """Set aside every cap of a request, or say which cap is spent."""
    at_ms = now_ms()
    wanted = wants_of(envelope, who.grant, stage, needs, at_ms)
    try:
        denied = await context.leases.reserve(wanted)
    except KeeperUnavailableError as error:
        return Denial(code="keeper_unavailable", message=str(error), outcome=Outcome.CAPPED)
    return wanted if denied is None else _capped(denied, at_ms)


def _capped(denied: Denied, at_ms: int) -> Denial:
    # The counter's last part names the caller's own principal or organisation; the cap is enough.
    cap = denied.counter.split(":")[1]
    short = cap.endswith((f"/{Window.MINUTE.value}", f"/{Window.NONE.value}"))
    wait_s = max(1, (denied.reset - at_ms + 999) // 1000) if denied.reset else 1
    return Denial(
        code="cap_reached",
        message=f"cap {cap} of {denied.limit} is reached",
        outcome=Outcome.CAPPED,
        detail={
            "cap": cap,
            "limit": denied.limit,
            "used": denied.used,
            "reset_at_ms": denied.reset,
        },
        retry_after_s=wait_s,
        retry=short,
    )


def needs_of(admitted: Admitted) -> dict[CapUnit, int]:
    """Return what a chat request needs of each unit at worst."""
    return {
        CapUnit.REQUESTS: 1,
        CapUnit.PARALLEL: 1,
        CapUnit.INPUT_TOKENS: admitted.input_bound,
        CapUnit.OUTPUT_TOKENS: admitted.max_tokens,
        CapUnit.BYTES_OUT: admitted.max_tokens * BYTES_PER_TOKEN_BOUND,
    }


def inspect_prompt(
    context: Context, envelope: Envelope, chat: ChatRequest
) -> tuple[tuple[Verdict, ...], Denial | None]:
    """Return the safeguards' verdicts on the prompt, and the denial if one forbids it."""
    verdicts = context.suite(envelope).inspect_prompt(chat.parts)
    if not refuses(verdicts):
        return verdicts, None
    first = next(verdict for verdict in verdicts if verdict.stops)
    denial = Denial(
        code="refused",
        message="the request was refused by a safeguard; it was not sent to the model",
        outcome=Outcome.REFUSED,
        detail={
            "category": first.category.value,
            "band": first.band.value,
            "rule": first.rule,
            "references": list(first.ids),
        },
        verdicts=verdicts,
    )
    return verdicts, denial
