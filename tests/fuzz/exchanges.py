"""One exchange with a hostile upstream, played without sockets.

The gateway's own `Answering` and `Release` are driven, with a caller and a book in the places of a
connection and a journal. They hold what is always true: one finish for each start, counts within
what was reserved, and no ticket of a finish that was not written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, NamedTuple, cast

from gatelift.encoding import encode_json
from gatelift.gateway.answering import Answering
from gatelift.gateway.dialects import DIALECTS, Dialect, ModelRequest, UpstreamAnswerError
from gatelift.gateway.exchange import State
from gatelift.gateway.http_responder import ResponseState
from gatelift.gateway.recorded import RecordedExchange
from gatelift.gateway.recording import Ending
from gatelift.gateway.releasing import Release
from gatelift.gateway.replies import Reply, error_reply
from gatelift.journal import Pending
from gatelift.messages import Outcome
from gatelift.plan import RefusalForm
from gatelift.safeguards import Suite
from gatelift.terms import CapUnit, Category, Posture, SafeguardTerms, Scope
from gatelift.wire.http_client import UpstreamResponse
from gatelift.wire.sse import SseError

__all__ = ["Answered", "Asked", "answered", "asked"]

_LOOP: Final = asyncio.new_event_loop()
_SUITE: Final = Suite(
    terms=SafeguardTerms(postures={Category.LEAK: Posture.CUT}),
    scope=Scope(tools=("f",), agent_steps=3),
    canaries=("amber lantern",),
)
_TOKENS: Final = 12
_BYTES: Final = 96
_INPUT_BOUND: Final = 40
# A journal takes 64 bits; a usage may sum three counts.
_MOST_TOKENS: Final = 2**33

Asked = tuple[Dialect, ModelRequest]


class _Caller:
    """What the caller reads, in the place of a responder."""

    def __init__(self) -> None:
        self.state = ResponseState.AWAITED
        self.status = 0
        self.said = b""

    def start_stream(self, status: int, headers: object) -> None:
        assert (self.state, status) == (ResponseState.AWAITED, 200)
        self.state = ResponseState.STREAMING

    def push(self, data: bytes) -> bool:
        assert self.state is ResponseState.STREAMING
        self.said += data
        return True

    async def finish(self, data: bytes) -> None:
        self.push(data)
        self.state = ResponseState.SENT

    def abort(self, *, flush: bool = False, last: bytes = b"") -> None:
        self.said += last if flush else b""
        self.state = ResponseState.CUT

    def send(self, status: int, headers: object, body: bytes) -> None:
        assert self.state is ResponseState.AWAITED
        self.state, self.status, self.said = ResponseState.SENT, status, body


class _Book:
    """What is written down, in the place of a recorder and its steps."""

    start: Final = True
    state: Final = State.FORWARDED

    def __init__(self) -> None:
        self.finish: Ending | None = None
        self.durable: asyncio.Future[None] = _LOOP.create_future()
        self.durable.set_result(None)

    def on(self, event: object) -> None:
        """Take a step: their order is tried elsewhere."""

    def start_ticket(self) -> str:
        return "start"

    def finish_ticket(self) -> str:
        assert self.finish is not None, "a ticket of a finish that was not written"
        return "finish"


class _Exchange:
    """One exchange between a caller and a book."""

    id, headers, verdicts, forwarded = "req_1", (), (), True

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self.recorder = self.steps = _Book()
        self.responder = _Caller()

    def error(self, code: str, message: str, **more: Any) -> Reply:
        return error_reply(code, message, headers=(), shape=self._dialect.errors, **more)

    async def finish(self, ending: Ending, answer: object, spent: dict[CapUnit, int]) -> None:
        assert self.recorder.finish is None, "two finishes"
        assert 0 <= spent[CapUnit.OUTPUT_TOKENS] <= _TOKENS
        assert 0 <= spent[CapUnit.INPUT_TOKENS] <= _INPUT_BOUND
        assert 0 <= ending.overrun_tokens <= _MOST_TOKENS
        self.recorder.finish = ending

    def send_with_ticket(self, reply: Reply) -> None:
        self.recorder.finish_ticket()
        self.responder.send(reply.status, reply.headers, reply.body)


class _Response:
    """An upstream's response whose bytes came whole, and then its end."""

    def __init__(self, parts: list[bytes]) -> None:
        self._parts = parts

    async def read(self) -> bytes:
        return b"".join(self._parts)

    async def pour(self, take: Callable[[bytes], bool]) -> bool:
        return not all(map(take, self._parts))


class Answered(NamedTuple):
    """What came of it: to the caller, to the book, and what may have been said at all."""

    said: bytes
    status: int
    clean: bool
    outcome: Outcome
    released: bytes
    ours: bool


def answered(asked_for: Asked, parts: list[bytes]) -> Answered:
    """Play an exchange; any error but an upstream's is raised."""
    dialect, request = asked_for
    codec = dialect.open_answer(request, request_id="r", created_s=0)
    max_bytes = request.data_bytes or _BYTES
    release = Release(
        lambda: _SUITE.open_answer(request.parts),
        codec,
        max_tokens=_TOKENS if request.generates else 0,
        max_bytes=max_bytes,
    )
    exchange = _Exchange(dialect)
    answering = Answering(
        cast("RecordedExchange", exchange),
        dialect,
        request,
        release,
        codec,
        input_bound=_INPUT_BOUND,
        form=RefusalForm.COMPLETION,
        prices=None,
    )

    async def play() -> None:
        response, start = _Response(parts), exchange.recorder
        try:
            await answering.answer(cast("UpstreamResponse", response), cast("Pending", start))
        except (UpstreamAnswerError, SseError) as error:
            await answering.failed(error)

    _LOOP.run_until_complete(play())
    caller, ending = exchange.responder, exchange.recorder.finish
    assert ending is not None
    assert caller.state in (ResponseState.SENT, ResponseState.CUT)
    assert release.bytes_out <= max_bytes
    return Answered(
        caller.said,
        caller.status,
        caller.state is ResponseState.SENT and caller.status in (0, 200),
        ending.outcome,
        bytes(release.released),
        release.stopped,
    )


def asked(path: str, **fields: Any) -> Asked:
    """Return a request at a route, with its dialect."""
    dialect = DIALECTS[path]
    return dialect, dialect.parse(encode_json({"model": "m", **fields}))
