"""A request to the model, whatever its dialect: one exchange through every step.

    receive → identify → admit → reserve → inspect prompt → start → forward → inspect and release
    → settle → finish

Invariants
- There is one way for all dialects, streamed or not: what differs is reading and writing.
- No byte of an answer leaves before the start is durable, no end before the finish is.
- A stop cuts the caller before anything is written down.
- Whatever fails upstream, the caller never reads it as a clean end (`answering`).
"""

from __future__ import annotations

import asyncio
import functools
import time

import msgspec

from gatelift.errors import GateliftError
from gatelift.gateway.admission import (
    Admitted,
    Denial,
    admit,
    identify,
    inspect_prompt,
    needs_of,
    reserve,
    reserve_at_hand,
)
from gatelift.gateway.answering import Answering
from gatelift.gateway.context import Context, OpenExchange
from gatelift.gateway.dialects import UPSTREAM_HEADERS, Dialect, DialectError, ModelRequest
from gatelift.gateway.exchange import Event
from gatelift.gateway.forward import Forward
from gatelift.gateway.holdings import Identified
from gatelift.gateway.honey_touch import honey_model
from gatelift.gateway.http_messages import Request
from gatelift.gateway.http_responder import Responder
from gatelift.gateway.recorded import NOTHING_SPENT, RecordedExchange
from gatelift.gateway.recording import Subject
from gatelift.gateway.refusals import refusal_completion
from gatelift.gateway.releasing import Release, may_be_tokens
from gatelift.gateway.replies import Reply
from gatelift.journal import JournalError
from gatelift.messages import Outcome, VerifiedBundle
from gatelift.plan import RefusalForm
from gatelift.safeguards import Verdict

__all__ = ["ModelExchange"]


class _Asked(msgspec.Struct, frozen=True, gc=False):
    """A request that was admitted: what it says, what it may do, and what it is served from."""

    request: ModelRequest
    admitted: Admitted
    bundle: VerifiedBundle


class ModelExchange(RecordedExchange):
    """One request to the model. `run` does not raise for anything the outside does."""

    def __init__(
        self, context: Context, dialect: Dialect, request: Request, responder: Responder
    ) -> None:
        super().__init__(context, responder, dialect.errors)
        self._dialect = dialect
        self._body = request.body
        self._request = request
        self._open: OpenExchange | None = None
        self._answering: Answering | None = None
        self._prompt: bytes | None = None
        self._covers: tuple[str, ...] = ()

    async def run(self) -> None:
        """Serve the request."""
        bundle, who = self.context.holdings.bundle, self._identify()
        if bundle is None or who is None:
            return
        asked = self._admit(who, _carried(self._parse(bundle), bundle), bundle)
        if isinstance(asked, Denial):
            await self.deny(asked, self._body)
            return
        self.steps.on(Event.ADMIT)
        standing = asked.admitted.standing
        exchange = self.context.open_exchange(who, standing.envelope, self.responder)
        self._open = exchange
        try:
            denial = self._nowhere() or await self._reserve(asked)
            if denial is None:
                await self._serve(asked)
            else:
                await self._turn_down(denial, self._said(denial, asked))
        except asyncio.CancelledError:
            if exchange.stopped_by is None:
                raise
            exchange.task.uncancel()
            await self._stopped()
        finally:
            self.context.open.discard(exchange)
            self._learn()
            self.abandon()
            self.settle(NOTHING_SPENT)
            # They point back here: let go by hand, an exchange is no work for the garbage collector.
            self._answering = self.way = None

    def _identify(self) -> Identified | None:
        """Return whose request it is; where that is nobody, turn it away."""
        holdings = self.context.holdings
        if holdings.bundle is None or holdings.roster is None:
            self.turn_away("status_lapsed", "the gateway has nothing to serve from yet")
            return None
        who = identify(self.context, self._request)
        if who is None:
            self.turn_away(
                "invalid_api_key",
                "expected one key, as 'Authorization: Bearer gl_...' or 'x-api-key: gl_...', of a grant in force",
            )
            return None
        self.steps.on(Event.IDENTIFY)
        return who

    def _parse(self, bundle: VerifiedBundle) -> ModelRequest | Denial:
        code, param = "invalid_request", None
        verdicts: tuple[Verdict, ...] = ()
        try:
            request = self._dialect.parse(self._body)
        except DialectError as error:
            message, param = str(error), error.param
        else:
            if request.model == bundle.candidate.model_part.model:
                return request
            code, message, param = "not_found", f"no model {request.model[:60]!r} here", "model"
            verdicts = honey_model(self.context, request.model, self._request)
        return Denial(
            code=code,
            message=message,
            outcome=Outcome.STOPPED,
            detail={"param": param},
            verdicts=verdicts,
        )

    def _subject(
        self,
        who: Identified,
        bundle: VerifiedBundle,
        admitted: Admitted | Denial,
        request: ModelRequest | None,
    ) -> Subject:
        return Subject(
            request_id=self.id,
            release=bundle.plan.name,
            stage=who.grant.stage if isinstance(admitted, Denial) else admitted.standing.stage,
            certificate=None if isinstance(admitted, Denial) else admitted.standing.certificate,
            fingerprint=bundle.bundle.candidate,
            grant=who.grant,
            session=self.context.session(
                who.grant.id, request.end_user if request else "", bundle.plan.session_window_ms
            ),
            endpoint=self._dialect.endpoint,
            stream=request.stream if request else False,
            images=request.images if request else 0,
        )

    def _admit(
        self, who: Identified, request: ModelRequest | Denial, bundle: VerifiedBundle
    ) -> _Asked | Denial:
        """Return a request with what it may do, or why it may not go on; from here it is recorded."""
        if isinstance(request, Denial):
            self.begin(self._subject(who, bundle, request, None))
            return request
        admitted = admit(self.context, who, self._dialect.endpoint, request)
        self.begin(self._subject(who, bundle, admitted, request))
        return admitted if isinstance(admitted, Denial) else _Asked(request, admitted, bundle)

    def _nowhere(self) -> Denial | None:
        """Return the denial of a request that no placement would take.

        Asked before anything is reserved: our own failure spends nothing of the caller's.
        """
        lacking = self.context.placements.lacking()
        if lacking is None:
            return None
        return Denial(
            code=lacking.code,
            message=str(lacking),
            outcome=Outcome.UPSTREAM_FAILED,
            retry_after_s=lacking.retry_after_s,
        )

    async def _reserve(self, asked: _Asked) -> Denial | None:
        """Reserve, then inspect the prompt; return why the request may not go on."""
        context, standing = self.context, asked.admitted.standing
        needs = needs_of(asked.admitted, asked.bundle.plan.prices)
        known = self._known_counters(asked)
        held = reserve_at_hand(context, standing, needs, known) or await reserve(
            context, standing, needs, known
        )
        if isinstance(held, Denial):
            return held
        self.reserved(held)
        self.verdicts, denial = inspect_prompt(context, standing, asked.request)
        return denial

    def _known_counters(self, asked: _Asked) -> frozenset[str]:
        """Return the counters of coverage that need nothing of this prompt."""
        lines = asked.admitted.standing.cap_lines.coverage
        if not lines:
            return frozenset()
        if not asked.request.costs_input:
            # Its prompt is measured and not answered: it covers nothing, and is not known by it.
            return frozenset(line.counter for line in lines)
        known = self.context.known_prompts
        self._prompt = known.digest(asked.request)
        self._covers = tuple(line.counter for line in lines)
        return known.counters(lines, self._prompt)

    def _learn(self) -> None:
        """Know the prompt of an exchange that was forwarded: from now on it is charged already."""
        if self._covers and self.forwarded:
            self.context.known_prompts.learn(self._covers, self._prompt)

    def _said(self, denial: Denial, asked: _Asked) -> Reply | None:
        """Return the completion that says a safeguard's refusal, null where the stage errs."""
        if denial.refused_by is None:
            return None
        form = asked.bundle.plan.stage(asked.admitted.standing.stage).refusal
        if form is RefusalForm.ERROR:
            return None
        return refusal_completion(
            denial.refused_by,
            self._dialect,
            asked.request,
            request_id=self.id,
            created_s=int(time.time()),
            headers=self.headers,
        )

    async def _turn_down(self, denial: Denial, said: Reply | None = None) -> None:
        # What is denied needs no stop any more: its record and its reply are to be finished.
        if self._open is not None:
            self.context.open.discard(self._open)
        await self.deny(denial, self._body, said)

    def _answer(self, asked: _Asked) -> tuple[Answering, Release]:
        request, admitted = asked.request, asked.admitted
        suite = self.context.suite(admitted.standing)
        codec = self._dialect.open_answer(request, request_id=self.id, created_s=int(time.time()))
        release = Release(
            lambda: suite.open_answer(request.parts),
            codec,
            max_tokens=admitted.max_tokens * admitted.choices,
            max_bytes=admitted.max_bytes,
            may_have_read=lambda count: (
                not request.costs_input
                or may_be_tokens(
                    count,
                    b"\n".join([p.text.encode("utf-8", "surrogatepass") for p in request.parts]),
                )
            ),
        )
        answering = Answering(
            self,
            self._dialect,
            request,
            release,
            codec,
            input_bound=admitted.input_bound,
            form=asked.bundle.plan.stage(admitted.standing.stage).refusal,
            prices=asked.bundle.plan.prices,
        )
        return answering, release

    async def _serve(self, asked: _Asked) -> None:
        answering, release = self._answer(asked)
        self._answering = answering
        try:
            start = self.write_start(self._body)
            async with self._forward(asked) as served:
                self._learn()
                try:
                    await answering.answer(served.response, start)
                finally:
                    if release.overrun_tokens:
                        self.context.holdings.take_out(served.placement.name)
        except JournalError as error:
            self.journal_failed(error)
        except GateliftError as error:
            if self._open is not None and self._open.stopped_by is not None:
                await self._stopped()
            else:
                await answering.failed(error)

    def _forward(self, asked: _Asked) -> Forward:
        if self._open is None:
            raise GateliftError("an exchange is forwarded only after it was admitted")
        self.steps.on(Event.FORWARD)
        self.way = Forward(
            self.context.placements,
            self._dialect.path,
            extra=UPSTREAM_HEADERS.get(self._dialect.errors, ()),
            candidate=asked.bundle.bundle.candidate,
            body=lambda placement: self._dialect.upstream_body(
                asked.request,
                asked.bundle.candidate,
                model=placement.model,
                max_tokens=asked.admitted.max_tokens,
            ),
            judge=functools.partial(self.context.judge_again, self._open),
            stream=asked.request.stream,
        )
        return self.way

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


def _carried(request: ModelRequest | Denial, bundle: VerifiedBundle) -> ModelRequest | Denial:
    """Return a request, or why not where it would leave out the candidate's system prompt."""
    prompt = bundle.candidate.model_part.system_prompt
    if isinstance(request, Denial) or request.carries_system or prompt is None:
        return request
    return Denial(
        code="candidate_has_system_prompt",
        message="this endpoint has no place for the candidate's system prompt: use chat",
        outcome=Outcome.STOPPED,
    )
