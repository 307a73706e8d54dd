"""Exchanges of the requests logs: complete, paired, and each under a permission that stood.

Invariants
- Records of one (node, worker, run) follow each other from 0: an omitted record shows as a gap.
- Every start has exactly one finish that repeats it, or is reported as open; only an abort may be
  written by another run (the keeper closes what a dead worker left, at what it had reserved).
- Of an exchange whose names were erased no grant is asked for: nobody can find it any more.
- Every other exchange that went upstream lies under a certificate of its stage, logged and in its window,
  under a logged grant or an overseer's own, and under no stop that must have arrived by then.

Does not count charges: `caps` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from gatelift.ledger.audit.authority import SLACK_MS, Authority, CertificateFact
from gatelift.ledger.audit.erasures import Erased
from gatelift.ledger.audit.own_calls import OwnFact
from gatelift.ledger.audit.report import Findings
from gatelift.ledger.audit.requests import Batch
from gatelift.messages import Finish, Outcome, Start
from gatelift.plan import UnknownStageError
from gatelift.terms import Endpoint, Envelope, at_least
from gatelift.trust import Grant

__all__ = ["Exchange", "Exchanges"]


class Exchange(NamedTuple):
    """A start with its finish, none while it is open. `where` is the place of the finish.

    `is_nameless` where an erasure took the names that a grant would be found by; `own` where an
    overseer's own grant admitted it, whose `grant` is none until it is disclosed.
    """

    start: Start
    finish: Finish | None
    where: str
    fact: CertificateFact | None
    grant: Grant | None
    is_nameless: bool = False
    own: OwnFact | None = None


Take = Callable[[Exchange], None]
_Ref = tuple[str, str, str, int]
_Kind = tuple[int, int, int, str, Endpoint]
_Wrongs = tuple[tuple[str, str], ...]


class Exchanges:
    """Pairs starts and finishes over all logs and hands each exchange to `take`."""

    def __init__(
        self, authority: Authority, findings: Findings, take: Take, erased: Erased
    ) -> None:
        self._erased = erased
        self._nameless: set[_Ref] = set()
        self._authority = authority
        self._findings = findings
        self._take = take
        self._next_seq: dict[tuple[str, str, str], int] = {}
        self._open: dict[_Ref, tuple[Start, str]] = {}
        self._early: list[tuple[Finish, str]] = []
        self._outside: dict[_Kind, tuple[_Wrongs, CertificateFact, Envelope, Grant | None]] = {}
        self.paired = 0
        self.upstream = 0
        self.open = 0

    def fold(self, batch: Batch) -> None:
        """Take the records of the next batch of a log."""
        entry = batch.entry
        run = (entry.node, entry.worker, entry.run)
        expected = self._next_seq.get(run, 0)
        if entry.seq != expected:
            self._findings.error(
                "sequence_gap" if entry.seq > expected else "sequence_overlap",
                batch.where,
                f"expected record {expected} of {'/'.join(run)}, got {entry.seq}: "
                "records are missing or stand twice",
            )
        self._next_seq[run] = entry.seq + entry.n
        for line in batch.erased:
            if self._erased.hides_names(line):
                self._nameless.add((*run, entry.seq + line.i))
        for record in batch.records:
            if isinstance(record, Start):
                self._open[_ref(record)] = (record, batch.where)
            elif isinstance(record, Finish):
                self._finish(record, batch.where, last_chance=False)

    def close(self) -> None:
        """Pair what a keeper closed in an earlier batch, and report what is left."""
        for finish, where in self._early:
            self._finish(finish, where, last_chance=True)
        for start, where in self._open.values():
            self.open += 1
            self._findings.warn(
                "open_start",
                where,
                f"record {start.worker}/{start.run}/{start.seq} has no finish here: it was still "
                "open at the export, or its finish is missing",
            )
            fact = self._fact_of(start)
            grant, own = self._authority.grant_of(start), self._authority.own_of(start)
            self._take(Exchange(start, None, where, fact, grant, own=own))

    def _finish(self, finish: Finish, where: str, *, last_chance: bool) -> None:
        of = finish.of
        found = self._open.pop((of.node, of.worker, of.run, of.seq), None)
        if found is None and not last_chance:
            self._early.append((finish, where))
            return
        if found is None:
            self._findings.error(
                "finish_without_start",
                where,
                f"record {finish.worker}/{finish.run}/{finish.seq} finishes "
                f"{of.worker}/{of.run}/{of.seq}, which is not there or was finished before",
            )
            return
        start = found[0]
        self.paired += 1
        self._check_pair(start, finish, where)
        grant = self._authority.grant_of(start)
        is_nameless = bool(self._nameless) and _ref(start) in self._nameless
        own = self._authority.own_of(start)
        exchange = Exchange(start, finish, where, self._fact_of(start), grant, is_nameless, own)
        if finish.upstream:
            self.upstream += 1
            self._check_permission(exchange, finish)
        self._take(exchange)

    def _check_pair(self, start: Start, finish: Finish, where: str) -> None:
        if (
            start.request_id != finish.request_id
            or start.release != finish.release
            or start.stage != finish.stage
            or start.grant != finish.grant
            or start.organisation != finish.organisation
            or start.session != finish.session
            or finish.request not in (None, start.request)
        ):
            self._report_differences(start, finish, where)
        if start.run != finish.run or start.worker != finish.worker or start.node != finish.node:
            self._check_foreign(start, finish, where)

    def _report_differences(self, start: Start, finish: Finish, where: str) -> None:
        for name in ("request_id", "release", "stage", "grant", "organisation", "session"):
            if getattr(start, name) != getattr(finish, name):
                self._findings.error(
                    "finish_differs",
                    where,
                    f"{name}: expected {getattr(start, name)!r} as in its start, "
                    f"got {getattr(finish, name)!r}",
                )
        if finish.request not in (None, start.request):
            self._findings.error(
                "finish_differs", where, "request: it commits to another than its start"
            )

    def _check_foreign(self, start: Start, finish: Finish, where: str) -> None:
        if finish.outcome is not Outcome.ABORTED or finish.node != start.node:
            self._findings.error(
                "foreign_finish",
                where,
                f"expected an abort by the keeper of {start.node}, got {finish.outcome.value!r} "
                f"by {finish.node}/{finish.worker}/{finish.run}",
            )
        if finish.spent != start.reserved:
            self._findings.error(
                "foreign_finish",
                where,
                "expected an exchange closed by the keeper to be charged all it had reserved",
            )

    def _fact_of(self, start: Start) -> CertificateFact | None:
        if start.certificate is None:
            return None
        return self._authority.certificates.get(start.certificate)

    def _check_permission(self, exchange: Exchange, finish: Finish) -> None:
        start, fact, where = exchange.start, exchange.fact, exchange.where
        if fact is None:
            self._findings.error(
                "no_certificate",
                where,
                f"record {start.worker}/{start.run}/{start.seq} went upstream under "
                f"{start.certificate or 'no certificate'}, which the releases log does not hold",
            )
            return
        certificate = fact.certificate
        said = (start.release, start.stage, start.fingerprint)
        if said != (certificate.release, certificate.stage, certificate.fingerprint):
            self._error(
                "wrong_certificate", exchange, f"its certificate is for another than {said}"
            )
        if start.at < fact.at - SLACK_MS or not (
            certificate.not_before - SLACK_MS <= start.at < certificate.not_after + SLACK_MS
        ):
            self._error(
                "outside_window",
                exchange,
                f"started at {start.at}; the certificate was logged at {fact.at} and holds from "
                f"{certificate.not_before} to {certificate.not_after}",
            )
        self._check_orders(exchange, fact, finish)

    def _check_orders(self, exchange: Exchange, fact: CertificateFact, finish: Finish) -> None:
        start, grant = exchange.start, exchange.grant
        orders = self._authority.binding_orders(fact, start, grant, start.at)
        envelope = self._authority.envelope(fact, orders)
        if envelope is None:
            stops = [held.order.id for held in orders if held.order.ceiling is None]
            self._error(
                "served_under_stop",
                exchange,
                f"started at {start.at}, after order {', '.join(stops)} must have arrived",
            )
            return
        later = self._authority.binding_orders(fact, start, grant, finish.at)
        if finish.outcome is Outcome.SERVED and self._authority.envelope(fact, later) is None:
            self._error(
                "outlived_stop",
                exchange,
                f"served on until {finish.at}, after a stop must have cut it",
            )
        self._check_envelope(exchange, fact, envelope, finish)

    def _check_envelope(
        self, exchange: Exchange, fact: CertificateFact, envelope: Envelope, finish: Finish
    ) -> None:
        start, grant, limit = exchange.start, exchange.grant, envelope.scope.output_tokens
        if limit is not None and finish.output_tokens > limit:
            self._error(
                "outside_envelope",
                exchange,
                f"expected at most {limit} output tokens, got {finish.output_tokens}",
            )
        if grant is None and exchange.own is None and not exchange.is_nameless:
            self._error(
                "no_grant",
                exchange,
                f"no grant {start.grant!r} of {start.principal} in {start.organisation} was "
                "logged and in force",
            )
        key = (id(fact), id(envelope), id(grant), start.stage, start.endpoint)
        known = self._outside.get(key)
        if known is None:
            found = tuple(_outside(start, fact, envelope, grant))
            # What the ids stand for is kept with them, so that no other thing can get the same id.
            known = self._outside[key] = (found, fact, envelope, grant)
        for code, message in known[0]:
            self._error(code, exchange, message)

    def _error(self, code: str, exchange: Exchange, message: str) -> None:
        start = exchange.start
        self._findings.error(
            code, exchange.where, f"record {start.worker}/{start.run}/{start.seq}: {message}"
        )


def _ref(start: Start) -> _Ref:
    return (start.node, start.worker, start.run, start.seq)


def _outside(
    start: Start, fact: CertificateFact, envelope: Envelope, grant: Grant | None
) -> Iterator[tuple[str, str]]:
    """Yield how an exchange lies outside of its envelope and grant, whenever and however long it was."""
    if envelope.scope.endpoints is not None and start.endpoint not in envelope.scope.endpoints:
        yield "outside_envelope", f"endpoint {start.endpoint.value}"
    if grant is None:
        return
    lacking = set(envelope.audience.requires) - set(grant.proofs)
    if not at_least(envelope.audience.tier, grant.tier) or lacking:
        yield (
            "outside_envelope",
            f"tier {grant.tier.value} with proofs {list(grant.proofs)} is not in the audience",
        )
    try:
        beyond = fact.plan.stage_index(start.stage) > fact.plan.stage_index(grant.stage)
    except UnknownStageError:
        beyond = True
    if beyond or start.endpoint not in grant.endpoints:
        asked = f"stage {start.stage!r}, endpoint {start.endpoint.value}"
        yield "outside_grant", f"{asked}; the grant is for {grant.stage!r}"
