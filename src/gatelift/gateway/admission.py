"""The steps before anything is forwarded: receive, identify, admit, reserve, inspect.

Each step is a function of its own. It returns what the next one needs, or a `Denial`: what the
caller reads and what the record says.

Invariants
- Before `identify` nothing of the caller is recorded, only counted by reason.
- After it every way out is a `Denial`, recorded with a start and a finish.
- Every cap of the effective envelope is reserved in full before the prompt goes anywhere.
- Input is reserved at one token for each byte of text that the model reads, 16 for each message:
  the stated bound, never less than a byte-level tokenizer makes of it. An image has its own bound.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gatelift.errors import CallerError
from gatelift.gateway.bindings import check_bound
from gatelift.gateway.context import Context, boot_ms, now_ms
from gatelift.gateway.dialects import IMAGE_TOKENS_BOUND, ModelRequest
from gatelift.gateway.holdings import Identified
from gatelift.gateway.honey_touch import touch_honey
from gatelift.gateway.http_messages import DuplicateHeaderError, Request
from gatelift.gateway.keeper_link import KeeperUnavailableError
from gatelift.gateway.refusals import refusal_detail
from gatelift.gateway.releasing import BYTES_PER_TOKEN_BOUND
from gatelift.gateway.reservation import Reservation
from gatelift.gateway.standing import Standing
from gatelift.messages import Outcome
from gatelift.messages.frames import Denied
from gatelift.safeguards import Verdict, refuses
from gatelift.terms import CapUnit, Endpoint, Prices, Scope, Window, cost_of
from gatelift.trust import GrantError, Refusal, matches_endpoint

__all__ = [
    "Admitted",
    "Denial",
    "WrongDoorError",
    "admit",
    "identify",
    "inspect_prompt",
    "needs_of",
    "permitted",
    "reserve",
    "reserve_at_hand",
]

_MESSAGE_TOKENS = 16
_DEFAULT_OUTPUT_TOKENS = 256


class Denial(msgspec.Struct, frozen=True, kw_only=True):
    """A way out past `identify`: the reply's code, message and detail, and the outcome recorded.

    `refused_by` is the verdict of a safeguard, where one is the reason: only that may be said as a
    completion.
    """

    code: str
    message: str
    outcome: Outcome
    detail: dict[str, Any] | None = None
    retry_after_s: int | None = None
    retry: bool = True
    verdicts: tuple[Verdict, ...] = ()
    refused_by: Verdict | None = None


class Admitted(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an exchange may do, and the bounds that are reserved for it.

    `max_tokens` is the limit of each of `choices`; `max_bytes` that of the whole answer.
    """

    standing: Standing
    max_tokens: int
    choices: int
    input_bound: int
    max_bytes: int


class WrongDoorError(CallerError):
    """A key that is somebody's was shown at an endpoint that is not its grant's: 404, not 401."""

    code = "wrong_door"


def identify(context: Context, request: Request) -> Identified | None:
    """Return whose key the request carries, null when it is nobody's.

    Raises `WrongDoorError`, and `BindingError` for a bound key without what it is bound to: neither
    identifies anybody.
    """
    try:
        shown = _presented(request)
        if shown is None:
            return None
        key, by_proof = shown
        who = context.holdings.identify(key)
    except (DuplicateHeaderError, GrantError, UnicodeDecodeError):
        return None
    if who is None:
        return None
    if who.public_id in context.honey.keys:
        touch_honey(context, "key", who, request)
        return None
    if not matches_endpoint(request.segment, who.grant):
        raise WrongDoorError("a key was shown at an endpoint that is not its grant's")
    if who.binding is not None:
        check_bound(who.binding, request, key.decode("ascii"), context.proofs, now_ms())
    elif by_proof:
        return None
    return who


def _presented(request: Request) -> tuple[bytes, bool] | None:
    """Return the key that a request shows, and whether it says that a DPoP proof comes with it.

    By either header; two different ones are none.
    """
    value, plain = request.header(b"authorization"), request.header(b"x-api-key")
    if value is None:
        return None if plain is None else (plain, False)
    scheme, _, key = value.partition(b" ")
    if scheme not in (b"Bearer", b"DPoP") or (plain is not None and plain != key):
        return None
    return key, scheme == b"DPoP"


def _utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _input_bound(request: ModelRequest) -> int:
    text = sum([_utf8_bytes(part.text) for part in request.parts])
    return text + _MESSAGE_TOKENS * request.messages + IMAGE_TOKENS_BOUND * request.images


def permitted(context: Context, who: Identified, endpoint: Endpoint) -> Standing | Denial:
    """Return what the grant may do at an endpoint now."""
    found = context.holdings.standing(who, now_ms(), boot_ms())
    if isinstance(found, Refusal):
        return Denial(code=found.code, message=found.message, outcome=Outcome.STOPPED)
    allowed = found.envelope.scope.endpoints
    if endpoint not in who.grant.endpoints or (allowed is not None and endpoint not in allowed):
        return Denial(
            code="endpoint_not_granted",
            message=f"{endpoint.value} is not open for this grant at stage "
            f"{found.stage!r}: see /v1/access",
            outcome=Outcome.STOPPED,
        )
    return found


def admit(
    context: Context, who: Identified, endpoint: Endpoint, request: ModelRequest
) -> Admitted | Denial:
    """Return what a request may do, or why it may not go on."""
    found = permitted(context, who, endpoint)
    if isinstance(found, Denial):
        return found
    # A count asks no model for anything, so it has no end user to name.
    asks = found.envelope.audience.safety_identifier and request.costs_input
    if asks and not request.end_user:
        return Denial(
            code="invalid_request",
            message=f"expected {request.end_user_field}: a stable pseudonym of the end user that "
            "this request is made for, without personal data; this stage asks for it",
            outcome=Outcome.STOPPED,
            detail={"param": request.end_user_field},
        )
    scope = found.envelope.scope
    if request.images and not scope.images:
        return Denial(
            code="images_not_granted",
            message="the stage does not open images, because no safeguard reads them",
            outcome=Outcome.STOPPED,
        )
    bound = _input_bound(request)
    if scope.context_tokens is not None and bound > scope.context_tokens:
        return Denial(
            code="invalid_request",
            message=f"the prompt may take {bound} tokens (one a byte), the stage allows "
            f"{scope.context_tokens}: shorten it",
            outcome=Outcome.STOPPED,
        )
    limit = _output_limit(scope, request)
    if request.generates and limit < 1:
        return Denial(
            code="stopped", message="the stage now allows no output", outcome=Outcome.STOPPED
        )
    return Admitted(
        standing=found,
        max_tokens=limit,
        choices=request.choices,
        input_bound=bound,
        max_bytes=request.data_bytes + limit * request.choices * BYTES_PER_TOKEN_BOUND,
    )


def _output_limit(scope: Scope, request: ModelRequest) -> int:
    """Return how many tokens each choice may have: what was asked, inside what the scope allows."""
    if not request.generates:
        return 0
    asked = request.max_tokens
    if scope.output_tokens is None:
        return _DEFAULT_OUTPUT_TOKENS if asked is None else asked
    return scope.output_tokens if asked is None else min(asked, scope.output_tokens)


def reserve_at_hand(
    context: Context,
    standing: Standing,
    needs: dict[CapUnit, int],
    known: frozenset[str] = frozenset(),
) -> Reservation | None:
    """Set aside every cap of a request if this worker holds enough of each, else nothing: null.

    Most requests need no word of the keeper, and what does not wait needs no coroutine.
    """
    wanted = standing.cap_lines.wanted(needs, now_ms(), known)
    return wanted if context.leases.take(wanted) else None


async def reserve(
    context: Context,
    standing: Standing,
    needs: dict[CapUnit, int],
    known: frozenset[str] = frozenset(),
) -> Reservation | Denial:
    """Set aside every cap of a request, or say which cap is spent; `known` counters need nothing."""
    at_ms = now_ms()
    wanted = standing.cap_lines.wanted(needs, at_ms, known)
    try:
        denied = await context.leases.reserve(wanted)
    except KeeperUnavailableError as error:
        return Denial(code="keeper_unavailable", message=str(error), outcome=Outcome.CAPPED)
    return wanted if denied is None else _capped(denied, at_ms, context.currency)


def _capped(denied: Denied, at_ms: int, currency: str | None) -> Denial:
    # The counter's last part names the caller's own principal or organisation; the cap is enough.
    cap = denied.counter.split(":")[1]
    subject_and_unit, _, window = cap.rpartition("/")
    unit = subject_and_unit.rpartition(".")[2]
    # What is spent of coverage never comes back: there is nothing to wait for.
    short = window == Window.MINUTE or unit == CapUnit.PARALLEL
    wait_s = max(1, (denied.reset - at_ms + 999) // 1000) if denied.reset else 1
    money = {"currency": currency} if unit == CapUnit.COST else {}
    return Denial(
        code="cap_reached",
        message=f"cap {cap} of {denied.limit} is reached",
        outcome=Outcome.CAPPED,
        detail={
            "cap": cap,
            "limit": denied.limit,
            "used": denied.used,
            "reserved": denied.reserved,
            "reset_at_ms": denied.reset,
            **money,
        },
        retry_after_s=wait_s,
        retry=short,
    )


def needs_of(admitted: Admitted, prices: Prices | None) -> dict[CapUnit, int]:
    """Return what a request needs of each unit at worst, of coverage as if its prompt were new."""
    output = admitted.max_tokens * admitted.choices
    return {
        CapUnit.REQUESTS: 1,
        CapUnit.PARALLEL: 1,
        CapUnit.INPUT_TOKENS: admitted.input_bound,
        CapUnit.OUTPUT_TOKENS: output,
        CapUnit.BYTES_OUT: admitted.max_bytes,
        CapUnit.COST: cost_of(prices, admitted.input_bound, output),
        CapUnit.COVERAGE: 1,
    }


def inspect_prompt(
    context: Context, standing: Standing, request: ModelRequest
) -> tuple[tuple[Verdict, ...], Denial | None]:
    """Return the safeguards' verdicts on the prompt, and the denial if one forbids it."""
    verdicts = context.suite(standing).inspect_prompt(request.inspected)
    if not refuses(verdicts):
        return verdicts, None
    first = next(verdict for verdict in verdicts if verdict.stops)
    denial = Denial(
        code="refused",
        message="the request was refused by a safeguard; it was not sent to the model",
        outcome=Outcome.REFUSED,
        detail=refusal_detail(first),
        verdicts=verdicts,
        refused_by=first,
    )
    return verdicts, denial
