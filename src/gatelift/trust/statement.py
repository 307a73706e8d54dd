"""in-toto statements: one typed predicate about named subjects.

Invariants
- A statement's type is part of what is signed, so an order can never be read as a certificate.
- Every subject carries a sha256 digest in lowercase hex.
- The predicate is parsed strictly: an unknown field is refused, because a checker that ignores a
  field may permit what the signer forbade.

Follows in-toto Attestation Framework v1 (spec/v1/statement.md).
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from gatelift.encoding import Digest, decode_json, encode_json, parse_digest
from gatelift.errors import CallerError

__all__ = [
    "STATEMENT_V1",
    "Statement",
    "StatementError",
    "Subject",
    "encode_statement",
    "parse_statement",
    "predicate_type",
]

STATEMENT_V1 = "https://in-toto.io/Statement/v1"
P = TypeVar("P")


class StatementError(CallerError):
    """A statement is of another kind or about something else."""

    code = "bad_statement"


class _RawSubject(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    digest: dict[str, str]


class _LooseStatement(msgspec.Struct, frozen=True, kw_only=True):
    type_: str = msgspec.field(name="_type")
    subject: tuple[_RawSubject, ...]
    predicate_type: str = msgspec.field(name="predicateType")
    predicate: dict[str, object]


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What a statement is about: a name and its digest."""

    name: str
    digest: Digest


class Statement(msgspec.Struct, Generic[P], frozen=True, kw_only=True):
    """A parsed statement of a known kind."""

    kind: str
    subjects: tuple[Subject, ...]
    predicate: P


def predicate_type(kind: str) -> str:
    """Return the predicate type URI of one of our kinds."""
    return f"urn:gatelift:{kind}:v1"


def encode_statement(kind: str, subjects: tuple[Subject, ...], predicate: msgspec.Struct) -> bytes:
    """Return the payload bytes of a statement."""
    return encode_json(
        {
            "_type": STATEMENT_V1,
            "subject": [
                {"name": s.name, "digest": {"sha256": s.digest.removeprefix("sha256:")}}
                for s in subjects
            ],
            "predicateType": predicate_type(kind),
            "predicate": predicate,
        }
    )


def parse_statement(payload: bytes, kind: str, shape: type[P]) -> Statement[P]:
    """Return the statement of `kind` in `payload`; raises `StatementError` or `EncodingError`."""
    raw = decode_json(payload, _LooseStatement)
    if raw.type_ != STATEMENT_V1 or raw.predicate_type != predicate_type(kind):
        raise StatementError(
            f"expected a statement of type {predicate_type(kind)!r}, "
            f"got {raw.predicate_type[:80]!r}",
            code="wrong_type",
        )
    if not raw.subject:
        raise StatementError("expected at least one subject, got none")
    subjects = tuple(
        Subject(name=s.name, digest=parse_digest(f"sha256:{s.digest.get('sha256', '')}"))
        for s in raw.subject
    )
    try:
        predicate = msgspec.convert(raw.predicate, shape, strict=True)
    except (msgspec.ValidationError, CallerError) as error:
        raise StatementError(f"not a {kind}: {error}") from error
    return Statement(kind=kind, subjects=subjects, predicate=predicate)
