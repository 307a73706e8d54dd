"""Ed25519 keys and signatures (RFC 8032), the one scheme of this version.

Invariants
- A key is identified by the digest of its public bytes; an id that a file claims is never trusted.
- Public keys of small order or with a non-canonical encoding are refused where they are read,
  because libraries disagree about signatures under them.
- `verify_signature` raises or returns nothing to misread.

Does not hold keys at rest: files, agents and hardware live in `wire.signers`.
"""

from __future__ import annotations

from typing import NewType

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatelift.encoding import encode_base64, parse_base64, sha256_digest
from gatelift.tlog import PublicKeyError, SignatureError, check_public_key, verify_ed25519

__all__ = [
    "KeyId",
    "SignatureError",
    "SigningKey",
    "key_id",
    "parse_public_key",
    "verify_signature",
]

KeyId = NewType("KeyId", str)
"""The digest of the public key's 32 bytes."""


def key_id(public: bytes) -> KeyId:
    """Return the id of a public key."""
    return KeyId(sha256_digest(public))


def parse_public_key(text: str) -> bytes:
    """Return the 32 public bytes of base64 text; refuses weak and non-canonical points."""
    return check_public_key(parse_base64(text))


def verify_signature(public: bytes, signature: bytes, message: bytes) -> None:
    """Return if `signature` is `public`'s over `message`; raises `SignatureError` if not."""
    verify_ed25519(public, signature, message)


class SigningKey:
    """A private key in memory. Its repr shows the public id only."""

    __slots__ = ("_private", "id", "public")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != 32:
            raise PublicKeyError(f"expected a seed of 32 bytes, got {len(seed)}")
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.public: bytes = self._private.public_key().public_bytes_raw()
        self.id: KeyId = key_id(self.public)

    @property
    def public_text(self) -> str:
        """The public key as it stands in a root."""
        return encode_base64(self.public)

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over `message`."""
        return self._private.sign(message)

    def __repr__(self) -> str:
        return f"SigningKey({self.id})"
