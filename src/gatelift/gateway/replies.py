"""The error contract: what a caller reads when an exchange does not end in an answer.

Invariants
- Each dialect's own shape, so that official clients raise their own exception.
- Always `x-request-id`; past `identify` also stage, candidate and ticket.
- What will not change by asking again says `x-should-retry: false`, because clients hammer; what
  will, says when: `retry-after` in seconds.
- No text of a prompt, a key or an internal fault in any reply.

`CODES` is the closed list; docs/reference/errors.md is made from it.
"""

from __future__ import annotations

from typing import Any, Final, assert_never

import msgspec

from gatelift.encoding import encode_json
from gatelift.gateway.dialects import ErrorShape
from gatelift.wire.sse import sse_event

__all__ = [
    "CODES",
    "ErrorCode",
    "Reply",
    "error_event",
    "error_reply",
    "render_codes",
    "request_id_headers",
]


class ErrorCode(msgspec.Struct, frozen=True, kw_only=True):
    """One way to be turned away. `retry` says whether asking again unchanged can help."""

    status: int
    type: str
    retry: bool
    means: str


CODES: Final[dict[str, ErrorCode]] = {
    "invalid_api_key": ErrorCode(
        status=401,
        type="authentication_error",
        retry=False,
        means="The key is missing, malformed or nobody's.",
    ),
    "binding_required": ErrorCode(
        status=401,
        type="authentication_error",
        retry=False,
        means="The key is bound to a client certificate or a DPoP key, which was not shown.",
    ),
    "binding_failed": ErrorCode(
        status=401,
        type="authentication_error",
        retry=False,
        means="The key is bound to another certificate or key, or the DPoP proof does not hold.",
    ),
    "not_found": ErrorCode(
        status=404,
        type="invalid_request_error",
        retry=False,
        means="No such route or model.",
    ),
    "method_not_allowed": ErrorCode(
        status=405, type="invalid_request_error", retry=False, means="Another method is needed."
    ),
    "unsupported_media_type": ErrorCode(
        status=415,
        type="invalid_request_error",
        retry=False,
        means="The body must be application/json.",
    ),
    "invalid_request": ErrorCode(
        status=400,
        type="invalid_request_error",
        retry=False,
        means="The body is not a request of this dialect; `param` names the field.",
    ),
    "candidate_has_system_prompt": ErrorCode(
        status=400,
        type="invalid_request_error",
        retry=False,
        means="This endpoint would leave out the candidate's system prompt, so it is shut for this "
        "candidate: use chat completions or responses.",
    ),
    "images_not_granted": ErrorCode(
        status=403,
        type="permission_error",
        retry=False,
        means="The stage's scope does not open images.",
    ),
    "endpoint_not_granted": ErrorCode(
        status=403,
        type="permission_error",
        retry=False,
        means="The grant or the stage does not open this endpoint.",
    ),
    "grant_expired": ErrorCode(
        status=403, type="permission_error", retry=False, means="The grant is not in force."
    ),
    "grant_lacks_proof": ErrorCode(
        status=403,
        type="permission_error",
        retry=False,
        means="The stage now asks for a proof that the grant does not carry.",
    ),
    "outside_audience": ErrorCode(
        status=403,
        type="permission_error",
        retry=False,
        means="The stage now admits a narrower audience.",
    ),
    "no_certificate": ErrorCode(
        status=403,
        type="permission_error",
        retry=False,
        means="No certificate stands for the grant's stage or an earlier one.",
    ),
    "stopped": ErrorCode(
        status=403,
        type="permission_error",
        retry=False,
        means="An order stops this release, stage, organisation, principal or key.",
    ),
    "status_lapsed": ErrorCode(
        status=503,
        type="service_unavailable",
        retry=True,
        means="The gateway has no fresh status and serves nothing.",
    ),
    "no_placement": ErrorCode(
        status=503,
        type="service_unavailable",
        retry=True,
        means="No enrolled placement takes requests: unreachable, failing, or closed because its "
        "answers drifted.",
    ),
    "keeper_unavailable": ErrorCode(
        status=503,
        type="service_unavailable",
        retry=True,
        means="The caps cannot be counted just now, so nothing is served.",
    ),
    "journal_failed": ErrorCode(
        status=503,
        type="service_unavailable",
        retry=True,
        means="The record cannot be written, so nothing is served.",
    ),
    "overloaded": ErrorCode(
        status=503,
        type="service_unavailable",
        retry=True,
        means="This worker has more than it can serve well. Said at once, before the key is looked "
        "at: nothing is spent and nothing recorded.",
    ),
    "not_replicated": ErrorCode(
        status=503,
        type="service_unavailable",
        retry=True,
        means="The plan asks for records on two stores, and this gateway runs with one.",
    ),
    "binding_below": ErrorCode(
        status=503,
        type="service_unavailable",
        retry=True,
        means="The stage's certificate says that the weights are measured where they are loaded, and "
        "nobody measures them now, so nothing is served from it until somebody does again.",
    ),
    "sealing_below": ErrorCode(
        status=503,
        type="service_unavailable",
        retry=True,
        means="Probes from outside find the model server less sealed than the stage's certificate "
        "says, so nothing is served from it until a probe shows it again.",
    ),
    "cap_reached": ErrorCode(
        status=429,
        type="rate_limit_error",
        retry=True,
        means="A cap is spent; the body names it. Day, hour and coverage caps say x-should-retry: false.",
    ),
    "refused": ErrorCode(
        status=403,
        type="policy_refusal",
        retry=False,
        means="A safeguard refused the prompt; the body names category, band and rule.",
    ),
    "withheld": ErrorCode(
        status=403,
        type="policy_refusal",
        retry=False,
        means="A safeguard withheld the whole answer.",
    ),
    "upstream_busy": ErrorCode(
        status=503,
        type="service_unavailable",
        retry=True,
        means="Every model server is busy, or all connections to them are in use; retry-after says "
        "when to come again.",
    ),
    "upstream_timeout": ErrorCode(
        status=504,
        type="upstream_error",
        retry=True,
        means="The model server did not take the connection, begin or end its answer in time.",
    ),
    "upstream_failed": ErrorCode(
        status=502,
        type="upstream_error",
        retry=True,
        means="The model server failed or answered out of its contract.",
    ),
    "internal_error": ErrorCode(
        status=500,
        type="internal_error",
        retry=False,
        means="A fault of ours; the exchange was closed.",
    ),
}


_ANTHROPIC_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
"""By status, as Anthropic's API reference lists them under "Errors"."""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer that is not the model's."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


def request_id_headers(request_id: str, shape: ErrorShape) -> tuple[tuple[bytes, bytes], ...]:
    """Return the headers that name an exchange, also by the name that a dialect's clients read."""
    value = request_id.encode()
    if shape is ErrorShape.ANTHROPIC:
        return ((b"x-request-id", value), (b"request-id", value))
    return ((b"x-request-id", value),)


def error_reply(
    code: str,
    message: str,
    *,
    detail: dict[str, Any] | None = None,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    retry_after_s: int | None = None,
    retry: bool = True,
    param: str | None = None,
    shape: ErrorShape = ErrorShape.OPENAI,
) -> Reply:
    """Return the reply for a code of `CODES`; an unknown code becomes `internal_error`.

    `retry=False` says that asking again is in vain where the code alone leaves it open.
    """
    known = CODES.get(code)
    if known is None:
        code, known = "internal_error", CODES["internal_error"]
    again = (b"x-should-retry", b"false")
    if known.retry and retry:
        again = (b"retry-after", b"%d" % (retry_after_s or 1))
    return Reply(
        status=known.status,
        headers=((b"content-type", b"application/json"), *headers, again),
        body=_body(
            shape,
            known,
            code,
            {"message": message, "param": param, **(detail or {})},
            dict(headers).get(b"x-request-id"),
        ),
    )


def error_event(reply: Reply, shape: ErrorShape) -> bytes:
    """Return the event that tells an error inside a stream, nothing where a dialect has none."""
    return sse_event(reply.body, name=b"error") if shape is ErrorShape.ANTHROPIC else b""


def _body(
    shape: ErrorShape, known: ErrorCode, code: str, told: dict[str, Any], request_id: bytes | None
) -> bytes:
    match shape:
        case ErrorShape.OPENAI:
            return encode_json({"error": {**told, "type": known.type, "code": code}})
        case ErrorShape.ANTHROPIC:
            other = "invalid_request_error" if known.status < 500 else "api_error"
            kind = _ANTHROPIC_TYPES.get(known.status, other)
            # Its clients show `details.error_code` as the cause.
            error = {**told, "type": kind, "code": code, "details": {"error_code": code}}
            named = request_id.decode() if request_id else None
            return encode_json({"type": "error", "error": error, "request_id": named})
        case _:
            assert_never(shape)


def render_codes() -> str:
    """Return docs/reference/errors.md."""
    rows = [
        f"| `{code}` | {known.status} | `{known.type}` | {'yes' if known.retry else 'no'} | "
        f"{known.means} |"
        for code, known in CODES.items()
    ]
    head = (
        "# Errors that a caller may read",
        "",
        'Made from `gatelift.gateway.replies.CODES`. The body is `{"error": {"message", "type",',
        '"param", "code", ...}}`, so that official OpenAI clients raise their own exception. On the',
        'routes under `/v1/messages` it is `{"type": "error", "error": {"type", "message", "code",',
        '"details": {"error_code"}, ...}, "request_id"}` with that API\'s types and a `request-id` header.',
        "Where a retry cannot help, `x-should-retry: false` is sent; else `retry-after` in seconds.",
        "",
        "A stage whose plan says `refusal: completion` answers `refused` and `withheld` with 200 and a",
        "chat completion instead: `message.content` is null, `message.refusal` says why in a sentence,",
        "`finish_reason` is `content_filter`, and `gatelift` holds `category`, `band`, `rule` and",
        "`references`. A response says it in a `refusal` part and is `incomplete` for `content_filter`; on",
        "`/v1/messages` it is a message whose `stop_reason` is `refusal`, whose one text begins with",
        "`[From the gateway, not from the model]`. Completions and embeddings have no such form, nor has a",
        "count. The record is the same, but for its status. All else in this list stays an error.",
        "",
        "| code | status | type | retry | means |",
        "|---|---|---|---|---|",
    )
    return "\n".join((*head, *rows)) + "\n"
