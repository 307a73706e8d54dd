"""Whether a placement answers strangers: the door that is looked for from outside at every start.

Anywhere: the same kind of call as a drift probe, without our credential and with a wrong one, also
at the other doors that common servers have (some ask for a key on some paths only). Who answers one
of them has an open door. A placement behind pinned TLS is called as strangers of every kind would call it, and as we do:

    in the clear   TLS, no key   TLS and our key, with     TLS, our key,   level
    and no key                   no certificate, one of    a fresh
                                 another CA, one expired   certificate
    served         -             -                         served          open
    -              served        -                         served          open
    HTTP answers   refused       -                         served          declared
    refused        refused       any of them served        served          declared
    refused        refused       all refused               served twice    sealed

Refused is 400, 401 or 403 by TLS, 400 in the clear (a 401 there is HTTP that answers), or a
connection that is ended without an answer. Served is 2xx. All else says nothing: `ProbeError`.

Invariants
- `declared` needs a clear refusal (401 or 403) of chat, and of each other door (or 404, 405: it is
  not there). Anything else that is no answer says nothing about the door: it raises.
- `declared` behind TLS needs a clear refusal of a stranger, `sealed` every refusal of the table in one pass
  between two calls that were served: a server that is down refuses nobody.
- Our key goes over TLS to the pinned server alone, never in the clear.

It finds no door at another address: that there is none stays the operator's word.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

from gatelift.encoding import encode_json
from gatelift.terms import Sealing
from gatelift.wire.http_client import Upstream, UpstreamError
from gatelift.wire.probes import (
    CHAT_PATH,
    PROBE_TIMEOUT_S,
    REFUSALS,
    ProbeError,
    ProbeTarget,
    call_placement,
    make_client,
    open_upstream,
    post_probe,
    probe_body,
    probe_prompts,
)
from gatelift.wire.sealing import ProbeIdentities, client_context

__all__ = ["probe_sealing", "probe_unsealed"]

_NOT_THERE: Final = frozenset({404, 405})
_WRONG_CREDENTIAL: Final = "gatelift-probe-that-no-server-was-given"
_TEXT: Final = "Say good morning."
_TURN: Final = [{"role": "user", "content": _TEXT}]
# Doors beside chat completions that model servers open; some guard only what lies under /v1.
_OTHER_DOORS: Final[tuple[tuple[str, dict[str, object]], ...]] = (
    ("/v1/completions", {"prompt": _TEXT, "max_tokens": 1}),
    ("/v1/responses", {"input": _TEXT, "max_output_tokens": 16}),
    ("/v1/messages", {"messages": _TURN, "max_tokens": 1}),
    ("/chat/completions", {"messages": _TURN, "max_tokens": 1}),
    ("/completion", {"prompt": _TEXT, "n_predict": 1}),
    ("/invocations", {"messages": _TURN, "max_tokens": 1}),
    ("/generate", {"text": _TEXT, "prompt": _TEXT, "sampling_params": {"max_new_tokens": 1}}),
    ("/api/chat", {"messages": _TURN, "stream": False, "options": {"num_predict": 1}}),
    ("/api/generate", {"prompt": _TEXT, "stream": False, "options": {"num_predict": 1}}),
)
_TLS_REFUSALS: Final = frozenset({400, 401, 403})


async def probe_unsealed(target: ProbeTarget) -> Sealing:
    """Return `open` when the placement answers without our credential, `declared` when it refuses.

    Raises `ProbeError` when it says neither: then nothing is known about the door.
    """
    chat = probe_body(target, probe_prompts(1)[0])
    async with open_upstream(target) as upstream:
        for credential in (None, _WRONG_CREDENTIAL):
            if await _answers(upstream, target, CHAT_PATH, chat, credential, REFUSALS):
                return Sealing.OPEN
        for path, fields in _OTHER_DOORS:
            body = encode_json({"model": target.model, **fields})
            if await _answers(upstream, target, path, body, None, REFUSALS | _NOT_THERE):
                return Sealing.OPEN
    return Sealing.DECLARED


async def _answers(
    upstream: Upstream,
    target: ProbeTarget,
    path: str,
    body: bytes,
    credential: str | None,
    shut: frozenset[int],
) -> bool:
    """Return whether a stranger is answered at a door; raises when it is neither open nor shut."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            status, _ = await post_probe(upstream, path, body, credential)
    except (UpstreamError, TimeoutError) as error:
        raise ProbeError(f"{target.base_url} did not answer a stranger: {error}") from error
    if not 200 <= status < 300 and status not in shut:
        raise ProbeError(
            f"{target.base_url}{path} answered a stranger with {status}: expected one of "
            f"{sorted(shut)}",
            code="probe_odd",
        )
    return status not in shut


async def probe_sealing(
    target: ProbeTarget, credential: str | None, identities: ProbeIdentities | None
) -> Sealing:
    """Return how far a placement is sealed, by the table above; raises `ProbeError`.

    Without a pinned server or certificates of ours to show it is `probe_unsealed`.
    """
    if target.pinned is None or identities is None:
        return await probe_unsealed(target)
    if not await _is_served(target, credential, identities.fresh()):
        raise ProbeError(
            f"{target.base_url} refuses a fresh certificate of ours: does it trust this node's "
            "upstream CA, and are the clocks right?",
            code="probe_refused",
        )
    in_the_clear = await _ask_in_the_clear(target)
    if in_the_clear is Sealing.OPEN or await _is_served(target, None, None):
        return Sealing.OPEN
    strangers = (None, identities.foreign(), identities.expired())
    for identity in strangers:
        if await _is_served(target, credential, identity):
            return Sealing.DECLARED
    if not await _is_served(target, credential, identities.fresh()):
        raise ProbeError(f"{target.base_url} stopped serving amid the probe", code="probe_odd")
    return in_the_clear


async def _is_served(target: ProbeTarget, credential: str | None, identity: bytes | None) -> bool:
    """Return whether a call by TLS is served, false if it is refused; raises `ProbeError`."""
    pinned = target.pinned
    if pinned is None:
        raise ProbeError("expected a pinned server", code="probe_odd")
    try:
        status = await _status(
            target, credential, tls=client_context(pinned, identity), name=pinned.server_name
        )
    except UpstreamError as error:
        if _broke_off(error):
            return False
        raise ProbeError(f"{target.base_url} did not answer a probe: {error}") from error
    if 200 <= status < 300:
        return True
    if status in _TLS_REFUSALS:
        return False
    raise ProbeError(f"{target.base_url} answered a probe with {status}", code="probe_odd")


async def _ask_in_the_clear(target: ProbeTarget) -> Sealing:
    """Return what plain HTTP at the same port shows: `open`, `declared`, or `sealed` for nothing."""
    base_url = "http://" + target.base_url.removeprefix("https://")
    try:
        status = await _status(target, None, base_url=base_url)
    except UpstreamError as error:
        if _broke_off(error):
            return Sealing.SEALED
        raise ProbeError(f"{base_url} did not answer a probe: {error}") from error
    if 200 <= status < 300:
        return Sealing.OPEN
    # What TLS servers say to plain HTTP; any other status would come from behind them.
    return Sealing.SEALED if status == 400 else Sealing.DECLARED


def _broke_off(error: UpstreamError) -> bool:
    """Return whether somebody was there and ended it, rather than nobody or too late."""
    cause = error.__cause__
    if error.code == "connect_failed":
        return isinstance(cause, ssl.SSLError | ConnectionResetError | ConnectionAbortedError) and (
            not isinstance(cause, ssl.SSLCertVerificationError)
        )
    return error.code in {"died", "bad_response"}


async def _status(
    target: ProbeTarget,
    credential: str | None,
    *,
    tls: ssl.SSLContext | None = None,
    name: str | None = None,
    base_url: str | None = None,
) -> int:
    upstream = make_client(base_url or target.base_url, tls, name)
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            status, _ = await call_placement(upstream, target, probe_prompts(1)[0], credential)
    except TimeoutError as error:
        raise ProbeError(f"{target.base_url} did not answer in time") from error
    finally:
        await upstream.aclose()
    return status
