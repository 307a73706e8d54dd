"""DPoP proofs: one signed sentence a request, "this key holder sends this method to this address now".

Invariants
- The algorithm follows from the key (ES256 for P-256, EdDSA for Ed25519), never from the header
  alone; `crit` and private key material are refused.
- A proof names method, address (scheme, host, port and path), the SHA-256 of the API key, a time
  within `WINDOW_MS` of ours, and an id. All must hold; the signature is checked first.
- JSON is strict: duplicate keys and odd spellings of base64url are refused.
- No error quotes the proof or the key.

Not here: that an id is used once (`gateway.bindings`), and nonces of the server, which are not asked
for: the window bounds what is kept.

Follows RFC 9449 sections 4.2, 4.3 and 7.1 (the API key stands where an access token would) and
RFC 7515.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from gatelift.encoding import EncodingError, encode_base64url, parse_base64url, parse_json
from gatelift.tlog import SignatureError, verify_ed25519
from gatelift.trust.binding import BindingError, PublicJwk, parse_jwk

__all__ = ["WINDOW_MS", "DpopProof", "DpopRequest", "verify_dpop"]

WINDOW_MS: Final = 60_000
_MAX_BYTES: Final = 4096
_MAX_JTI_CHARS: Final = 256
_MAX_DEPTH: Final = 4
_PORTS: Final = {"http": 80, "https": 443}
_ALGORITHMS: Final = {"P-256": frozenset({"ES256"}), "Ed25519": frozenset({"EdDSA", "Ed25519"})}


class DpopRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The request that a proof came with. `host` is its Host header; `schemes` are those it may name."""

    method: str
    schemes: frozenset[str]
    host: str
    path: str
    api_key: str


class DpopProof(msgspec.Struct, frozen=True, kw_only=True):
    """What holds: the thumbprint of the key that signed, and the proof's id."""

    thumbprint: str
    jti: str


def verify_dpop(proof: bytes, request: DpopRequest, now_ms: int) -> DpopProof:
    """Return what a proof proves for a request; raises `BindingError` (`binding_failed`)."""
    if len(proof) > _MAX_BYTES or proof.count(b".") != 2:
        raise _failed("expected one compact JWT")
    try:
        signed, _, signature_text = proof.decode("ascii").rpartition(".")
        header_text, _, claims_text = signed.partition(".")
        header = parse_json(parse_base64url(header_text), max_depth=_MAX_DEPTH)
        claims = parse_json(parse_base64url(claims_text), max_depth=_MAX_DEPTH)
        signature = parse_base64url(signature_text)
    except (EncodingError, UnicodeDecodeError):
        raise _failed("expected base64url of strict JSON") from None
    key = _check_header(header)
    _check_signature(key, signed.encode("ascii"), signature)
    if not isinstance(claims, dict):
        raise _failed("expected claims as an object")
    return DpopProof(thumbprint=key.thumbprint, jti=_check_claims(claims, request, now_ms))


def _check_header(header: Any) -> PublicJwk:
    if not isinstance(header, dict) or header.get("typ") != "dpop+jwt" or "crit" in header:
        raise _failed("expected typ dpop+jwt and no crit")
    try:
        key = parse_jwk(header.get("jwk"))
    except BindingError as error:
        raise _failed(str(error)) from None
    if header.get("alg") not in _ALGORITHMS[key.curve]:
        raise _failed("expected ES256 with a P-256 key or EdDSA with an Ed25519 key")
    return key


def _check_signature(key: PublicJwk, signed: bytes, signature: bytes) -> None:
    if len(signature) != 64:
        raise _failed("expected a signature of 64 bytes")
    try:
        if key.curve == "Ed25519":
            verify_ed25519(key.raw, signature, signed)
        else:
            public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key.raw)
            r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
            public.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, SignatureError, ValueError):
        raise _failed("the signature does not verify") from None


def _check_claims(claims: dict[str, Any], request: DpopRequest, now_ms: int) -> str:
    jti, issued = claims.get("jti"), claims.get("iat")
    if not isinstance(jti, str) or not 1 <= len(jti) <= _MAX_JTI_CHARS:
        raise _failed(f"expected a jti of 1 to {_MAX_JTI_CHARS} characters")
    if not isinstance(issued, int | float) or isinstance(issued, bool):
        raise _failed("expected iat as a number")
    if abs(issued * 1000 - now_ms) > WINDOW_MS:
        raise _failed("iat is more than a minute from our clock: make a proof for each request")
    if claims.get("htm") != request.method:
        raise _failed("htm is not the request's method")
    _check_address(claims.get("htu"), request)
    hashed = encode_base64url(hashlib.sha256(request.api_key.encode("utf-8")).digest())
    ath = claims.get("ath")
    if not isinstance(ath, str) or not hmac.compare_digest(ath.encode("utf-8"), hashed.encode()):
        raise _failed("ath is not the SHA-256 of the API key")
    return jti


def _check_address(htu: Any, request: DpopRequest) -> None:
    try:
        named = urlsplit(htu) if isinstance(htu, str) else SplitResult("", "", "", "", "")
        ours = urlsplit(f"{named.scheme}://{request.host}")
        same = (
            bool(named.hostname)
            and named.scheme in request.schemes
            and named.username is None
            and (named.hostname, _port(named)) == (ours.hostname, _port(ours))
            and (named.path or "/") == request.path
        )
    except ValueError:
        same = False
    if not same:
        raise _failed("htu is not the address of this request, as its Host header names it")


def _port(address: SplitResult) -> int | None:
    return address.port or _PORTS.get(address.scheme)


def _failed(why: str) -> BindingError:
    return BindingError(f"the DPoP proof does not hold: {why}", code="binding_failed")
