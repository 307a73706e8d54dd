"""TLS at our own door: certificate files checked before use, taken up again when they are renewed.

`ListenerContext` is the `ssl.SSLContext` that a server listens with. Behind it stands a context made
from the files; a renewal puts another one in its place, whole, for the connections that come after.

Invariants
- TLS 1.2 at least, 1.3 where the client can; forward secrecy always; ALPN is `http/1.1` and nothing
  else; no compression, no renegotiation.
- A key file that others may read is refused, as every key file is. What was checked is what is used:
  the files are read once, and go to OpenSSL from memory (an anonymous file, never a disk).
- Certificate and key that do not belong together, an expired one and one that is not valid yet are
  refused with a sentence each. While running, a bad renewal leaves the old certificate in place.
- At most `max_handshakes` are under way at a time, each for `handshake_timeout_s`. Each one that
  does not end well is counted, with one reason of `HANDSHAKE_FAILURES`.

It does not fetch or renew certificates, and checks no revocation of client certificates.

Follows RFC 8446, RFC 5246, RFC 7301.
"""

from __future__ import annotations

import functools
import logging
import os
import ssl
import time
import weakref
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self, cast

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from gatelift.errors import CallerError, GateliftError
from gatelift.wire.keyfiles import load_secret_bytes

__all__ = [
    "HANDSHAKE_FAILURES",
    "ListenerContext",
    "TlsFileError",
    "TlsFiles",
    "load_identity",
    "pinned_context",
]

_LOG = logging.getLogger(__name__)
_MAX_FILE_BYTES: Final = 256 * 1024
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
_SOON_MS: Final = 7 * 24 * 3_600_000

HANDSHAKE_FAILURES: Final = ("tls_failed", "tls_gone", "tls_timeout", "tls_too_many")
"""No agreement (or a bad client certificate); left in the first half of its time; too slow; refused,
too many at a time."""


class TlsFileError(CallerError):
    """A certificate or CA file can't be used.

    Codes: `tls_file_missing`, `bad_tls_file`, `tls_key_mismatch`, `tls_certificate_expired`,
    `tls_certificate_early`. The key file's own troubles are `KeyFileError`s.
    """

    code = "bad_tls_file"


class TlsFiles(msgspec.Struct, frozen=True, kw_only=True):
    """PEM files: the certificate with its chain, leaf first; its key; whom client certificates may be from.

    With `client_ca` a client may show a certificate, which must then hold; it need not show one.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of the files."""
        return (self.certificate, self.key, *([self.client_ca] if self.client_ca else []))


def load_identity(context: ssl.SSLContext, pem: bytes) -> None:
    """Give `context` a certificate chain and key from memory; raises `ssl.SSLError`."""
    fd = os.memfd_create("identity", os.MFD_CLOEXEC)
    try:
        os.write(fd, pem)
        context.load_cert_chain(f"/proc/self/fd/{fd}", password=_refuse_password)
    finally:
        os.close(fd)


def _refuse_password() -> bytes:
    # Else OpenSSL would ask whoever sits at the terminal.
    raise TlsFileError("expected a key without a passphrase: nobody is there to type it")


def pinned_context(certificates: bytes, *, check_hostname: bool) -> ssl.SSLContext:
    """Return a client's context that trusts these PEM certificates and none else.

    Each may be a CA or the server's own certificate. Raises `TlsFileError`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = check_hostname
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_verify_locations(cadata=certificates.decode("ascii"))
    except (ssl.SSLError, UnicodeDecodeError, ValueError) as error:
        raise TlsFileError("expected PEM certificates to trust") from error
    return context


class _Handshake(ssl.SSLObject):
    """One connection's TLS, which tells once how its handshake ended."""

    ended: Callable[[str | None], None]

    def do_handshake(self) -> None:
        """Take the next step of the handshake."""
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError:
            self.ended("tls_failed")
            raise
        self.ended(None)


class ListenerContext(ssl.SSLContext):
    """What a server listens with. Use it in one event loop; call `refresh` every now and then."""

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """Make the outer context; it is never used for a handshake itself."""
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)

    def __init__(
        self,
        files: TlsFiles,
        *,
        now_ms: int,
        on_failure: Callable[[str], None] = lambda _: None,
        handshake_timeout_s: float = 10.0,
        max_handshakes: int = 1024,
    ) -> None:
        """Read the files; raises `TlsFileError` or `KeyFileError`.

        `on_failure` gets a reason of `HANDSHAKE_FAILURES` for each handshake that came to nothing.
        """
        self.handshake_timeout_s = handshake_timeout_s
        self._files = files
        self._on_failure = on_failure
        self._max_handshakes = max_handshakes
        self._under_way: dict[weakref.ref[_Handshake], float] = {}
        self._seen = _stamp(files)
        self._inner, self.not_after_ms = _load(files, now_ms)
        self._said_expired = False

    @property
    def handshakes(self) -> int:
        """How many handshakes are under way."""
        return len(self._under_way)

    def refresh(self, now_ms: int) -> bool:
        """Take up files that have changed; return whether new ones are in use.

        Files that do not hold are logged, once for each change, and leave the old ones in use.
        """
        stamp = _stamp(self._files)
        if stamp == self._seen:
            if now_ms >= self.not_after_ms and not self._said_expired:
                self._said_expired = True
                _LOG.error("the TLS certificate in use expired: callers refuse it, renew its file")
            return False
        self._seen = stamp
        try:
            self._inner, self.not_after_ms = _load(self._files, now_ms)
        except GateliftError as error:
            _LOG.error("TLS files not taken up, the old ones stay (%s): %s", error.code, error)
            return False
        self._said_expired = False
        _LOG.info("TLS files taken up; the certificate is valid until %s", _day(self.not_after_ms))
        return True

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **kw: Any
    ) -> Any:
        """Begin a connection with the files as they are now; called by the loop."""
        if len(self._under_way) >= self._max_handshakes:
            self._on_failure("tls_too_many")
            raise ssl.SSLError("too many handshakes are under way")
        begun = cast("_Handshake", self._inner.wrap_bio(incoming, outgoing, *args, **kw))
        reference = weakref.ref(begun, self._left)
        self._under_way[reference] = time.monotonic()
        begun.ended = functools.partial(self._ended, reference)
        return begun

    def _ended(self, reference: weakref.ref[_Handshake], failure: str | None) -> None:
        if self._under_way.pop(reference, None) is not None and failure is not None:
            self._on_failure(failure)

    def _left(self, reference: weakref.ref[_Handshake]) -> None:
        # The loop has dropped the connection without an end of its handshake.
        begun = self._under_way.pop(reference, None)
        if begun is not None:
            # The loop's limit runs from a time that is older by whatever the loop was busy with, so
            # a handshake that it ends may be shorter than the limit by the clock read here.
            slow = time.monotonic() - begun >= self.handshake_timeout_s / 2
            self._on_failure("tls_timeout" if slow else "tls_gone")


def _stamp(files: TlsFiles) -> tuple[Any, ...]:
    stamps: list[tuple[int, ...] | None] = []
    for path in files.paths:
        try:
            found = path.stat()
        except OSError:
            stamps.append(None)
        else:
            stamps.append((found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode))
    return tuple(stamps)


def _load(files: TlsFiles, now_ms: int) -> tuple[ssl.SSLContext, int]:
    """Return a server's context made from the files, and when its certificate ends."""
    chain = _read(files.certificate)
    leaf = _certificates(chain, files.certificate)[0]
    key = load_secret_bytes(files.key)
    _check_belongs(leaf, key, files)
    not_after_ms = _check_time(leaf, files.certificate, now_ms)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = _Handshake
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    try:
        load_identity(context, chain.rstrip() + b"\n" + key)
    except ssl.SSLError as error:
        raise TlsFileError(
            f"{files.certificate} and its key can't be used: {error.reason or 'not understood'}"
        ) from None
    if files.client_ca is not None:
        ca = _read(files.client_ca)
        _certificates(ca, files.client_ca)
        context.load_verify_locations(cadata=ca.decode("ascii"))
        context.verify_mode = ssl.CERT_OPTIONAL
        # No resumption: each connection shows its certificate, which must hold at that time.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context, not_after_ms


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise TlsFileError(
            f"cannot read {path} ({error.strerror}): expected PEM certificates",
            code="tls_file_missing",
        ) from error
    if len(data) > _MAX_FILE_BYTES:
        raise TlsFileError(f"expected at most {_MAX_FILE_BYTES} bytes in {path}")
    return data


def _certificates(data: bytes, path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise TlsFileError(f"expected PEM certificates in {path}, the leaf first") from error


def _check_belongs(leaf: x509.Certificate, key: bytes, files: TlsFiles) -> None:
    try:
        private = load_pem_private_key(key, password=None)
    except TypeError:
        raise TlsFileError(
            f"the key in {files.key} has a passphrase: nobody is there to type it, keep it without"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        # Their messages may quote what stands in the file.
        raise TlsFileError(f"expected a PEM private key in {files.key}") from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        raise TlsFileError(
            f"the key in {files.key} is not the one of the first certificate in "
            f"{files.certificate}: give the pair that was issued together, the leaf first",
            code="tls_key_mismatch",
        )


def _check_time(leaf: x509.Certificate, path: Path, now_ms: int) -> int:
    not_after_ms = int(leaf.not_valid_after_utc.timestamp() * 1000)
    if now_ms >= not_after_ms:
        raise TlsFileError(
            f"the certificate in {path} expired on {_day(not_after_ms)}: renew it",
            code="tls_certificate_expired",
        )
    if now_ms < leaf.not_valid_before_utc.timestamp() * 1000:
        raise TlsFileError(
            f"the certificate in {path} is valid from {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} "
            "UTC only: check this host's clock, or wait",
            code="tls_certificate_early",
        )
    if not_after_ms - now_ms < _SOON_MS:
        _LOG.warning("the TLS certificate in %s expires on %s", path, _day(not_after_ms))
    return not_after_ms


def _day(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"
