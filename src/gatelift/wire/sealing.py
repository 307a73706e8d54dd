"""The keys of a sealed upstream: a node's own CA, and the short-lived certificates it issues.

A sealed upstream trusts this CA for client certificates and nothing else. Who holds no certificate
that lives now does not get past its TLS.

Invariants
- The CA's key is a key file like every other. What it issues is made in memory and goes to OpenSSL
  from memory; it is never written to a disk.
- A certificate names node, worker and release (SAN URI), is for clients alone, signs nothing
  further, and ends by itself. It begins `BACKDATED_S` early, so that a clock of the upstream's that
  is slow by less than this takes it.
- The server is known by a pinned CA and a name, both of which the operator signed.

It does not decide when a certificate is issued: the keeper does, while status stands.

Follows RFC 5280; curve P-256, ECDSA with SHA-256.
"""

from __future__ import annotations

import datetime as dt
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gatelift.encoding import EncodingError, encode_base64, parse_base64
from gatelift.errors import CallerError
from gatelift.wire.files import replace_durably
from gatelift.wire.keyfiles import KeyFileError, load_secret_text, save_secret_text
from gatelift.wire.tls import load_identity, pinned_context

__all__ = [
    "BACKDATED_S",
    "Bearer",
    "PinnedServer",
    "ProbeIdentities",
    "UpstreamCa",
    "client_context",
    "create_upstream_ca",
    "load_upstream_ca",
    "pinned_certificates",
    "upstream_ca_paths",
]

BACKDATED_S: Final = 60
_CA_DAYS: Final = 3650
_PROBE_S: Final = 120
_EXPIRED_FOR_S: Final = 60


class PinnedServer(msgspec.Struct, frozen=True, kw_only=True):
    """Whom we take for the upstream: `server_name`, proven by these PEM certificates alone."""

    server_name: str
    ca: bytes


class Bearer(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a certificate is for."""

    node: str
    worker: str
    release: str

    @property
    def uri(self) -> str:
        """The name in the certificate: `gatelift://NODE/WORKER/RELEASE`."""
        return "gatelift://" + "/".join(
            quote(part, safe="") for part in (self.node, self.worker, self.release)
        )


class UpstreamCa:
    """A node's CA for its upstreams. Made by `create_upstream_ca` or `load_upstream_ca`."""

    def __init__(self, node: str, key: ec.EllipticCurvePrivateKey) -> None:
        self._node = node
        self._key = key
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _ca_name(node))])

    def certificate(self, now_ms: int) -> bytes:
        """Return a new certificate of the CA itself (PEM), valid for ten years."""
        at = _at(now_ms)
        made = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(at - dt.timedelta(seconds=BACKDATED_S))
            .not_valid_after(at + dt.timedelta(days=_CA_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(ca=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False
            )
        )
        return made.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def issue(self, bearer: Bearer, *, now_ms: int, lives_s: int) -> bytes:
        """Return a new certificate and its new key, both PEM, that end `lives_s` after `now_ms`.

        A negative `lives_s` makes one that has expired already, for probes.
        """
        at = _at(now_ms)
        ends = at + dt.timedelta(seconds=lives_s)
        key = ec.generate_private_key(ec.SECP256R1())
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _cut(bearer.worker))]))
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(at, ends) - dt.timedelta(seconds=BACKDATED_S))
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(bearer.uri)]),
                critical=False,
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        certificate = made.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)
        return certificate + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def impostor(self) -> UpstreamCa:
        """Return another CA of the same name with a key of its own, for probes."""
        return UpstreamCa(self._node, ec.generate_private_key(ec.SECP256R1()))


class ProbeIdentities:
    """The certificates that a probe of a sealed upstream shows: ours, an old one, a stranger's."""

    def __init__(
        self,
        ca: UpstreamCa,
        bearer: Bearer,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._ca = ca
        self._bearer = bearer
        self._now_ms = now_ms

    def fresh(self) -> bytes:
        """Return one that the upstream must take."""
        return self._ca.issue(self._bearer, now_ms=self._now_ms(), lives_s=_PROBE_S)

    def expired(self) -> bytes:
        """Return one of ours that ended a minute ago."""
        return self._ca.issue(self._bearer, now_ms=self._now_ms(), lives_s=-_EXPIRED_FOR_S)

    def foreign(self) -> bytes:
        """Return one that lives, from another CA with our CA's name."""
        return self._ca.impostor().issue(self._bearer, now_ms=self._now_ms(), lives_s=_PROBE_S)


def pinned_certificates(data: bytes) -> bytes:
    """Return PEM certificates that a server can be pinned by; raises `TlsFileError`."""
    pinned_context(data, check_hostname=True)
    return data


def client_context(server: PinnedServer, identity: bytes | None) -> ssl.SSLContext:
    """Return what a connection to a pinned server is made with, showing `identity` (PEM) if asked.

    Raises `TlsFileError` or `ssl.SSLError`.
    """
    context = pinned_context(server.ca, check_hostname=True)
    if identity is not None:
        load_identity(context, identity)
    return context


def upstream_ca_paths(directory: Path, node: str) -> tuple[Path, Path]:
    """Return where a node's upstream CA lies in a deployment: its key, and what an upstream trusts."""
    stem = directory / "keys" / f"node-{node}-upstream-ca"
    return stem.with_name(f"{stem.name}.key"), stem.with_name(f"{stem.name}.pem")


def create_upstream_ca(directory: Path, node: str, now_ms: int) -> UpstreamCa:
    """Draw a node's CA key and keep it, and its certificate beside it; raises `KeyFileError`."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = UpstreamCa(node, key)
    key_path, certificate_path = upstream_ca_paths(directory, node)
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    save_secret_text(key_path, encode_base64(der))
    replace_durably(certificate_path, made.certificate(now_ms), mode=0o600)
    return made


def load_upstream_ca(key_path: Path, node: str) -> UpstreamCa:
    """Return the CA of a key file; raises `KeyFileError`."""
    text = load_secret_text(key_path)
    try:
        key = load_der_private_key(parse_base64(text), password=None)
    except (EncodingError, ValueError, TypeError):
        # Their messages may quote what stands in the file.
        raise KeyFileError(f"expected base64 of a P-256 key in {key_path}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise KeyFileError(f"expected a P-256 key in {key_path}")
    return UpstreamCa(node, key)


def _ca_name(node: str) -> str:
    if not node:
        raise CallerError("expected a node's name", code="bad_node")
    return _cut(f"Gatelift upstream CA {node}")


def _cut(text: str) -> str:
    # A common name holds 64 characters; whom a certificate is for stands whole in the URI.
    return text[:64]


def _at(now_ms: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(now_ms // 1000, dt.UTC)


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
