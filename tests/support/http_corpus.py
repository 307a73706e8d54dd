"""The smuggling corpus (tests/vectors/http) and an independent reader to judge it by.

The corpus is data: each case names the RFC section, the bytes, the answers, what the handler may see
and whether the connection closes. `h11` is the second reader: written by others, in another
language family of parsers (regular expressions and state tables) than the one under test.
"""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h11

FOLDER = Path(__file__).parents[1] / "vectors" / "http"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
MAX_BODY_BYTES = 65_536
"""The server of these tests takes no larger body; the corpus is written for this bound."""


def _expand(value: Any) -> bytes:
    if isinstance(value, dict):
        return str(value.get("prefix", "")).encode("latin-1") + _expand(value["repeat"]) * int(
            value["times"]
        )
    return str(value).encode("latin-1")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case. `ends` means that the client ends its side; `h11` says how the other reader differs."""

    name: str
    section: str
    raw: bytes
    answers: list[int]
    seen: list[tuple[bytes, bytes, bytes]]
    closes: bool
    ends: bool = False
    interim: bool = False
    h11: str = ""
    note: str = ""
    methods: list[bytes] = field(default_factory=list)


def _case(found: dict[str, Any]) -> Case:
    seen = [(_expand(m), _expand(t), _expand(b)) for m, t, b in found["seen"]]
    return Case(
        name=found["name"],
        section=found["section"],
        raw=b"".join(_expand(part) for part in found["raw"]),
        answers=found["answers"],
        seen=seen,
        closes=found["closes"],
        ends=found.get("ends", False),
        interim=found.get("interim", False),
        h11=found.get("h11", ""),
        note=found.get("note", ""),
        methods=[method for method, _, _ in seen],
    )


def load(name: str) -> list[Case]:
    """Return the cases of one file."""
    return [_case(found) for found in json.loads((FOLDER / f"{name}.json").read_text("ascii"))]


NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


def pieces(data: bytes, cut: str, chance: random.Random) -> list[bytes]:
    """Cut `data`: `whole`, `bytes` (at most 500 pieces of a long one), or `random`."""
    if cut == "whole":
        return [data]
    if cut == "bytes":
        step = 1 if len(data) < 1500 else len(data) // 500
        return [data[i : i + step] for i in range(0, len(data), step)]
    bounds = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randrange(1, 6)))
    ends = [0, *bounds, len(data)]
    return [data[a:b] for a, b in itertools.pairwise(ends) if a < b]


@dataclass(frozen=True)
class Answer:
    """One answer as a caller reads it."""

    status: int
    headers: dict[str, str]
    body: bytes
    interim: int


def read_answers(data: bytes, methods: list[bytes]) -> tuple[list[Answer], bytes]:
    """Return the whole answers in `data` and what is left; `methods` are those of the requests."""
    found: list[Answer] = []
    while data:
        method = methods[len(found)] if len(found) < len(methods) else b"GET"
        client = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
        client.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
        client.send(h11.EndOfMessage())
        client.receive_data(data)
        interim, body, head = 0, b"", None
        while not isinstance(event := client.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                return found, data
            if isinstance(event, h11.InformationalResponse):
                interim += 1
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
        assert head is not None
        headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
        found.append(Answer(head.status_code, headers, body, interim))
        data = client.trailing_data[0]
    return found, data


Message = tuple[bytes, bytes, bytes]


def read_as_h11(data: bytes) -> tuple[list[Message], str]:
    """Return the requests that h11 reads from `data`, and why it stopped (empty: at the end)."""
    server = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    server.receive_data(data)
    found: list[Message] = []
    head: h11.Request | None = None
    body = b""
    try:
        while True:
            event = server.next_event()
            if isinstance(event, h11.Request):
                head, body = event, b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                found.append((head.method, head.target, body))
                if server.our_state is h11.SEND_RESPONSE:
                    server.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                if server.our_state is h11.SEND_BODY:
                    server.send(h11.EndOfMessage())
                if server.our_state is h11.SWITCHED_PROTOCOL:
                    return found, "tunnels"
                if server.our_state is h11.MUST_CLOSE or server.their_state is h11.MUST_CLOSE:
                    return found, "closes"
                server.start_next_cycle()
            else:
                return found, "" if event is h11.NEED_DATA else repr(event)
    except h11.RemoteProtocolError as error:
        return found, str(error)
