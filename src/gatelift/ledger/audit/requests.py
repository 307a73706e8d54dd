"""The requests logs of a dossier: heads, batches, and the records that they commit.

Invariants
- A log counts once its checkpoint is signed by its node's enrolled key under the log's own origin
  and the entries lead to its root; every anchored head is a prefix of it.
- Records are handed out batch by batch, in the order of the log, and only if they are exactly those
  that the batch committed: their leaves lead to its root, their places follow each other.
- Records are read as a stream: a dossier of any length takes little memory.

Does not judge what records say: `exchanges`, `caps` and `observations` do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from gatelift.encoding import (
    Digest,
    EncodingError,
    decode_json,
    encode_json,
    parse_base64,
    parse_json,
)
from gatelift.ledger.audit.folder import (
    LOG_NAME,
    RECORDS,
    REQUESTS,
    Folder,
    FolderError,
    log_name_of,
    origin_of,
)
from gatelift.ledger.audit.log import CHECKPOINT, AuditedLog, read_checkpoint, read_log
from gatelift.ledger.audit.releases import Releases
from gatelift.ledger.audit.report import Findings
from gatelift.messages import (
    BatchEntry,
    Head,
    Record,
    RecordError,
    decode_record,
    record_leaf,
)
from gatelift.tlog import (
    Checkpoint,
    KeyKind,
    MerkleError,
    VerifierKey,
    parse_note,
    root_of,
    verify_log_signature,
)
from gatelift.trust import Root, parse_public_key

__all__ = [
    "Batch",
    "RecordLine",
    "RequestsLog",
    "node_of",
    "read_batches",
    "read_requests_logs",
    "requests_keys",
    "verify_heads",
]


class RecordLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of `records/<node>-<yyyy-mm>.jsonl`: a record and the opening of its leaf."""

    log: str
    batch: int
    i: int
    salt: str
    record: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch whose records are exactly those that its entry commits."""

    origin: str
    index: int
    where: str
    entry: BatchEntry
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestsLog:
    """A verified requests log in the folder `<node>-<yyyy-mm>`."""

    name: str
    log: AuditedLog


_LINE: msgspec.json.Decoder[RecordLine] = msgspec.json.Decoder(RecordLine)


def node_of(name: str) -> str:
    """Return the node of a log's folder `<node>-<yyyy-mm>`; raises `FolderError`."""
    found = LOG_NAME.fullmatch(name)
    if found is None:
        raise FolderError(f"{name[:80]!r} is no <node>-<yyyy-mm>", code="bad_name")
    return found["node"]


def requests_keys(roots: tuple[Root, ...], origin: str, node: str) -> tuple[VerifierKey, ...]:
    """Return the keys that any of the roots enrolled for the requests logs of a node."""
    found = {
        parse_public_key(enrolled.requests_key)
        for root in roots
        for enrolled in root.nodes
        if enrolled.name == node
    }
    return tuple(
        VerifierKey(name=origin, kind=KeyKind.NOTE, public_key=key) for key in sorted(found)
    )


def _verify_note(note: bytes, origin: str, node: str, roots: tuple[Root, ...]) -> Checkpoint:
    keys = requests_keys(roots, origin, node)
    if not keys:
        raise FolderError(f"node {node!r} is enrolled in no root", code="unknown_node")
    return verify_log_signature(parse_note(note), keys)[0]


def read_requests_logs(
    folder: Folder, releases: Releases, findings: Findings
) -> tuple[RequestsLog, ...]:
    """Return the dossier's requests logs by node and month; logs that do not hold are left out."""
    root_name = releases.root.name
    roots = tuple(held.root for held in releases.roots)
    names = set(folder.names(REQUESTS))
    wanted: dict[str, str] = {}
    for entry in releases.entries:
        if isinstance(entry.body.value, Head):
            with findings.reading(releases.place(entry.index)):
                wanted[log_name_of(root_name, entry.body.value.origin)] = entry.body.value.origin
    for name in sorted(set(wanted) - names):
        findings.error(
            "log_missing", f"{REQUESTS}/{name}", "anchored in the releases log, not here"
        )
    logs = []
    for name in sorted(names, key=lambda n: (n[:-8], n)):
        path = f"{REQUESTS}/{name}"
        with findings.reading(f"{path}/{CHECKPOINT}"):
            origin = origin_of(root_name, name)
            note = read_checkpoint(folder, path)
            checkpoint = _verify_note(note, origin, node_of(name), roots)
            log = read_log(folder, path, checkpoint, findings)
            if log is not None:
                logs.append(RequestsLog(name=name, log=log))
    return tuple(logs)


def verify_heads(releases: Releases, logs: tuple[RequestsLog, ...], findings: Findings) -> None:
    """Check that each anchored head is a prefix of its log, and that none goes back."""
    roots = tuple(held.root for held in releases.roots)
    by_origin = {held.log.origin: held for held in logs}
    anchored = dict.fromkeys(by_origin, 0)
    for entry in releases.entries:
        head = entry.body.value
        if not isinstance(head, Head) or head.origin not in by_origin:
            continue
        held = by_origin[head.origin]
        where = releases.place(entry.index)
        with findings.reading(where):
            node = node_of(held.name)
            checkpoint = _verify_note(head.checkpoint.encode("utf-8"), head.origin, node, roots)
            _check_prefix(checkpoint, held.log, anchored[head.origin])
            anchored[head.origin] = checkpoint.size
    for origin, held in by_origin.items():
        if anchored[origin] < held.log.checkpoint.size:
            findings.warn(
                "not_anchored",
                f"{REQUESTS}/{held.name}",
                f"{held.log.checkpoint.size - anchored[origin]} batches lie beyond the newest head "
                "in the releases log: they are signed by the node, and not witnessed yet",
            )


def _check_prefix(head: Checkpoint, log: AuditedLog, before: int) -> None:
    if head.size < before:
        raise MerkleError(
            f"expected a head of {before} or more, got {head.size}: the log was rolled back",
            code="rolled_back",
        )
    if head.size > log.checkpoint.size:
        raise MerkleError(
            f"the anchored head has {head.size} entries, the log here {log.checkpoint.size}: "
            "the end of the log is missing",
            code="log_truncated",
        )
    if log.root_at(head.size) != head.root:
        raise MerkleError(
            f"the anchored head at size {head.size} is not of this log: two histories",
            code="split_view",
        )


def read_batches(folder: Folder, held: RequestsLog, findings: Findings) -> Iterator[Batch]:
    """Yield the batches of a log whose records are there and hold; others are findings."""
    path = f"{RECORDS}/{held.name}.jsonl"
    lines = _Lines(folder, path, held.log.origin, findings)
    for index, leaf in enumerate(held.log.entries):
        where = held.log.place(index)
        rows = lines.take(index)
        with findings.reading(where):
            entry = decode_json(leaf, BatchEntry)
            if entry.v != 1 or entry.n < 1 or entry.seq < 0 or entry.node != node_of(held.name):
                raise RecordError(
                    f"expected a batch of node {node_of(held.name)!r} with records, "
                    f"got {entry.n} of {entry.node[:60]!r}",
                    code="bad_batch",
                )
            if len(rows) != entry.n or any(row.i != i for i, row in enumerate(rows)):
                raise RecordError(
                    f"expected the {entry.n} records of batch {index} in order in {path}, "
                    f"got {[row.i for row in rows][:8]}",
                    code="record_missing",
                )
            yield Batch(
                origin=held.log.origin,
                index=index,
                where=where,
                entry=entry,
                records=_open_records(entry, rows),
            )
    lines.close(len(held.log.entries))


def _open_records(entry: BatchEntry, rows: list[RecordLine]) -> tuple[Record, ...]:
    leaves, records = [], []
    for row in rows:
        data = row.record.encode("utf-8")
        leaves.append(record_leaf(parse_base64(row.salt), data))
        records.append(_strict_record(data))
    if Digest(f"sha256:{root_of(leaves).hex()}") != entry.root:
        raise RecordError(
            f"the records lead to another root than the batch's {entry.root}: a record was "
            "altered, or belongs to another batch",
            code="batch_root",
        )
    for offset, record in enumerate(records):
        place = (record.node, record.worker, record.run, record.seq)
        if place != (entry.node, entry.worker, entry.run, entry.seq + offset) or record.v != 1:
            raise RecordError(
                f"record {offset} says it is {place}, expected "
                f"{(entry.node, entry.worker, entry.run, entry.seq + offset)}",
                code="record_place",
            )
    return tuple(records)


def _strict_record(data: bytes) -> Record:
    record = decode_record(data)
    # The writer's own form cannot be read in two ways; any other form is read strictly.
    if encode_json(record) != data:
        parse_json(data)
    return record


def _strict_line(line: bytes) -> RecordLine:
    try:
        row = _LINE.decode(line)
        # As with records: what we would write again is what everybody reads alike.
        if encode_json(row) != line:
            parse_json(line)
    except (msgspec.DecodeError, UnicodeDecodeError, EncodingError) as error:
        raise RecordError(f"not a record line: {error}", code="bad_line") from error
    return row


class _Lines:
    """The lines of a records file, handed out by batch. After an unreadable line it has none."""

    def __init__(self, folder: Folder, path: str, origin: str, findings: Findings) -> None:
        self._path = path
        self._origin = origin
        self._findings = findings
        self._rows = self._read(folder)
        self._next: RecordLine | None = next(self._rows, None)

    def take(self, batch: int) -> list[RecordLine]:
        """Return the lines of a batch; lines of earlier ones are out of place."""
        found: list[RecordLine] = []
        while self._next is not None and self._next.batch <= batch:
            if self._next.batch == batch and self._next.log == self._origin:
                found.append(self._next)
            else:
                self._findings.error(
                    "record_out_of_place",
                    f"{self._path}#{self._next.batch}",
                    f"a record of batch {self._next.batch} of {self._next.log[:80]!r} where "
                    f"batch {batch} of {self._origin!r} stands",
                )
            self._next = next(self._rows, None)
        return found

    def close(self, size: int) -> None:
        """Report the lines that no batch of the log took."""
        if self._next is not None:
            self._findings.error(
                "record_out_of_place",
                f"{self._path}#{self._next.batch}",
                f"records beyond the log's {size} batches: they are committed nowhere",
            )

    def _read(self, folder: Folder) -> Iterator[RecordLine]:
        number = 0
        with self._findings.reading(self._path):
            for line in folder.lines(self._path):
                number += 1
                with self._findings.reading(f"{self._path}:{number}"):
                    yield _strict_line(line)
