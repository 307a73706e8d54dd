"""Many callers in one process that stall in every way, and the memory of the server they stall."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from pathlib import Path


class Stalled:
    """One caller: sends `data`, then stalls. It does not read before it is asked for its end."""

    def __init__(self) -> None:
        self.sock = socket.socket()
        self.sock.setblocking(False)
        # Or a thousand of us would fill the machine with what they do not read.
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)

    async def begin(self, port: int, data: bytes) -> None:
        """Connect and send; a server that refuses amid the sending is not an error here."""
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self.sock, ("127.0.0.1", port))
        with contextlib.suppress(OSError):
            await loop.sock_sendall(self.sock, data)

    async def end(self) -> bytes:
        """Read until the server has closed; return the first bytes that had come."""
        loop = asyncio.get_running_loop()
        first = b""
        with contextlib.suppress(ConnectionError):
            while data := await loop.sock_recv(self.sock, 65_536):
                first = (first + data)[:4096]
        self.sock.close()
        return first

    def leave(self) -> None:
        """Close at once."""
        self.sock.close()


async def stall(port: int, count: int, data: bytes) -> list[Stalled]:
    """Open `count` callers that stall after `data`, 50 at a time."""
    made = [Stalled() for _ in range(count)]
    for start in range(0, count, 50):
        async with asyncio.timeout(10):
            await asyncio.gather(*(one.begin(port, data) for one in made[start : start + 50]))
    return made


def memory_mb(pid: int, field: str = "VmRSS") -> float:
    """Return the resident memory of a process, now or at its peak (`VmHWM`), in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def open_many_files() -> None:
    """Let this process open as many files as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
