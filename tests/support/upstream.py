"""A scripted model server that counts what reached it. Speaks enough of the chat API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from tests.support.threaded import ThreadedServer


class ScriptedUpstream(ThreadedServer):
    """`words` are streamed one a chunk; `delay_s` between them.

    An empty `key` asks nobody for one. `unguarded` are paths that answer without it.
    """

    def __init__(
        self, words: list[str] | None = None, *, delay_s: float = 0.0, key: str = "up"
    ) -> None:
        self.words = words or ["one ", "two ", "three"]
        self.delay_s = delay_s
        self.key = key
        self.calls = 0
        self.bodies: list[dict[str, Any]] = []
        self.die_after: int | None = None
        self.usage: int | None = None
        # What is told instead of the truth: usage by the number of words made, null for nothing.
        self.tell: Callable[[int], dict[str, Any] | None] | None = None
        self.words_made = 0
        self.status = 200
        self.error_body = b"{}"
        self.unguarded: frozenset[str] = frozenset()
        super().__init__()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        await self._answer(await reader.readuntil(b"\r\n\r\n"), reader, writer)
        return True

    async def _answer(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        lines = head.decode().lower().split("\r\n")
        length = next((int(x.split(":")[1]) for x in lines if x.startswith("content-length")), 0)
        body = json.loads(await reader.readexactly(length) or b"{}")
        if lines[0].split(" ")[1] in self.unguarded:
            return self._send(writer, 200, b"{}")
        if self.key and f"authorization: bearer {self.key}" not in lines:
            return self._send(writer, 401, b"{}")
        if "/chat/completions" not in lines[0]:
            return self._send(writer, 200, b"{}")
        self.calls += 1
        self.bodies.append(body)
        if self.status != 200:
            return self._send(writer, self.status, self.error_body)
        words = self.words[: body["max_tokens"]]
        usage: Any = {"prompt_tokens": 5, "completion_tokens": self.usage or len(words)}
        if self.tell is not None:
            usage = self.tell(len(words))
        if not body.get("stream"):
            await asyncio.sleep(self.delay_s)
            message = {"role": "assistant", "content": "".join(words)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self.words_made += len(words)
            data = json.dumps({"choices": [choice], **_said(usage)}).encode()
            return self._send(writer, 200, data)
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        for number, word in enumerate(words):
            if self.die_after == number:
                writer.transport.abort()
                return None
            self.words_made += 1
            self._event(writer, {"choices": [{"index": 0, "delta": {"content": word}}]})
            await writer.drain()
            await asyncio.sleep(self.delay_s)
        end = {"index": 0, "delta": {}, "finish_reason": "stop"}
        last = {"choices": [end], **_said(usage)}
        self._event(writer, last)
        data = b"data: [DONE]\n\n"
        writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data))
        await writer.drain()
        return None

    def _event(self, writer: asyncio.StreamWriter, value: object) -> None:
        data = b"data: " + json.dumps(value).encode() + b"\n\n"
        writer.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _send(self, writer: asyncio.StreamWriter, status: int, body: bytes) -> None:
        writer.write(
            b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (status, len(body), body)
        )


def _said(usage: Any) -> dict[str, Any]:
    return {} if usage is None else {"usage": usage}
