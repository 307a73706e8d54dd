r"""Tombstones: what stands in a record's place once its bytes and its salt are gone.

    record, salt ──leaf──> batch's root (signed, logged)
    tombstone    : the leaf itself, the erasure's id, and the record without whom it was about

Invariants
- A tombstone is shaped like its record, so whoever counts records counts it unchanged: place, time,
  stage, certificate, outcome, amounts and verdicts stand. `redact` is the only way to make one.
- The request's id and the commitments to prompt and answer are gone. Names become aliases: of a
  session always, of principal, grant and organisation by the erasure's scope, in counters too.
- An alias belongs to one erasure: one name has one alias and one alias one name, so sums by subject and
  counts by unit come out as before. It is not made from the name alone, so nobody finds the name by trying.
- The leaf is no longer proved by bytes. What a tombstone says is vouched for by the erasure's digest of
  all its lines, and the batch's root says which leaf it was.

In a journal a tombstone has exactly the length of the payload it replaces: leaf (32 bytes), then the id,
a newline and the record, compressed (zlib, RFC 1950), then zeros.

Knows no files; `entropy` for aliases is an argument.
"""

from __future__ import annotations

import hmac
import zlib
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from gatelift.encoding import Digest, decode_json, encode_json, parse_digest
from gatelift.errors import CallerError
from gatelift.messages.erasures import ErasureError, ErasureScope
from gatelift.messages.records import Beat, Charge, Finish, Record, Start

__all__ = [
    "LEAF_BYTES",
    "ErasedLine",
    "Renaming",
    "Tombstone",
    "decode_tombstone",
    "encode_tombstone",
    "make_alias",
    "parse_erased_line",
    "redact",
    "verify_redaction",
]

LEAF_BYTES: Final = 32
_GONE: Final = Digest(f"sha256:{'0' * 64}")
_MAX_RECORD_BYTES: Final = 1024 * 1024
_ALIAS_PREFIX: Final = "erased_"
_RENAMED: Final = {
    ErasureScope.SESSIONS: frozenset[str](),
    ErasureScope.PRINCIPAL: frozenset({"principal", "grant"}),
    ErasureScope.ORGANISATION: frozenset({"principal", "grant", "organisation"}),
}

Alias = Callable[[str, str], str]
"""From (kind, name) to the alias; kinds are session, grant, principal and organisation."""


class Tombstone(NamedTuple):
    """The leaf that the record had, the erasure that took it, and what is left as stored JSON."""

    leaf: bytes
    erasure: str
    record: bytes


class ErasedLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A tombstone as a line of a records file, where its record's line was."""

    log: str
    batch: int
    i: int
    leaf: Digest
    erasure: str
    record: str

    @property
    def raw_leaf(self) -> bytes:
        """The leaf hash; raises `EncodingError` if it is no digest."""
        return bytes.fromhex(parse_digest(self.leaf).removeprefix("sha256:"))


def parse_erased_line(data: bytes) -> ErasedLine:
    """Return the line in `data`; raises `EncodingError`."""
    line = decode_json(data, ErasedLine)
    parse_digest(line.leaf)
    return line


def make_alias(kind: str, name: str, secret: bytes) -> str:
    """Return an alias under the secret of one erasure, which is thrown away afterwards."""
    digest = hmac.digest(secret, f"{kind}:{name}".encode("utf-8", "surrogatepass"), "sha256").hex()
    if kind == "session":
        return f"{name.partition('-')[0]}-{digest[:24]}"
    return _ALIAS_PREFIX + digest[:16]


def redact(record: Record, scope: ErasureScope, alias: Alias) -> Record:
    """Return what stays of a record under `scope`; a beat is about nobody and stays whole."""
    if isinstance(record, Beat):
        return record
    renamed = _RENAMED[scope]

    def name(kind: str, value: str) -> str:
        return alias(kind, value) if kind in renamed else value

    def charge(each: Charge) -> Charge:
        stage, cap, subject = each.counter.split(":", 2)
        subject = name(cap.partition(".")[0], subject)
        return Charge(counter=f"{stage}:{cap}:{subject}", window=each.window, amount=each.amount)

    common = {
        "request_id": "",
        "session": alias("session", record.session),
        "grant": name("grant", record.grant),
        "organisation": name("organisation", record.organisation),
    }
    if isinstance(record, Start):
        return msgspec.structs.replace(
            record,
            **common,
            principal=name("principal", record.principal),
            request=_GONE,
            reserved=tuple(charge(each) for each in record.reserved),
        )
    return msgspec.structs.replace(
        record,
        **common,
        answer=None if record.answer is None else _GONE,
        request=None if record.request is None else _GONE,
        openings="",
        spent=tuple(charge(each) for each in record.spent),
    )


class Renaming:
    """The aliases of one erasure as its tombstones show them: one to one, or it does not hold."""

    def __init__(self) -> None:
        self._aliases: dict[tuple[str, str], str] = {}
        self._names: dict[tuple[str, str], str] = {}

    def note(self, kind: str, name: str, alias: str) -> None:
        """Take that `alias` stands for `name`; raises `ErasureError`."""
        known = self._aliases.setdefault((kind, name), alias)
        meant = self._names.setdefault((kind, alias), name)
        if known != alias or meant != name:
            raise ErasureError(f"expected one alias for each {kind} of an erasure, got two for one")

    def __call__(self, kind: str, name: str) -> str:
        """Return the alias of a name; raises `ErasureError` when none was noted."""
        try:
            return self._aliases[kind, name]
        except KeyError:
            raise ErasureError(f"a {kind} in a counter is not that of its record") from None


def verify_redaction(
    record: Record, tombstone: bytes, scope: ErasureScope, renaming: Renaming
) -> None:
    """Return if `tombstone` is what `redact` leaves of `record`; raises `ErasureError`.

    `renaming` is the erasure's, and learns the record's aliases.
    """
    if isinstance(record, Beat):
        raise ErasureError("a beat is about nobody: it is not erased")
    left: Start | Finish
    try:
        if isinstance(record, Start):
            left = decode_json(tombstone, Start)
        else:
            left = decode_json(tombstone, Finish)
    except CallerError as error:
        raise ErasureError(f"a tombstone is no record of its record's kind: {error}") from error
    window = record.session.partition("-")[0]
    if left.session.partition("-")[0] != window or left.session == record.session:
        raise ErasureError("a tombstone keeps its record's session, or moves it in time")
    renaming.note("session", record.session, left.session)
    for kind in sorted(_RENAMED[scope]):
        if not hasattr(record, kind):
            continue
        _note(renaming, kind, getattr(record, kind), getattr(left, kind))
    # A finish names no principal but in its counters, and its start may be gone already.
    for before, after in zip(_charges(record), _charges(left), strict=False):
        kind = before.counter.split(":", 2)[1].partition(".")[0]
        if kind in _RENAMED[scope]:
            _note(renaming, kind, *(each.counter.split(":", 2)[-1] for each in (before, after)))
    if encode_json(redact(record, scope, renaming)) != tombstone:
        raise ErasureError(
            f"the tombstone of record {record.worker}/{record.run}/{record.seq} says something else "
            "than its record: prepare the erasure again"
        )


def _charges(record: Start | Finish) -> tuple[Charge, ...]:
    return record.reserved if isinstance(record, Start) else record.spent


def _note(renaming: Renaming, kind: str, name: str, alias: str) -> None:
    if not alias.startswith(_ALIAS_PREFIX) or alias == name:
        raise ErasureError(f"a tombstone does not hide its {kind}")
    renaming.note(kind, name, alias)


def encode_tombstone(tombstone: Tombstone, size: int) -> bytes:
    """Return it in exactly `size` bytes; raises `ErasureError` when it does not fit."""
    inside = zlib.compress(tombstone.erasure.encode("ascii") + b"\n" + tombstone.record, 9)
    if len(tombstone.leaf) != LEAF_BYTES or LEAF_BYTES + len(inside) > size:
        raise ErasureError(
            f"a tombstone of {LEAF_BYTES + len(inside)} bytes does not fit where {size} stood"
        )
    return (tombstone.leaf + inside).ljust(size, b"\0")


def decode_tombstone(payload: bytes) -> Tombstone:
    """Return the tombstone in a journal's payload; raises `ErasureError`."""
    reader = zlib.decompressobj()
    try:
        inside = reader.decompress(payload[LEAF_BYTES:], _MAX_RECORD_BYTES)
    except zlib.error as error:
        raise ErasureError(f"not a tombstone: {error}") from error
    erasure, found, record = inside.partition(b"\n")
    if not reader.eof or not found or any(reader.unused_data):
        raise ErasureError("not a tombstone: it does not end where it should")
    return Tombstone(payload[:LEAF_BYTES], erasure.decode("ascii", "replace"), record)
