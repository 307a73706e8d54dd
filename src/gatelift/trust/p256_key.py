"""The P-256 key that a file holds.

Invariants
- Its repr shows the public id only.
- A private number is 32 bytes, from 1 to n - 1; anything else is refused without quoting it.
- Signatures are DER, as `ecdsa_p256` reads them.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gatelift.encoding import encode_base64
from gatelift.tlog import PublicKeyError
from gatelift.trust.ecdsa_p256 import ORDER
from gatelift.trust.keys import KeyId, key_id

__all__ = ["NUMBER_BYTES", "P256Key"]

NUMBER_BYTES: Final = 32


class P256Key:
    """A private key on P-256 in memory, made from its number (32 bytes, big-endian)."""

    __slots__ = ("_private", "id", "public")

    def __init__(self, number: bytes) -> None:
        value = int.from_bytes(number, "big")
        if len(number) != NUMBER_BYTES or not 1 <= value < ORDER:
            raise PublicKeyError(
                f"expected a private number of {NUMBER_BYTES} bytes below the order of P-256"
            )
        self._private = ec.derive_private_key(value, ec.SECP256R1())
        self.public: bytes = self._private.public_key().public_bytes(
            Encoding.X962, PublicFormat.UncompressedPoint
        )
        self.id: KeyId = key_id(self.public)

    @property
    def public_text(self) -> str:
        """The public key as it stands in a root."""
        return encode_base64(self.public)

    def sign(self, message: bytes) -> bytes:
        """Return the signature over `message`, in DER."""
        return self._private.sign(message, ec.ECDSA(hashes.SHA256()))

    def __repr__(self) -> str:
        return f"P256Key({self.id})"
