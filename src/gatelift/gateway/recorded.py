"""An exchange as it is written down: denied, finished, settled, whatever happens to it.

Invariants
- The table in `exchange` is followed step by step; anything out of order closes the exchange.
- After `begin` every way out writes a start and one finish and settles every reservation.
- When the record cannot be written nothing leaves: neither an answer nor a clean end.
"""

from __future__ import annotations

import functools
from typing import Any, Final

from gatelift.encoding import ID_LETTERS_BYTES, Digest, make_id_of_letters
from gatelift.errors import GateliftError
from gatelift.gateway.admission import Denial
from gatelift.gateway.context import Context, Orphan, now_ms
from gatelift.gateway.dialects import ErrorShape
from gatelift.gateway.exchange import Event, Exchange
from gatelift.gateway.forward import Forward
from gatelift.gateway.http_responder import Responder, ResponseState
from gatelift.gateway.leases import Reservation
from gatelift.gateway.recording import Ending, Recorder, Subject
from gatelift.gateway.replies import Reply, error_reply, request_id_headers
from gatelift.journal import JournalError, Pending
from gatelift.messages import NO_CHARGES
from gatelift.safeguards import Verdict
from gatelift.terms import CapUnit

__all__ = ["NOTHING_SPENT", "RecordedExchange", "send_reply"]

NOTHING_SPENT: dict[CapUnit, int] = dict.fromkeys(CapUnit, 0)


# Named once: a look into the class of an enum costs as much as what is done with it.
_REQUESTS: Final = CapUnit.REQUESTS


@functools.lru_cache(maxsize=256)
def _served_from(stage: str, fingerprint: Digest) -> tuple[tuple[bytes, bytes], ...]:
    return (
        (b"gatelift-stage", stage.encode()),
        (b"gatelift-candidate", fingerprint.encode()),
    )


def _with_its_request(spent: dict[CapUnit, int]) -> dict[CapUnit, int]:
    # A request that came as far as a record spends one request, whatever else it spent.
    return spent if spent.get(_REQUESTS) == 1 else {**spent, _REQUESTS: 1}


def send_reply(responder: Responder, reply: Reply) -> None:
    """Send a whole reply if the caller is still there to read it."""
    if responder.state is ResponseState.AWAITED:
        responder.send(reply.status, reply.headers, reply.body)


class RecordedExchange:
    """What every recorded exchange shares, whatever its dialect."""

    def __init__(
        self, context: Context, responder: Responder, shape: ErrorShape = ErrorShape.OPENAI
    ) -> None:
        self.context = context
        self.responder = responder
        self._shape = shape
        self.steps = Exchange()
        letters = context.journal.entropy.take(ID_LETTERS_BYTES)
        self.id = make_id_of_letters("req", now_ms(), letters)
        self.headers = request_id_headers(self.id, shape)
        self.verdicts: tuple[Verdict, ...] = ()
        self.reservation: Reservation | None = None
        self._recorder: Recorder | None = None
        self._abandoned = False
        self.way: Forward | None = None

    @property
    def forwarded(self) -> bool:
        """Whether any byte of it may have reached a placement."""
        return self.way is not None and self.way.sent

    @property
    def recorder(self) -> Recorder:
        """The recorder; only after `begin`."""
        if self._recorder is None:
            raise GateliftError("an exchange was recorded before it began")
        return self._recorder

    def error(
        self,
        code: str,
        message: str,
        *,
        detail: dict[str, Any] | None = None,
        retry_after_s: int | None = None,
        retry: bool = True,
    ) -> Reply:
        """Return an error as this exchange's dialect words it, with the exchange's headers."""
        return error_reply(
            code,
            message,
            detail=detail,
            headers=self.headers,
            retry_after_s=retry_after_s,
            retry=retry,
            shape=self._shape,
        )

    def turn_away(self, code: str, message: str) -> None:
        """Answer what never became an exchange, and count it by reason."""
        self.steps.on(Event.TURN_AWAY)
        self.context.refused[code] += 1
        send_reply(self.responder, self.error(code, message))

    def begin(self, subject: Subject) -> None:
        """Name what is to be recorded."""
        self._recorder = Recorder(self.context.journal, subject)
        self.headers += _served_from(subject.stage, subject.fingerprint)

    def reserved(self, held: Reservation) -> None:
        """Note what was set aside, and tell the caller its request cap."""
        self.reservation = held
        self.steps.on(Event.RESERVE)
        caps = held.caps
        if _REQUESTS not in caps.units:
            return
        number = caps.units.index(_REQUESTS)
        slot = caps.slots[number]
        reset_s = max(0, caps.untils_ms[number] - now_ms()) // 1000
        said: tuple[tuple[bytes, bytes], ...] = (
            (b"x-ratelimit-limit-requests", b"%d" % slot[2]),
            (b"x-ratelimit-reset-requests", b"%ds" % reset_s),
        )
        left = self.context.leases.left(slot)
        if left is not None:
            said += ((b"x-ratelimit-remaining-requests", b"%d" % left),)
        self.headers += said

    def settle(self, spent: dict[CapUnit, int]) -> None:
        """Give back what was not spent; a request that came this far spends one request."""
        held, self.reservation = self.reservation, None
        if held is not None:
            self.context.leases.settle(held, _with_its_request(spent))

    def write_start(self, request: bytes) -> Pending:
        """Write the start, not yet durable. Raises `JournalError`."""
        held = self.reservation
        reserved = NO_CHARGES if held is None else held.charges()
        pending = self.recorder.write_start(request, reserved)
        self.steps.on(Event.START)
        return pending

    async def finish(self, ending: Ending, answer: bytes | None, spent: dict[CapUnit, int]) -> None:
        """Settle and write the finish; return once it is durable. Raises `JournalError`."""
        spent = _with_its_request(spent)
        held = self.reservation
        charges = NO_CHARGES if held is None else held.spent(spent)
        self.steps.on(Event.SETTLE)
        # Settled only once written: what was not is closed later, in the worst case for the caps.
        pending = self.recorder.write_finish(ending, answer, charges)
        self.settle(spent)
        await pending.durable
        self.steps.on(Event.FINISH)

    def send_with_ticket(self, reply: Reply) -> None:
        """Send a reply with the ticket of its finish."""
        ticket = self.recorder.finish_header()
        if self.responder.state is ResponseState.AWAITED:
            self.responder.send(reply.status, [*reply.headers, ticket], reply.body)

    async def deny(self, denial: Denial, request: bytes, said: Reply | None = None) -> None:
        """Record a denial and answer it: as an error, or as `said` where a stage words it anew."""
        self.steps.on(Event.DENY)
        reply = said or self.error(
            denial.code,
            denial.message,
            detail=denial.detail,
            retry_after_s=denial.retry_after_s,
            retry=denial.retry,
        )
        ending = Ending(
            outcome=denial.outcome,
            reason=denial.code,
            status=reply.status,
            verdicts=denial.verdicts or self.verdicts,
        )
        try:
            self.write_start(request)
            await self.finish(ending, reply.body, NOTHING_SPENT)
        except JournalError as error:
            self.journal_failed(error)
            return
        self.send_with_ticket(reply)

    def abandon(self) -> None:
        """Leave a start without a finish to be closed by the next beat, charged in full.

        The record may yet become durable when the disk is well again, or a fault of ours ended the
        exchange: either way the caps count the worst case. Does nothing to a finished exchange.
        """
        recorder = self._recorder
        if self._abandoned or recorder is None:
            return
        if recorder.start is not None and recorder.finish is None:
            self._abandoned = True
            held, self.reservation = self.reservation, None
            spent = held.charges() if held else NO_CHARGES
            if held is not None:
                self.context.leases.settle(held, {u: held.amount(u) or 0 for u in CapUnit})
            self.context.orphans.append(Orphan(recorder, spent, self.forwarded))

    def journal_failed(self, error: JournalError) -> None:
        """End an exchange whose record cannot be written."""
        self.context.refused[error.code] += 1
        held = self.reservation
        if held is not None and self.recorder.start is None:
            # Nothing was sent and nothing recorded: our own failure spends nothing of the caller's.
            self.reservation = None
            self.context.leases.settle(held, NOTHING_SPENT)
        self.abandon()
        if self.responder.state is ResponseState.STREAMING:
            self.responder.abort()
            return
        send_reply(
            self.responder,
            self.error(
                "journal_failed",
                "the record of this exchange cannot be written; nothing is served until it can",
                retry_after_s=2,
            ),
        )
