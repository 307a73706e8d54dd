"""What a witness says to a checkpoint: one pure decision from bytes to an outcome.

| order | if | status | code |
|---|---|---|---|
| 1 | the body is not old size, at most 63 hashes, an empty line and a checkpoint | 400 | malformed |
| 2 | the origin is not that of a log we know | 404 | unknown_origin |
| 3 | no signature of that log verifies, or one of its known keys' fails | 403 | bad_signature |
| 4 | old size above the checkpoint's | 400 | old_above_new |
| 5 | old size is not that of the last checkpoint we cosigned | 409 | stale_size |
| 6 | same size, other root | 422 | split_view |
| 7 | the consistency proof fails, or an empty tree has another root | 422 | bad_proof |
| 8 | otherwise | 200 | |

Invariants
- Nothing is accepted that is not consistent with the last checkpoint we cosigned for the origin.
- Only a checkpoint that the log signed becomes evidence: a stranger cannot make any.
- `split_view` evidence (two signed roots at one size) is proof against the log. `unproven` evidence
  is a signed checkpoint that nobody has connected to ours yet; a bad proof alone may be the
  submitter's fault.

Not here: storing, cosigning, time and HTTP.

Follows C2SP tlog-witness v1.0.0, section "add-checkpoint".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from gatelift.encoding import EncodingError, parse_base64
from gatelift.errors import GateliftError
from gatelift.tlog import (
    EMPTY_ROOT,
    MAX_PROOF_HASHES,
    Checkpoint,
    CheckpointError,
    MerkleError,
    Note,
    NoteError,
    SignatureError,
    VerifierKey,
    known_signatures,
    parse_checkpoint,
    parse_decimal,
    parse_note,
    verify_consistency,
    verify_log_signature,
)

__all__ = ["Accepted", "Evidence", "Outcome", "Refused", "decide_submission"]

Evidence = Literal["split_view", "unproven"]


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """Store `note`, then cosign it. It has the log's signatures only."""

    checkpoint: Checkpoint
    note: Note


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """Answer with `status`; if there is `evidence`, keep `note` first."""

    status: int
    code: str
    message: str
    size: int | None = None
    """For `stale_size`: the size of the last checkpoint we cosigned."""
    evidence: Evidence | None = None
    checkpoint: Checkpoint | None = None
    note: Note | None = None


Outcome = Accepted | Refused


def decide_submission(
    body: bytes,
    *,
    log_keys: Mapping[str, Sequence[VerifierKey]],
    latest: Mapping[str, Checkpoint],
) -> Outcome:
    """Return what to do with the `add-checkpoint` request `body`.

    `log_keys` gives the keys of each known origin, `latest` the last checkpoint that was cosigned
    for it, if any.
    """
    try:
        old_size, proof, note, claimed = _parse_body(body)
    except GateliftError as error:
        return Refused(status=400, code="malformed", message=str(error))
    keys = log_keys.get(claimed.origin)
    if keys is None:
        return Refused(
            status=404,
            code="unknown_origin",
            message=f"expected a log that this witness follows, got {claimed.origin[:120]!r}",
        )
    try:
        checkpoint, _ = verify_log_signature(note, keys)
    except (SignatureError, NoteError, CheckpointError) as error:
        return Refused(status=403, code="bad_signature", message=str(error))
    signed = Note(
        text=note.text, signatures=tuple(line for _, line in known_signatures(note, keys))
    )
    return _decide_signed(old_size, proof, signed, checkpoint, latest.get(checkpoint.origin))


def _decide_signed(
    old_size: int,
    proof: tuple[bytes, ...],
    note: Note,
    checkpoint: Checkpoint,
    latest: Checkpoint | None,
) -> Outcome:
    split = latest is not None and (
        checkpoint.size == latest.size and checkpoint.root != latest.root
    )
    if old_size > checkpoint.size:
        return Refused(
            status=400,
            code="old_above_new",
            message=f"expected an old size up to {checkpoint.size}, got {old_size}",
            evidence="split_view" if split else None,
            checkpoint=checkpoint,
            note=note,
        )
    latest_size, latest_root = (latest.size, latest.root) if latest else (0, EMPTY_ROOT)
    if old_size != latest_size:
        return Refused(
            status=409,
            code="stale_size",
            message=f"expected the old size {latest_size}, got {old_size}",
            size=latest_size,
            evidence="split_view" if split else None,
            checkpoint=checkpoint,
            note=note,
        )
    try:
        verify_consistency(
            old_size=old_size,
            old_root=latest_root,
            new_size=checkpoint.size,
            new_root=checkpoint.root,
            proof=proof,
        )
    except MerkleError as error:
        return Refused(
            status=422,
            code="split_view" if split else "bad_proof",
            message=str(error),
            evidence="split_view" if split else "unproven",
            checkpoint=checkpoint,
            note=note,
        )
    return Accepted(checkpoint=checkpoint, note=note)


def _parse_body(body: bytes) -> tuple[int, tuple[bytes, ...], Note, Checkpoint]:
    head, empty_line, note_bytes = body.partition(b"\n\n")
    if not empty_line:
        raise CheckpointError("expected an empty line before the checkpoint, found none")
    try:
        first, *lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise CheckpointError(
            f"expected a head in ASCII, byte {error.start} of the body is not"
        ) from error
    if not first.startswith("old "):
        raise CheckpointError(f"expected a first line 'old <size>', got {first[:40]!r}")
    old_size = parse_decimal(first.removeprefix("old "))
    if len(lines) > MAX_PROOF_HASHES:
        raise CheckpointError(
            f"expected at most {MAX_PROOF_HASHES} lines of proof, got {len(lines)}"
        )
    hashes = tuple(_parse_hash(line) for line in lines)
    note = parse_note(note_bytes)
    return old_size, hashes, note, parse_checkpoint(note.text)


def _parse_hash(line: str) -> bytes:
    raw = parse_base64(line)
    if len(raw) != len(EMPTY_ROOT):
        raise EncodingError(f"expected a hash of {len(EMPTY_ROOT)} bytes, got {len(raw)}")
    return raw
