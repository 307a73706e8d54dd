"""Cosignatures: a witness's word that a checkpoint extends all that it had seen, at a time.

A cosignature line holds the time as 8 bytes big-endian, then an Ed25519 signature over

    cosignature/v1
    time <seconds since 1970 in decimal>
    <the whole note text, extension lines included>

Meaning: at that time this was the largest consistent tree of this origin that the witness had seen.

Invariants
- The time that is returned is the time that was signed.
- The header line keeps these signatures apart from those of logs, even under one key by mistake.
- A known witness whose signature fails rejects the note; unknown ones are ignored.
- Each witness key is returned once, with its newest time, however many lines it has.

Not here: whether there are enough witnesses, or recent enough ones (`policy`), and ML-DSA-44
cosignatures (type 0x06), which are ignored like any unknown key.

Follows C2SP tlog-cosignature, cosignature/v1. Times are seconds here because the format's are.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatelift.errors import CallerError
from gatelift.tlog.checkpoint import parse_checkpoint
from gatelift.tlog.ed25519 import SIGNATURE_BYTES, public_key_of, verify_ed25519
from gatelift.tlog.merkle import MAX_SIZE
from gatelift.tlog.note import Note, NoteSignature, known_signatures
from gatelift.tlog.vkey import KeyKind, VerifierKey

__all__ = ["Cosignature", "CosignatureError", "CosignatureSigner", "verify_cosignatures"]

_TIME_BYTES = 8


class CosignatureError(CallerError):
    """A cosignature is malformed, or the key is not a witness's."""

    code = "bad_cosignature"


class Cosignature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A verified cosignature: which witness, and when (seconds since 1970, UTC)."""

    key: VerifierKey
    time_s: int

    @property
    def at_ms(self) -> int:
        """The time in milliseconds, as the rest of the house counts."""
        return self.time_s * 1000


class CosignatureSigner:
    """Cosigns checkpoints as a witness; the key never shows in a repr."""

    __slots__ = ("_private_key", "key")

    def __init__(self, name: str, private_key: Ed25519PrivateKey) -> None:
        self._private_key = private_key
        self.key = VerifierKey(
            name=name, kind=KeyKind.COSIGNATURE, public_key=public_key_of(private_key)
        )

    @property
    def name(self) -> str:
        """The witness's name in signature lines."""
        return self.key.name

    @property
    def vkey(self) -> str:
        """The written form of the key that verifies."""
        return self.key.vkey

    def sign(self, text: bytes, time_s: int) -> NoteSignature:
        """Return the cosignature at `time_s` over the checkpoint whose note text is `text`.

        The caller has checked that the checkpoint extends all that this witness has seen.
        """
        parse_checkpoint(text)  # a witness key signs nothing but checkpoints
        signature = self._private_key.sign(_message(text, time_s))
        return NoteSignature(
            name=self.name,
            key_id=self.key.key_id,
            signature=time_s.to_bytes(_TIME_BYTES, "big") + signature,
        )


def verify_cosignatures(note: Note, keys: Sequence[VerifierKey]) -> tuple[Cosignature, ...]:
    """Return the verified cosignatures of `keys` under the note, in note order; there may be none.

    Raises `SignatureError` or `CosignatureError` if the line of a known witness fails.
    """
    for key in keys:
        if key.kind is not KeyKind.COSIGNATURE:
            raise CosignatureError(f"expected witness keys (type 04), got the key {key.name!r}")
    times: dict[VerifierKey, int] = {}
    for key, line in known_signatures(note, keys):
        if len(line.signature) != _TIME_BYTES + SIGNATURE_BYTES:
            raise CosignatureError(
                f"expected a cosignature of 72 bytes by {key.name!r}, got {len(line.signature)}"
            )
        time_s = int.from_bytes(line.signature[:_TIME_BYTES], "big")
        verify_ed25519(key.public_key, line.signature[_TIME_BYTES:], _message(note.text, time_s))
        times[key] = max(time_s, times.get(key, 0))
    return tuple(Cosignature(key=key, time_s=time_s) for key, time_s in times.items())


def _message(text: bytes, time_s: int) -> bytes:
    if not 0 <= time_s <= MAX_SIZE:
        raise CosignatureError(f"expected a time in seconds from 0 to {MAX_SIZE}, got {time_s}")
    return b"cosignature/v1\ntime %d\n" % time_s + text
