"""From the upstream's answer to the caller's: whole or streamed, cut, withheld, stopped or broken.

Invariants
- A stream's head leaves only after the start is durable; its last chunk only after the finish is.
- A cut is told in the stream (`content_filter` and what cut it); a stop and a dead upstream break
  the connection, so that neither can be read as a clean end.
- The finish says what was released, not what was made.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from gatelift.errors import GateliftError
from gatelift.gateway.answers import (
    AnswerWriter,
    UpstreamAnswerError,
    parse_answer,
    parse_chunk,
)
from gatelift.gateway.dialect import ChatRequest
from gatelift.gateway.exchange import Event
from gatelift.gateway.http_messages import ClientGoneError
from gatelift.gateway.http_responder import ResponseState
from gatelift.gateway.recorded import RecordedExchange, send_reply
from gatelift.gateway.recording import Ending
from gatelift.gateway.releasing import Release
from gatelift.gateway.replies import Reply, error_reply
from gatelift.journal import JournalError
from gatelift.messages import Outcome
from gatelift.terms import CapUnit
from gatelift.trust import Refusal
from gatelift.wire.http_client import UpstreamResponse
from gatelift.wire.sse import SseParser

__all__ = ["Answering"]

_DONE = b"data: [DONE]\n\n"
_SSE_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


class Answering:
    """The answer of one exchange."""

    def __init__(
        self,
        exchange: RecordedExchange,
        chat: ChatRequest,
        release: Release,
        writer: AnswerWriter,
        *,
        input_bound: int,
    ) -> None:
        self._exchange = exchange
        self._chat = chat
        self._release = release
        self._writer = writer
        self._input_bound = input_bound

    async def answer(self, response: UpstreamResponse) -> None:
        """Answer the caller from the upstream's response."""
        if self._chat.stream:
            await self._stream(response)
        else:
            await self._whole(response)

    def _spent(self) -> dict[CapUnit, int]:
        release = self._release
        return {
            CapUnit.REQUESTS: 1,
            CapUnit.PARALLEL: 0,
            CapUnit.INPUT_TOKENS: release.input_tokens(self._input_bound),
            CapUnit.OUTPUT_TOKENS: release.output_tokens,
            CapUnit.BYTES_OUT: len(release.released),
        }

    def _ending(self, outcome: Outcome, reason: str = "", status: int = 200) -> Ending:
        release = self._release
        return Ending(
            outcome=outcome,
            reason=reason,
            status=status,
            upstream=self._exchange.forwarded,
            input_tokens=release.input_tokens(self._input_bound) if self._exchange.forwarded else 0,
            output_tokens=release.output_tokens,
            overrun_tokens=release.overrun_tokens,
            verdicts=self._exchange.verdicts + tuple(release.verdicts),
        )

    def _completed(self) -> Ending:
        cut_by = self._release.cut_by
        if cut_by is not None:
            return self._ending(Outcome.CUT, cut_by.rule)
        return self._ending(Outcome.SERVED)

    def _cut_note(self) -> dict[str, dict[str, str]] | None:
        cut_by = self._release.cut_by
        if cut_by is None:
            return None
        note = {
            "category": cut_by.category.value,
            "band": cut_by.band.value,
            "rule": cut_by.rule,
        }
        return {"gatelift": note}

    async def _whole(self, response: UpstreamResponse) -> None:
        release, exchange = self._release, self._exchange
        release.take(parse_answer(await response.read()), whole=True)
        release.end()
        if release.withheld or release.overrun_tokens:
            await self._withhold()
            return
        body = self._writer.whole(
            finish_reason=release.finish_reason,
            input_tokens=release.input_tokens(self._input_bound),
            output_tokens=release.output_tokens,
            extra=self._cut_note(),
        )
        await exchange.finish(self._completed(), body, self._spent())
        headers = ((b"content-type", b"application/json"), *exchange.headers)
        exchange.send_with_ticket(Reply(status=200, headers=headers, body=body))

    async def _withhold(self) -> None:
        release, note = self._release, self._cut_note()
        release.released.clear()
        if release.cut_by is not None:
            code, message = "withheld", "a safeguard withheld the answer"
        else:
            code = "upstream_failed"
            message = "the model server made more than was reserved; the answer was withheld"
        reply = error_reply(
            code,
            message,
            detail=dict(note["gatelift"]) if note else None,
            headers=self._exchange.headers,
        )
        ending = self._ending(Outcome.WITHHELD, code, reply.status)
        await self._exchange.finish(ending, None, self._spent())
        self._exchange.send_with_ticket(reply)

    async def _stream(self, response: UpstreamResponse) -> None:
        release, exchange, writer = self._release, self._exchange, self._writer
        responder = exchange.responder
        ticket = (b"gatelift-ticket", exchange.recorder.start_ticket().encode())
        responder.start_stream(200, [*_SSE_HEADERS, *exchange.headers, ticket])
        async for data in _events(response):
            deltas = release.take(parse_chunk(data))
            if deltas:
                exchange.steps.on(Event.RELEASE)
                await responder.write(b"".join(writer.chunk(delta) for delta in deltas))
            if release.stopped:
                break
        if not release.ended:
            raise UpstreamAnswerError("[DONE] without a finish reason", code="upstream_died")
        tail = b"".join(writer.chunk(delta) for delta in release.end())
        await exchange.finish(self._completed(), bytes(release.released), self._spent())
        last = tail + writer.chunk({}, finish_reason=release.finish_reason, extra=self._cut_note())
        if self._chat.wants_usage:
            last += writer.usage_chunk(
                release.input_tokens(self._input_bound), release.output_tokens
            )
        comment = b": gatelift-ticket " + exchange.recorder.finish_ticket().encode() + b"\n\n"
        await responder.finish(last + comment + _DONE)

    async def failed(self, error: GateliftError) -> None:
        """End an exchange whose upstream or caller broke off: never cleanly for the caller."""
        responder = self._exchange.responder
        if isinstance(error, ClientGoneError):
            await self._record_end(self._ending(Outcome.DISCONNECTED, error.code))
            return
        if responder.state is ResponseState.STREAMING:
            responder.abort(flush=True)
        await self._record_end(self._ending(Outcome.UPSTREAM_FAILED, error.code, 502))
        reply = error_reply(
            "upstream_failed",
            "the model server failed or answered out of its contract",
            headers=self._exchange.headers,
        )
        send_reply(responder, reply)

    async def stopped(self, refusal: Refusal) -> None:
        """Record an exchange that was stopped, and say so where nothing has left yet."""
        await self._record_end(self._ending(Outcome.STOPPED, refusal.code))
        reply = error_reply(refusal.code, refusal.message, headers=self._exchange.headers)
        send_reply(self._exchange.responder, reply)

    async def _record_end(self, ending: Ending) -> None:
        recorder = self._exchange.recorder
        if recorder.start is None or recorder.finish is not None:
            return
        release = self._release
        answer = bytes(release.released) if release.released else None
        try:
            await self._exchange.finish(ending, answer, self._spent())
        except JournalError as error:
            self._exchange.journal_failed(error)


async def _events(response: UpstreamResponse) -> AsyncIterator[bytes]:
    """Yield the data of each event until `[DONE]`; an end without it is a broken upstream."""
    parser = SseParser()
    async for data in response.chunks():
        for event in parser.feed(data):
            if event.data == b"[DONE]":
                return
            if event.data:
                yield event.data
    raise UpstreamAnswerError("the stream ended without [DONE]", code="upstream_died")
