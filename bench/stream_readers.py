"""Many open streams, read in one process on the load's core.

Opens streams at a set pace, waits until all have their first token, says `OPEN`, holds for a time,
says `HELD`, then lets all end (or, with `--abort`, hangs up). Each token says when the mock sent it
(`stream_mock`), so the delay of each is known; the added gap of a token is its delay less the delay
of the token before it in the same stream.

Standard input is read for nothing; standard output carries `OPEN`, `HELD`, and one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import socket
import sys
import time
from pathlib import Path
from typing import cast

import uvloop

from bench.machine import raise_file_limit
from bench.stream_mock import LETTERS

_TOKEN = re.compile(rb"zq([%b]{12})y" % LETTERS.encode())
_FROM_LETTERS = bytes.maketrans(LETTERS.encode(), b"0123456789")
_OPEN_S = 120.0
_END_S = 60.0
_LONGEST_TOKEN = 15


class _Reader(asyncio.Protocol):
    """One stream."""

    def __init__(self, crowd: _Crowd, request: bytes) -> None:
        self._crowd = crowd
        self._request = request
        self._tail = b""
        self._delay_us: int | None = None
        self.tokens = 0
        self.status = b""
        self.clean = False
        self.over = False
        self.last_s = 0.0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        self.transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Note the tokens and when they came."""
        now_us = time.monotonic_ns() // 1000
        self.last_s = now_us / 1e6
        if not self.status:
            self.status = data[9:12]
            if self.status != b"200":
                self._end()
                return
        # A token that was cut in two is found with its second half.
        data = self._tail + data
        end = 0
        for match in _TOKEN.finditer(data):
            end = match.end()
            delay_us = now_us - int(match[1].translate(_FROM_LETTERS))
            if self._delay_us is not None and self._crowd.holding:
                self._crowd.gaps_us.append(delay_us - self._delay_us)
                self._crowd.delays_us.append(delay_us)
            self._delay_us = delay_us
            self.tokens += 1
            self._crowd.tokens += 1
            if self.tokens == 1:
                self._crowd.opened += 1
        if data.endswith(b"\r\n0\r\n\r\n"):
            self.clean = b"[DONE]" in data
            self._end()
        self._tail = data[max(end, len(data) - _LONGEST_TOKEN) :]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop's signature
        """Note the end."""
        self._end()

    def _end(self) -> None:
        if not self.over:
            self.over = True
            self._crowd.ended += 1
            if self.transport is not None:
                self.transport.close()


class _Crowd:
    """All readers, and what they saw while holding."""

    def __init__(self) -> None:
        self.holding = False
        self.opened = self.ended = self.tokens = 0
        self.gaps_us: list[int] = []
        self.delays_us: list[int] = []
        self.readers: list[_Reader] = []

    async def open(self, port: int, requests: list[bytes], count: int, pace: float) -> None:
        """Open streams at a pace; return once every one has a token, failed, or time is up."""
        loop = asyncio.get_running_loop()
        began = time.monotonic()
        for number in range(count):
            wait_s = began + number / pace - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            request = requests[number % len(requests)]
            try:
                _, reader = await loop.create_connection(
                    lambda r=request: _Reader(self, r),  # type: ignore[misc]
                    "127.0.0.1",
                    port,
                )
            except OSError:
                self.ended += 1
                continue
            self.readers.append(reader)
        until = time.monotonic() + _OPEN_S
        while self.opened < count and time.monotonic() < until:
            if self.opened + self.ended >= count:
                break
            await asyncio.sleep(0.02)

    async def end(self, *, abort: bool) -> None:
        """Wait until all streams have ended, or hang up."""
        if abort:
            for reader in self.readers:
                if reader.transport is not None:
                    reader.transport.abort()
        until = time.monotonic() + _END_S
        while (  # noqa: ASYNC110 (nothing is timed here)
            any(not reader.over for reader in self.readers) and time.monotonic() < until
        ):
            await asyncio.sleep(0.05)


def _say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


def _at(values: list[int], share: float) -> float | None:
    if not values:
        return None
    values.sort()
    return values[min(len(values) - 1, int(len(values) * share))] / 1000


async def _main(options: argparse.Namespace) -> None:
    crowd = _Crowd()
    requests = [path.read_bytes() for path in options.requests]
    await crowd.open(options.port, requests, options.count, options.pace)
    before = crowd.tokens
    crowd.holding = True
    _say(f"OPEN {crowd.opened} {crowd.tokens}")
    await asyncio.sleep(options.hold)
    held, crowd.holding = crowd.tokens - before, False
    _say(f"HELD {crowd.opened} {crowd.tokens}")
    await crowd.end(abort=options.abort)
    readers = crowd.readers
    value = {
        "count": options.count,
        "opened": crowd.opened,
        "clean": sum(reader.clean for reader in readers),
        "broken": sum(not reader.clean for reader in readers) + options.count - len(readers),
        "statuses": sorted({reader.status.decode() or "none" for reader in readers}),
        "tokens": crowd.tokens,
        "held_tokens": held,
        "hold_s": options.hold,
        "gap_p50_ms": _at(crowd.gaps_us, 0.5),
        "gap_p99_ms": _at(crowd.gaps_us, 0.99),
        "delay_p50_ms": _at(crowd.delays_us, 0.5),
        "delay_p99_ms": _at(crowd.delays_us, 0.99),
        "last_s": [round(reader.last_s, 6) for reader in readers] if options.abort_times else [],
    }
    _say(json.dumps(value))


def main() -> int:
    """Read many streams."""
    parser = argparse.ArgumentParser(prog="bench.stream_readers")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--requests", type=Path, nargs="+", required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--pace", type=float, required=True, help="Streams opened a second.")
    parser.add_argument("--hold", type=float, required=True, help="Seconds that all are open.")
    parser.add_argument("--abort", action="store_true", help="Hang up instead of waiting.")
    parser.add_argument("--abort-times", action="store_true", help="Tell each stream's last byte.")
    options = parser.parse_args()
    raise_file_limit()
    uvloop.run(_main(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
