"""The rows of a run and the evidence that sums them up.

Invariants
- The stored JSON of `Results` is what the evidence's `results` digest names; counts are made from
  the rows and from nothing else.
- A row holds no prompt; it holds the answer's text only where that was asked for. The item is drawn
  again from seed and data set, the exchange found by the place of its record.
- A void run makes no evidence: its commit runs into its deadline.
"""

from __future__ import annotations

from importlib import metadata

import msgspec

from gatelift.assess.scorers import Verdict
from gatelift.encoding import Digest, encode_json, sha256_digest
from gatelift.messages import Commit, Evidence, RecordRef, Ticket
from gatelift.trust import STATEMENT_TYPE, MessageSigner, Subject, encode_statement, sign_envelope

__all__ = [
    "EvidenceDraft",
    "Results",
    "Row",
    "draft",
    "sign_commit",
    "sign_evidence",
    "summary",
]

TOOL = "gatelift.assess"


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What became of one item.

    `outcome` is the record's word, or `error` with the code as `reason`. `record` is the digest of
    the finish record, `answer` the digest of the released text, both null where there is none.
    """

    id: str
    kind: str
    verdict: Verdict
    outcome: str
    reason: str
    place: RecordRef | None
    record: Digest | None
    answer: Digest | None
    text: str | None = None


class Results(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run in full."""

    v: int
    commit: str
    assessment: str
    metric: str
    fingerprint: Digest
    data_set: Digest
    seed: str
    log_size: int
    stage: str
    under: tuple[str, ...]
    rows: tuple[Row, ...]


class EvidenceDraft(msgspec.Struct, frozen=True, kw_only=True):
    """Evidence, not yet signed, with the bytes of its results and the tickets beside the rows."""

    evidence: Evidence
    results: bytes
    tickets: tuple[Ticket | None, ...]


def _count(rows: tuple[Row, ...], verdict: Verdict) -> int:
    return sum(row.verdict is verdict for row in rows)


def tool_version() -> str:
    """Return the version of this package as it is installed."""
    try:
        return metadata.version("gatelift")
    except metadata.PackageNotFoundError:
        return "not installed"


def draft(
    results: Results,
    tickets: tuple[Ticket | None, ...],
    *,
    evidence_id: str,
    started_ms: int,
    finished_ms: int,
) -> EvidenceDraft:
    """Return the evidence that sums up `results`."""
    data = encode_json(results)
    rows = results.rows
    success = _count(rows, Verdict.SUCCESS)
    evidence = Evidence(
        id=evidence_id,
        commit=results.commit,
        fingerprint=results.fingerprint,
        assessment=results.assessment,
        metric=results.metric,
        n=success + _count(rows, Verdict.FAILURE),
        s=success,
        undetermined=_count(rows, Verdict.UNDETERMINED),
        errors=_count(rows, Verdict.ERROR),
        tool=TOOL,
        tool_version=tool_version(),
        seed=results.seed,
        stage=results.stage,
        started=started_ms,
        finished=finished_ms,
        results=sha256_digest(data),
        under=results.under,
    )
    return EvidenceDraft(evidence=evidence, results=data, tickets=tickets)


def summary(results: Results) -> dict[str, dict[str, int]]:
    """Return the number of each verdict by kind of item: a total hides which kind got through."""
    table: dict[str, dict[str, int]] = {}
    for row in results.rows:
        counts = table.setdefault(row.kind, dict.fromkeys(Verdict, 0))
        counts[row.verdict] += 1
    return {kind: dict(table[kind]) for kind in sorted(table)}


def sign_evidence(drafted: EvidenceDraft, key: MessageSigner) -> bytes:
    """Return the envelope of the evidence, about its candidate, signed by an evaluator's key."""
    return _sign("evidence", drafted.evidence.fingerprint, drafted.evidence, key)


def sign_commit(commit: Commit, key: MessageSigner) -> bytes:
    """Return the envelope of a commit, signed by an evaluator's key."""
    return _sign("commit", commit.fingerprint, commit, key)


def _sign(kind: str, fingerprint: Digest, predicate: msgspec.Struct, key: MessageSigner) -> bytes:
    subject = Subject(name="candidate", digest=fingerprint)
    payload = encode_statement(kind, (subject,), predicate)
    return sign_envelope(payload, STATEMENT_TYPE, [key])
