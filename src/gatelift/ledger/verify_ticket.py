"""What a caller can check without us: the ticket that came with an answer, and its later receipt.

A ticket shows that the node committed the caller's record in a batch that it signed. A receipt (a
tlog-proof) shows that this batch is in the node's requests log. A ticket whose receipt does not come
is evidence against the operator.

Invariants
- Keys come from the root of trust that the caller pinned, never from the ticket or the proof.
- A receipt counts only for the very entry bytes of the ticket.

Does not fetch anything. Follows C2SP tlog-proof.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from gatelift.encoding import decode_json
from gatelift.ledger.audit.requests import requests_keys
from gatelift.messages import (
    BatchEntry,
    Record,
    RecordError,
    Ticket,
    parse_ticket,
    verify_ticket,
)
from gatelift.tlog import (
    Checkpoint,
    Policy,
    PolicyLog,
    parse_checkpoint,
    parse_note,
    parse_proof,
    verify_proof,
)
from gatelift.trust import Root, parse_public_key

__all__ = ["VerifiedTicket", "verify_receipt", "verify_ticket_file"]

MAX_TICKET_BYTES = 1024 * 1024
_MONTH = re.compile(r"[0-9]{4}-(?:0[1-9]|1[0-2])", re.ASCII)


class VerifiedTicket(NamedTuple):
    """A ticket that holds, its batch and its record."""

    ticket: Ticket
    batch: BatchEntry
    record: Record


def verify_ticket_file(data: bytes, root: Root) -> VerifiedTicket:
    """Return the ticket in `data` (a header's value, or its JSON) once a node of `root` signed it.

    Raises `RecordError`, `RootError` (`unknown_node`), `SignatureError`, `MerkleError` or
    `EncodingError`.
    """
    if len(data) > MAX_TICKET_BYTES:
        raise RecordError(f"expected a ticket of at most {MAX_TICKET_BYTES} bytes")
    stripped = data.strip()
    if stripped.startswith(b"{"):
        ticket = decode_json(stripped, Ticket)
    else:
        ticket = parse_ticket(stripped.decode("ascii", "replace"))
    # Only to find the key: what it signed is verified below.
    node = root.node(decode_json(ticket.entry.encode("utf-8"), BatchEntry).node)
    batch, record = verify_ticket(ticket, parse_public_key(node.batch_key))
    return VerifiedTicket(ticket, batch, record)


def verify_receipt(proof: bytes, ticket: VerifiedTicket, root: Root) -> Checkpoint:
    """Return the head of the requests log that holds the ticket's batch.

    Raises `ProofError`, `MerkleError`, `RecordError` (`wrong_log`) or the error of the note.
    """
    parsed = parse_proof(proof)
    origin = parse_checkpoint(parse_note(parsed.checkpoint_note).text).origin
    prefix = f"{root.name}/requests/{ticket.batch.node}/"
    if not origin.startswith(prefix) or not _MONTH.fullmatch(origin.removeprefix(prefix)):
        raise RecordError(
            f"expected a head of a log {prefix}<yyyy-mm>, got {origin[:120]!r}", code="wrong_log"
        )
    keys = requests_keys((root,), origin, ticket.batch.node)
    policy = Policy(
        logs=tuple(PolicyLog(key=key) for key in keys), witnesses=(), groups=(), quorum=None
    )
    return verify_proof(parsed, ticket.ticket.entry.encode("utf-8"), policy).checkpoint
