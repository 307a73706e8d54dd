"""ECDSA on P-256 with SHA-256: points in one spelling, signatures in strict DER.

Invariants
- A public key is the uncompressed point, 65 bytes that begin with 4, on the curve. A compressed
  point or an SPKI around it is refused: a key with two spellings could be enrolled twice.
- A signature is the one DER encoding of r and s, both from 1 to n - 1, with nothing after it. A high
  s is accepted: nothing here tells signatures apart by their bytes.

Follows FIPS 186-5 section 6.4.2 and SEC 1 version 2.0 section 2.3.3.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from gatelift.tlog import PublicKeyError, SignatureError

__all__ = ["ORDER", "POINT_BYTES", "check_point", "verify_ecdsa_p256"]

POINT_BYTES: Final = 65
_UNCOMPRESSED: Final = 4
ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def check_point(raw: bytes) -> bytes:
    """Return `raw` if it is an uncompressed point on P-256; raises `PublicKeyError`."""
    if len(raw) != POINT_BYTES or raw[0] != _UNCOMPRESSED:
        raise PublicKeyError(
            f"expected an uncompressed P-256 point ({POINT_BYTES} bytes, the first is 4), "
            f"got {len(raw)} bytes"
        )
    try:
        _ = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), raw)
    except ValueError as error:
        raise PublicKeyError("the point is not on P-256: check how the key was copied") from error
    return raw


def verify_ecdsa_p256(public: bytes, signature: bytes, message: bytes) -> bytes:
    """Return `message` once the DER `signature` over it verifies; raises `SignatureError`."""
    try:
        r, s = decode_dss_signature(signature)
        # The library refuses other spellings today; that it does is not left to it.
        one_spelling = encode_dss_signature(r, s) == signature
        if not (one_spelling and 1 <= r < ORDER and 1 <= s < ORDER):
            raise SignatureError("expected strict DER of r and s below the order of P-256")
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public)
        key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError) as error:
        raise SignatureError(
            "expected a P-256 signature of these bytes by this key, got another: "
            "the content or the signature was changed, or another key signed"
        ) from error
    return message
