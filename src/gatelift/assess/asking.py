"""One attempt through the gateway: asked once, and believed only with the node's word for it.

Invariants
- A request is sent once. Whatever goes wrong is an error of this attempt, never asked again.
- An answer counts only with a ticket that an enrolled node signed, whose record is the end of this
  very exchange (request id, grant, release) and whose commitment opens to the bytes that came.
- How it ended is what the record says, not what the body says.
- The API key is in one header and in no error.

The ticket shows that a node committed to the record; that the log holds it is for the auditor, from
the place of the record in the results.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from gatelift.assess.access import AccessError, Terms, parse_access
from gatelift.assess.scorers import Heard
from gatelift.encoding import decode_json, encode_json, parse_base64
from gatelift.errors import CallerError, GateliftError, PeerError
from gatelift.messages import (
    BatchEntry,
    Finish,
    Outcome,
    Ticket,
    commit_content,
    parse_ticket,
    verify_ticket,
)
from gatelift.trust import Root, parse_public_key
from gatelift.wire.http_client import Upstream

__all__ = ["AttemptError", "Reply", "ask", "hear", "read_terms"]

_ENDED = frozenset({Outcome.SERVED, Outcome.CUT, Outcome.REFUSED})


class AttemptError(PeerError):
    """An attempt came to nothing that can be scored."""

    code = "attempt_failed"


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A whole response."""

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What a reply says once its ticket was verified."""

    heard: Heard
    finish: Finish
    ticket: Ticket
    stage: str
    candidate: str


class _Message(msgspec.Struct, frozen=True):
    content: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    message: _Message


class _Answer(msgspec.Struct, frozen=True):
    choices: tuple[_Choice, ...]


async def _exchange(
    upstream: Upstream, method: str, path: str, headers: list[tuple[bytes, bytes]], body: bytes
) -> Reply:
    response = await upstream.request(method, path, headers, body)
    try:
        data = await response.read()
    finally:
        response.close()
    return Reply(status=response.status, headers=response.headers, body=data)


def _authorization(api_key: str) -> tuple[bytes, bytes]:
    return (b"authorization", b"Bearer " + api_key.encode("ascii"))


async def read_terms(upstream: Upstream, api_key: str, *, timeout_s: float) -> Terms:
    """Return what the key may do now; raises `AccessError`, `NotAdmittedError`, `UpstreamError`."""
    try:
        async with asyncio.timeout(timeout_s):
            reply = await _exchange(upstream, "GET", "/v1/access", [_authorization(api_key)], b"")
    except TimeoutError as error:
        raise AccessError(f"the gateway said nothing within {timeout_s} s") from error
    if reply.status != 200:
        raise AccessError(f"expected 200 from /v1/access, got {reply.status}: check the API key")
    return parse_access(reply.body)


async def ask(
    upstream: Upstream, api_key: str, *, model: str, prompt: str, max_tokens: int, timeout_s: float
) -> Reply:
    """Return the reply to one prompt; raises `AttemptError` or `UpstreamError`."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
    }
    headers = [_authorization(api_key), (b"content-type", b"application/json")]
    try:
        async with asyncio.timeout(timeout_s):
            return await _exchange(
                upstream, "POST", "/v1/chat/completions", headers, encode_json(body)
            )
    except TimeoutError as error:
        raise AttemptError(f"no answer within {timeout_s} s", code="timeout") from error


def _verified(ticket: Ticket, root: Root) -> Finish:
    # The entry names its node; whether that node signed it is checked next.
    claimed = decode_json(ticket.entry.encode("utf-8"), BatchEntry)
    node_key = parse_public_key(root.node(claimed.node).batch_key)
    _, record = verify_ticket(ticket, node_key)
    if not isinstance(record, Finish):
        raise AttemptError("expected the ticket of a finish", code="bad_ticket")
    return record


def _text(body: bytes) -> str:
    message = decode_json(body, _Answer).choices[0].message
    parts = (message.reasoning_content, message.content, message.refusal)
    return "\n".join(part for part in parts if part)


def _outcome(finish: Finish) -> Outcome:
    withheld = finish.outcome is Outcome.WITHHELD and finish.reason == "withheld"
    if finish.outcome not in _ENDED and not withheld:
        code = finish.reason or finish.outcome.value
        raise AttemptError(f"the exchange ended as {finish.outcome.value}", code=code)
    return finish.outcome


def hear(reply: Reply, *, root: Root, terms: Terms) -> Checked:
    """Return what a reply says, its ticket verified; raises `AttemptError` if it says nothing."""
    value = reply.headers.get(b"gatelift-ticket")
    if value is None:
        code = f"no_ticket_{reply.status}"
        raise AttemptError(f"status {reply.status} without a ticket", code=code)
    try:
        ticket = parse_ticket(value.decode("ascii"))
        finish = _verified(ticket, root)
        request_id = reply.headers.get(b"x-request-id", b"").decode("ascii")
        mine = (request_id, terms.grant, terms.release)
        if (finish.request_id, finish.grant, finish.release) != mine:
            raise AttemptError("the ticket is of another exchange", code="bad_ticket")
        if finish.answer is not None:
            salt = parse_base64(ticket.content_salt)
            if commit_content(salt, reply.body) != finish.answer:
                raise AttemptError("the record commits to another answer", code="bad_ticket")
        outcome = _outcome(finish)
        released = outcome in (Outcome.SERVED, Outcome.CUT)
        # A refusal may come as a completion: its status is the record's, not always an error's.
        if reply.status != finish.status or (
            released and (reply.status != 200 or finish.answer is None)
        ):
            raise AttemptError("status and record disagree", code="bad_ticket")
        text = _text(reply.body) if released else ""
        stage = reply.headers.get(b"gatelift-stage", b"").decode("ascii")
        candidate = reply.headers.get(b"gatelift-candidate", b"").decode("ascii")
    except AttemptError:
        raise
    except (CallerError, UnicodeDecodeError, IndexError) as error:
        code = error.code if isinstance(error, GateliftError) else "bad_answer"
        raise AttemptError(f"ticket or answer does not hold: {code}", code=code) from error
    if stage != finish.stage:
        raise AttemptError("the stage is not the one of the record", code="bad_ticket")
    return Checked(
        heard=Heard(outcome=outcome, text=text),
        finish=finish,
        ticket=ticket,
        stage=stage,
        candidate=candidate,
    )
