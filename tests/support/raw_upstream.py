"""A model server that answers in raw bytes, as badly as it is told to."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

from tests.support.threaded import ThreadedServer

End = Literal["keep", "close", "reset"]


@dataclass(frozen=True, kw_only=True)
class Script:
    """What it does with a request: `pieces` a few ms apart, then `end`. `reads` false: at its first byte."""

    pieces: tuple[bytes, ...]
    end: End = "close"
    reads: bool = True


class RawUpstream(ThreadedServer):
    """Every request gets `script`."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.key = "up"
        super().__init__()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
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
