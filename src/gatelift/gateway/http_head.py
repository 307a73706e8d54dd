"""Read the head of one HTTP/1.1 request: the one strict reading, or a refusal.

Smuggling lives on two readers who disagree where a request ends. So llhttp parses in its strict
mode, this module then checks what llhttp lets pass, and both must have seen the same request line.

Invariants
- A head is whole before it is parsed, and its size was bounded before that.
- The length of the body is known from exactly one header, or the head is refused.
- A target is in origin form, a version is 1.1 (1.0 only without a body), a host is there once.

What llhttp refuses by itself (tested in tests/unit/gateway/test_http_head.py): bare CR and LF,
folded lines, blanks before a colon, control characters, Content-Length twice, signed or in a list,
Content-Length with Transfer-Encoding. What it lets pass and is refused here: codings before
`chunked`, chunked in 1.0, versions 0.9 and 2.0, RTSP, other target forms, fragments, several blanks
in the request line, no host or two.

An `upgrade` is ignored, as RFC 9110 section 7.8 allows: the request is read as if it were not there.

Follows RFC 9112 sections 2, 3, 5, 6 and RFC 9110 sections 7.2, 7.8, 10.1.1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import httptools
import msgspec

from gatelift.gateway.http_messages import HeaderList, HttpRejectionError, ServerLimits

__all__ = ["CHUNKED", "RequestHead", "parse_request_head"]

CHUNKED: Final = -1
"""A `body_length` that only the chunks will tell."""

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})
_TARGET: Final = re.compile(r"/[!-\"$-~]*")
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_SINGLE: Final = frozenset(
    {
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"expect",
        b"host",
        b"transfer-encoding",
    }
)


class RequestHead(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The head of a request that is taken."""

    method: str
    path: str
    query: str
    headers: HeaderList
    by_name: Mapping[bytes, bytes | None]
    """As in `Request`."""
    body_length: int
    """Bytes, or `CHUNKED`."""
    http_1_1: bool
    """False for HTTP/1.0, which can't take a chunked answer."""
    keep_alive: bool
    expects_continue: bool


class _Collector:
    __slots__ = ("complete", "headers", "target")

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_url(self, target: bytes) -> None:
        self.target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True


def parse_request_head(head: bytes, limits: ServerLimits) -> RequestHead:
    """Return the head that `head`, up to and with its empty line, spells; or raise."""
    method, target, version = _parse_request_line(head, limits)
    headers = _parse_headers(head, method=method, target=target)
    if len(headers) > limits.max_headers:
        raise HttpRejectionError(
            431, "too_many_headers", f"expected at most {limits.max_headers} headers"
        )
    by_name: dict[bytes, bytes | None] = {}
    keep_alive = version == "HTTP/1.1"
    for name, value in headers:
        if name not in by_name:
            by_name[name] = value
        elif name in _SINGLE:
            raise HttpRejectionError(
                400, "duplicate_header", f"expected {name.decode('ascii')} once: send it once"
            )
        else:
            by_name[name] = None
        if name == b"connection":
            keep_alive = keep_alive and not _lists_close(value)
    host = by_name.get(b"host") or b""
    if len(host) > 255 or not _HOST.fullmatch(host):
        raise HttpRejectionError(400, "bad_host", "expected one Host header: name, optional port")
    body_length = _body_length(by_name, version=version, limits=limits)
    if version != "HTTP/1.1" and (body_length != 0 or method not in {"GET", "HEAD"}):
        raise HttpRejectionError(
            505, "http_1_1_needed", "expected HTTP/1.1: HTTP/1.0 is taken for GET and HEAD only"
        )
    path, _, query = target.partition("?")
    return RequestHead(
        method=method,
        path=path,
        query=query,
        headers=tuple(headers),
        by_name=by_name,
        body_length=body_length,
        http_1_1=version == "HTTP/1.1",
        keep_alive=keep_alive,
        expects_continue=_expects_continue(by_name.get(b"expect")),
    )


def _parse_request_line(head: bytes, limits: ServerLimits) -> tuple[str, str, str]:
    line, _, _ = head.partition(b"\r\n")
    parts = line.decode("latin-1").split(" ")
    if len(parts) != 3:
        raise HttpRejectionError(
            400, "bad_request_line", "expected METHOD SP target SP HTTP/1.1 as the first line"
        )
    method, target, version = parts
    if len(target) > limits.max_target_bytes:
        raise HttpRejectionError(
            414, "target_too_long", f"expected a target of at most {limits.max_target_bytes} bytes"
        )
    if version not in {"HTTP/1.1", "HTTP/1.0"}:
        raise HttpRejectionError(505, "http_version", "expected HTTP/1.1")
    if method not in _METHODS:
        raise HttpRejectionError(501, "unknown_method", "expected GET, HEAD or POST")
    if not _TARGET.fullmatch(target):
        raise HttpRejectionError(
            400, "bad_target", "expected a target that is a path with an optional query"
        )
    return method, target, version


def _parse_headers(head: bytes, *, method: str, target: str) -> list[tuple[bytes, bytes]]:
    collected = _Collector()
    parser = httptools.HttpRequestParser(collected)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise HttpRejectionError(400, "bad_request", f"not an HTTP/1.1 request: {error}") from None
    agreed = collected.target.decode("latin-1") == target and parser.get_method() == method.encode()
    if not collected.complete or not agreed:
        raise HttpRejectionError(400, "bad_request", "not an HTTP/1.1 request: ambiguous head")
    return collected.headers


def _body_length(
    by_name: Mapping[bytes, bytes | None], *, version: str, limits: ServerLimits
) -> int:
    coding = by_name.get(b"transfer-encoding")
    length = by_name.get(b"content-length")
    if coding is not None:
        if length is not None:
            raise HttpRejectionError(
                400, "ambiguous_length", "expected Content-Length or Transfer-Encoding, got both"
            )
        if coding.lower() != b"chunked" or version != "HTTP/1.1":
            raise HttpRejectionError(
                400, "bad_transfer_encoding", "expected Transfer-Encoding: chunked, in HTTP/1.1"
            )
        return CHUNKED
    if length is None:
        return 0
    if not length.isdigit() or len(length) > 15:
        raise HttpRejectionError(400, "bad_content_length", "expected Content-Length in digits")
    if int(length) > limits.max_body_bytes:
        raise HttpRejectionError(
            413, "body_too_large", f"expected a body of at most {limits.max_body_bytes} bytes"
        )
    return int(length)


def _lists_close(value: bytes) -> bool:
    return any(token.strip(b" \t").lower() == b"close" for token in value.split(b","))


def _expects_continue(value: bytes | None) -> bool:
    if value is None:
        return False
    if value.lower() != b"100-continue":
        raise HttpRejectionError(417, "bad_expectation", "expected Expect: 100-continue, or none")
    return True
