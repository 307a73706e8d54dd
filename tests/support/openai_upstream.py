"""A model server that speaks every OpenAI route as it is scripted to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final

from tests.support.upstream import ScriptedUpstream

CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"
COMPLETIONS = "/v1/completions"
MESSAGES = "/v1/messages"
COUNT_TOKENS = "/v1/messages/count_tokens"
EMBEDDINGS = "/v1/embeddings"


class Die:
    """In a script: the connection breaks here."""


class OpenAIUpstream(ScriptedUpstream):
    """`script` maps a route to what it answers: a dict as one body, a list as events of a stream.

    A function of the request's body says which of them.
    """

    def __init__(self) -> None:
        self.script: dict[str, Any] = {}
        super().__init__()

    async def _answer(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        lines = head.decode().lower().split("\r\n")
        length = next((int(x.split(":")[1]) for x in lines if x.startswith("content-length")), 0)
        body = json.loads(await reader.readexactly(length) or b"{}")
        path = lines[0].split()[1]
        if f"authorization: bearer {self.key}" not in lines:
            return self._send(writer, 401, b"{}")
        if path not in self.script:
            return self._send(writer, 200, b"{}")
        self.calls += 1
        self.bodies.append(body)
        answer = self.script[path]
        if callable(answer):
            answer = answer(body)
        if self.status != 200:
            return self._send(writer, self.status, b"{}")
        if isinstance(answer, dict):
            return self._send(writer, 200, json.dumps(answer).encode())
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        for event in answer:
            if event is Die:
                await writer.drain()
                await asyncio.sleep(0.05)
                writer.transport.abort()
                return None
            self._event(writer, event)
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return None

    def _event(self, writer: asyncio.StreamWriter, value: Any) -> None:
        data = value if isinstance(value, str) else json.dumps(value)
        text = f"data: {data}\n\n"
        if isinstance(value, dict) and "type" in value:
            text = f"event: {value['type']}\n" + text
        writer.write(b"%x\r\n%b\r\n" % (len(text.encode()), text.encode()))


USAGE = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}


def chat(*messages: dict[str, Any], finish: str = "stop") -> dict[str, Any]:
    """Return a whole chat answer, one choice a message."""
    choices = [
        {"index": number, "message": {"role": "assistant", **said}, "finish_reason": finish}
        for number, said in enumerate(messages)
    ]
    return {"id": "upstream-id", "choices": choices, "usage": USAGE}


def chat_stream(
    *deltas: dict[str, Any] | tuple[int, dict[str, Any]], finish: str = "stop", choices: int = 1
) -> list[Any]:
    """Return the events of a chat answer; a delta of another choice comes with its number."""
    events: list[Any] = []
    for delta in deltas:
        index, said = delta if isinstance(delta, tuple) else (0, delta)
        events.append({"id": "upstream-id", "choices": [{"index": index, "delta": said}]})
    for index in range(choices):
        end = {"index": index, "delta": {}, "finish_reason": finish}
        events.append({"choices": [end]})
    return [*events, {"choices": [], "usage": USAGE}, "[DONE]"]


def response(*output: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a whole response."""
    usage = {"input_tokens": 5, "output_tokens": 3, "total_tokens": 8}
    made = {"id": "upstream-id", "status": "completed", "output": list(output), "usage": usage}
    return made | changes


def message(text: str) -> dict[str, Any]:
    """Return a message of a response."""
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"type": "message", "id": "upstream-msg", "role": "assistant", "content": content}


def response_stream(*events: dict[str, Any], **changes: Any) -> list[Any]:
    """Return the events of a response; each event is (what follows `response.`, fields)."""
    begun = {"id": "upstream-id", "status": "in_progress", "output": []}
    done = response(**changes)
    return [
        {"type": "response.created", "response": begun},
        *events,
        {"type": f"response.{done['status']}", "response": done},
    ]


def delta(text: str) -> dict[str, Any]:
    """Return an event of a response that adds to its text."""
    return {"type": "response.output_text.delta", "item_id": "upstream-msg", "delta": text}


def completion(*texts: str) -> dict[str, Any]:
    """Return a whole completion, one choice a text."""
    choices = [{"index": n, "text": t, "finish_reason": "stop"} for n, t in enumerate(texts)]
    return {"id": "upstream-id", "choices": choices, "usage": USAGE}


def completion_stream(*texts: str) -> list[Any]:
    """Return the events of a completion of one choice."""
    events: list[Any] = [{"choices": [{"index": 0, "text": text}]} for text in texts]
    end = {"index": 0, "text": "", "finish_reason": "stop"}
    return [*events, {"choices": [end]}, {"choices": [], "usage": USAGE}, "[DONE]"]


def embeddings(*vectors: list[float]) -> dict[str, Any]:
    """Return the vectors of as many texts."""
    data = [{"index": number, "embedding": vector} for number, vector in enumerate(vectors)]
    return {"data": data, "usage": {"prompt_tokens": 5}}


def anthropic(text: str) -> dict[str, Any]:
    """Return a whole message of the other family."""
    return {
        "id": "upstream-id",
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 5, "output_tokens": 3},
    }


def anthropic_stream(*texts: str) -> list[Any]:
    """Return the events of a message of one text block."""
    begun = anthropic("") | {"content": [], "stop_reason": None}
    block = {"index": 0, "content_block": {"type": "text", "text": ""}}
    return [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", **block},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": t}}
            for t in texts
        ),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": 3},
        },
        {"type": "message_stop"},
    ]


Words = list[str]
SPOKEN: Final[dict[str, tuple[Callable[[Words], Any], Callable[[Words], list[Any]] | None]]] = {
    CHAT: (
        lambda words: chat({"content": "".join(words)}),
        lambda words: chat_stream(*({"content": word} for word in words)),
    ),
    RESPONSES: (
        lambda words: response(message("".join(words))),
        lambda words: response_stream(*map(delta, words)),
    ),
    COMPLETIONS: (
        lambda words: completion("".join(words)),
        lambda words: completion_stream(*words),
    ),
    EMBEDDINGS: (lambda words: embeddings([0.5, -1.25]), None),
    MESSAGES: (
        lambda words: anthropic("".join(words)),
        lambda words: anthropic_stream(*words),
    ),
    COUNT_TOKENS: (lambda words: {"input_tokens": 5}, None),
}
"""How words are said on each route that leads to the model: whole, and as a stream where it has one."""


class SpeakingUpstream(OpenAIUpstream):
    """Says its `words` on every route of `SPOKEN`."""

    def __init__(self) -> None:
        super().__init__()
        self.script = {path: self._said(*ways) for path, ways in SPOKEN.items()}

    def _said(
        self, whole: Callable[[Words], Any], stream: Callable[[Words], list[Any]] | None
    ) -> Callable[[dict[str, Any]], Any]:
        def said(body: dict[str, Any]) -> Any:
            return (stream if stream and body.get("stream") else whole)(self.words)

        return said
