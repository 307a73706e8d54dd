"""A model server that answers in raw bytes, as badly as it is told to."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import Literal

End = Literal["keep", "close", "reset"]


@dataclass(frozen=True, kw_only=True)
class Script:
    """What it does with a request: `pieces` a few ms apart, then `end`. `reads` false: at its first byte."""

    pieces: tuple[bytes, ...]
    end: End = "close"
    reads: bool = True


class RawUpstream:
    """Runs in its own thread; every request gets `script`."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.key = "up"
        self.connections = 0
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.wait(5)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(5)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._main())
        self._loop.close()

    async def _main(self) -> None:
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while await self._answer(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        script = self.script
        if script.reads:
            await read_request(reader)
            script = self.script
        else:
            await reader.readexactly(1)
        for number, piece in enumerate(script.pieces):
            if number:
                await asyncio.sleep(0.01)
            writer.write(piece)
            await writer.drain()
        if script.end == "reset":
            writer.transport.abort()
        return script.end == "keep"


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """Read one request with its body; returns the body."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    lines = head.split(b"\r\n")
    size = next((int(x.split(b":")[1]) for x in lines if x.startswith(b"content-length")), 0)
    return await reader.readexactly(size)
