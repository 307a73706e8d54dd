"""Submitting over HTTP: files, entries, orders, and the wish for anchored heads.

Invariants
- Only kinds that people sign come in here; what control signs, control alone submits, so that an old
  count or decision cannot be logged again by whoever copied it.
- The same envelope submitted twice is logged once and answered with the same index.
- An order acts before it is logged, and needs no token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import Request, Response, post, put
from litestar.types import ControllerRouterHandler

from gatelift.control.api_guards import need
from gatelift.control.control import Control
from gatelift.control.errors import ControlError
from gatelift.control.signing import Draft
from gatelift.control.stores import check_stores
from gatelift.control.tokens import SUBMITTER
from gatelift.control.views import DecisionView
from gatelift.encoding import Digest, parse_base64
from gatelift.errors import PeerError
from gatelift.messages import EntryKind, may_sign

__all__ = [
    "COSIGN_TIMEOUT_S",
    "MAX_ENVELOPE_BYTES",
    "MAX_FILE_BYTES",
    "EntryRequest",
    "EntryResult",
    "write_routes",
]

MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_ENVELOPE_BYTES = 1024 * 1024
MAX_ATTACHMENTS = 16
COSIGN_TIMEOUT_S = 10.0
_ONLY_CONTROL = frozenset({"control"})


class EntryRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An entry to log. `attachments` are files that it names, in base64, kept before it is judged.

    `expected_size`: refuse it if the log is not of this size. `cosigned`: answer only when the log
    is cosigned up to it, or that takes too long.
    """

    kind: EntryKind
    envelope: str
    attachments: tuple[str, ...] = ()
    expected_size: int | None = None
    cosigned: bool = False


class EntryResult(msgspec.Struct, frozen=True, kw_only=True):
    """Where it was logged, how far the log is, and the newest recorded decision."""

    index: int
    size: int
    cosigned: bool
    decision: DecisionView | None


class FileResult(msgspec.Struct, frozen=True, kw_only=True):
    """The digest under which a file is kept."""

    digest: Digest


class OrderRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An order: the text of its envelope."""

    envelope: str


class OrderResult(msgspec.Struct, frozen=True, kw_only=True):
    """The order that acts now, and where it was logged."""

    id: str
    digest: Digest
    index: int


class AnchorResult(msgspec.Struct, frozen=True, kw_only=True):
    """The heads of the requests logs as anchored, under a cosigned head of this size."""

    heads: dict[str, str]
    cosigned_size: int


def write_routes(control: Control) -> Sequence[ControllerRouterHandler]:
    """Return the routes that submit."""
    guards = [need(control.tokens, SUBMITTER)]

    @put("/admin/v1/files", guards=guards, request_max_body_size=MAX_FILE_BYTES)
    async def put_file(request: Request[Any, Any, Any]) -> FileResult:
        """Keep a file and return its digest."""
        data = await request.body()
        return FileResult(digest=await asyncio.to_thread(control.files.put, data))

    @post("/admin/v1/entries", guards=guards, status_code=201)
    async def post_entry(data: EntryRequest) -> EntryResult:
        """Log an entry that people signed."""
        return await _log_entry(control, data)

    @post("/admin/v1/orders", status_code=201, request_max_body_size=MAX_ENVELOPE_BYTES)
    async def post_order(data: OrderRequest) -> OrderResult:
        """Have an order act at once; its signature is its authority."""
        standing, index = await control.order(_envelope(data.envelope))
        return OrderResult(id=standing.order.id, digest=standing.digest, index=index)

    @post("/admin/v1/heads", guards=guards, status_code=200)
    async def post_heads() -> Response[AnchorResult]:
        """Anchor the newest heads of the requests logs now."""
        head = await control.anchor_heads(COSIGN_TIMEOUT_S)
        return Response(AnchorResult(heads=control.state.heads, cosigned_size=head.size))

    return [put_file, post_entry, post_order, post_heads]


def _envelope(text: str) -> bytes:
    data = text.encode("utf-8")
    if len(data) > MAX_ENVELOPE_BYTES:
        raise ControlError(
            f"expected an envelope of at most {MAX_ENVELOPE_BYTES} bytes, got {len(data)}",
            code="too_large",
        )
    return data


async def _log_entry(control: Control, request: EntryRequest) -> EntryResult:
    if may_sign(request.kind) == _ONLY_CONTROL:
        raise ControlError(
            f"a {request.kind.value} is control's own: it cannot be submitted",
            code="role_not_allowed",
        )
    if len(request.attachments) > MAX_ATTACHMENTS:
        raise ControlError(
            f"expected at most {MAX_ATTACHMENTS} attachments, got {len(request.attachments)}",
            code="too_large",
        )
    envelope = _envelope(request.envelope)
    for text in request.attachments:
        data = parse_base64(text)
        if len(data) > MAX_FILE_BYTES:
            raise ControlError(
                f"expected attachments of at most {MAX_FILE_BYTES} bytes", code="too_large"
            )
        _ = await asyncio.to_thread(control.files.put, data)
    if request.kind is EntryKind.ORDER and request.expected_size is None:
        _, index = await control.order(envelope)
    else:
        if request.kind is EntryKind.CERTIFICATE:
            check_stores(control.state.plan, control.node)
        draft = Draft(kind=request.kind, body=envelope)
        (index,) = await control.submit([draft], request.expected_size)
    cosigned = await _wait_cosigned(control, index + 1) if request.cosigned else False
    held = control.state.last_decision
    return EntryResult(
        index=index,
        size=control.state.size,
        cosigned=cosigned,
        decision=DecisionView(decision=held.decision, index=held.index) if held else None,
    )


async def _wait_cosigned(control: Control, size: int) -> bool:
    try:
        _ = await control.until_cosigned(size, COSIGN_TIMEOUT_S)
    except PeerError as error:
        if error.code != "not_cosigned":
            raise
        # It is logged all the same; the caller sees that the witness is still missing.
        return False
    return True
