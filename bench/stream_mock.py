"""The upstream of streams: tokens at a set rate, each carrying the moment it was sent.

A token is `zq` + the monotonic clock in microseconds, one letter a digit + `y `: 16 bytes of text
without digits, so that no safeguard sees a number in it. As many tokens are sent as `max_tokens`
asks; `GET /interval/<ms>` sets the time between them for streams that begin later, `GET /count`
returns how many requests of load (a body of 900 bytes or more) were answered.

Invariants
- Tokens are due at fixed times from the first on: a late one does not delay the next.
- What it asks of its callers: their credential.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
import socket
import time
from pathlib import Path
from typing import Final, cast

import httptools
import uvloop

from bench.messages import ANSWER, MODEL

LETTERS: Final = "kbdfghmnps"
_TO_LETTERS = str.maketrans("0123456789", LETTERS)
_MAX_TOKENS = re.compile(rb'"max_tokens": ?(\d+)')
_IS_STREAM = re.compile(rb'"stream": ?true')
_LOAD_BYTES = 900
_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
_CHUNK: Final = (
    b'data: {"id":"chatcmpl-mock","object":"chat.completion.chunk","created":1760000000,'
    b'"model":"%b","choices":[{"index":0,"delta":{%b},"finish_reason":%b}]}\n\n'
)
_USAGE: Final = (
    b'data: {"id":"chatcmpl-mock","object":"chat.completion.chunk","created":1760000000,'
    b'"model":"%b","choices":[],"usage":{"prompt_tokens":210,"completion_tokens":%d,'
    b'"total_tokens":%d}}\n\n'
)


def token_text() -> bytes:
    """Return a token that carries this moment."""
    micros = time.monotonic_ns() // 1000
    return b"zq%by " % f"{micros:012d}".translate(_TO_LETTERS).encode()


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _answer(status: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        status,
        len(body),
        body,
    )


class _State:
    """What all connections share."""

    def __init__(self, key: str) -> None:
        self.credential = f"Bearer {key}".encode()
        self.interval_s = 1.0
        self.count = 0


class _Connection(asyncio.Protocol):
    """One caller, one request at a time."""

    def __init__(self, state: _State) -> None:
        self._state = state
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._reset()

    def _reset(self) -> None:
        self._url, self._credential, self._parts = b"", b"", list[bytes]()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send small segments at once."""
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop's signature
        """Send no more."""
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Read on."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if self._transport is not None:
                self._transport.abort()

    def on_url(self, url: bytes) -> None:
        """Note a part of the request line."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note the credential."""
        if name.lower() == b"authorization":
            self._credential = value

    def on_body(self, body: bytes) -> None:
        """Note a part of the body."""
        self._parts.append(body)

    def on_message_complete(self) -> None:
        """Answer."""
        url, known, body = self._url, self._credential, b"".join(self._parts)
        self._reset()
        if self._transport is None:
            return
        if url == b"/healthz":
            self._transport.write(_answer(b"200 OK", b"ok"))
        elif url.startswith(b"/interval/"):
            self._state.interval_s = int(url.rpartition(b"/")[2]) / 1000
            self._transport.write(_answer(b"200 OK", b"{}"))
        elif url == b"/count":
            self._transport.write(_answer(b"200 OK", b"%d" % self._state.count))
        elif known != self._state.credential:
            self._transport.write(_answer(b"401 Unauthorized", b"{}"))
        else:
            self._chat(body)

    def _chat(self, body: bytes) -> None:
        self._state.count += len(body) >= _LOAD_BYTES
        if self._transport is None:
            return
        asked = _MAX_TOKENS.search(body)
        if _IS_STREAM.search(body) is None or asked is None:
            self._transport.write(_answer(b"200 OK", ANSWER.encode()))
            return
        self._transport.write(_HEAD)
        began, interval = self._loop.time(), self._state.interval_s
        self._token(0, int(asked[1]), began, interval)

    def _token(self, number: int, wanted: int, began: float, interval: float) -> None:
        if self._transport is None:
            return
        delta = b'"role":"assistant","content":"%b"' if number == 0 else b'"content":"%b"'
        chunk = _CHUNK % (MODEL.encode(), delta % token_text(), b"null")
        if number + 1 < wanted:
            self._transport.write(_framed(chunk))
            at = began + (number + 1) * interval
            self._timer = self._loop.call_at(at, self._token, number + 1, wanted, began, interval)
            return
        usage = _USAGE % (MODEL.encode(), wanted, wanted + 210)
        last = _CHUNK % (MODEL.encode(), b"", b'"stop"')
        end = _framed(last + usage + b"data: [DONE]\n\n") + b"0\r\n\r\n"
        self._transport.write(_framed(chunk) + end)


async def _main(port: int, key: str) -> None:
    state = _State(key)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(state), "127.0.0.1", port, backlog=8192)
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    server.close()


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="bench.stream_mock")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--key-file", type=Path, required=True)
    options = parser.parse_args()
    uvloop.run(_main(options.port, options.key_file.read_text().strip()))


if __name__ == "__main__":
    main()
