"""What an API key may be bound to, so that a stolen one is worth nothing by itself.

    mtls   the caller's TLS certificate, by the SHA-256 of its DER bytes (RFC 8705, `x5t#S256`)
    dpop   a key that the caller signs each request with, by its JWK thumbprint (RFC 7638)

Invariants
- A binding stands inside what admissions signed, beside the key's digest: who holds the control
  plane can neither drop nor change it.
- Thumbprints are 43 characters of base64url in their one spelling, compared in constant time.
- Only public halves are taken: a JWK that carries a private member is refused and not quoted.

Follows RFC 7638, RFC 7517, RFC 7518 section 6, RFC 8037 and RFC 8705 section 3.1.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from gatelift.encoding import EncodingError, encode_base64url, encode_json, parse_base64url
from gatelift.errors import CallerError, GateliftError
from gatelift.tlog import check_public_key

__all__ = [
    "BindingError",
    "BindingKind",
    "KeyBinding",
    "PublicJwk",
    "check_binding",
    "matches_thumbprint",
    "parse_jwk",
    "thumbprint_of",
]

_COORDINATE_BYTES: Final = 32
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


class BindingError(CallerError):
    """A bound key came without its binding, or with one that does not hold.

    Codes: `binding_required`, `binding_failed`; `bad_binding` for a grant or a JWK that is none.
    """

    code = "binding_failed"


class BindingKind(enum.StrEnum):
    """By what a caller proves that a key is its own."""

    MTLS = "mtls"
    DPOP = "dpop"


class KeyBinding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one API key is bound to."""

    kind: BindingKind
    thumbprint: str


class PublicJwk(msgspec.Struct, frozen=True, kw_only=True):
    """A public key of a JWK: Ed25519 (32 bytes) or P-256 (an uncompressed point), and its thumbprint."""

    curve: str
    raw: bytes
    thumbprint: str


def check_binding(binding: KeyBinding) -> KeyBinding:
    """Return a binding whose thumbprint can be one; raises `BindingError` (`bad_binding`)."""
    try:
        fits = len(parse_base64url(binding.thumbprint)) == hashlib.sha256().digest_size
    except EncodingError:
        fits = False
    if not fits:
        raise BindingError(
            "expected a thumbprint as base64url of a SHA-256, 43 characters", code="bad_binding"
        )
    return binding


def thumbprint_of(certificate: bytes) -> str:
    """Return `x5t#S256` of a certificate's DER bytes."""
    return encode_base64url(hashlib.sha256(certificate).digest())


def matches_thumbprint(binding: KeyBinding, shown: str) -> bool:
    """Return whether this thumbprint is the one bound to, in constant time."""
    return hmac.compare_digest(binding.thumbprint.encode("utf-8"), shown.encode("utf-8"))


def parse_jwk(value: Any) -> PublicJwk:
    """Return the public key of a JWK's JSON value; raises `BindingError` (`bad_binding`)."""
    if not isinstance(value, dict) or value.keys() & _PRIVATE:
        raise BindingError("expected a JWK of a public key alone", code="bad_binding")
    kind, curve = value.get("kty"), value.get("crv")
    if (kind, curve) == ("OKP", "Ed25519"):
        raw = _coordinate(value, "x")
        members = {"crv": curve, "kty": kind, "x": value["x"]}
        try:
            check_public_key(raw)
        except GateliftError as error:
            raise BindingError(f"no safe Ed25519 key: {error}", code="bad_binding") from error
    elif (kind, curve) == ("EC", "P-256"):
        raw = b"\x04" + _coordinate(value, "x") + _coordinate(value, "y")
        members = {"crv": curve, "kty": kind, "x": value["x"], "y": value["y"]}
        try:
            ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), raw)
        except ValueError as error:
            raise BindingError("the point is not on P-256", code="bad_binding") from error
    else:
        raise BindingError("expected a JWK on Ed25519 or P-256", code="bad_binding")
    # The members stand in the order that RFC 7638 section 3.2 wants.
    digest = hashlib.sha256(encode_json(members)).digest()
    return PublicJwk(curve=str(curve), raw=raw, thumbprint=encode_base64url(digest))


def _coordinate(value: dict[str, Any], name: str) -> bytes:
    text = value.get(name)
    try:
        raw = parse_base64url(text) if isinstance(text, str) else b""
    except EncodingError:
        raw = b""
    if len(raw) != _COORDINATE_BYTES:
        raise BindingError(f"expected 32 bytes as {name!r} of a JWK", code="bad_binding")
    return raw
