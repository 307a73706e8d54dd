r"""Records: what a worker writes about an exchange, the batch that commits them, and the ticket.

Invariants
- A record's leaf is SHA-256(0x00 || "gatelift/record/v1\n" || salt32 || stored bytes); the bytes
  are stored JSON and never re-serialised.
- A batch commits a run of records of one (node, worker, run), consecutive by `seq`, under one
  Merkle root and one signature, so an omitted record shows as a gap.
- Content stands only as a commitment under a salt that the caller receives and we do not keep.
- A keeper closes an orphaned start in its own journal with a `Finish` whose `of` names it.

Records hold nothing that could lead back to them, so the collector need not look at them (`gc=False`):
a keeper makes twenty of these a chat, and each costs a sixth less to decode.

A ticket proves that its node committed the record; `messages.receipts` proves that the log holds
the batch. Trees follow RFC 6962 section 2.1.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable

import msgspec

from gatelift.encoding import (
    MAX_SAFE_INTEGER,
    Digest,
    decode_json,
    encode_base64,
    encode_json,
    parse_base64,
    parse_digest,
)
from gatelift.errors import CallerError
from gatelift.terms import Band, Category, Durability, Endpoint, Posture, Side
from gatelift.tlog import verify_ed25519, verify_inclusion
from gatelift.trust import SigningKey

__all__ = [
    "RECORD_PREFIX",
    "SALT_BYTES",
    "BatchEntry",
    "Beat",
    "Charge",
    "Finish",
    "Outcome",
    "Record",
    "RecordError",
    "RecordRef",
    "RecordedVerdict",
    "Start",
    "StartTerms",
    "Ticket",
    "commit_content",
    "commit_openings",
    "decode_batch_entry",
    "decode_record",
    "encode_ticket",
    "parse_ticket",
    "record_leaf",
    "salted_leaf",
    "sign_batch",
    "stored_leaves",
    "verify_batch",
    "verify_own_batch",
    "verify_ticket",
]

SALT_BYTES = 32
RECORD_PREFIX = b"\x00gatelift/record/v1\n"
_LEAF_HASH = hashlib.sha256(RECORD_PREFIX)
_BATCH_PREFIX = b"gatelift/batch/v1\n"
_CONTENT_PREFIX = b"gatelift/content/v1\n"
_OPENINGS_PREFIX = b"gatelift/openings/v1\n"


class RecordError(CallerError):
    """A record, batch or ticket does not hold."""

    code = "bad_record"


class Outcome(enum.StrEnum):
    """How an exchange ended. Closed list; the ledger and the page use these words."""

    SERVED = "served"
    CUT = "cut"
    REFUSED = "refused"
    CAPPED = "capped"
    STOPPED = "stopped"
    WITHHELD = "withheld"
    UPSTREAM_FAILED = "upstream_failed"
    DISCONNECTED = "disconnected"
    ABORTED = "aborted"


class RecordRef(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A record by its place: node, worker, run and sequence number."""

    node: str
    worker: str
    run: str
    seq: int


class Charge(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """An amount against one counter: `<stage>:<cap key>:<subject id>` in the window from `window`.

    In a start it is what was reserved, in a finish what was spent; `parallel` is never charged, and
    `coverage` in the window 0, which never ends.
    """

    counter: str
    window: int
    amount: int


class RecordedVerdict(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False
):
    """What a safeguard said, without the text that it said it of."""

    category: Category
    band: Band
    rule: str
    side: Side
    action: Posture


class StartTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A start without what it reserved.

    `at` in ms UTC; `request` commits to the body as it was inspected and sent. `certificate` is null
    where none stood and the exchange was denied for it.
    """

    v: int
    node: str
    worker: str
    run: str
    seq: int
    at: int
    request_id: str
    release: str
    stage: str
    certificate: Digest | None
    fingerprint: Digest
    grant: str
    principal: str
    organisation: str
    session: str
    endpoint: Endpoint
    stream: bool
    request: Digest
    request_bytes: int


class Start(
    StartTerms,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="start",
    tag_field="kind",
    gc=False,
):
    """Written before the first upstream byte, durable before the first byte to the caller.

    `images` counts what was sent and no safeguard read.
    """

    reserved: tuple[Charge, ...]
    images: int = 0


class Finish(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="finish",
    tag_field="kind",
    gc=False,
):
    """Durable before the last byte to the caller. `of` names the start.

    Stage, organisation and session repeat the start's, so that a finish can be counted alone.
    `answer` commits to the bytes of the answer that were released; null when none were. `request` is
    the start's, so that one ticket opens both; `openings` tells a wrong salt from a wrong text
    (`commit_openings`), and is empty where a keeper closed what a dead worker left.
    """

    v: int
    node: str
    worker: str
    run: str
    seq: int
    at: int
    of: RecordRef
    request_id: str
    release: str
    stage: str
    grant: str
    organisation: str
    session: str
    outcome: Outcome
    reason: str
    upstream: bool
    status: int
    answer: Digest | None
    answer_bytes: int
    input_tokens: int
    output_tokens: int
    spent: tuple[Charge, ...]
    overrun_tokens: int
    verdicts: tuple[RecordedVerdict, ...]
    request: Digest | None = None
    openings: str = ""


class Beat(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="beat",
    tag_field="kind",
):
    """One a second: the heartbeat, and the refusals before `identify`, counted by reason."""

    v: int
    node: str
    worker: str
    run: str
    seq: int
    at: int
    refused: dict[str, int]


Record = Start | Finish | Beat


class BatchEntry(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """A leaf of the requests log: `n` records from `seq` on, under `root`. `at` in ms UTC.

    `durability` says `relaxed` where callers were answered before it was on disk, and is left out
    where they were not.
    """

    v: int
    node: str
    worker: str
    run: str
    seq: int
    n: int
    root: Digest
    at: int
    durability: Durability | None = None


class Ticket(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the caller holds: the signed batch, the path to its record and the record's opening.

    `entry` and `record` are the stored JSON as text; `content_salt` opens the commitment to the
    content (the request's for a start, the answer's for a finish), `request_salt` that to the request.
    """

    v: int
    entry: str
    signature: str
    index: int
    path: tuple[str, ...]
    salt: str
    record: str
    content_salt: str
    request_salt: str = ""


def record_leaf(salt: bytes, record: bytes) -> bytes:
    """Return the leaf hash of a record's stored bytes."""
    if len(salt) != SALT_BYTES:
        raise RecordError(f"expected a salt of {SALT_BYTES} bytes, got {len(salt)}")
    return salted_leaf(salt + record)


def salted_leaf(salted: bytes) -> bytes:
    """Return the leaf hash of a record that is given as its salt with the stored bytes behind it."""
    return hashlib.sha256(RECORD_PREFIX + salted).digest()


def commit_content(salt: bytes, content: bytes) -> Digest:
    """Return the commitment to content under a salt: hiding while the salt is secret."""
    if len(salt) != SALT_BYTES:
        raise RecordError(f"expected a salt of {SALT_BYTES} bytes, got {len(salt)}")
    return Digest("sha256:" + hashlib.sha256(_CONTENT_PREFIX + salt + content).hexdigest())


def commit_openings(request_salt: bytes, answer_salt: bytes) -> str:
    """Return 16 hex digits by which the salts of an exchange are known again, and nothing else is.

    They are 64 bytes of chance: 8 bytes of their hash open nothing.
    """
    return hashlib.sha256(_OPENINGS_PREFIX + request_salt + answer_salt).hexdigest()[:16]


def stored_leaves(payloads: Iterable[bytes]) -> list[bytes]:
    """Return the leaf hashes of payloads: each is a salt, and its record's stored bytes behind it."""
    leaves = []
    for payload in payloads:
        # The hash of the prefix is begun once for all.
        hashed = _LEAF_HASH.copy()
        hashed.update(payload)
        leaves.append(hashed.digest())
    return leaves


_ENTRY_DECODER = msgspec.json.Decoder(BatchEntry)
_RECORD_DECODER: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


def decode_record(data: bytes) -> Record:
    """Return the record in stored bytes; raises `RecordError`."""
    try:
        return _RECORD_DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, CallerError) as error:
        raise RecordError(f"not a record: {error}") from error


def decode_batch_entry(data: bytes) -> BatchEntry:
    """Return the entry in a batch's stored bytes; raises `EncodingError`."""
    # What we write is exactly what we would write again, so nothing in it can be odd (a key twice, a
    # float for an int): that is seen in 0.5 us. Only what another wrote is read by the strict parser,
    # which takes 4 us and says what is wrong.
    try:
        entry = _ENTRY_DECODER.decode(data)
        written = encode_json(entry)
    except (msgspec.DecodeError, UnicodeError):
        return decode_json(data, BatchEntry)
    if written == data and max(entry.v, entry.seq, entry.n, entry.at) <= MAX_SAFE_INTEGER:
        return entry
    return decode_json(data, BatchEntry)


def sign_batch(entry: BatchEntry, key: SigningKey) -> tuple[bytes, bytes]:
    """Return the entry's stored bytes and the node's signature over them."""
    data = encode_json(entry)
    return data, key.sign(_BATCH_PREFIX + data)


def verify_batch(entry: bytes, signature: bytes, node_key: bytes) -> BatchEntry:
    """Return the batch entry that the node signed; raises `RecordError` or `SignatureError`."""
    _ = verify_ed25519(node_key, signature, _BATCH_PREFIX + entry)
    batch = decode_batch_entry(entry)
    if batch.n < 1 or batch.seq < 0:
        raise RecordError(f"expected a batch of at least one record, got n={batch.n}")
    return batch


def verify_own_batch(entry: bytes, signature: bytes, key: SigningKey) -> None:
    """Return if `key` signed this batch; raises `SignatureError`. For who holds the key itself."""
    # A key has one signature for each message (RFC 8032 section 5.1.6), so who can sign compares, in
    # a third of the time that verifying takes. A differing one may verify all the same.
    message = _BATCH_PREFIX + entry
    if key.sign(message) != signature:
        _ = verify_ed25519(key.public, signature, message)


def verify_ticket(ticket: Ticket, node_key: bytes) -> tuple[BatchEntry, Record]:
    """Return batch and record of a ticket that the node signed; raises when anything differs."""
    entry = ticket.entry.encode("utf-8")
    batch = verify_batch(entry, parse_base64(ticket.signature), node_key)
    stored = ticket.record.encode("utf-8")
    root = bytes.fromhex(parse_digest(batch.root).removeprefix("sha256:"))
    verify_inclusion(
        leaf=record_leaf(parse_base64(ticket.salt), stored),
        index=ticket.index,
        size=batch.n,
        proof=tuple(parse_base64(step) for step in ticket.path),
        root=root,
    )
    record = decode_record(stored)
    place = (record.node, record.worker, record.run, record.seq)
    if place != (batch.node, batch.worker, batch.run, batch.seq + ticket.index):
        raise RecordError("the ticket's record is not the one at this place of its batch")
    return batch, record


def encode_ticket(ticket: Ticket) -> str:
    """Return a ticket as one header-safe word: base64 of its JSON."""
    return encode_base64(encode_json(ticket))


def parse_ticket(text: str) -> Ticket:
    """Return the ticket of a header's value, not yet verified."""
    return decode_json(parse_base64(text), Ticket)
