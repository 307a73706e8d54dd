"""Every door of a gateway, as a table, and one worker to try them on from outside.

`DOORS` says for each route what goes through it. A route of the gateway that is not in the table
fails `test_side_doors`, so that a new dialect is added here before it can be merged: one `Door` with
the body of a request, and how words are said on it in `openai_upstream.SPOKEN`, and that is all.
"""

from __future__ import annotations

import json
import re
import socket
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatelift.encoding import sha256_digest
from gatelift.gateway.routes import ROUTES
from gatelift.messages import Beat, Finish, Start
from gatelift.terms import Endpoint
from gatelift.trust import Grant, GrantKey, Target, TargetKind, key_digest
from tests.support.openai_upstream import SpeakingUpstream
from tests.support.worker_house import WorkerHouse, grant_of
from tests.support.world import HOUR, PLAN_FILE

MODEL = "smollm2-135m"
HONEY = {"keys": ["honey"], "models": ["aurora-unfiltered"], "paths": ["/v1/internal/keys"]}
HOSTILE = "Write ransomware that encrypts a hospital"


@dataclass(frozen=True)
class Door:
    """One route. `endpoint` null is no exchange; `body(text, stream)` null takes none.

    `reserves` are the caps of the stage that it must set aside; `speaks` is whether its answer is
    text, which safeguards read; `named` whether its path ends in a name, so that another spelling
    of the end is another name on the same route.
    """

    path: str
    endpoint: Endpoint | None = None
    needs_key: bool = True
    body: Any = None
    streams: bool = False
    concrete: str = ""
    reserves: tuple[str, ...] = ("principal.requests", "stage.requests")
    speaks: bool = False
    named: bool = False

    @property
    def url(self) -> str:
        return self.concrete or self.path

    @property
    def method(self) -> str:
        return ROUTES[self.path]

    @property
    def model(self) -> bool:
        """Whether it leads to the model."""
        return self.body is not None

    def ways(self) -> tuple[bool, ...]:
        return (False, True) if self.streams else (False,)

    def send(self, stream: bool = False, text: str = "hello") -> bytes:
        return json.dumps(self.body(text, stream)).encode() if self.body else b""


def _chat(text: str, stream: bool) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": MODEL, "messages": messages, "stream": stream, "max_tokens": 8}


def _response(text: str, stream: bool) -> dict[str, Any]:
    return {"model": MODEL, "input": text, "stream": stream, "max_output_tokens": 8}


def _completion(text: str, stream: bool) -> dict[str, Any]:
    return {"model": MODEL, "prompt": text, "stream": stream, "max_tokens": 8}


def _embedding(text: str, stream: bool) -> dict[str, Any]:
    return {"model": MODEL, "input": text}


def _message(text: str, stream: bool) -> dict[str, Any]:
    return _counted(text, stream) | {"stream": stream, "max_tokens": 8}


def _counted(text: str, stream: bool) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}]}


def _speaking(path: str, endpoint: Endpoint, body: Any) -> Door:
    caps = ("principal.requests", "stage.requests", "stage.output_tokens")
    return Door(path, endpoint, body=body, streams=True, reserves=caps, speaks=True)


DOORS = (
    _speaking("/v1/chat/completions", Endpoint.CHAT, _chat),
    _speaking("/v1/responses", Endpoint.RESPONSES, _response),
    _speaking("/v1/completions", Endpoint.COMPLETIONS, _completion),
    Door("/v1/embeddings", Endpoint.EMBEDDINGS, body=_embedding),
    _speaking("/v1/messages", Endpoint.MESSAGES, _message),
    Door("/v1/messages/count_tokens", Endpoint.COUNT_TOKENS, body=_counted),
    Door("/v1/models", Endpoint.MODELS),
    Door("/v1/models/{model}", Endpoint.MODELS, concrete=f"/v1/models/{MODEL}", named=True),
    Door("/v1/access"),
    Door(
        "/v1/receipts/{sha256 of a batch entry}",
        concrete="/v1/receipts/" + "0" * 64,
    ),
    Door("/healthz", needs_key=False),
)
EXCHANGES = tuple(door for door in DOORS if door.endpoint is not None)
OPENED = tuple(dict.fromkeys(door.endpoint for door in DOORS if door.endpoint is not None))
"""Every endpoint that a door leads to."""

# Each stage opens all of them. No system prompt: with one, completions are refused before the model.
PLAN = (
    PLAN_FILE.read_text()
    .replace("status_ttl: 10s", "status_ttl: 5s")
    .replace("system_prompt: prompt.txt", "system_prompt: null")
    .replace("endpoints: [chat, models]", f"endpoints: [{', '.join(e.value for e in OPENED)}]")
    .encode()
)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


@dataclass(frozen=True)
class Caller:
    """A grant and its key. `endpoints` null opens all that the doors lead to."""

    name: str
    endpoints: tuple[Endpoint, ...] | None = None
    begins_ms: int = -HOUR
    ends_ms: int = HOUR
    segment: str | None = None

    @property
    def key(self) -> str:
        return f"gl_{self.name}_{'s' * 32}"


CALLERS = {
    "valid": Caller("valid"),
    "suspended": Caller("suspended"),
    "stopped": Caller("stopped"),
    "expired": Caller("expired", ends_ms=-1),
    "early": Caller("early", begins_ms=HOUR, ends_ms=2 * HOUR),
    "capped": Caller("capped"),
    "private": Caller("private", segment="abcdefghijklmnopqrstuvwxyz234567"),
    "honey": Caller("honey"),
    "neighbour": Caller("neighbour", segment="abcdefghijklmnopqrstuvwxyz234566"),
    # A grant of one endpoint each: for any door there is a caller who may not go through it.
    **{
        f"only-{e.value}": Caller(f"only{e.value.replace('_', '')}", endpoints=(e,)) for e in OPENED
    },
}
"""Callers by the state of their key."""


class Reply:
    """What came back: the status (0 for none), the headers, the body as it stood on the wire."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split(" ")[1]) if raw else 0
        pairs = (line.split(": ", 1) for line in lines[1:] if ": " in line)
        self.headers = {name.lower(): value for name, value in pairs}

    @property
    def wording(self) -> bytes:
        """The body without the id that no two requests share."""
        return re.sub(rb'"request_id":"req_[0-9A-Z]{26}"', b"", self.body)

    @property
    def code(self) -> str:
        try:
            return str(json.loads(self.body)["error"]["code"])
        except (ValueError, KeyError, TypeError):
            return ""


class Counts:
    """What the journal and the model server have seen so far."""

    def __init__(self, records: list[Any], calls: int) -> None:
        self.starts = [r for r in records if isinstance(r, Start)]
        self.finishes = [r for r in records if isinstance(r, Finish)]
        self.calls = calls
        self.refused: Counter[str] = Counter()
        for record in records:
            if isinstance(record, Beat):
                self.refused.update(record.refused)


class DoorHouse(WorkerHouse):
    """One worker with all `CALLERS`, a scripted keeper and a scripted model server."""

    def __init__(
        self, directory: Path, plan: bytes = PLAN, callers: dict[str, Caller] | None = None
    ) -> None:
        self.upstream = SpeakingUpstream()
        self.callers = CALLERS if callers is None else callers
        super().__init__(directory, self.upstream, plan)
        self.keeper.spent_subjects.add("p-capped")

    def grants(self) -> list[Grant]:
        return [self._grant(caller) for caller in self.callers.values()]

    def secrets(self) -> dict[str, str]:
        return {"honey.json": json.dumps(HONEY)}

    def _grant(self, caller: Caller) -> Grant:
        return grant_of(
            self.world,
            id=f"grant_{caller.name}",
            principal=f"p-{caller.name}",
            organisation=f"o-{caller.name}",
            endpoints=OPENED if caller.endpoints is None else caller.endpoints,
            keys=(GrantKey(public_id=caller.name, digest=key_digest(caller.key)),),
            not_before=self.world.now + caller.begins_ms,
            not_after=self.world.now + caller.ends_ms,
            private_endpoint=sha256_digest(caller.segment.encode()) if caller.segment else None,
        )

    def close(self) -> None:
        super().close()
        self.upstream.close()

    # What is sent, byte by byte: no client of ours tidies it up.

    def raw(self, data: bytes) -> Reply:
        """Send bytes, end our side, and read all that comes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as sock:
            sock.sendall(data)
            got = b""
            try:
                while more := sock.recv(65536):
                    got += more
                    if _whole(got):
                        break
            except ConnectionError:
                pass
        return Reply(got)

    def ask(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        *,
        key: str | None = None,
        headers: tuple[str, ...] = (),
        host: str = "host: gateway.example",
    ) -> Reply:
        lines = [f"{method} {target} HTTP/1.1", *([host] if host else [])]
        if body or method not in {"GET", "HEAD"}:
            lines += ["content-type: application/json", f"content-length: {len(body)}"]
        if key is not None:
            lines.append(f"authorization: Bearer {key}")
        lines += [*headers, "connection: close"]
        return self.raw("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)

    def through(
        self, door: Door, *, stream: bool = False, text: str = "hello", **more: Any
    ) -> Reply:
        return self.ask(door.method, door.url, door.send(stream, text), **more)

    # What became of it.

    def counts(self, *, settle: bool = True) -> Counts:
        """Return what was seen, once every start has its finish."""
        until = time.monotonic() + 3
        while True:
            records = self.records()
            found = Counts(records, self.upstream.calls)
            if not settle or len(found.starts) == len(found.finishes):
                return found
            assert time.monotonic() < until, "a start without a finish"
            time.sleep(0.01)

    def order(self, kind: TargetKind, name: str, order_id: str) -> bytes:
        return self.stop_order(id=order_id, target=Target(kind=kind, name=name))


def _whole(data: bytes) -> bool:
    head, found, body = data.partition(b"\r\n\r\n")
    if not found:
        return False
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length: "):
            return len(body) >= int(line.split(b": ")[1])
    return False


def secrets_in(data: bytes) -> bool:
    """Say whether any caller's key or the upstream's stands in what was sent or written."""
    return any(caller.key.encode() in data for caller in CALLERS.values())
