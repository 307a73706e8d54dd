"""Transparency log proofs: a receipt that verifies offline.

    c2sp.org/tlog-proof@v1
    extra <base64>                 optional, not authenticated
    index <decimal>
    <base64 of a proof hash>       zero or more, the leaf's sibling first
    <empty line>
    <checkpoint note with cosignatures, verbatim>

Invariants
- `format_proof(parse_proof(data)) == data`.
- `verify_proof` hashes the entry's own bytes; size and root come from the checkpoint only after its
  signature and the policy's quorum were verified. A proof cannot be moved to another entry.
- `extra` is carried, never believed.

Not here: what the entry says.

Follows C2SP tlog-proof.
"""

from __future__ import annotations

import msgspec

from gatelift.encoding import EncodingError, encode_base64, parse_base64
from gatelift.errors import CallerError
from gatelift.tlog.checkpoint import CheckpointError, parse_decimal
from gatelift.tlog.merkle import (
    HASH_BYTES,
    MAX_PROOF_HASHES,
    MAX_SIZE,
    leaf_hash,
    verify_inclusion,
)
from gatelift.tlog.note import MAX_NOTE_BYTES, parse_note
from gatelift.tlog.policy import Policy, WitnessedCheckpoint, verify_witnessed

__all__ = [
    "MAX_PROOF_BYTES",
    "ProofError",
    "TlogProof",
    "format_proof",
    "parse_proof",
    "verify_proof",
]

MAX_PROOF_BYTES = 2 * MAX_NOTE_BYTES
_FIRST_LINE = "c2sp.org/tlog-proof@v1"


class ProofError(CallerError):
    """The bytes are not a transparency log proof."""

    code = "bad_tlog_proof"


class TlogProof(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A proof as it was read: nothing in it is verified."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint_note: bytes
    extra: bytes | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.index < MAX_SIZE:
            raise ProofError(f"expected an index from 0 to {MAX_SIZE - 1}, got {self.index}")
        if len(self.hashes) > MAX_PROOF_HASHES:
            raise ProofError(f"expected at most {MAX_PROOF_HASHES} hashes, got {len(self.hashes)}")
        if any(len(hash_) != HASH_BYTES for hash_ in self.hashes):
            raise ProofError(f"expected proof hashes of {HASH_BYTES} bytes each")
        if self.extra == b"":
            raise ProofError("expected some extra data or None, got an empty string: leave it out")
        parse_note(self.checkpoint_note)


def format_proof(proof: TlogProof) -> bytes:
    """Return the bytes of a `.tlog-proof` file."""
    lines = [_FIRST_LINE]
    if proof.extra is not None:
        lines.append(f"extra {encode_base64(proof.extra)}")
    lines.append(f"index {proof.index}")
    lines += [encode_base64(hash_) for hash_ in proof.hashes]
    return "\n".join(lines).encode() + b"\n\n" + proof.checkpoint_note


def parse_proof(data: bytes) -> TlogProof:
    """Return the parts of a `.tlog-proof` file, none of them verified."""
    if len(data) > MAX_PROOF_BYTES:
        raise ProofError(f"expected a proof of at most {MAX_PROOF_BYTES} bytes, got {len(data)}")
    head, empty_line, checkpoint_note = data.partition(b"\n\n")
    if not empty_line:
        raise ProofError("expected an empty line before the checkpoint, found none")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise ProofError(
            f"expected a head in ASCII, byte {error.start} of the proof is not"
        ) from error
    if lines.pop(0) != _FIRST_LINE:
        raise ProofError(f"expected the first line {_FIRST_LINE!r}")
    try:
        extra = None
        if lines and lines[0].startswith("extra "):
            extra = parse_base64(lines.pop(0).removeprefix("extra "))
        if not lines or not lines[0].startswith("index "):
            raise ProofError("expected a line 'index <decimal>'")
        index = parse_decimal(lines.pop(0).removeprefix("index "))
        hashes = tuple(parse_base64(line) for line in lines)
    except (EncodingError, CheckpointError) as error:
        raise ProofError(f"in the proof's head: {error}") from error
    return TlogProof(index=index, hashes=hashes, checkpoint_note=checkpoint_note, extra=extra)


def verify_proof(
    proof: TlogProof,
    entry: bytes,
    policy: Policy,
    *,
    cosigned_from_s: int = 0,
    cosigned_until_s: int = MAX_SIZE,
) -> WitnessedCheckpoint:
    """Return the verified checkpoint, with cosignature times, of a log that holds `entry`.

    `entry` is the logged bytes as the caller verified them; the window of time is that of
    `verify_witnessed`. Raises the error of the layer that failed.
    """
    witnessed = verify_witnessed(
        proof.checkpoint_note,
        policy,
        cosigned_from_s=cosigned_from_s,
        cosigned_until_s=cosigned_until_s,
    )
    verify_inclusion(
        leaf=leaf_hash(entry),
        index=proof.index,
        size=witnessed.checkpoint.size,
        proof=proof.hashes,
        root=witnessed.checkpoint.root,
    )
    return witnessed
