"""Writing an exchange down: its start, its finish, its tickets.

Invariants
- A start is written before the first upstream byte; every start gets one finish, also when the
  caller leaves, the upstream dies or an order cuts.
- Content stands as a commitment under a fresh salt. The salt goes to the caller inside the ticket
  and is kept nowhere.
"""

from __future__ import annotations

import functools
import time

import msgspec

from gatelift.encoding import Digest
from gatelift.journal import Pending, Writer
from gatelift.messages import (
    SALT_BYTES,
    Outcome,
    RecordedVerdict,
    RecordForm,
    commit_content,
    commit_openings,
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


# Few grants speak at a time, and the certificates they speak under change in days.
@functools.lru_cache(maxsize=1024)
def _form(
    release: str,
    stage: str,
    certificate: Digest | None,
    fingerprint: Digest,
    grant: str,
    principal: str,
    organisation: str,
    endpoint: Endpoint,
) -> RecordForm:
    return RecordForm(
        release=release,
        stage=stage,
        certificate=certificate,
        fingerprint=fingerprint,
        grant=grant,
        principal=principal,
        organisation=organisation,
        endpoint=endpoint,
    )


class Recorder:
    """Writes one exchange's records into the worker's journal."""

    __slots__ = ("_form", "_journal", "_request", "_salts", "_subject", "finish", "start")

    def __init__(self, journal: Writer, subject: Subject) -> None:
        self._journal = journal
        self._subject = subject
        grant = subject.grant
        self._form = _form(
            subject.release,
            subject.stage,
            subject.certificate,
            subject.fingerprint,
            grant.id,
            grant.principal,
            grant.organisation,
            subject.endpoint,
        )
        # The request's, and behind it the answer's.
        self._salts = journal.entropy.take(2 * SALT_BYTES)
        self._request: Digest | None = None
        self.start: Pending | None = None
        self.finish: Pending | None = None

    def write_start(self, request: bytes, reserved: str) -> Pending:
        """Write the start; raises `JournalError` when the disk does not take it.

        `reserved` is the JSON of the charges (`charging`), `NO_CHARGES` where nothing is reserved.
        """
        subject = self._subject
        self._request = commit_content(self._salts[:SALT_BYTES], request)
        fields = self._form.start(
            at=_now_ms(),
            request_id=subject.request_id,
            session=subject.session,
            stream=subject.stream,
            request=self._request,
            request_bytes=len(request),
            reserved=reserved,
            images=subject.images,
        )
        self.start = self._journal.append_fields("start", fields)
        return self.start

    def write_finish(self, ending: Ending, answer: bytes | None, spent: str) -> Pending:
        """Write the finish of the start written before; raises `JournalError`."""
        subject, start = self._subject, self.start
        if start is None:
            raise RuntimeError("a finish was asked for before a start")
        fields = self._form.finish(
            at=_now_ms(),
            of=f"{{{self._journal.place}{start.seq}}}",
            request_id=subject.request_id,
            session=subject.session,
            outcome=ending.outcome,
            reason=ending.reason,
            upstream=ending.upstream,
            status=ending.status,
            answer=None if answer is None else commit_content(self._salts[SALT_BYTES:], answer),
            answer_bytes=len(answer or b""),
            input_tokens=ending.input_tokens,
            output_tokens=ending.output_tokens,
            spent=spent,
            overrun_tokens=ending.overrun_tokens,
            verdicts=_recorded(ending.verdicts) if ending.verdicts else (),
            request=self._request,
            openings=commit_openings(self._salts[:SALT_BYTES], self._salts[SALT_BYTES:]),
        )
        # Until it is durable the start stands for it: a kill leaves an orphan, charged in full.
        self.finish = self._journal.append_fields("finish", fields, lazily=True)
        return self.finish

    def start_ticket(self) -> str:
        """Return the ticket of the start; only once it is durable."""
        if self.start is None:
            raise RuntimeError("no start was written")
        return self.start.ticket(self._salts[:SALT_BYTES], self._salts[:SALT_BYTES]).decode()

    def finish_ticket(self) -> str:
        """Return the ticket of the finish; only once it is durable."""
        return self.finish_header()[1].decode()

    def finish_header(self) -> tuple[bytes, bytes]:
        """Return the header that carries the ticket of the finish; only once it is durable."""
        if self.finish is None:
            raise RuntimeError("no finish was written")
        ticket = self.finish.ticket(self._salts[SALT_BYTES:], self._salts[:SALT_BYTES])
        return b"gatelift-ticket", ticket


def _recorded(verdicts: tuple[Verdict, ...]) -> tuple[RecordedVerdict, ...]:
    return tuple(
        RecordedVerdict(
            category=verdict.category,
            band=verdict.band,
            rule=verdict.rule,
            side=verdict.side,
            action=verdict.action,
        )
        for verdict in verdicts
    )
