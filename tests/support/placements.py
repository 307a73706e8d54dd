"""Fake placements: servers that refuse, hang, fail or die at a named point, and count what came."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections import Counter
from typing import Any, Literal

from gatelift.messages import Placement

Mode = Literal[
    "serve",
    "slow",  # a whole answer, after a moment
    "hang_first_byte",
    "hang_midway",
    "die_first_byte",
    "die_midway",
    "odd",  # 200, and no answer
    "status",
]
_CHUNKED = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


class FakePlacement:
    """One server in threads. `seen` counts each request by the text of its last message."""

    def __init__(self, name: str, mode: Mode = "serve", *, listening: bool = True) -> None:
        self.name = name
        self.mode: Mode = mode
        self.status = 500
        self.headers = b""
        self.slow_s = 0.3
        self.seen: Counter[str] = Counter()
        self.connections = 0
        self.closing = threading.Event()
        self._open: set[socket.socket] = set()
        # Bound and not listening: a connection is refused, and nobody else gets the port.
        self._bound = socket.socket()
        self._bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._bound.bind(("127.0.0.1", 0))
        self.port: int = self._bound.getsockname()[1]
        self._fill: list[socket.socket] = []
        if listening:
            self.listen()

    @property
    def calls(self) -> int:
        return sum(self.seen.values())

    @property
    def enrolled(self) -> Placement:
        url = f"http://127.0.0.1:{self.port}"
        return Placement(name=self.name, base_url=url, model=f"m-{self.name}", baseline=None)

    def listen(self) -> None:
        self._bound.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def hang_on_connect(self) -> None:
        """Listen with a backlog that is full: the kernel lets every further handshake wait."""
        self._bound.listen(0)
        for _ in range(3):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", self.port))
            self._fill.append(one)
        time.sleep(0.05)

    def drop_all(self) -> None:
        for peer in list(self._open):
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.closing.set()
        with contextlib.suppress(OSError):
            self._bound.shutdown(socket.SHUT_RDWR)
        self._bound.close()
        self.drop_all()
        for one in self._fill:
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._bound.accept()
            except OSError:
                return
            self.connections += 1
            self._open.add(peer)
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError), peer, peer.makefile("rb") as reader:
            while True:
                self._answer(peer, self._read(reader))
        self._open.discard(peer)

    def _read(self, reader: Any) -> dict[str, Any]:
        size = 0
        while (line := reader.readline()) not in (b"\r\n", b""):
            if line.lower().startswith(b"content-length:"):
                size = int(line.split(b":")[1])
        if not line:
            raise EOFError
        body: dict[str, Any] = json.loads(reader.read(size))
        self.seen[body["messages"][-1]["content"]] += 1
        return body

    def _answer(self, peer: socket.socket, body: dict[str, Any]) -> None:
        mode = self.mode
        if mode == "slow":
            time.sleep(self.slow_s)
        elif mode == "hang_first_byte":
            self.closing.wait(20)
            raise EOFError
        elif mode == "die_first_byte":
            raise EOFError
        elif mode == "status":
            head = b"HTTP/1.1 %d X\r\n%bcontent-length: 2\r\n\r\n{}" % (self.status, self.headers)
            peer.sendall(head)
            return
        elif mode == "odd":
            peer.sendall(b'HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n{"what": 42}')
            return
        if body.get("stream"):
            self._stream(peer, mode)
        else:
            self._whole(peer, mode)

    def _whole(self, peer: socket.socket, mode: Mode) -> None:
        message = {"role": "assistant", "content": f"from {self.name}"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 5, "completion_tokens": 2}
        data = json.dumps({"choices": [choice], "usage": usage}).encode()
        answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data)
        self._send_up_to(peer, answer, len(answer) - 5, mode)

    def _stream(self, peer: socket.socket, mode: Mode) -> None:
        events = [
            {"choices": [{"index": 0, "delta": {"content": w}}]} for w in ("from ", self.name)
        ]
        last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        data = [json.dumps(event).encode() for event in (*events, last)] + [b"[DONE]"]
        chunks = [b"data: %b\n\n" % each for each in data]
        answer = _CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks) + b"0\r\n\r\n"
        self._send_up_to(peer, answer, answer.index(b"finish_reason") - 60, mode)

    def _send_up_to(self, peer: socket.socket, answer: bytes, midway: int, mode: Mode) -> None:
        if mode not in {"hang_midway", "die_midway"}:
            peer.sendall(answer)
            return
        peer.sendall(answer[:midway])
        if mode == "hang_midway":
            self.closing.wait(20)
        raise EOFError
