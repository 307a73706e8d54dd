"""What a review is judged from, as one file: root, plan, candidate, runs, earlier reviews, certificate.

Invariants
- Everything in it that somebody signed is there as it was signed, so that a machine which reaches nobody
  opens it again: digests of plan, candidate and runs are compared with what the review binds.
- Signers are read from verified signatures under the root in the packet. The packet's own digest of the
  root is shown; `--root-file` holds it against a pinned one.
- What only the log says (when it was logged, whether it was withdrawn, why the gate is shut) is
  control's word: a sheet says so.

Gathering asks control; everything else here is pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from gatelift.cli.errors import InputError
from gatelift.encoding import Digest, decode_json, encode_json, parse_digest, sha256_digest
from gatelift.errors import CallerError
from gatelift.messages import Evidence, PlanAdoption, Review
from gatelift.plan import Candidate, Plan, parse_candidate, parse_plan
from gatelift.trust import (
    STATEMENT_TYPE,
    Certificate,
    Root,
    Signer,
    parse_envelope,
    parse_statement,
    verify_root,
    verify_signers,
)

__all__ = [
    "Opened",
    "OpenedReview",
    "OpenedRun",
    "Packet",
    "check_packet",
    "encode_packet",
    "gather",
    "open_packet",
    "parse_packet",
]

P = TypeVar("P", bound=msgspec.Struct)
Fetch = Callable[[Digest], bytes]


class LoggedEnvelope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An entry's envelope, and what the log says of it. `counts`: usable, and not withdrawn."""

    envelope: str
    at: int
    index: int
    counts: bool


class Packet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it for one stage. `at` and `size` are the log's; `earlier` are plans and candidates by digest.

    `certificate` is the one that stands; `shut` is why the gate is, in control's words.
    """

    v: int
    release: str
    stage: str
    at: int
    size: int
    root: str
    plan: str
    candidate: str
    adoption: str
    runs: tuple[LoggedEnvelope, ...]
    reviews: tuple[LoggedEnvelope, ...]
    certificate: str | None
    earlier: dict[Digest, str]
    shut: tuple[str, ...]


class OpenedRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run with who signed it."""

    evidence: Evidence
    digest: Digest
    at: int
    counts: bool
    signers: tuple[Signer, ...]


class OpenedReview(msgspec.Struct, frozen=True, kw_only=True):
    """An earlier review of the stage."""

    review: Review
    digest: Digest
    at: int
    index: int
    counts: bool
    signers: tuple[Signer, ...]


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """A packet whose parts were read. `earlier` holds the plans and candidates of last time."""

    packet: Packet
    root: Root
    root_digest: Digest
    plan: Plan
    plan_digest: Digest
    candidate: Candidate
    fingerprint: Digest
    adopted_by: tuple[Signer, ...]
    runs: tuple[OpenedRun, ...]
    reviews: tuple[OpenedReview, ...]
    certificate: Certificate | None

    def earlier_plan(self, digest: Digest) -> Plan | None:
        """Return the plan of a digest, if the packet has it."""
        if digest == self.plan_digest:
            return self.plan
        text = self.packet.earlier.get(digest)
        return None if text is None else parse_plan(text.encode("utf-8"))

    def earlier_candidate(self, digest: Digest) -> Candidate | None:
        """Return the candidate of a fingerprint, if the packet has it."""
        if digest == self.fingerprint:
            return self.candidate
        text = self.packet.earlier.get(digest)
        return None if text is None else parse_candidate(text.encode("utf-8"))


def gather(state: Mapping[str, Any], stage: str, fetch: Fetch, shut: tuple[str, ...]) -> Packet:
    """Return the packet of a stage from control's state; `fetch` returns checked bytes by digest."""

    def text(digest: str) -> str:
        return fetch(parse_digest(digest)).decode("utf-8")

    def logged(each: Mapping[str, Any], *, counts: bool) -> LoggedEnvelope:
        return LoggedEnvelope(
            envelope=text(each["digest"]), at=each["at"], index=each["index"], counts=counts
        )

    names = [each["name"] for each in state["stages"]]
    if stage not in names:
        raise InputError(f"expected one of the stages {names}, got {stage!r}")
    place = state["stages"][names.index(stage)]
    reviews = [each for each in state["reviews"] if each["review"]["stage"] == stage]
    certificate = place["certificate"]
    last = [each["review"] for each in reviews] + ([certificate] if certificate else [])
    now = {state["plan_digest"], state["fingerprint"]}
    older = {each[part] for each in last for part in ("plan", "fingerprint")} - now
    runs = [e for e in state["evidence"] if e["evidence"]["fingerprint"] == state["fingerprint"]]
    before = {digest for each in last for digest in each["evidence"]}
    runs += [e for e in state["evidence"] if e["digest"] in before and e not in runs]
    return Packet(
        v=1,
        release=state["release"],
        stage=stage,
        at=state["at"],
        size=state["size"],
        root=text(state["root_digest"]),
        plan=text(state["plan_digest"]),
        candidate=text(state["fingerprint"]),
        adoption=text(state["plan_entry"]),
        runs=tuple(logged(e, counts=e["usable"] and not e["revoked"]) for e in runs),
        reviews=tuple(logged(each, counts=not each["revoked"]) for each in reviews),
        certificate=text(place["certificate_digest"]) if certificate else None,
        earlier={parse_digest(digest): text(digest) for digest in sorted(older)},
        shut=shut,
    )


def open_packet(packet: Packet) -> Opened:
    """Return the packet with its parts read; raises `InputError` for one that does not hold."""
    try:
        return _open(packet)
    except CallerError as error:
        raise InputError(f"this sheet cannot be read: {error}", code="bad_sheet") from error


def _open(packet: Packet) -> Opened:
    if packet.v != 1:
        raise InputError(f"expected a sheet of version 1, got {packet.v}", code="bad_sheet")
    for digest, text in packet.earlier.items():
        if sha256_digest(text.encode("utf-8")) != digest:
            raise InputError(f"expected bytes of {digest} in the sheet", code="bad_sheet")
    # Its own time of issue: whether it has expired is the log's question, not the sheet's.
    root = verify_root(packet.root.encode("utf-8"), now_ms=0)
    certificate = None
    if packet.certificate is not None:
        certificate, _ = _read(packet.certificate, "certificate", Certificate, root)
    runs = []
    for run in packet.runs:
        evidence, by = _read(run.envelope, "evidence", Evidence, root)
        digest = sha256_digest(run.envelope.encode("utf-8"))
        runs.append(
            OpenedRun(evidence=evidence, digest=digest, at=run.at, counts=run.counts, signers=by)
        )
    reviews = []
    for each in packet.reviews:
        review, by = _read(each.envelope, "review", Review, root)
        digest = sha256_digest(each.envelope.encode("utf-8"))
        reviews.append(
            OpenedReview(
                review=review,
                digest=digest,
                at=each.at,
                index=each.index,
                counts=each.counts,
                signers=by,
            )
        )
    plan, candidate = packet.plan.encode("utf-8"), packet.candidate.encode("utf-8")
    return Opened(
        packet=packet,
        root=root,
        root_digest=sha256_digest(packet.root.encode("utf-8")),
        plan=parse_plan(plan),
        plan_digest=sha256_digest(plan),
        candidate=parse_candidate(candidate),
        fingerprint=sha256_digest(candidate),
        adopted_by=_read(packet.adoption, "plan", PlanAdoption, root)[1],
        runs=tuple(runs),
        reviews=tuple(reviews),
        certificate=certificate,
    )


def _read(text: str, kind: str, shape: type[P], root: Root) -> tuple[P, tuple[Signer, ...]]:
    data = text.encode("utf-8")
    try:
        payload, signers = verify_signers(data, STATEMENT_TYPE, root)
    except CallerError:
        # Signed under an earlier root: control admitted it; its signers are not known from here.
        payload, signers = parse_envelope(data).unverified_payload(), ()
    return parse_statement(payload, kind, shape).predicate, signers


def check_packet(opened: Opened, review: Review) -> None:
    """Return if the packet is of what the review binds; raises `InputError`."""
    packet = opened.packet
    bound = (review.release, review.stage, review.plan, review.fingerprint)
    if bound != (packet.release, packet.stage, opened.plan_digest, opened.fingerprint):
        raise InputError(
            f"this sheet is of stage {packet.stage!r} under plan {opened.plan_digest[:23]}, the "
            f"review of {review.stage!r} under {review.plan[:23]}: carry the two that belong together",
            code="sheet_of_another",
        )
    missing = sorted(set(review.evidence) - {run.digest for run in opened.runs})
    if missing:
        raise InputError(
            f"the review binds evidence that the sheet does not show: {missing}",
            code="sheet_of_another",
        )


def encode_packet(packet: Packet) -> bytes:
    """Return the bytes of a packet's file."""
    return encode_json(packet)


def parse_packet(data: bytes) -> Packet:
    """Return the packet in a file's bytes; raises `EncodingError`."""
    return decode_json(data, Packet)
