"""The lines of a records file: read in bulk, and handed out batch by batch with their leaves.

Most lines are exactly what the exporter writes: then a piece of them is decoded at once, and written
again at once to see that it is the same bytes, so that nobody can read them otherwise (a key twice, a
number that parsers disagree on). A piece in which any line is otherwise is read line by line, strictly.

Invariants
- Both ways give the same lines, records and findings; the first is never taken for a line that it
  would read more loosely than the second.
- A leaf is computed from the very bytes that the record was decoded from.
- Lines are read as a stream, a piece at a time.
"""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from gatelift.encoding import (
    MAX_SAFE_INTEGER,
    EncodingError,
    encode_json,
    parse_base64,
    parse_json,
)
from gatelift.errors import CallerError
from gatelift.ledger.audit.folder import MAX_LINE_BYTES, RECORDS, FolderError
from gatelift.ledger.audit.report import Findings
from gatelift.messages import (
    RECORD_PREFIX,
    Beat,
    ErasedLine,
    Finish,
    Record,
    RecordError,
    Start,
    decode_record,
    parse_erased_line,
    record_leaf,
)

__all__ = ["Opened", "RecordLine", "RecordLines"]


class RecordLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """One line of `records/<node>-<yyyy-mm>.jsonl`: a record and the opening of its leaf."""

    log: str
    batch: int
    i: int
    salt: str
    record: str


class Opened(NamedTuple):
    """Lines that follow each other, with their leaves and records.

    `wrong` is what is wrong with the first record that cannot be read; its leaf is then empty.
    """

    lines: Sequence[RecordLine | ErasedLine]
    leaves: list[bytes]
    records: list[Record]
    wrong: CallerError | None = None


_LINE: Final = msgspec.json.Decoder(RecordLine)
_RECORD: Final[msgspec.json.Decoder[Record]] = msgspec.json.Decoder(Record)
_ENCODER: Final = msgspec.json.Encoder()
_ERASED_MARK: Final = b',"erasure":"'
_NOTHING: Final = Beat(v=1, node="", worker="", run="", seq=0, at=0, refused={})
_LAST_DIGITS: Final = frozenset("AEIMQUYcgkosw048")
"""In the one spelling of 32 bytes in base64, the digit before the padding has no stray bits."""


class RecordLines:
    """The lines of one log's records, handed out by batch. Lines that cannot be read are left out."""

    def __init__(self, pieces: Iterator[bytes], log: str, origin: str, findings: Findings) -> None:
        """Take the pieces of the records file of `log`, each of whole lines."""
        self.path = f"{RECORDS}/{log}.jsonl"
        self._findings = findings
        self._origin = origin
        self._pieces = self._read(pieces)
        self._held = Opened([], [], [])
        self._at = 0

    def take(self, batch: int, n: int) -> Opened:
        """Return the lines of a batch that should have `n`; lines of earlier ones are out of place."""
        held, first = self._held, self._at
        last = first + n
        # Nearly always the batch lies whole in what is held, and another one begins behind it.
        if (
            held.wrong is None
            and n > 0
            and last < len(held.lines)
            and held.lines[last].batch > batch
            and {line.batch for line in held.lines[first:last]} == {batch}
        ):
            self._at = last
            return Opened(held.lines[first:last], held.leaves[first:last], held.records[first:last])
        return self._gather(batch, n)

    def close(self, size: int) -> None:
        """Report the lines that no batch of the log took."""
        if self._at < len(self._held.lines) or self._refill():
            self._findings.error(
                "record_out_of_place",
                f"{self.path}#{self._held.lines[self._at].batch}",
                f"records beyond the log's {size} batches: they are committed nowhere",
            )

    def _gather(self, batch: int, n: int) -> Opened:
        lines: list[RecordLine | ErasedLine] = []
        leaves: list[bytes] = []
        records: list[Record] = []
        wrong: CallerError | None = None
        while self._at < len(self._held.lines) or self._refill():
            held, at = self._held, self._at
            line = held.lines[at]
            if line.batch > batch:
                break
            self._at += 1
            if line.batch < batch or line.log != self._origin:
                self._report_place(line, batch)
            elif len(lines) <= n:  # one more than there should be tells enough
                lines.append(line)
                leaves.append(held.leaves[at])
                records.append(held.records[at])
                if not held.leaves[at]:
                    wrong = wrong or held.wrong
        return Opened(lines, leaves, records, wrong)

    def _report_place(self, line: RecordLine | ErasedLine, batch: int) -> None:
        self._findings.error(
            "record_out_of_place",
            f"{self.path}#{line.batch}",
            f"a record of batch {line.batch} of {line.log[:80]!r} where "
            f"batch {batch} of {self._origin!r} stands",
        )

    def _refill(self) -> bool:
        for piece in self._pieces:
            if piece.lines:
                self._held, self._at = piece, 0
                return True
        return False

    def _read(self, pieces: Iterator[bytes]) -> Iterator[Opened]:
        number = 0
        with self._findings.reading(self.path):
            for piece in pieces:
                found = _open_piece(piece, self._origin)
                if found is not None:
                    yield found
                    number += len(found.lines)
                    continue
                for line in piece[:-1].split(b"\n"):
                    number += 1
                    if len(line) > MAX_LINE_BYTES:
                        raise FolderError(
                            f"line {number} of {self.path} is longer than {MAX_LINE_BYTES} bytes",
                            code="line_too_long",
                        )
                    with self._findings.reading(f"{self.path}:{number}"):
                        yield _open_line(line)


def _open_piece(piece: bytes, origin: str) -> Opened | None:
    """Return the lines of a piece if every one is plainly right and of this log, else null.

    Erased lines are few: each is read by itself, and those between them at once.
    """
    if _ERASED_MARK not in piece:
        return _open_plain(piece, origin)
    lines = piece[:-1].split(b"\n")
    plain = [line for line in lines if _ERASED_MARK not in line]
    opened = _open_plain(b"".join(line + b"\n" for line in plain), origin)
    if opened is None or len(opened.lines) != len(plain):
        return None
    rest = zip(*opened[:3], strict=True)
    found: list[tuple[RecordLine | ErasedLine, bytes, Record]] = []
    for data in lines:
        if _ERASED_MARK not in data:
            found.append(next(rest))
            continue
        try:
            alone = _open_line(data)
        except RecordError:
            return None
        if alone.wrong is not None or alone.lines[0].log != origin or len(data) > MAX_LINE_BYTES:
            return None
        found.append((alone.lines[0], alone.leaves[0], alone.records[0]))
    return Opened(
        [line for line, _, _ in found], [leaf for _, leaf, _ in found], [r for _, _, r in found]
    )


def _open_plain(piece: bytes, origin: str) -> Opened | None:
    try:
        lines = _LINE.decode_lines(piece)
        # What is written again as the same bytes has been read in the only way.
        if _ENCODER.encode_lines(lines) != piece:
            return None
        stored = "\n".join([line.record for line in lines]).encode("utf-8")
        records = _RECORD.decode_lines(stored)
        if len(records) != len(lines) or _ENCODER.encode_lines(records) != stored + b"\n":
            return None
        leaves = _leaves([line.salt for line in lines], stored.split(b"\n"))
    except (msgspec.DecodeError, UnicodeError, CallerError, binascii.Error):
        return None
    if leaves is None or {line.log for line in lines} - {origin} or not _are_safe(records):
        return None
    return Opened(lines, leaves, records)


def _leaves(salts: Sequence[str], records: Sequence[bytes]) -> list[bytes] | None:
    if {len(salt) for salt in salts} != {44} or not {salt[42] for salt in salts} <= _LAST_DIGITS:
        return None
    if max(map(len, records)) > MAX_LINE_BYTES // 2 - 1024:
        return None  # with its escapes it might make too long a line
    sha256, join, raw = hashlib.sha256, b"".join, binascii.a2b_base64
    return [
        sha256(join((RECORD_PREFIX, raw(salt, strict_mode=True), record))).digest()
        for salt, record in zip(salts, records, strict=True)
    ]


def _are_safe(records: Sequence[Record]) -> bool:
    """Return whether no integer is below 0, or beyond what every parser reads alike."""
    return all(
        not row or (min(row) >= 0 and max(row) <= MAX_SAFE_INTEGER) for row in _rows(records)
    )


def _rows(records: Sequence[Record]) -> Iterator[list[int]]:
    # A list for each field: several times as fast as one for each record.
    yield [record.seq for record in records]
    yield [record.at for record in records]
    starts = [record for record in records if isinstance(record, Start)]
    yield [start.request_bytes for start in starts]
    yield [start.images for start in starts]
    finishes = [record for record in records if isinstance(record, Finish)]
    yield [finish.of.seq for finish in finishes]
    yield [finish.status for finish in finishes]
    yield [finish.answer_bytes for finish in finishes]
    yield [finish.input_tokens for finish in finishes]
    yield [finish.output_tokens for finish in finishes]
    yield [finish.overrun_tokens for finish in finishes]
    for charges in ([start.reserved for start in starts], [finish.spent for finish in finishes]):
        yield [charge.window for each in charges for charge in each]
        yield [charge.amount for each in charges for charge in each]
    yield [n for record in records if isinstance(record, Beat) for n in record.refused.values()]


def _open_line(data: bytes) -> Opened:
    """Return one line, read strictly; raises `RecordError` (`bad_line`)."""
    line: RecordLine | ErasedLine
    try:
        line = _read_line(data)
    except (msgspec.DecodeError, UnicodeError, EncodingError) as error:
        raise RecordError(f"not a record line: {error}", code="bad_line") from error
    try:
        stored = line.record.encode("utf-8")
        if isinstance(line, ErasedLine):
            return Opened([line], [line.raw_leaf], [_strict_record(stored)])
        leaf = record_leaf(parse_base64(line.salt), stored)
        return Opened([line], [leaf], [_strict_record(stored)])
    except CallerError as error:
        return Opened([line], [b""], [_NOTHING], error)


def _read_line(data: bytes) -> RecordLine | ErasedLine:
    try:
        line = _LINE.decode(data)
    except msgspec.DecodeError:
        # Its own bytes are what an erasure names the digest of, so it has one spelling.
        erased = parse_erased_line(data)
        if encode_json(erased) != data:
            raise EncodingError("an erased line is not written as it should be") from None
        return erased
    if encode_json(line) != data:
        parse_json(data)
    return line


def _strict_record(data: bytes) -> Record:
    record = decode_record(data)
    # The writer's own form cannot be read in two ways; any other form is read strictly.
    if encode_json(record) != data or not _are_safe((record,)):
        parse_json(data)
    return record
