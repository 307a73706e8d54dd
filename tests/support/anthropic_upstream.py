"""A scripted model server that speaks Anthropic messages, with everything that must not pass on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

from tests.support.upstream import ScriptedUpstream

HIDDEN = "upstream-secret-detail"
"""Stands in every field that is no text of the answer: none of it may reach a caller."""


def text(*words: str) -> dict[str, Any]:
    return {"type": "text", "words": words}


def thinking(*words: str) -> dict[str, Any]:
    return {"type": "thinking", "words": words}


def tool_use(name: str, *words: str) -> dict[str, Any]:
    """A call; `words` are its input's JSON in pieces."""
    return {"type": "tool_use", "name": name, "words": words}


class AnthropicUpstream(ScriptedUpstream):
    """Answers with `blocks`; `die_after` events it resets, with `ends_early` it only stops."""

    def __init__(self, *, key: str = "up") -> None:
        super().__init__(key=key)
        self.reset()

    def reset(self) -> None:
        """Answer as at first, and forget what came."""
        self.calls, self.status, self.die_after = 0, 200, None
        self.bodies, self.delay_s = [], 0.0
        self.blocks: list[dict[str, Any]] = [text("one ", "two ", "three")]
        self.stop_reason = "end_turn"
        self.stop_sequence: str | None = None
        self.output_tokens = 7
        self.ends_early = False
        self.counted: object = 42
        self.heads: list[list[str]] = []
        self.paths: list[str] = []

    async def _answer(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        lines = head.decode().lower().split("\r\n")
        length = next((int(x.split(":")[1]) for x in lines if x.startswith("content-length")), 0)
        body = json.loads(await reader.readexactly(length) or b"{}")
        if f"authorization: bearer {self.key}" not in lines:
            return self._send(writer, 401, b"{}")
        path = lines[0].split(" ")[1]
        if not path.startswith("/v1/messages"):
            return self._send(writer, 200, b"{}")
        self.calls += 1
        self.heads.append(lines)
        self.paths.append(path)
        self.bodies.append(body)
        if self.status != 200:
            return self._send(writer, self.status, json.dumps({"error": HIDDEN}).encode())
        if path.endswith("/count_tokens"):
            counted = {"input_tokens": self.counted, "note": HIDDEN}
            return self._send(writer, 200, json.dumps(counted).encode())
        if not body.get("stream"):
            await asyncio.sleep(self.delay_s)
            return self._send(writer, 200, json.dumps(self._whole()).encode())
        return await self._stream(writer)

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        for number, event in enumerate(self._events()):
            if self.die_after == number:
                writer.transport.abort()
                return
            data = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
            writer.write(b"%x\r\n%b\r\n" % (len(data), data))
            await writer.drain()
            await asyncio.sleep(self.delay_s)
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    def _usage(self) -> dict[str, Any]:
        return {"input_tokens": 3, "cache_read_input_tokens": 2, "service_tier": HIDDEN}

    def _message(self, content: list[dict[str, Any]], reason: str | None) -> dict[str, Any]:
        return {
            "id": f"msg_{HIDDEN}",
            "type": "message",
            "role": "assistant",
            "model": HIDDEN,
            "content": content,
            "stop_reason": reason,
            "stop_sequence": self.stop_sequence,
            "usage": self._usage() | {"output_tokens": self.output_tokens},
            "container": {"id": HIDDEN},
        }

    def _block(self, block: dict[str, Any], said: str) -> dict[str, Any]:
        match block["type"]:
            case "text":
                return {"type": "text", "text": said, "citations": [{"cited_text": HIDDEN}]}
            case "thinking":
                return {"type": "thinking", "thinking": said, "signature": HIDDEN}
            case "tool_use":
                call = {"id": f"toolu_{HIDDEN}", "name": block["name"]}
                return {"type": "tool_use", "input": json.loads(said or "{}"), **call}
            case _:
                return block

    def _whole(self) -> dict[str, Any]:
        content = [self._block(each, "".join(each.get("words", ()))) for each in self.blocks]
        return self._message(content, self.stop_reason)

    def _events(self) -> Iterator[dict[str, Any]]:
        start = self._message([], None)
        start["usage"]["output_tokens"] = 1
        yield {"type": "message_start", "message": start}
        yield {"type": "ping"}
        for index, block in enumerate(self.blocks):
            yield {
                "type": "content_block_start",
                "index": index,
                "content_block": self._block(block, ""),
            }
            for word in block.get("words", ()):
                delta = {
                    "text": {"type": "text_delta", "text": word},
                    "thinking": {"type": "thinking_delta", "thinking": word},
                    "tool_use": {"type": "input_json_delta", "partial_json": word},
                }[block["type"]]
                yield {"type": "content_block_delta", "index": index, "delta": delta}
            if block["type"] == "thinking":
                signed = {"type": "signature_delta", "signature": HIDDEN}
                yield {"type": "content_block_delta", "index": index, "delta": signed}
            yield {"type": "content_block_stop", "index": index}
        if self.ends_early:
            return
        yield {
            "type": "message_delta",
            "delta": {"stop_reason": self.stop_reason, "stop_sequence": self.stop_sequence},
            "usage": {"output_tokens": self.output_tokens},
        }
        yield {"type": "new_kind_of_event", "text": HIDDEN}
        yield {"type": "message_stop"}
