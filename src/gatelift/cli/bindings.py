"""Reading what an API key is to be bound to: a client certificate, or a public DPoP key."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_public_key

from gatelift.cli.errors import InputError
from gatelift.cli.layout import read_bytes
from gatelift.encoding import encode_base64url, parse_json
from gatelift.trust import BindingKind, KeyBinding, parse_jwk, thumbprint_of

__all__ = ["read_binding"]


def read_binding(mtls: Path | None, dpop: Path | None) -> KeyBinding | None:
    """Return the binding that one of two files says; raises `InputError`, `BindingError`."""
    if mtls is not None and dpop is not None:
        raise InputError("expected --bind-mtls or --bind-dpop, not both: a key has one binding")
    if mtls is not None:
        return KeyBinding(kind=BindingKind.MTLS, thumbprint=_certificate(mtls))
    if dpop is not None:
        return KeyBinding(kind=BindingKind.DPOP, thumbprint=_public_key(dpop))
    return None


def _certificate(path: Path) -> str:
    try:
        found = x509.load_pem_x509_certificates(read_bytes(path))
    except ValueError as error:
        raise InputError(f"expected a PEM certificate in {path}") from error
    return thumbprint_of(found[0].public_bytes(Encoding.DER))


def _public_key(path: Path) -> str:
    data = read_bytes(path)
    if b"PRIVATE KEY" in data:
        raise InputError(f"{path} holds a private key: give its public half")
    if data.lstrip().startswith(b"{"):
        return parse_jwk(parse_json(data)).thumbprint
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(f"expected a JWK or a PEM public key in {path}") from error
    return parse_jwk(_jwk(key, path)).thumbprint


def _jwk(key: object, path: Path) -> dict[str, str]:
    match key:
        case ed25519.Ed25519PublicKey():
            return {
                "kty": "OKP",
                "crv": "Ed25519",
                "x": encode_base64url(key.public_bytes_raw()),
            }
        case ec.EllipticCurvePublicKey() if key.curve.name == "secp256r1":
            numbers = key.public_numbers()
            x, y = (encode_base64url(n.to_bytes(32, "big")) for n in (numbers.x, numbers.y))
            return {"kty": "EC", "crv": "P-256", "x": x, "y": y}
        case _:
            raise InputError(f"expected a key on P-256 or Ed25519 in {path}")
