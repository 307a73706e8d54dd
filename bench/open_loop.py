"""Latency at a fixed rate: requests are sent when they are due, and timed from when they were due.

A closed loop would wait with the next request while the gateway is slow, and so leave out what is
worth knowing. Runs as a process of its own on the load's core; prints one JSON object.

With `--stream` an answer is timed to the first byte of its content.

The loop's own clock and timers count in whole milliseconds, so time is taken from `perf_counter`, and
the last moment before a request is due is spent polling.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import sys
import time
from collections import deque
from pathlib import Path
from typing import cast

import uvloop

_CONTENT = b'"content":"z'
_END_S = 10.0
_POLL_S = 0.002


class _Caller(asyncio.Protocol):
    """One kept connection: one request at a time."""

    def __init__(self, driver: _Driver) -> None:
        self._driver = driver
        self._transport: asyncio.Transport | None = None
        self._data = bytearray()
        self._due = 0.0
        self._need = -1
        self._chunked = False
        self._first_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send small segments at once."""
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, due: float) -> None:
        """Send the request that was due at a time."""
        self._data.clear()
        self._due, self._need, self._first_s, self._chunked = due, -1, 0.0, False
        if self._transport is not None:
            self._transport.write(self._driver.request)

    def data_received(self, data: bytes) -> None:
        """Note when the first content came, and when all had come."""
        now = time.perf_counter()
        self._data += data
        if not self._first_s and _CONTENT in self._data:
            self._first_s = now
        if self._need < 0:
            self._read_head()
        if self._chunked:
            whole = self._data.endswith(b"\r\n0\r\n\r\n")
        else:
            whole = self._need >= 0 and len(self._data) >= self._need
        if whole:
            timed = self._first_s if self._driver.stream else now
            self._driver.answered(self, self._data[9:12] == b"200", timed - self._due)

    def _read_head(self) -> None:
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._data[:end]).lower()
        self._chunked = b"transfer-encoding: chunked" in head
        length = head.partition(b"content-length: ")[2].split(b"\r\n")[0]
        self._need = end + 4 + int(length) if length else end + 4

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop's signature
        """Note that it is gone."""
        self._transport = None
        self._driver.lost(self)


class _Driver:
    """Sends on time over as many connections as are needed."""

    def __init__(self, port: int, request: bytes, *, stream: bool) -> None:
        self.loop = asyncio.get_running_loop()
        self.request = request
        self.stream = stream
        self._port = port
        self._idle: deque[_Caller] = deque()
        self._busy: set[_Caller] = set()
        self.taken_ms: list[float] = []
        self.failed = 0

    async def connect(self, count: int) -> None:
        """Open connections ahead of time."""
        for _ in range(count):
            _, caller = await self.loop.create_connection(
                lambda: _Caller(self), "127.0.0.1", self._port
            )
            self._idle.append(caller)

    def answered(self, caller: _Caller, good: bool, seconds: float) -> None:
        """Take an answer."""
        self._busy.discard(caller)
        self._idle.append(caller)
        if good and seconds > 0:
            self.taken_ms.append(seconds * 1000)
        else:
            self.failed += 1

    def lost(self, caller: _Caller) -> None:
        """Take a lost connection; what was on its way has failed."""
        if caller in self._busy:
            self._busy.discard(caller)
            self.failed += 1
        if caller in self._idle:
            self._idle.remove(caller)

    async def _ask(self, due: float) -> None:
        if not self._idle:
            await self.connect(1)
        caller = self._idle.popleft()
        self._busy.add(caller)
        caller.ask(due)

    async def run(self, rate: float, seconds: float) -> None:
        """Send `rate` requests a second, and wait for the last answers."""
        began = time.perf_counter() + 0.1
        tasks = set()
        for number in range(int(rate * seconds)):
            due = began + number / rate
            if (wait_s := due - time.perf_counter()) > _POLL_S:
                await asyncio.sleep(wait_s - _POLL_S)
            while time.perf_counter() < due:  # noqa: ASYNC110 (the loop must go on polling)
                await asyncio.sleep(0)
            if self._idle:
                caller = self._idle.popleft()
                self._busy.add(caller)
                caller.ask(due)
            else:
                task = self.loop.create_task(self._ask(due))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        until = self.loop.time() + _END_S
        while (self._busy or tasks) and self.loop.time() < until:  # noqa: ASYNC110 (nothing is timed here)
            await asyncio.sleep(0.05)
        self.failed += len(self._busy) + len(tasks)


async def _main(options: argparse.Namespace) -> None:
    driver = _Driver(options.port, options.request.read_bytes(), stream=options.stream)
    await driver.connect(options.connections)
    await driver.run(options.rate, options.seconds)
    taken = [round(each, 4) for each in driver.taken_ms]
    print(json.dumps({"taken_ms": taken, "failed": driver.failed}))


def main() -> int:
    """Drive one target."""
    parser = argparse.ArgumentParser(prog="bench.open_loop")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--request", type=Path, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--stream", action="store_true")
    uvloop.run(_main(parser.parse_args()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
