"""Software that signs as an HSM, OpenSSH, a security key and a passkey do, written from their formats.

Imports nothing from the package, so that what it makes can judge it. Each signer has one field for each
thing that can be bent: as it comes it signs rightly.

Formats: FIPS 186-5 (ECDSA in DER), OpenSSH's PROTOCOL.sshsig and PROTOCOL.u2f, WebAuthn Level 2.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

__all__ = ["P256_ORDER", "P256Signer", "PasskeySigner", "PlainSigner", "SchemeSigner", "SshSigner"]

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
RP_ID = "sign.example"


class SchemeSigner(Protocol):
    """One private key, and how it signs."""

    scheme: str
    rp_id: str | None

    @property
    def public(self) -> bytes: ...

    def sign(self, message: bytes) -> bytes: ...


def _seed(name: str) -> bytes:
    return hashlib.sha256(f"test key {name}".encode()).digest()


def _edwards(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(_seed(name))


def _weierstrass(name: str) -> ec.EllipticCurvePrivateKey:
    number = int.from_bytes(_seed(name), "big") % (P256_ORDER - 1) + 1
    return ec.derive_private_key(number, ec.SECP256R1())


def _point(private: ec.EllipticCurvePrivateKey) -> bytes:
    return private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _ecdsa(private: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    # Deterministic (RFC 6979), so that what is stored can be made again.
    return private.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))


@dataclass(frozen=True)
class PlainSigner:
    """An Ed25519 key file."""

    name: str
    scheme: str = "ed25519"
    rp_id: str | None = None

    @property
    def public(self) -> bytes:
        return _edwards(self.name).public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        return _edwards(self.name).sign(message)


@dataclass(frozen=True)
class P256Signer:
    """A P-256 key in an HSM; `spelled` writes r and s."""

    name: str
    spelled: Callable[[int, int], bytes] = encode_dss_signature
    scheme: str = "ecdsa-p256"
    rp_id: str | None = None

    @property
    def public(self) -> bytes:
        return _point(_weierstrass(self.name))

    def sign(self, message: bytes) -> bytes:
        return self.spelled(*decode_dss_signature(_ecdsa(_weierstrass(self.name), message)))


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


@dataclass(frozen=True)
class SshSigner:
    """`ssh-keygen -Y sign -n gatelift`; a security key where it has an application (`rp_id`)."""

    name: str
    rp_id: str | None = None
    scheme: str = "sshsig"
    magic: bytes = b"SSHSIG"
    version: int = 1
    namespace: bytes = b"gatelift"
    reserved: bytes = b""
    hash_name: bytes = b"sha512"
    hashed_by: str = "sha512"
    says: tuple[bytes, bytes, bytes] | None = None
    """Namespace, reserved and hash as they are written, where they are not those that were signed."""
    algorithm: bytes | None = None
    signed_by: str | None = None
    flags: int = 1
    after: bytes = b""
    after_inner: bytes = b""

    @property
    def public(self) -> bytes:
        return _edwards(self.name).public_key().public_bytes_raw()

    @property
    def kind(self) -> bytes:
        return b"ssh-ed25519" if self.rp_id is None else b"sk-ssh-ed25519@openssh.com"

    def sign(self, message: bytes) -> bytes:
        around = (self.namespace, self.reserved, self.hash_name)
        digest = hashlib.new(self.hashed_by, message).digest()
        covered = b"SSHSIG" + b"".join(map(_string, (*around, digest)))
        key, extra = _string(self.kind) + _string(self.public), b""
        if self.rp_id is not None:
            key += _string(self.rp_id.encode())
            extra = bytes([self.flags]) + (9).to_bytes(4, "big")
            name = hashlib.sha256(self.rp_id.encode()).digest()
            covered = name + extra + hashlib.sha256(covered).digest()
        raw = _edwards(self.signed_by or self.name).sign(covered)
        inner = _string(self.algorithm or self.kind) + _string(raw) + extra + self.after_inner
        head = self.magic + self.version.to_bytes(4, "big")
        return head + b"".join(map(_string, (key, *(self.says or around), inner))) + self.after


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass(frozen=True)
class PasskeySigner:
    """A passkey in a browser, on P-256 or on Ed25519. `client` replaces members of its client data."""

    name: str
    edwards: bool = False
    scheme: str = "webauthn"
    rp_id: str | None = RP_ID
    signs_for: str = RP_ID
    flags: int = 0x05
    after: bytes = b""
    client: Mapping[str, Any] = field(default_factory=dict)
    beside: Mapping[str, str] = field(default_factory=dict)

    @property
    def public(self) -> bytes:
        if self.edwards:
            return _edwards(self.name).public_key().public_bytes_raw()
        return _point(_weierstrass(self.name))

    def sign(self, message: bytes) -> bytes:
        said = {
            "type": "webauthn.get",
            "challenge": _base64url(hashlib.sha256(message).digest()),
            "origin": f"https://{RP_ID}",
            "crossOrigin": False,
            **self.client,
        }
        client = json.dumps({name: value for name, value in said.items() if value != "-"}).encode()
        data = hashlib.sha256(self.signs_for.encode()).digest() + bytes([self.flags])
        data += (1).to_bytes(4, "big") + self.after
        covered = data + hashlib.sha256(client).digest()
        raw = (
            _edwards(self.name).sign(covered)
            if self.edwards
            else _ecdsa(_weierstrass(self.name), covered)
        )
        parts = {"authenticatorData": data, "clientDataJSON": client, "signature": raw}
        return json.dumps({n: _base64url(part) for n, part in parts.items()} | self.beside).encode()
