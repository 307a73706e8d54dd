"""The keys that seal weights: P-256 in PEM, as OpenSSF model-signing takes them.

Invariants
- The private half is read as any secret is (`keyfiles`): a file that others may read is refused.
- P-256 alone: a key on another curve is refused by name, never used.
- No error, repr or traceback shows what stands in the file.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gatelift.wire.keyfiles import KeyFileError, load_secret_bytes

__all__ = ["ManifestKey", "load_manifest_key", "load_manifest_signer"]

_MAX_PUBLIC_BYTES = 16_384


class ManifestKey:
    """A P-256 key that signs manifests."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self.public = _point(key.public_key())

    def sign(self, message: bytes) -> bytes:
        """Return a DER signature over `message`."""
        return self._key.sign(message, ec.ECDSA(hashes.SHA256()))

    def __repr__(self) -> str:
        return "ManifestKey(...)"


def load_manifest_key(path: Path) -> ManifestKey:
    """Return the private key in a PEM file of mode 0600; raises `KeyFileError`."""
    data = load_secret_bytes(path)
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError):
        # What the library says may quote the file.
        raise KeyFileError(f"expected an unencrypted private key in PEM in {path}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != ec.SECP256R1.name:
        raise KeyFileError(f"expected a key on P-256 in {path}: draw one with curve prime256v1")
    return ManifestKey(key)


def load_manifest_signer(path: Path) -> bytes:
    """Return the point of the public key in a PEM file; raises `KeyFileError`."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_PUBLIC_BYTES)
    except FileNotFoundError as error:
        raise KeyFileError(f"no public key at {path}", code="key_file_missing") from error
    try:
        key = serialization.load_pem_public_key(data)
    except ValueError as error:
        raise KeyFileError(f"expected a public key in PEM in {path}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != ec.SECP256R1.name:
        raise KeyFileError(f"expected a public key on P-256 in {path}")
    return _point(key)


def _point(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
