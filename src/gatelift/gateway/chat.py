"""Chat completions: one request through every step.

    receive → identify → admit → reserve → inspect prompt → start → forward → inspect and release
    → settle → finish

Invariants
- No byte of an answer leaves before the start is durable, no end before the finish is.
- A stop cuts the caller before anything is written down.
- Whatever fails upstream, the caller never reads it as a clean end (`answering`).
"""

from __future__ import annotations

import asyncio
import time

from gatelift.errors import GateliftError
from gatelift.gateway.admission import (
    Admitted,
    Denial,
    admit,
    identify,
    inspect_prompt,
    needs_of,
    reserve,
)
from gatelift.gateway.answering import Answering
from gatelift.gateway.answers import AnswerWriter, UpstreamAnswerError
from gatelift.gateway.context import Context, OpenExchange, now_ms
from gatelift.gateway.dialect import ChatRequest, DialectError, parse_chat, upstream_body
from gatelift.gateway.exchange import Event
from gatelift.gateway.holdings import Identified
from gatelift.gateway.http_messages import Request
from gatelift.gateway.http_responder import Responder
from gatelift.gateway.recorded import NOTHING_SPENT, RecordedExchange
from gatelift.gateway.recording import Subject
from gatelift.gateway.releasing import BYTES_PER_TOKEN_BOUND, Release, least_tokens
from gatelift.journal import JournalError
from gatelift.messages import Outcome, Placement, VerifiedBundle
from gatelift.terms import Endpoint
from gatelift.watch import make_session
from gatelift.wire.http_client import UpstreamResponse

__all__ = ["ChatExchange"]


class ChatExchange(RecordedExchange):
    """One chat request. `run` does not raise for anything the outside does."""

    def __init__(self, context: Context, request: Request, responder: Responder) -> None:
        super().__init__(context, responder)
        self._request = request
        self._open: OpenExchange | None = None
        self._answering: Answering | None = None

    async def run(self) -> None:
        """Serve the request."""
        bundle = self.context.holdings.bundle
        if bundle is None or self.context.holdings.roster is None:
            self.turn_away("status_lapsed", "the gateway has nothing to serve from yet")
            return
        who = identify(self.context, self._request)
        if who is None:
            self.turn_away(
                "invalid_api_key",
                "expected a key as 'Authorization: Bearer gl_...' that a grant in force names",
            )
            return
        self.steps.on(Event.IDENTIFY)
        chat = self._parse(bundle)
        if isinstance(chat, Denial):
            self.begin(self._subject(who, bundle, chat))
            await self.deny(chat, self._request.body)
            return
        await self._admit(who, chat, bundle)

    def _parse(self, bundle: VerifiedBundle) -> ChatRequest | Denial:
        code, param = "invalid_request", None
        try:
            chat = parse_chat(self._request.body)
        except DialectError as error:
            message, param = str(error), error.param
        else:
            if chat.model == bundle.candidate.model_part.model:
                return chat
            code, message, param = "not_found", f"no model {chat.model[:60]!r} here", "model"
        return Denial(code=code, message=message, outcome=Outcome.STOPPED, detail={"param": param})

    def _subject(
        self,
        who: Identified,
        bundle: VerifiedBundle,
        admitted: Admitted | Denial,
        chat: ChatRequest | None = None,
    ) -> Subject:
        return Subject(
            request_id=self.id,
            release=bundle.plan.name,
            stage=who.grant.stage if isinstance(admitted, Denial) else admitted.stage,
            certificate=None if isinstance(admitted, Denial) else admitted.certificate,
            fingerprint=bundle.bundle.candidate,
            grant=who.grant,
            session=make_session(
                who.grant.id,
                chat.end_user if chat else "",
                now_ms(),
                bundle.plan.session_window_ms,
                self.context.session_secret,
            ),
            endpoint=Endpoint.CHAT,
            stream=chat.stream if chat else False,
        )

    async def _admit(self, who: Identified, chat: ChatRequest, bundle: VerifiedBundle) -> None:
        admitted = admit(self.context, who, chat)
        self.begin(self._subject(who, bundle, admitted, chat))
        if isinstance(admitted, Denial):
            await self.deny(admitted, self._request.body)
            return
        self.steps.on(Event.ADMIT)
        self._open = OpenExchange(who, admitted.envelope, self.responder)
        self.context.open.add(self._open)
        try:
            await self._reserve(who, chat, admitted, bundle)
        except asyncio.CancelledError:
            if self._open.stopped_by is None:
                raise
            self._open.task.uncancel()
            await self._stopped()
        finally:
            self.context.open.discard(self._open)
            self.abandon()
            self.settle(NOTHING_SPENT)

    async def _reserve(
        self, who: Identified, chat: ChatRequest, admitted: Admitted, bundle: VerifiedBundle
    ) -> None:
        placement = self.context.holdings.placement()
        if placement is None:
            # Before anything is reserved: our own failure spends nothing of the caller's.
            nowhere = Denial(
                code="no_placement",
                message="no enrolled placement of this candidate is up",
                outcome=Outcome.UPSTREAM_FAILED,
            )
            await self._turn_down(nowhere)
            return
        held = await reserve(
            self.context, who, admitted.envelope, admitted.stage, needs_of(admitted)
        )
        if isinstance(held, Denial):
            await self._turn_down(held)
            return
        self.reserved(held)
        self.verdicts, denial = inspect_prompt(self.context, admitted.envelope, chat)
        if denial is not None:
            await self._turn_down(denial)
            return
        await self._serve(chat, admitted, bundle, placement)

    async def _turn_down(self, denial: Denial) -> None:
        # What is denied needs no stop any more: its record and its reply are to be finished.
        if self._open is not None:
            self.context.open.discard(self._open)
        await self.deny(denial, self._request.body)

    async def _serve(
        self, chat: ChatRequest, admitted: Admitted, bundle: VerifiedBundle, placement: Placement
    ) -> None:
        body = upstream_body(
            chat, bundle.candidate, model=placement.model, max_tokens=admitted.max_tokens
        )
        writer = AnswerWriter(request_id=self.id, model=chat.model, created_s=int(time.time()))
        release = Release(
            self.context.suite(admitted.envelope).open_answer(chat.parts),
            writer,
            max_tokens=admitted.max_tokens,
            max_bytes=admitted.max_tokens * BYTES_PER_TOKEN_BOUND,
            least_input=sum(
                least_tokens(part.text.encode("utf-8", "surrogatepass")) for part in chat.parts
            ),
        )
        answering = Answering(self, chat, release, writer, input_bound=admitted.input_bound)
        self._answering = answering
        try:
            start = self.write_start(self._request.body)
            response = await self._forward(placement, body, stream=chat.stream)
            try:
                await asyncio.shield(start.durable)
                await answering.answer(response)
            finally:
                response.close()
                if release.overrun_tokens:
                    self.context.holdings.take_out(placement.name)
        except JournalError as error:
            self.journal_failed(error)
        except GateliftError as error:
            if self._open is not None and self._open.stopped_by is not None:
                await self._stopped()
            else:
                await answering.failed(error)

    async def _forward(
        self, placement: Placement, body: bytes, *, stream: bool
    ) -> UpstreamResponse:
        self.steps.on(Event.FORWARD)
        self.forwarded = True
        response = await self.context.upstream(placement).request(
            "POST",
            "/v1/chat/completions",
            self.context.upstream_headers(),
            body,
            keep=not stream,
        )
        if response.status != 200:
            response.close()
            raise UpstreamAnswerError(
                f"the model server answered {response.status}", code="upstream_failed"
            )
        return response

    async def _stopped(self) -> None:
        """Settle an exchange that an order, a lapse or a drift has cut."""
        refusal = self._open.stopped_by if self._open else None
        if refusal is None:
            return
        if self._answering is not None:
            await self._answering.stopped(refusal)
            return
        denial = Denial(code=refusal.code, message=refusal.message, outcome=Outcome.STOPPED)
        await self._turn_down(denial)
