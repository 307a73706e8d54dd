"""Public keys, the four ways they sign, and the Ed25519 key that a file holds.

    ed25519      public: 32 bytes          sig: 64 bytes (RFC 8032)
    ecdsa-p256   public: point of 65       sig: strict DER (`ecdsa_p256`)
    sshsig       public: 32 bytes          sig: OpenSSH's blob (`sshsig`)
    webauthn     public: 32 or 65 bytes    sig: an assertion in JSON (`webauthn`)

Invariants
- A key is identified by the digest of its point on its curve, in the one spelling that is taken. The
  scheme and what stands around the key are not part of it: the same key material under two schemes
  is one key, and one vote. The two curves differ in length, so no bytes are a key of both.
- Which scheme verifies stands with the pinned key. A signature never chooses.
- Public keys of small order, off their curve or in another spelling are refused where they are read,
  because libraries disagree about signatures under them.
- `verify_signature` raises or returns nothing to misread.

Does not hold keys at rest: files, agents and hardware are reached in `wire`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Final, NewType, Protocol

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatelift.encoding import encode_base64, parse_base64, sha256_digest
from gatelift.tlog import (
    PUBLIC_KEY_BYTES,
    PublicKeyError,
    SignatureError,
    check_public_key,
    verify_ed25519,
)
from gatelift.trust.ecdsa_p256 import check_point, verify_ecdsa_p256
from gatelift.trust.sshsig import verify_sshsig
from gatelift.trust.webauthn import verify_webauthn

__all__ = [
    "KeyId",
    "MessageSigner",
    "Scheme",
    "SignatureError",
    "SigningKey",
    "VerifyingKey",
    "check_verifying_key",
    "key_id",
    "parse_public_key",
    "verify_signature",
]

KeyId = NewType("KeyId", str)
"""The digest of the public key's point."""

_MAX_RP_ID_CHARS: Final = 253


class Scheme(enum.StrEnum):
    """How a key signs."""

    ED25519 = "ed25519"
    ECDSA_P256 = "ecdsa-p256"
    SSHSIG = "sshsig"
    WEBAUTHN = "webauthn"


class VerifyingKey(msgspec.Struct, frozen=True, kw_only=True):
    """A public key as a root pins it. `rp_id` is a relying party or a security key's application."""

    scheme: Scheme
    public: bytes
    rp_id: str | None = None

    @property
    def id(self) -> KeyId:
        """The id of the point, whatever the scheme."""
        return key_id(self.public)


class MessageSigner(Protocol):
    """Whatever signs messages under one key: a key in memory, an agent, a token."""

    @property
    def id(self) -> KeyId:
        """The id of the public key."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return the signature over `message`, as the key's scheme spells it."""
        ...


def key_id(public: bytes) -> KeyId:
    """Return the id of a public key."""
    return KeyId(sha256_digest(public))


def parse_public_key(text: str) -> bytes:
    """Return the 32 public bytes of base64 text; refuses weak and non-canonical points."""
    return check_public_key(parse_base64(text))


def check_verifying_key(key: VerifyingKey) -> VerifyingKey:
    """Return a key whose bytes suit its scheme; raises `PublicKeyError`."""
    if key.scheme is Scheme.ECDSA_P256 or (
        key.scheme is Scheme.WEBAUTHN and len(key.public) != PUBLIC_KEY_BYTES
    ):
        _ = check_point(key.public)
    else:
        _ = check_public_key(key.public)
    named = key.rp_id is not None
    if (key.scheme is Scheme.WEBAUTHN and not named) or (
        key.scheme in (Scheme.ED25519, Scheme.ECDSA_P256) and named
    ):
        raise PublicKeyError(
            "expected rp_id with a webauthn key or an SSH security key, and with no other"
        )
    text = key.rp_id or ""
    if named and not (0 < len(text) <= _MAX_RP_ID_CHARS and text.isascii() and text.isprintable()):
        raise PublicKeyError(f"expected rp_id as 1 to {_MAX_RP_ID_CHARS} printable characters")
    if key.scheme is Scheme.WEBAUTHN and (text != text.lower() or set(text) & set(" /:@?#\\")):
        raise PublicKeyError("expected rp_id as a domain in lower case, such as sign.example")
    return key


def _verify_ed25519(key: VerifyingKey, signature: bytes, message: bytes) -> None:
    _ = verify_ed25519(key.public, signature, message)


def _verify_ecdsa_p256(key: VerifyingKey, signature: bytes, message: bytes) -> None:
    _ = verify_ecdsa_p256(key.public, signature, message)


def _verify_sshsig(key: VerifyingKey, signature: bytes, message: bytes) -> None:
    _ = verify_sshsig(key.public, key.rp_id, signature, message)


def _verify_webauthn(key: VerifyingKey, signature: bytes, message: bytes) -> None:
    if key.rp_id is None:
        raise SignatureError("a webauthn key without its relying party verifies nothing")
    _ = verify_webauthn(key.public, key.rp_id, signature, message)


_SCHEMES: Final[Mapping[Scheme, Callable[[VerifyingKey, bytes, bytes], None]]] = {
    Scheme.ED25519: _verify_ed25519,
    Scheme.ECDSA_P256: _verify_ecdsa_p256,
    Scheme.SSHSIG: _verify_sshsig,
    Scheme.WEBAUTHN: _verify_webauthn,
}


def verify_signature(key: VerifyingKey, signature: bytes, message: bytes) -> None:
    """Return if `signature` is `key`'s over `message`; raises `SignatureError` if not."""
    _SCHEMES[key.scheme](key, signature, message)


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
