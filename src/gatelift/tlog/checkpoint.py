"""Checkpoints: a log's signed word for its size and root.

    <origin>
    <size in decimal>
    <root in base64>
    [extension lines, which we read but never write]

Invariants
- `format_checkpoint(parse_checkpoint(text)) == text`; a size has no leading zero, a root 32 bytes.
- A log signs under its origin: the key's name is the origin, and verification demands both.
- What is verified is the note's own text, never a text written again from parsed fields.

Not here: whether a checkpoint extends an older one (`merkle.verify_consistency`), and who else has
seen it (`cosignature`, `policy`). A signature alone cannot rule out that the log showed somebody
else another root.

Follows C2SP tlog-checkpoint.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from gatelift.encoding import EncodingError, encode_base64, parse_base64
from gatelift.errors import CallerError
from gatelift.tlog.merkle import HASH_BYTES, MAX_SIZE
from gatelift.tlog.note import Note, NoteSigner, parse_note, sign_note, verify_note
from gatelift.tlog.vkey import VerifierKey

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "format_checkpoint",
    "origin_id",
    "parse_checkpoint",
    "parse_decimal",
    "sign_checkpoint",
    "verify_checkpoint",
    "verify_log_signature",
]


def origin_id(origin: str) -> str:
    """Return the hex SHA-256 of an origin, which names it in paths and URLs (tlog-witness)."""
    return hashlib.sha256(origin.encode()).hexdigest()


class CheckpointError(CallerError):
    """The text is not a checkpoint, or not one of the log that was asked for."""

    code = "bad_checkpoint"


class Checkpoint(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """A log's head: `origin` names the log, `size` counts leaves, `root` commits to them."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for line in (self.origin, *self.extensions):
            if not line or any(char < " " for char in line):
                raise CheckpointError(
                    f"expected origin and extensions as non-empty single lines, got {line[:80]!r}"
                )
        if not 0 <= self.size <= MAX_SIZE:
            raise CheckpointError(f"expected a size from 0 to {MAX_SIZE}, got {self.size}")
        if len(self.root) != HASH_BYTES:
            raise CheckpointError(f"expected a root of 32 bytes, got {len(self.root)}")


def parse_decimal(text: str) -> int:
    """Return the number written in ASCII decimal without leading zeros, at most `MAX_SIZE`."""
    canonical = text == "0" or (text.isascii() and text.isdigit() and not text.startswith("0"))
    if not canonical or len(text) > 19 or int(text) > MAX_SIZE:
        raise CheckpointError(
            f"expected a decimal number without leading zeros, at most {MAX_SIZE}, "
            f"got {text[:40]!r}"
        )
    return int(text)


def format_checkpoint(checkpoint: Checkpoint) -> bytes:
    """Return the note text of a checkpoint."""
    lines = (
        checkpoint.origin,
        str(checkpoint.size),
        encode_base64(checkpoint.root),
        *checkpoint.extensions,
    )
    return "".join(f"{line}\n" for line in lines).encode()


def parse_checkpoint(text: bytes) -> Checkpoint:
    """Return the checkpoint that a note text holds; nothing is verified."""
    try:
        lines = text.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise CheckpointError(
            f"expected a checkpoint in UTF-8, byte {error.start} of it is not"
        ) from error
    if len(lines) < 4 or lines[-1]:
        raise CheckpointError(
            "expected the lines origin, size and root, each ending in a newline, "
            f"got {len(lines) - 1} line(s)"
        )
    try:
        root = parse_base64(lines[2])
    except EncodingError as error:
        raise CheckpointError(f"in the root line: {error}") from error
    return Checkpoint(
        origin=lines[0],
        size=parse_decimal(lines[1]),
        root=root,
        extensions=tuple(lines[3:-1]),
    )


def sign_checkpoint(checkpoint: Checkpoint, signer: NoteSigner) -> bytes:
    """Return the checkpoint as a note signed by its log."""
    if signer.name != checkpoint.origin:
        raise CheckpointError(
            f"expected the log's own key {checkpoint.origin!r}, got the key {signer.name!r}"
        )
    return sign_note(format_checkpoint(checkpoint), [signer])


def verify_log_signature(
    note: Note, log_keys: Sequence[VerifierKey]
) -> tuple[Checkpoint, VerifierKey]:
    """Return the note's checkpoint and the key, named as its origin, that signed it.

    `log_keys` are the keys of the logs that are acceptable here.
    """
    checkpoint = parse_checkpoint(note.text)
    signers = verify_note(note, log_keys)
    own = next((key for key in signers if key.name == checkpoint.origin), None)
    if own is None:
        raise CheckpointError(
            f"expected a checkpoint of {signers[0].name!r}, which signed it, got one with the "
            f"origin {checkpoint.origin[:80]!r}: it is for another log",
            code="wrong_origin",
        )
    return checkpoint, own


def verify_checkpoint(data: bytes, log_key: VerifierKey) -> Checkpoint:
    """Return the checkpoint of note `data` once the signature of that log verifies."""
    return verify_log_signature(parse_note(data), [log_key])[0]
