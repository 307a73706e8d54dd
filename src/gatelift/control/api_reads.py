"""Reading over HTTP: state, preview, entries, files, drafts, heads, proofs, tiles.

Invariants
- The log itself (tiles, checkpoint, proofs' heads) is public; bodies take a reader's token.
- Bodies that name people (grants), and the roster, are shown to overseer and submitter only; a reader
  sees that they exist.
- A page has at most `MAX_PAGE` entries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from litestar import MediaType, Request, Response, get
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.types import ControllerRouterHandler, Guard

from gatelift.control.api_guards import may_see_people, need
from gatelift.control.control import Control
from gatelift.control.drafting import CertificateDraft, draft_certificate
from gatelift.control.errors import ControlError
from gatelift.control.stores import check_stores
from gatelift.control.tokens import READER
from gatelift.control.views import StateView, view_state
from gatelift.decide import Preview, preview
from gatelift.encoding import Digest, encode_base64, parse_digest
from gatelift.messages import EntryHeader, Visibility
from gatelift.tlog import TileError, parse_tile_path
from gatelift.trust import NoticedRoot

__all__ = ["MAX_PAGE", "EntryPage", "EntryView", "Health", "read_routes"]

MAX_PAGE = 256
_TEXT = "text/plain; charset=utf-8"


class EntryView(msgspec.Struct, frozen=True, kw_only=True):
    """An entry: its header, and its body in base64 where the caller may see it."""

    index: int
    header: EntryHeader
    body: str | None


class EntryPage(msgspec.Struct, frozen=True, kw_only=True):
    """Entries from `start` on, and how many there are in all."""

    start: int
    size: int
    entries: tuple[EntryView, ...]


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Whether control writes and signs, and how far it is cosigned."""

    healthy: bool
    size: int
    cosigned_size: int
    node_connected: bool


def _entry_view(index: int, header: EntryHeader, body: bytes, *, all_bodies: bool) -> EntryView:
    shown = all_bodies or header.visibility is Visibility.PUBLIC
    return EntryView(index=index, header=header, body=encode_base64(body) if shown else None)


def _state(control: Control) -> StateView:
    status = control.last_status
    return view_state(
        control.state,
        control.files,
        now_ms=control.now_ms(),
        head=control.cosigned,
        witness_problem=control.witness_problem,
        witnesses=control.witnesses,
        beacons=control.beacons,
        out=control.outgoing,
        status=None if status is None else (status.number, status.signed_at),
        node=control.node,
    )


def _public_routes(control: Control) -> Sequence[ControllerRouterHandler]:
    @get("/healthz", sync_to_thread=False)
    def healthz() -> Response[Health]:
        """Say whether control works."""
        head = control.cosigned
        health = Health(
            healthy=control.is_healthy,
            size=control.state.size,
            cosigned_size=head.size if head else 0,
            node_connected=control.node.is_connected,
        )
        return Response(health, status_code=200 if health.healthy else 503)

    @get("/admin/v1/checkpoint", media_type=MediaType.TEXT, sync_to_thread=False)
    def read_checkpoint() -> Response[bytes]:
        """Return the newest cosigned head of the releases log as a signed note."""
        head = control.cosigned
        if head is None:
            raise ControlError("no head is cosigned yet", code="not_found")
        return _bytes(head.note, _TEXT)

    @get("/admin/v1/log/{path:path}")
    async def read_log(path: FromPath[str]) -> Response[bytes]:
        """Return a file of the published log: `checkpoint`, `tile/...`, `tile/entries/...`."""
        name = path.lstrip("/")
        if name != "checkpoint":
            try:
                name = parse_tile_path(name).path
            except TileError as error:
                raise ControlError(str(error), code="not_found") from error
        try:
            data = await asyncio.to_thread((control.logs_directory / name).read_bytes)
        except FileNotFoundError:
            raise ControlError(f"the log has no {name}", code="not_found") from None
        fixed = name != "checkpoint"
        return _bytes(data, "application/octet-stream" if fixed else _TEXT, fixed=fixed)

    return [healthz, read_checkpoint, read_log]


def _state_routes(control: Control, guards: list[Guard]) -> Sequence[ControllerRouterHandler]:
    @get("/admin/v1/state", guards=guards)
    async def read_state() -> StateView:
        """Return everything about the release now."""
        return await asyncio.to_thread(_state, control)

    @get("/admin/v1/preview", guards=guards)
    async def read_preview() -> Preview:
        """Return what stands between here and each stage."""
        return await asyncio.to_thread(preview, control.state, control.now_ms())

    @get("/admin/v1/draft/certificate", guards=guards)
    async def read_draft(stage: FromQuery[str]) -> CertificateDraft:
        """Return the certificate that could be signed for a stage now."""
        # Nobody is asked to sign what would be refused.
        check_stores(control.state.plan, control.node)
        draft = await asyncio.to_thread(
            draft_certificate, control.state, stage, control.cosigned, control.now_ms()
        )
        notice = await control.notice(stage, draft.certificate.envelope)
        certificate = msgspec.structs.replace(draft.certificate, notice=notice)
        return msgspec.structs.replace(draft, certificate=certificate)

    @get("/admin/v1/draft/root", guards=guards)
    async def read_noticed_root(root: FromQuery[str]) -> NoticedRoot:
        """Return the file with which an announced root takes effect, by its envelope's digest."""
        return await control.noticed_root(parse_digest(root))

    return [read_state, read_preview, read_draft, read_noticed_root]


def _log_routes(control: Control, guards: list[Guard]) -> Sequence[ControllerRouterHandler]:
    @get("/admin/v1/entries", guards=guards)
    async def read_entries(
        request: Request[Any, Any, Any],
        start: Annotated[int, QueryParameter(ge=0)] = 0,
        limit: Annotated[int, QueryParameter(ge=1, le=MAX_PAGE)] = 64,
    ) -> EntryPage:
        """Return a page of entries."""
        size = control.state.size
        stop = min(size, start + limit)
        found = await control.entries(start, stop) if start < stop else []
        all_bodies = may_see_people(control.tokens, request)
        views = (
            _entry_view(index, header, body, all_bodies=all_bodies)
            for index, (header, body) in enumerate(found, start=start)
        )
        return EntryPage(start=start, size=size, entries=tuple(views))

    @get("/admin/v1/entries/{index:int}", guards=guards)
    async def read_entry(request: Request[Any, Any, Any], index: FromPath[int]) -> EntryView:
        """Return one entry."""
        if not 0 <= index < control.state.size:
            raise ControlError(
                f"expected an entry from 0 to {control.state.size - 1}, got {index}",
                code="not_found",
            )
        ((header, body),) = await control.entries(index, index + 1)
        return _entry_view(index, header, body, all_bodies=may_see_people(control.tokens, request))

    @get("/admin/v1/files/{name:str}", guards=guards)
    async def read_file(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
        """Return the bytes of a file by the hex digits of its SHA-256."""
        digest = _file_digest(control, name)
        if control.is_hidden(digest) and not may_see_people(control.tokens, request):
            raise ControlError(
                "this file names people: only an overseer or a submitter may read it",
                code="not_found",
            )
        data = await asyncio.to_thread(control.files.get, digest)
        return _bytes(data, "application/octet-stream", fixed=True)

    @get("/admin/v1/proof/{index:int}", guards=guards)
    async def read_proof(index: FromPath[int]) -> Response[bytes]:
        """Return the tlog-proof of an entry under the newest cosigned head."""
        return _bytes(await control.proof(index), _TEXT)

    return [read_entries, read_entry, read_file, read_proof]


def read_routes(control: Control) -> Sequence[ControllerRouterHandler]:
    """Return the routes that change nothing."""
    guards = [need(control.tokens, READER)]
    return [
        *_public_routes(control),
        *_state_routes(control, guards),
        *_log_routes(control, guards),
    ]


def _file_digest(control: Control, name: str) -> Digest:
    digest = parse_digest(f"sha256:{name}")
    if not control.files.has(digest):
        raise ControlError(f"no file {digest}", code="not_found")
    return digest


def _bytes(data: bytes, content_type: str, *, fixed: bool = False) -> Response[bytes]:
    caching = "private, max-age=31536000, immutable" if fixed else "no-store"
    return Response(
        content=data,
        media_type=MediaType.TEXT,
        # In the headers, because the framework would add a charset to a media type of text.
        headers={"content-type": content_type, "cache-control": caching},
    )
