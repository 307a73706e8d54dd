"""Which heads of responses are taken from an upstream.

Invariants
- The length is unambiguous: Content-Length or chunked, not both, and not "until the connection
  closes", as a body that died would then look whole.
- Encoded bodies are refused: what can't be inspected can't be released.
- A header that must be single is single.

Pure. Follows RFC 9112, sections 6 and 9.3; the parser before it saw to the syntax.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gatelift.wire.http_response import UpstreamError

__all__ = ["SINGLE", "check_head"]

SINGLE: Final = frozenset(
    {b"content-encoding", b"content-length", b"content-type", b"location", b"transfer-encoding"}
)


def check_head(
    status: int, version: str, received: list[tuple[bytes, bytes]]
) -> tuple[Mapping[bytes, bytes], bool]:
    """Return the headers by lower-case name, and whether the connection may be used again.

    Raises `UpstreamError` (`bad_response`).
    """
    headers: dict[bytes, bytes] = {}
    for name, value in received:
        if name not in headers:
            headers[name] = value
        elif name in SINGLE:
            raise _refuse(f"the upstream sent {name.decode()!r} twice")
        else:
            headers[name] += b", " + value
    coding = headers.get(b"transfer-encoding")
    chunked = coding is not None and coding.lower() == b"chunked" and version == "1.1"
    if version not in {"1.0", "1.1"} or not 200 <= status <= 599:
        raise _refuse(f"expected HTTP/1.1 and a status, got {status}")
    if coding is not None and not chunked:
        raise _refuse("expected no transfer coding but chunked")
    if not chunked and b"content-length" not in headers and status not in {204, 304}:
        raise _refuse("expected Content-Length or chunked, got neither")
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > 15:
        raise _refuse("expected Content-Length in digits")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise _refuse("expected a body without Content-Encoding")
    closing = b"close" in headers.get(b"connection", b"").lower()
    # An error may have come before the request was read: what follows is for no later request.
    return headers, version == "1.1" and not closing and status < 300


def _refuse(message: str) -> UpstreamError:
    return UpstreamError(message, code="bad_response", sent=True)
