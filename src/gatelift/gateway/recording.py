"""Writing an exchange down: its start, its finish, its tickets.

Invariants
- A start is written before the first upstream byte; every start gets one finish, also when the
  caller leaves, the upstream dies or an order cuts.
- Content stands as a commitment under a fresh salt. The salt goes to the caller inside the ticket
  and is kept nowhere.
"""

from __future__ import annotations

import time

import msgspec

from gatelift.encoding import Digest
from gatelift.gateway.leases import Reservation
from gatelift.journal import Pending, Writer
from gatelift.messages import (
    SALT_BYTES,
    Charge,
    Finish,
    Outcome,
    Record,
    RecordedVerdict,
    RecordRef,
    Start,
    commit_content,
    encode_ticket,
)
from gatelift.safeguards import Verdict
from gatelift.terms import Endpoint
from gatelift.trust import Grant

__all__ = ["Ending", "Recorder", "Subject"]


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an exchange before it starts."""

    request_id: str
    release: str
    stage: str
    certificate: Digest | None
    fingerprint: Digest
    grant: Grant
    session: str
    endpoint: Endpoint
    stream: bool
    images: int = 0


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How an exchange ended."""

    outcome: Outcome
    reason: str = ""
    upstream: bool = False
    status: int = 200
    input_tokens: int = 0
    output_tokens: int = 0
    overrun_tokens: int = 0
    verdicts: tuple[Verdict, ...] = ()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Recorder:
    """Writes one exchange's records into the worker's journal."""

    def __init__(self, journal: Writer, subject: Subject) -> None:
        self._journal = journal
        self._subject = subject
        self._request_salt = journal.entropy.take(SALT_BYTES)
        self._answer_salt = journal.entropy.take(SALT_BYTES)
        self.start: Pending | None = None
        self.finish: Pending | None = None

    def write_start(self, request: bytes, reservation: Reservation | None) -> Pending:
        """Write the start; raises `JournalError` when the disk does not take it."""
        subject, journal = self._subject, self._journal
        at = _now_ms()

        def make(seq: int) -> Record:
            return Start(
                v=1,
                node=journal.node,
                worker=journal.worker,
                run=journal.run,
                seq=seq,
                at=at,
                request_id=subject.request_id,
                release=subject.release,
                stage=subject.stage,
                certificate=subject.certificate,
                fingerprint=subject.fingerprint,
                grant=subject.grant.id,
                principal=subject.grant.principal,
                organisation=subject.grant.organisation,
                session=subject.session,
                endpoint=subject.endpoint,
                stream=subject.stream,
                request=commit_content(self._request_salt, request),
                request_bytes=len(request),
                reserved=reservation.charges() if reservation else (),
                images=subject.images,
            )

        self.start = journal.append(make)
        return self.start

    def write_finish(
        self, ending: Ending, answer: bytes | None, spent: tuple[Charge, ...]
    ) -> Pending:
        """Write the finish of the start written before; raises `JournalError`."""
        subject, journal, start = self._subject, self._journal, self.start
        if start is None:
            raise RuntimeError("a finish was asked for before a start")
        at = _now_ms()
        of = RecordRef(node=journal.node, worker=journal.worker, run=journal.run, seq=start.seq)

        def make(seq: int) -> Record:
            return Finish(
                v=1,
                node=journal.node,
                worker=journal.worker,
                run=journal.run,
                seq=seq,
                at=at,
                of=of,
                request_id=subject.request_id,
                release=subject.release,
                stage=subject.stage,
                grant=subject.grant.id,
                organisation=subject.grant.organisation,
                session=subject.session,
                outcome=ending.outcome,
                reason=ending.reason,
                upstream=ending.upstream,
                status=ending.status,
                answer=None if answer is None else commit_content(self._answer_salt, answer),
                answer_bytes=len(answer or b""),
                input_tokens=ending.input_tokens,
                output_tokens=ending.output_tokens,
                spent=spent,
                overrun_tokens=ending.overrun_tokens,
                verdicts=tuple(
                    RecordedVerdict(
                        category=verdict.category,
                        band=verdict.band,
                        rule=verdict.rule,
                        side=verdict.side,
                        action=verdict.action,
                    )
                    for verdict in ending.verdicts
                ),
            )

        # Until it is durable the start stands for it: a kill leaves an orphan, charged in full.
        self.finish = journal.append(make, lazily=True)
        return self.finish

    def start_ticket(self) -> str:
        """Return the ticket of the start; only once it is durable."""
        if self.start is None:
            raise RuntimeError("no start was written")
        return encode_ticket(self.start.ticket(self._request_salt))

    def finish_ticket(self) -> str:
        """Return the ticket of the finish; only once it is durable."""
        if self.finish is None:
            raise RuntimeError("no finish was written")
        return encode_ticket(self.finish.ticket(self._answer_salt))
