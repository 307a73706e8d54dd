"""Read the bytes of an upstream as responses, one for each request that was sent.

Invariants
- A response is taken only if `http_response_head` takes its head.
- It begins with `HTTP/1.`, which llhttp alone would not ask for, and no byte of its first line is a
  control character (after an interim response the parser's word for the protocol is taken).
- Heads, interim responses, trailers and everything else that is no body are bounded.
- What follows the end of a response is never part of it, and is told by `overrun`.
- A whole answer whose head is known, byte for byte, is taken without the parser, which then has not
  seen it at all and stands where it stood: before a message.

No sockets and no clocks: the connection has them. Follows RFC 9112, section 6 above all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

import httptools

from gatelift.wire.http_known_heads import KnownHeads
from gatelift.wire.http_response import UpstreamError, UpstreamLimits, UpstreamResponse
from gatelift.wire.http_response_head import SINGLE, check_head

__all__ = ["ResponseReader"]

_BEGINNING: Final = b"HTTP/1."
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})


class ResponseReader:
    """Reads the responses of one connection in order.

    `on_head(status, headers)` makes the response whose head has come. `known` is shared with the
    other connections to the same upstream.
    """

    def __init__(
        self,
        limits: UpstreamLimits,
        on_head: Callable[[int, Mapping[bytes, bytes]], UpstreamResponse],
        known: KnownHeads,
    ) -> None:
        self._limits = limits
        self._known = known
        self._on_head = on_head
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._in_head = True
        self._interim = 0
        self._begun = b""
        # Bytes since the parser last said anything: a bound on what it holds or skips unseen.
        self._silent_bytes = 0
        self._spoke = False
        self.response: UpstreamResponse | None = None
        """The response whose head has come and whose end is not told on yet."""
        self.reusable = False
        """Whether the connection may be used again after the response, as its head says."""
        self.ended = False
        self.overrun = False

    def begin(self) -> None:
        """Get ready for the response to a request that is sent now."""
        if self._begun:
            self.ended = self.overrun = False
            self._interim = self._silent_bytes = 0
            self._begun = b""
            self._reset_for_message()

    def take_whole(self, data: bytes) -> tuple[Mapping[bytes, bytes], bytes] | None:
        """Return headers and body if `data` is a whole answer 200 with a known head, else null."""
        return None if self._begun else self._known.find_whole(data)

    def feed(self, data: bytes) -> None:
        """Read on; raises `UpstreamError` (`bad_response`), never for what follows the end."""
        is_first = not self._begun
        if len(self._begun) < len(_BEGINNING):
            self._begun += data[: len(_BEGINNING) - len(self._begun)]
            if not _BEGINNING.startswith(self._begun):
                raise _bad("the upstream's response is not HTTP/1.1")
        self._spoke = False
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self.ended:
                # The response is whole; what follows it is not ours and costs only the connection.
                self.overrun = True
                return
            # What a callback raises comes wrapped.
            if isinstance(error.__context__, UpstreamError):
                raise error.__context__ from None
            raise _bad(f"the upstream's response is not HTTP/1.1: {error}") from None
        if self.ended and is_first:
            self._learn(data)
        if self._spoke:
            self._silent_bytes = 0
            return
        self._silent_bytes += len(data)
        if self._silent_bytes > self._limits.max_header_bytes:
            raise _bad("the upstream sent endless bytes that are no body")

    # Called by the parser.

    def on_message_begin(self) -> None:
        """Note bytes beyond the end of the response."""
        self.overrun = self.ended

    def on_status(self, reason: bytes) -> None:
        """Judge the reason phrase and drop it."""
        self._spoke = True
        self._head_bytes += len(reason)
        if self._head_bytes > self._limits.max_header_bytes or _CONTROL.search(reason):
            raise _bad("the upstream's reason phrase is too large or odd")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header, or drop a trailer; either is bounded."""
        self._spoke = True
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > self._limits.max_header_bytes or self.overrun:
            raise _bad("the upstream's headers are too large")
        if self._in_head:
            self._headers.append((name.lower(), value.strip(b" \t")))
            if len(self._headers) > self._limits.max_headers:
                raise _bad("the upstream sent too many headers")
        elif name.lower() in SINGLE:
            raise _bad("the upstream sent framing or type as a trailer")

    def on_headers_complete(self) -> None:
        """Take the head, or skip an interim one."""
        self._spoke = True
        self._in_head = False
        if self.overrun:
            raise _bad("the upstream sent a response nobody asked for")
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self._interim += 1
            if status == 101 or self._interim > self._limits.max_interim:
                raise _bad(f"the upstream sent {status}, or too many 1xx")
            if any(name in _FRAMING for name, _ in self._headers):
                raise _bad("the upstream framed an interim response")
            return
        headers, self.reusable = check_head(status, self._parser.get_http_version(), self._headers)
        self.response = self._on_head(status, headers)

    def on_body(self, data: bytes) -> None:
        """Hand a piece of the body on."""
        self._spoke = True
        if self.response is not None:
            self.response.push(data)

    def on_message_complete(self) -> None:
        """Note the end, or get ready for what follows an interim response."""
        if self.response is None:
            self._reset_for_message()
        else:
            self.ended = True

    def _learn(self, data: bytes) -> None:
        """Know the head of an answer that was whole in one read, for the next time."""
        response = self.response
        plain = self.reusable and not self.overrun and not self._interim
        if response is not None and response.status == 200 and plain:
            self._known.learn(data, response.headers)

    def _reset_for_message(self) -> None:
        # `_head_bytes` goes on counting over interim responses of one exchange.
        if not self._interim:
            self._head_bytes = 0
        self._headers = []
        self._in_head = True


def _bad(message: str) -> UpstreamError:
    return UpstreamError(message, code="bad_response", sent=True)
