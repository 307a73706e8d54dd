"""Verifier keys: the written form of a public key that signs notes.

A vkey reads `<name>+<key id as 8 hex digits>+<base64 of the type byte and the public key>`, and the
key id is `SHA-256(name || 0x0A || type || public key)[:4]`.

Invariants
- `parse_vkey(key.vkey)` is `key`, and no other spelling of it is accepted.
- The key id is recomputed from the key, so a vkey whose id does not match is refused.
- The id is a hint for finding the key, never a reason to trust a signature.
- Public keys of small order or in non-canonical form are refused (see `ed25519`).

Not here: ECDSA (0x02), RFC 6962 tree heads (0x05) and ML-DSA-44 (0x06). Their lines in a note are
signatures of unknown keys, and are ignored as the specification demands.

Follows C2SP signed-note, sections "Format", "Verifier keys" and "Signature types".
"""

from __future__ import annotations

import hashlib
from enum import IntEnum

import msgspec

from gatelift.encoding import EncodingError, encode_base64, parse_base64
from gatelift.errors import CallerError
from gatelift.tlog.ed25519 import PUBLIC_KEY_BYTES, check_public_key

__all__ = ["KEY_ID_BYTES", "KeyKind", "VerifierKey", "VkeyError", "check_key_name", "parse_vkey"]

KEY_ID_BYTES = 4


class VkeyError(CallerError):
    """The text is not the vkey of a key that we verify with."""

    code = "bad_vkey"


class KeyKind(IntEnum):
    """The signature type byte: what a signature by the key means."""

    NOTE = 0x01
    """Ed25519 over the note's text: how a log signs."""
    COSIGNATURE = 0x04
    """Ed25519 over a time and a checkpoint: how a witness signs."""


_KINDS = frozenset(int(kind) for kind in KeyKind)


class VerifierKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A named public key, and what it signs."""

    name: str
    kind: KeyKind
    public_key: bytes

    def __post_init__(self) -> None:
        check_key_name(self.name)
        check_public_key(self.public_key)

    @property
    def key_id(self) -> bytes:
        """The four bytes that mark this key's signatures."""
        material = self.name.encode() + b"\n" + bytes([self.kind]) + self.public_key
        return hashlib.sha256(material).digest()[:KEY_ID_BYTES]

    @property
    def vkey(self) -> str:
        """The written form."""
        key = encode_base64(bytes([self.kind]) + self.public_key)
        return f"{self.name}+{self.key_id.hex()}+{key}"


def check_key_name(name: str) -> str:
    """Return `name` if a signature line may carry it: not empty, no spaces, controls or plus."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise VkeyError("expected a key name in UTF-8") from error
    if not name or "+" in name or any(c.isspace() or c < "\x20" for c in name):
        raise VkeyError(
            f"expected a key name without spaces, control characters or '+', got {name[:80]!r}"
        )
    return name


def parse_vkey(text: str) -> VerifierKey:
    """Return the key that `text` writes, or raise."""
    parts = text.split("+", 2)  # the base64 may itself hold '+'
    if len(parts) != 3:
        raise VkeyError(f"expected a vkey as name+id+key, got {text[:80]!r}")
    name, written_id, encoded = parts
    try:
        raw = parse_base64(encoded)
    except EncodingError as error:
        raise VkeyError(f"the key of vkey {name[:80]!r} is not base64: {error}") from error
    if len(raw) != 1 + PUBLIC_KEY_BYTES or raw[0] not in _KINDS:
        raise VkeyError(
            f"expected vkey {name[:80]!r} to hold a type byte 01 or 04 and a 32 byte Ed25519 key, "
            f"got {len(raw)} bytes that begin with {raw[:1].hex() or 'nothing'}",
            code="unsupported_vkey",
        )
    key = VerifierKey(name=name, kind=KeyKind(raw[0]), public_key=raw[1:])
    if written_id != key.key_id.hex():
        raise VkeyError(
            f"expected the id {key.key_id.hex()} in vkey {name[:80]!r}, got {written_id[:16]!r}: "
            "copy the vkey again as a whole"
        )
    return key
