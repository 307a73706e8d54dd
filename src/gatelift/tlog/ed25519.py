"""Ed25519 public keys, refused where libraries disagree about what they verify.

A key of small order verifies signatures over almost any message in some libraries, and a key with
two spellings would count twice in a quorum. Both are refused when a key is enrolled, so that every
verifier, ours or foreign, sees the same keys verify the same signatures.

Invariants
- A key that `check_public_key` returns is the one canonical encoding of a point on the curve, of
  order above 8.
- `verify_ed25519` raises on any bad signature; it never returns a bool.

Not here: what is signed. Callers put their own domain separation before the message.

Follows RFC 8032 sections 5.1.2, 5.1.3 and 5.1.7.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gatelift.errors import CallerError

__all__ = [
    "PUBLIC_KEY_BYTES",
    "SEED_BYTES",
    "SIGNATURE_BYTES",
    "PublicKeyError",
    "SignatureError",
    "check_public_key",
    "public_key_of",
    "verify_ed25519",
]

PUBLIC_KEY_BYTES = 32
SEED_BYTES = 32
SIGNATURE_BYTES = 64

_P = 2**255 - 19
_D = (-121665 * pow(121666, -1, _P)) % _P


def _order_eight_ys() -> frozenset[int]:
    # Doubling a point of order 8 gives one of order 4, whose y is 0. By the doubling formula on
    # -x^2 + y^2 = 1 + d x^2 y^2 that means y^2 = -x^2, so d y^4 + 2 y^2 - 1 = 0 over the field.
    root = _sqrt((1 + _D) % _P)
    inverse = pow(_D, -1, _P)
    found = set()
    for square in ((-1 + root) * inverse % _P, (-1 - root) * inverse % _P):
        if pow(square, (_P - 1) // 2, _P) == 1:
            y = _sqrt(square)
            found |= {y, _P - y}
    return frozenset(found)


def _sqrt(square: int) -> int:
    # RFC 8032 section 5.1.3 step 3 for a prime that is 5 modulo 8.
    candidate = pow(square, (_P + 3) // 8, _P)
    if candidate * candidate % _P != square:
        candidate = candidate * pow(2, (_P - 1) // 4, _P) % _P
    return candidate


_SMALL_ORDER_YS = frozenset({0, 1, _P - 1}) | _order_eight_ys()


class PublicKeyError(CallerError):
    """These bytes are not a public key that every library would treat alike."""

    code = "bad_public_key"


class SignatureError(CallerError):
    """A signature does not verify."""

    code = "bad_signature"


def check_public_key(raw: bytes) -> bytes:
    """Return `raw` if it is a canonical Ed25519 public key of large order, else raise."""
    if len(raw) != PUBLIC_KEY_BYTES:
        raise PublicKeyError(f"expected {PUBLIC_KEY_BYTES} bytes of public key, got {len(raw)}")
    y = int.from_bytes(raw, "little") & (2**255 - 1)
    if y >= _P:
        raise PublicKeyError("the public key is not in canonical form: enrol a fresh key")
    if y in _SMALL_ORDER_YS:
        raise PublicKeyError("the public key has small order, anybody can sign for it: refuse it")
    # x^2 = (y^2 - 1) / (d y^2 + 1) must be a square; u/v is one exactly if u*v is.
    product = (y * y - 1) * (_D * y * y + 1) % _P
    if pow(product, (_P - 1) // 2, _P) != 1:
        raise PublicKeyError("the public key is not a point on the curve: check how it was copied")
    return raw


def public_key_of(private_key: Ed25519PrivateKey) -> bytes:
    """Return the 32 bytes of the public half."""
    return private_key.public_key().public_bytes_raw()


def verify_ed25519(public_key: bytes, signature: bytes, message: bytes) -> bytes:
    """Return `message` once `signature` over it verifies, else raise `SignatureError`."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise SignatureError(
            "expected an Ed25519 signature of these bytes by this key, got another: "
            "the content or the signature was changed, or another key signed"
        ) from error
    return message
