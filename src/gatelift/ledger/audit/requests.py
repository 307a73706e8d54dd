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
from gatelift.ledger.audit.record_lines import Opened, RecordLines
from gatelift.ledger.audit.releases import Releases
from gatelift.ledger.audit.report import Findings
from gatelift.messages import (
    BatchEntry,
    ErasedLine,
    Head,
    Record,
    RecordError,
    decode_batch_entry,
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
    "RequestsLog",
    "node_of",
    "read_batches",
    "read_requests_logs",
    "requests_keys",
    "verify_heads",
]


class Batch(msgspec.Struct, frozen=True):
    """A batch whose records are exactly those that its entry commits; `erased` are those erased."""

    origin: str
    index: int
    where: str
    entry: BatchEntry
    records: tuple[Record, ...]
    erased: tuple[ErasedLine, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestsLog:
    """A verified requests log in the folder `<node>-<yyyy-mm>`."""

    name: str
    log: AuditedLog


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
    node, origin = node_of(held.name), held.log.origin
    pieces = folder.pieces(f"{RECORDS}/{held.name}.jsonl")
    lines = RecordLines(pieces, held.name, origin, findings)
    for index, leaf in enumerate(held.log.entries):
        where = held.log.place(index)
        try:
            entry = decode_batch_entry(leaf)
            found = lines.take(index, entry.n)
            records = _open_batch(index, entry, node, found, lines.path)
        except Exception as error:  # noqa: BLE001 - hostile bytes may break any parser in any way
            findings.broken(error, where)
            continue
        erased = tuple([line for line in found.lines if isinstance(line, ErasedLine)])
        yield Batch(origin, index, where, entry, records, erased)
    lines.close(len(held.log.entries))


def _open_batch(
    index: int, entry: BatchEntry, node: str, found: Opened, path: str
) -> tuple[Record, ...]:
    if entry.v != 1 or entry.n < 1 or entry.seq < 0 or entry.node != node:
        raise RecordError(
            f"expected a batch of node {node!r} with records, got {entry.n} of {entry.node[:60]!r}",
            code="bad_batch",
        )
    if len(found.lines) != entry.n or [line.i for line in found.lines] != list(range(entry.n)):
        raise RecordError(
            f"expected the {entry.n} records of batch {index} in order in {path}, "
            f"got {[line.i for line in found.lines[:8]]}",
            code="record_missing",
        )
    if found.wrong is not None:
        raise found.wrong
    if f"sha256:{root_of(found.leaves).hex()}" != entry.root:
        raise RecordError(
            f"the records lead to another root than the batch's {entry.root}: a record was "
            "altered, or belongs to another batch",
            code="batch_root",
        )
    seq = entry.seq
    for record in found.records:
        if (
            record.seq != seq
            or record.run != entry.run
            or record.worker != entry.worker
            or record.node != entry.node
            or record.v != 1
        ):
            raise RecordError(
                f"record {seq - entry.seq} says it is "
                f"{(record.node, record.worker, record.run, record.seq)}, expected "
                f"{(entry.node, entry.worker, entry.run, seq)}",
                code="record_place",
            )
        seq += 1
    return tuple(found.records)
