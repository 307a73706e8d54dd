"""The upstream response parser, driven without sockets: bytes in, then the end of the connection.

Properties: the same answer in every cut; whole only if h11 reads a whole answer of the same status and
body; after the end of the message the connection is kept only if nothing but empty lines came with it.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final, cast

import h11

from gatelift.wire.http_connection import ClientConnection
from gatelift.wire.http_known_heads import KnownHeads
from gatelift.wire.http_response import (
    UpstreamError,
    UpstreamLimits,
    UpstreamResponse,
    UpstreamTimeouts,
)

__all__ = ["fuzz_response", "read_response"]

_KNOWN_HEADS: Final = KnownHeads()
_LOOP: Final = asyncio.new_event_loop()
_TIGHT: Final = UpstreamLimits(
    max_header_bytes=128, max_headers=4, max_interim=1, max_stream_bytes=64, high_water_bytes=16
)
_ASKED: Final = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"


class _Transport:
    """What a connection needs of a transport."""

    def __init__(self) -> None:
        self.closing = False
        self.paused = False

    def get_extra_info(self, name: str) -> None:
        return None

    def write(self, data: bytes) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.closing = True

    close = abort

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def get_write_buffer_size(self) -> int:
        return 0


async def _take(response: UpstreamResponse) -> tuple[bytes, bool]:
    body = b""
    try:
        async for data in response.chunks():
            body += data
    except UpstreamError:
        assert not response.complete
        return body, False
    assert response.complete
    return body, True


async def _play(parts: list[bytes], limits: UpstreamLimits) -> tuple[Any, bool]:
    freed: list[Any] = []
    connection = ClientConnection(
        limits=limits,
        timeouts=UpstreamTimeouts(),
        # Kept over all that is read here: what is known may never change how anything is read.
        known_heads=_KNOWN_HEADS,
        on_free=freed.append,
        on_lost=lambda _: None,
    )
    transport = _Transport()
    connection.connection_made(cast("asyncio.Transport", transport))
    asked = asyncio.ensure_future(connection.send(_ASKED))
    await asyncio.sleep(0)
    for part in parts:
        if transport.closing:
            break
        connection.data_received(part)
    kept = connection.is_usable
    assert len(freed) <= 1
    connection.connection_lost(None)
    try:
        response = await asked
    except UpstreamError:
        return None, False
    body, complete = await _take(response)
    return (response.status, response.headers, body if complete else None), kept


def read_response(parts: list[bytes], limits: UpstreamLimits | None = None) -> tuple[Any, bool]:
    """Return (status, headers, body or null if it broke off) or null, and if it may be used again."""
    return _LOOP.run_until_complete(_play(parts, limits or UpstreamLimits()))


def _read_as_h11(data: bytes) -> tuple[int, bytes, bytes] | str:
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    client.send(h11.Request(method="POST", target="/", headers=[("host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    status, body = 0, b""
    try:
        while True:
            event = client.next_event()
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return status, body, client.trailing_data[0]
            elif event is h11.NEED_DATA:
                return "needs more"
            elif not isinstance(event, h11.InformationalResponse):
                return "something else"
    except h11.RemoteProtocolError as error:
        return str(error)


def fuzz_response(data: bytes) -> None:
    """Answers of an upstream, however bad."""
    cuts = [[data], [data[i : i + 1] for i in range(len(data))], [data[:7], data[7:]]]
    readings = [read_response([part for part in parts if part]) for parts in cuts]
    for parts in cuts:
        read_response([part for part in parts if part], _TIGHT)
    (found, kept), *others = readings
    # The parser skips empty lines after an answer without a word, if they come in the same read.
    assert all(other[0] == found for other in others), f"read otherwise when cut: {readings!r}"
    assert all(kept or not other[1] for other in others)
    if found is None or found[2] is None:
        assert not kept
        return
    status, headers, body = found
    theirs = _read_as_h11(data)
    if isinstance(theirs, str) and headers.keys() and re.search(rb" 1\d\d[^\n]*\n", data):
        # After an interim response we take the parser's word for the protocol; h11 wants HTTP.
        assert re.search(rb"(RTSP|ICE)/|\n\r*\n[\r\n]", data), theirs
        return
    assert not isinstance(theirs, str), f"h11 refuses what we take: {theirs}"
    assert (status, body) == theirs[:2], f"h11 reads otherwise: {theirs}"
    assert not (kept and theirs[2].strip(b"\r\n")), "kept with bytes that nobody asked for"
    assert not (kept and b"close" in headers.get(b"connection", b"").lower())
