"""From the upstream's answer to the caller's: whole or streamed, cut, withheld, stopped or broken.

Invariants
- A stream's head leaves only after the start is durable; its last event only after the finish is.
  A whole answer waits for its finish, which is behind its start in the same journal.
- A cut is told in the stream (a filter's finish reason and what cut it); a stop and a dead upstream
  break the connection, so that neither can be read as a clean end.
- The finish says what was released, not what was made.
"""

from __future__ import annotations

import time
from typing import Any, Final

from gatelift.errors import GateliftError
from gatelift.gateway.dialects import (
    AnswerCodec,
    AnswerEnd,
    Dialect,
    ModelRequest,
    UpstreamAnswerError,
)
from gatelift.gateway.http_messages import ClientGoneError
from gatelift.gateway.http_responder import ResponseState
from gatelift.gateway.recorded import RecordedExchange, send_reply
from gatelift.gateway.recording import Ending
from gatelift.gateway.refusals import SSE_HEADERS, refusal_completion
from gatelift.gateway.releasing import Release
from gatelift.gateway.replies import Reply, error_event
from gatelift.gateway.streamed_answer import StreamedAnswer
from gatelift.gateway.upstream_errors import told_of
from gatelift.journal import JournalError, Pending
from gatelift.messages import Outcome
from gatelift.plan import RefusalForm
from gatelift.terms import CapUnit, Prices, cost_of
from gatelift.trust import Refusal
from gatelift.wire.http_client import UpstreamResponse

__all__ = ["Answering"]

# What an exchange spends, in the order in which `_ended` counts it.
_UNITS: Final = (
    CapUnit.REQUESTS,
    CapUnit.PARALLEL,
    CapUnit.INPUT_TOKENS,
    CapUnit.OUTPUT_TOKENS,
    CapUnit.BYTES_OUT,
    CapUnit.COST,
    CapUnit.COVERAGE,
)


class Answering:
    """The answer of one exchange: read and written by `codec`, let through by `release`."""

    __slots__ = (
        "_codec",
        "_dialect",
        "_exchange",
        "_form",
        "_input_bound",
        "_prices",
        "_release",
        "_request",
    )

    def __init__(
        self,
        exchange: RecordedExchange,
        dialect: Dialect,
        request: ModelRequest,
        release: Release,
        codec: AnswerCodec,
        *,
        input_bound: int,
        form: RefusalForm,
        prices: Prices | None,
    ) -> None:
        self._exchange = exchange
        self._dialect = dialect
        self._request = request
        self._release = release
        self._codec = codec
        self._input_bound = input_bound
        self._form = form
        self._prices = prices

    async def answer(self, response: UpstreamResponse, start: Pending) -> None:
        """Answer the caller from the upstream's response; `start` is the record it waits for."""
        if self._request.stream:
            await start.durable
            await self._stream(response)
        else:
            await self._whole(response)

    def _ended(
        self, outcome: Outcome, reason: str = "", status: int = 200
    ) -> tuple[Ending, dict[CapUnit, int]]:
        """Return how the exchange ended and what it spent: the same tokens in both."""
        release, exchange = self._release, self._exchange
        forwarded = exchange.forwarded
        into = release.input_tokens(self._input_bound) if forwarded else 0
        out = release.output_tokens
        ending = Ending(
            outcome=outcome,
            reason=reason,
            status=status,
            upstream=forwarded,
            input_tokens=into,
            output_tokens=out,
            overrun_tokens=release.overrun_tokens,
            verdicts=exchange.verdicts + tuple(release.verdicts),
        )
        amounts = (
            1,
            0,
            into,
            out,
            release.bytes_out,
            cost_of(self._prices, into, out),
            int(forwarded),
        )
        return ending, dict(zip(_UNITS, amounts, strict=True))

    def _completed(self) -> tuple[Ending, dict[CapUnit, int]]:
        cut_by = self._release.cut_by
        if cut_by is not None:
            return self._ended(Outcome.CUT, cut_by.rule)
        return self._ended(Outcome.SERVED)

    def _cut_detail(self) -> dict[str, Any] | None:
        cut_by = self._release.cut_by
        if cut_by is None:
            return None
        return {
            "category": cut_by.category.value,
            "band": cut_by.band.value,
            "rule": cut_by.rule,
        }

    def _end(self) -> AnswerEnd:
        detail = self._cut_detail()
        note = None if detail is None else {"gatelift": detail}
        return self._release.end_for(self._input_bound, note)

    async def _whole(self, response: UpstreamResponse) -> None:
        release, exchange = self._release, self._exchange
        release.expect_whole()
        release.take(self._codec.parse_whole(await response.read()), whole=True)
        release.end()
        if release.withheld or release.overrun_tokens:
            await self._withhold()
            return
        body = self._codec.whole(self._end())
        ending, spent = self._completed()
        await exchange.finish(ending, body, spent)
        headers = ((b"content-type", b"application/json"), *exchange.headers)
        exchange.send_with_ticket(Reply(status=200, headers=headers, body=body))

    async def _withhold(self) -> None:
        exchange, cut_by = self._exchange, self._release.cut_by
        self._release.released.clear()
        if cut_by is None:
            code = "upstream_failed"
            message = "the model server made more than was reserved; the answer was withheld"
            reply = exchange.error(code, message)
        else:
            code = "withheld"
            reply = self._said_as_completion() or exchange.error(
                code, "a safeguard withheld the answer", detail=self._cut_detail()
            )
        ending, spent = self._ended(Outcome.WITHHELD, code, reply.status)
        await exchange.finish(ending, None, spent)
        exchange.send_with_ticket(reply)

    def _said_as_completion(self) -> Reply | None:
        release, exchange = self._release, self._exchange
        if self._form is RefusalForm.ERROR or release.cut_by is None:
            return None
        return refusal_completion(
            release.cut_by,
            self._dialect,
            self._request,
            request_id=exchange.id,
            created_s=int(time.time()),
            headers=exchange.headers,
            input_tokens=release.input_tokens(self._input_bound),
            output_tokens=release.output_tokens,
        )

    async def _stream(self, response: UpstreamResponse) -> None:
        release, exchange, codec = self._release, self._exchange, self._codec
        responder = exchange.responder
        ticket = (b"gatelift-ticket", exchange.recorder.start_ticket().encode())
        responder.start_stream(200, [*SSE_HEADERS, *exchange.headers, ticket])
        await StreamedAnswer(
            codec,
            release,
            responder,
            exchange.steps,
            max_event_bytes=self._request.event_bytes,
        ).pass_on(response)
        if not release.ended:
            raise UpstreamAnswerError("an end without a finish reason", code="upstream_died")
        tail = release.end()
        ending, spent = self._completed()
        await exchange.finish(ending, bytes(release.released), spent)
        comment = b": gatelift-ticket " + exchange.recorder.finish_ticket().encode() + b"\n\n"
        last = codec.last(self._end())
        await responder.finish(tail + comment + last)

    async def failed(self, error: GateliftError) -> None:
        """End an exchange whose upstream or caller broke off: never cleanly for the caller."""
        responder = self._exchange.responder
        if isinstance(error, ClientGoneError):
            await self._record_end(Outcome.DISCONNECTED, error.code)
            return
        told = told_of(error)
        reply = self._exchange.error(
            told.code, told.message, retry_after_s=told.retry_after_s, retry=told.retry
        )
        if responder.state is ResponseState.STREAMING:
            responder.abort(flush=True, last=error_event(reply, self._dialect.errors))
        await self._record_end(Outcome.UPSTREAM_FAILED, error.code, reply.status)
        send_reply(responder, reply)

    async def stopped(self, refusal: Refusal) -> None:
        """Record an exchange that was stopped, and say so where nothing has left yet."""
        await self._record_end(Outcome.STOPPED, refusal.code)
        reply = self._exchange.error(refusal.code, refusal.message)
        send_reply(self._exchange.responder, reply)

    async def _record_end(self, outcome: Outcome, reason: str, status: int = 200) -> None:
        recorder = self._exchange.recorder
        if recorder.start is None or recorder.finish is not None:
            return
        release = self._release
        answer = bytes(release.released) if release.released else None
        ending, spent = self._ended(outcome, reason, status)
        try:
            await self._exchange.finish(ending, answer, spent)
        except JournalError as error:
            self._exchange.journal_failed(error)
