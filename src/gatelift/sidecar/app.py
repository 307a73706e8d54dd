"""One sidecar process: check the files, start the model server, measure until either ends.

    POST /measure   a keeper's nonce in; a signed measurement out, or 409 with the reason
    GET  /          what is measured, and whether it still is

Invariants
- The server is started after the manifest's signature, the candidate's digest of weights and every
  file were checked, and never otherwise.
- The address is bound before the server is started: a sidecar that cannot answer starts nothing.
- The server ends with the sidecar and the sidecar with the server; its exit code is passed on.
- Every body is bounded; the files are compared in a thread, so that asking stalls nobody.

Not here: TLS. What is answered is signed and holds no secret; keep the port inside anyway.
What it cannot show stands in docs/threats.md: it believes the kernel of its own host.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import uvicorn
from litestar import Litestar, MediaType, Request, Response, get, post

from gatelift.encoding import decode_json, encode_json, sha256_digest
from gatelift.errors import CallerError
from gatelift.messages import MeasurementAsk
from gatelift.plan import fingerprint, parse_candidate
from gatelift.sidecar.measurer import Measurer, NotMeasuredError
from gatelift.trust import ModelManifest, verify_manifest
from gatelift.wire.keyfiles import load_signing_key
from gatelift.wire.manifest_keys import load_manifest_signer
from gatelift.wire.model_files import HeldModel, compare_files, hold_model
from gatelift.wire.sidecars import MEASURE_PATH, REFUSED_STATUS
from gatelift.wire.web_server import listen, server_config, stop_signals

__all__ = ["SidecarRefusalError", "SidecarSettings", "run"]

_LOG = logging.getLogger(__name__)
_MAX_BODY_BYTES: Final = 4096
_END_TIMEOUT_S: Final = 10.0


class SidecarRefusalError(CallerError):
    """The model is not what was sealed for this candidate, so its server is not started."""

    code = "not_started"


class SidecarSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is measured, for whom, and which server is started. With `port` 0 the system picks one."""

    model: Path
    manifest: Path
    signer: Path
    candidate: Path
    placement: str
    key: Path
    host: str
    port: int
    lives_ms: int
    read_again_s: float
    command: tuple[str, ...]


def run(settings: SidecarSettings) -> int:
    """Measure beside a model server until it ends or a stop signal comes; return its exit code.

    Raises `SidecarRefusalError` or the error of the check that failed, before anything is started.
    """
    key = load_signing_key(settings.key)
    manifest_bytes = settings.manifest.read_bytes()
    manifest = verify_manifest(manifest_bytes, load_manifest_signer(settings.signer))
    candidate = settings.candidate.read_bytes()
    named = parse_candidate(candidate).model_part.weights
    if named != manifest.weights:
        raise SidecarRefusalError(
            f"the candidate names weights {named or 'none'}, the manifest is of {manifest.weights}: "
            "write the manifest's digest into the plan, or load the candidate's own weights"
        )
    with _checked(settings.model, manifest) as model, listen(settings.host, settings.port) as taken:
        measurer = Measurer(
            model,
            key,
            placement=settings.placement,
            fingerprint=fingerprint(candidate),
            weights=manifest.weights,
            manifest=sha256_digest(manifest_bytes),
            loaded_at=_now_ms(),
            lives_ms=settings.lives_ms,
        )
        port = taken.getsockname()[1]
        _LOG.info("measuring %s on %s port %d", manifest.weights, settings.host, port)
        return _serve(settings, measurer, taken)


def _serve(settings: SidecarSettings, measurer: Measurer, taken: socket.socket) -> int:
    asked = _Server(measurer)
    # A stop signal is heard from before there is a server on: none is left behind.
    with stop_signals(asked):
        asked.process = subprocess.Popen(settings.command)
        try:
            with _reading_again(measurer, settings.read_again_s):
                asked.run(sockets=[taken])
        finally:
            measurer.end("the sidecar is ending")
            code = _end(asked.process)
    return code


def _checked(folder: Path, manifest: ModelManifest) -> HeldModel:
    model = hold_model(folder, manifest.ignored)
    try:
        compare_files(model.files, manifest.files)
    except CallerError:
        model.close()
        raise
    return model


@contextmanager
def _reading_again(measurer: Measurer, every_s: float) -> Iterator[None]:
    """Read all files again each `every_s`, in a thread of its own."""
    stop = threading.Event()

    def read() -> None:
        while not stop.wait(every_s):
            try:
                measurer.read_again()
            except OSError as error:
                measurer.end(f"the files can't be read again: {error.strerror}")

    thread = threading.Thread(target=read, daemon=True, name="read-again")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


class _Server(uvicorn.Server):
    """Uvicorn, which also stops when the model server has ended."""

    def __init__(self, measurer: Measurer) -> None:
        super().__init__(server_config(_make_app(measurer)))
        self._measurer = measurer
        self.process: subprocess.Popen[bytes] | None = None

    async def on_tick(self, counter: int) -> bool:
        if self.process is None or self.process.poll() is not None:
            self._measurer.end("the model server has ended")
            return True
        return await super().on_tick(counter)


def _make_app(measurer: Measurer) -> Litestar:
    @post(MEASURE_PATH, status_code=200)
    async def measure(request: Request[Any, Any, Any]) -> Response[bytes]:
        try:
            ask = decode_json(await request.body(), MeasurementAsk)
            found = await asyncio.to_thread(measurer.measure, ask.nonce, _now_ms())
        except NotMeasuredError as error:
            return _answer(encode_json(_said(error)), REFUSED_STATUS)
        except CallerError as error:
            return _answer(encode_json(_said(error)), 400)
        return _answer(found, 200)

    @get("/")
    async def about() -> Response[bytes]:
        why = measurer.broken
        return _answer(encode_json({"measures": why is None, "reason": why}), 200)

    return Litestar(
        route_handlers=[measure, about],
        request_max_body_size=_MAX_BODY_BYTES,
        openapi_config=None,
        logging_config=None,
    )


def _said(error: CallerError) -> dict[str, dict[str, str]]:
    return {"error": {"code": error.code, "message": str(error)}}


def _answer(content: bytes, status: int) -> Response[bytes]:
    return Response(
        content=content,
        status_code=status,
        media_type=MediaType.JSON,
        headers={"cache-control": "no-store"},
    )


def _end(server: subprocess.Popen[bytes]) -> int:
    if server.poll() is None:
        server.terminate()
        try:
            return server.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            server.kill()
    return server.wait()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
