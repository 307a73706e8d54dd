"""Asking a sidecar to measure: one nonce out, one signed measurement or a reason back.

Invariants
- What comes back is bounded in bytes and time, and is not believed: the caller verifies it.
- A refusal by the sidecar (409) is told apart from silence: the one says that the files are not what
  was sealed, the other says nothing yet.
"""

from __future__ import annotations

import asyncio
from typing import Final

from gatelift.encoding import encode_json
from gatelift.errors import CallerError, PeerError
from gatelift.messages import MAX_MEASUREMENT_BYTES, MeasurementAsk
from gatelift.wire.http_client import Upstream, UpstreamError, UpstreamLimits

__all__ = ["MEASURE_PATH", "REFUSED_STATUS", "SidecarError", "ask_sidecar", "open_sidecar"]

MEASURE_PATH: Final = "/measure"
REFUSED_STATUS: Final = 409
_TIMEOUT_S: Final = 5.0
_SHOWN_CHARS: Final = 200


class SidecarError(PeerError):
    """A sidecar gave no measurement. Codes: `sidecar_silent`, `sidecar_refuses`."""

    code = "sidecar_silent"


def open_sidecar(url: str) -> Upstream:
    """Return a client of a sidecar; raises `SidecarError` for a URL that can't be asked."""
    try:
        return Upstream(url, limits=UpstreamLimits(max_body_bytes=MAX_MEASUREMENT_BYTES))
    except CallerError as error:
        raise SidecarError(f"{url[:80]!r} can't be asked: {error}") from error


async def ask_sidecar(sidecar: Upstream, nonce: str) -> bytes:
    """Return the bytes of a measurement that answers `nonce`, unverified; raises `SidecarError`."""
    body = encode_json(MeasurementAsk(nonce=nonce))
    headers = ((b"content-type", b"application/json"),)
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            response = await sidecar.request("POST", MEASURE_PATH, headers, body, keep=False)
            found = await response.read()
    except (UpstreamError, TimeoutError) as error:
        raise SidecarError(f"the sidecar did not answer: {type(error).__name__} {error}") from error
    if response.status == REFUSED_STATUS:
        said = found.decode("utf-8", "replace")[:_SHOWN_CHARS]
        raise SidecarError(f"the sidecar refuses: {said}", code="sidecar_refuses")
    if response.status != 200:
        raise SidecarError(f"the sidecar answered with status {response.status}")
    return found
