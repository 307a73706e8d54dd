"""What passes between the HTTP/1.1 server and the gateway: requests, refusals, rendered responses.

Invariants
- Header names are lower case; a header that came twice is never merged or picked from in silence.
- Framing headers (`content-length`, `transfer-encoding`, `connection`, `date`) are written here and
  nowhere else; no header value can smuggle a line end out.
- A refusal by the protocol tells a fixed sentence and a code, never what was sent.

It does not read sockets, and does not know about models, keys or stages.

Follows RFC 9110 and RFC 9112.
"""

from __future__ import annotations

import functools
import http
import re
from collections.abc import Mapping, Sequence
from email.utils import formatdate
from typing import Final

import msgspec

from gatelift.encoding import encode_json
from gatelift.errors import CallerError, PeerError

__all__ = [
    "ClientGoneError",
    "DuplicateHeaderError",
    "HeaderList",
    "HttpRejectionError",
    "Request",
    "ResponseMisuseError",
    "ServerLimits",
    "render_chunk",
    "render_head",
    "render_rejection",
    "render_response",
]

HeaderList = tuple[tuple[bytes, bytes], ...]

_STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode("ascii"))
    for status in http.HTTPStatus
}
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_OURS: Final = frozenset({b"content-length", b"transfer-encoding", b"connection", b"date"})
# Numbers, as bytes look for a byte three times faster than for bytes.
_LF, _CR, _NUL = b"\n\r\0"


class ServerLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every bound of the server. One exchange at a time runs on a connection."""

    max_header_bytes: int = 16 * 1024
    max_target_bytes: int = 8 * 1024
    max_headers: int = 64
    max_body_bytes: int = 1024 * 1024
    header_timeout_s: float = 10.0
    """From the first byte of a request (or from the connection) to the end of its head."""
    body_timeout_s: float = 30.0
    """From the end of the head to the end of the body."""
    idle_timeout_s: float = 75.0
    """Between two requests on a connection."""
    write_timeout_s: float = 30.0
    """From a full write buffer to a drained one: a reader slower than that is cut off."""
    linger_timeout_s: float = 1.0
    """How long a closed connection is read on, so that the last answer isn't lost to a reset."""
    write_buffer_high: int = 64 * 1024
    max_buffered_bytes: int = 64 * 1024
    """Of pipelined requests held while an exchange runs; reading stops beyond."""
    socket_buffer_bytes: int = 128 * 1024
    """What the kernel keeps for a connection each way. Left to itself it keeps megabytes for each client
    that does not read, and for each that sends while we do not."""
    max_connections: int = 20_000
    """Beyond, whoever has waited longest without an exchange is closed to make room."""
    max_held_bytes: int = 64 * 1024 * 1024
    """Of unfinished and pipelined requests on all connections together; beyond, the request that has
    been on its way longest is refused."""


class HttpRejectionError(CallerError):
    """The bytes are no request that is taken: answered once, then the connection is closed."""

    code = "bad_request"

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message, code=code)
        self.status = status


class DuplicateHeaderError(CallerError):
    """A header that must be single was sent twice."""

    code = "duplicate_header"


class ResponseMisuseError(CallerError):
    """The application broke the order of a response, or gave a header that can't be sent."""

    code = "response_misuse"


class ClientGoneError(PeerError):
    """The client has closed, or was cut off: nothing more reaches it."""

    code = "client_gone"


class Request(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One whole request. `path` and `query` are ASCII and not percent-decoded."""

    method: str
    path: str
    query: str
    headers: HeaderList
    """Lower-case names, values without surrounding blanks, in the order of arrival."""
    body: bytes
    peer: str
    """`address:port`, or `unix`."""
    received_at_monotonic: float
    """Seconds of `time.monotonic()` when the whole request had come."""
    segment: str | None = None
    """Of a private endpoint: what stood between `/e/` and `/v1/`, which `path` is without."""
    tls: bool = False
    """Whether the connection is TLS that ends here."""
    client_certificate: str | None = None
    """`x5t#S256` of the certificate that the client proved to hold, on that TLS."""
    by_name: Mapping[bytes, bytes | None] | None = None
    """The value of each header, null of one that came twice; made with a head that is read."""

    @property
    def sent_path(self) -> str:
        """The path as the client wrote it."""
        return self.path if self.segment is None else f"/e/{self.segment}{self.path}"

    def header(self, name: bytes) -> bytes | None:
        """Return the one value of the lower-case `name`, None if absent; sent twice it raises."""
        by_name = _indexed(self.headers) if self.by_name is None else self.by_name
        found = by_name.get(name)
        if found is None and name in by_name:
            raise DuplicateHeaderError(
                f"expected the header {name.decode('ascii')} once, got it twice: send it once"
            )
        return found

    def header_values(self, name: bytes) -> list[bytes]:
        """Return all values of the lower-case `name`, for headers that are lists."""
        return [value for key, value in self.headers if key == name]


def _indexed(headers: HeaderList) -> dict[bytes, bytes | None]:
    """Return the value of each header by its name, null of one that came twice."""
    by_name: dict[bytes, bytes | None] = {}
    for name, value in headers:
        by_name[name] = None if name in by_name else value
    return by_name


@functools.lru_cache(maxsize=16)
def _start_of(status: int, epoch_s: int) -> bytes:
    """Return the status line and the date, which all answers of one second share."""
    line = _STATUS_LINES.get(status)
    if line is None or status < 200:
        raise ResponseMisuseError(f"expected a final status code of RFC 9110, got {status}")
    return b"%bdate: %b\r\n" % (line, formatdate(epoch_s, usegmt=True).encode("ascii"))


@functools.lru_cache(maxsize=128)
def _form_of(names: tuple[bytes, ...]) -> bytes:
    """Return the lines of headers with these names, with a gap for each value; judge the names."""
    for name in names:
        if name in _OURS or not _TOKEN.fullmatch(name):
            raise ResponseMisuseError(
                "expected a lower-case header name that is not one of the server's own, "
                f"got {name[:40]!r}"
            )
    return b"".join([name.replace(b"%", b"%%") + b": %b\r\n" for name in names])


def _lines_of(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    if not headers:
        return b""
    # The same names come again and again: only the values are new.
    names, values = zip(*headers)  # noqa: B905 - pairs, as typed: the check costs every answer
    said = b"".join(values)
    if _LF in said or _CR in said or _NUL in said:
        raise ResponseMisuseError("expected header values without CR, LF and NUL")
    return _form_of(names) % values


def render_head(
    status: int,
    headers: Sequence[tuple[bytes, bytes]],
    framing: bytes,
    *,
    epoch_s: int,
    close: bool,
    body: bytes = b"",
) -> bytes:
    """Return status line, headers and `body`; `framing` is a header line of ours with its end."""
    closing = b"connection: close\r\n" if close else b""
    start, lines = _start_of(status, epoch_s), _lines_of(headers)
    return b"".join((start, framing, closing, lines, b"\r\n", body))


def render_response(
    status: int,
    headers: Sequence[tuple[bytes, bytes]],
    body: bytes,
    *,
    epoch_s: int,
    close: bool,
    head_only: bool = False,
) -> bytes:
    """Return a whole response in one piece; `head_only` leaves the body out, as HEAD asks."""
    if status in {204, 304}:
        if body:
            raise ResponseMisuseError(f"a response {status} has no body, got {len(body)} bytes")
        return render_head(status, headers, b"", epoch_s=epoch_s, close=close)
    framing = b"content-length: %d\r\n" % len(body)
    sent = b"" if head_only else body
    return render_head(status, headers, framing, epoch_s=epoch_s, close=close, body=sent)


def render_chunk(data: bytes) -> bytes:
    """Return `data`, which is not empty, as one chunk: an empty one would end the stream."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def render_rejection(error: HttpRejectionError, *, epoch_s: int) -> bytes:
    """Return the response to what is no request; the connection closes after it.

    Who asked in which dialect is not known here: the body reads as an error in each of them.
    """
    kind = "server_error" if error.status >= 500 else "invalid_request_error"
    told = {"message": str(error), "type": kind, "code": error.code}
    body = encode_json({"type": "error", "error": told})
    headers = [(b"content-type", b"application/json")]
    return render_response(error.status, headers, body, epoch_s=epoch_s, close=True)
