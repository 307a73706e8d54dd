"""Signatures that OpenSSH makes: `ssh-keygen -Y sign`, with a file, an agent or a security key.

What is stored is the binary blob inside the armour. It is read with one meaning only:

    "SSHSIG" ‖ u32 1 ‖ string key ‖ string "gatelift" ‖ string "" ‖ string "sha512" ‖ string signature

and covers "SSHSIG" ‖ string namespace ‖ string reserved ‖ string hash ‖ string SHA-512(message).
A security key signs SHA-256(application) ‖ flags ‖ u32 counter ‖ SHA-256(of that) instead.

Invariants
- The key inside the blob must be, byte for byte, the key that the root names: the blob chooses nothing.
- Namespace, hash and algorithm are fixed. What was signed for Git or for a file means nothing here.
- A security key must have been touched; its application is the one that the root names.
- Every length fits and nothing is left over. Only Ed25519 keys are taken.

Follows OpenSSH's PROTOCOL.sshsig, PROTOCOL.u2f and RFC 8709.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from gatelift.encoding import EncodingError, parse_base64
from gatelift.tlog import PublicKeyError, SignatureError, check_public_key, verify_ed25519

__all__ = [
    "SSH_NAMESPACE",
    "SshPublicKey",
    "parse_ssh_armour",
    "parse_ssh_public_key",
    "verify_sshsig",
]

SSH_NAMESPACE: Final = "gatelift"
_MAGIC: Final = b"SSHSIG"
_VERSION: Final = 1
_HASH: Final = b"sha512"
_PLAIN: Final = b"ssh-ed25519"
_SECURITY_KEY: Final = b"sk-ssh-ed25519@openssh.com"
_MAX_BYTES: Final = 4096
_TOUCHED: Final = 0x01
_BEGIN: Final = "-----BEGIN SSH SIGNATURE-----"
_END: Final = "-----END SSH SIGNATURE-----"


class SshPublicKey(msgspec.Struct, frozen=True, kw_only=True):
    """The key of a `.pub` file: 32 bytes, and the application of a security key."""

    raw: bytes
    application: str | None


class _Reader:
    """Reads SSH's wire encoding (RFC 4251 section 5) and refuses what is short or left over."""

    def __init__(self, data: bytes) -> None:
        self._rest = data

    def take(self, count: int) -> bytes:
        if len(self._rest) < count:
            raise SignatureError("expected an SSH encoding that is whole, got one cut short")
        found, self._rest = self._rest[:count], self._rest[count:]
        return found

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        return self.take(self.u32())

    def end(self) -> None:
        if self._rest:
            raise SignatureError(f"expected nothing after the SSH encoding, got {len(self._rest)}")


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _key_blob(public: bytes, application: str | None) -> bytes:
    if application is None:
        return _string(_PLAIN) + _string(public)
    return _string(_SECURITY_KEY) + _string(public) + _string(application.encode("utf-8"))


def parse_ssh_public_key(text: str) -> SshPublicKey:
    """Return the key of one line of a `.pub` file; raises `PublicKeyError`."""
    words = text.strip().split(None, 2)
    if "\n" in text.strip() or len(words) < 2 or len(text) > _MAX_BYTES:
        raise PublicKeyError("expected one line of an SSH public key: TYPE BASE64 [COMMENT]")
    kind = words[0].encode("utf-8")
    if kind not in (_PLAIN, _SECURITY_KEY):
        raise PublicKeyError(
            f"expected an SSH key of type ssh-ed25519 or {_SECURITY_KEY.decode()}, "
            f"got {words[0][:40]!r}: make one with `ssh-keygen -t ed25519` (or ed25519-sk)"
        )
    try:
        blob = parse_base64(words[1])
        reader = _Reader(blob)
        named, raw = reader.string(), reader.string()
        application = reader.string().decode("utf-8") if kind == _SECURITY_KEY else None
        reader.end()
    except (EncodingError, SignatureError, UnicodeDecodeError) as error:
        raise PublicKeyError(f"expected a whole SSH public key: {error}") from error
    if named != kind:
        raise PublicKeyError("the SSH key says one type in words and another in its bytes")
    return SshPublicKey(raw=check_public_key(raw), application=application)


def parse_ssh_armour(text: str) -> bytes:
    """Return the blob inside what `ssh-keygen -Y sign` prints; raises `SignatureError`."""
    lines = text.strip().splitlines()
    if len(lines) < 3 or lines[0] != _BEGIN or lines[-1] != _END or len(text) > _MAX_BYTES:
        raise SignatureError("expected an armoured SSH signature, from its BEGIN to its END line")
    try:
        return parse_base64("".join(lines[1:-1]))
    except EncodingError as error:
        raise SignatureError(f"expected base64 inside the SSH signature: {error}") from error


def verify_sshsig(
    public: bytes, application: str | None, signature: bytes, message: bytes
) -> bytes:
    """Return `message` once the blob `signature` over it verifies; raises `SignatureError`.

    `public` is the Ed25519 key of 32 bytes; `application` is that of a security key, else null.
    """
    if len(signature) > _MAX_BYTES:
        raise SignatureError(f"expected an SSH signature of at most {_MAX_BYTES} bytes")
    reader = _Reader(signature)
    if reader.take(len(_MAGIC)) != _MAGIC or reader.u32() != _VERSION:
        raise SignatureError("expected an SSH signature blob of version 1")
    key, namespace, reserved = reader.string(), reader.string(), reader.string()
    hashed, inner = reader.string(), reader.string()
    reader.end()
    if key != _key_blob(public, application):
        raise SignatureError("the SSH signature is by another key than the root names")
    if namespace != SSH_NAMESPACE.encode() or reserved != b"" or hashed != _HASH:
        raise SignatureError(
            f"expected namespace {SSH_NAMESPACE!r} and hash sha512: "
            f"sign with `ssh-keygen -Y sign -n {SSH_NAMESPACE}`"
        )
    covered = _MAGIC + _string(namespace) + _string(reserved) + _string(hashed)
    covered += _string(hashlib.sha512(message).digest())
    _check_inner(public, application, inner, covered)
    return message


def _check_inner(public: bytes, application: str | None, inner: bytes, covered: bytes) -> None:
    reader = _Reader(inner)
    if reader.string() != (_PLAIN if application is None else _SECURITY_KEY):
        raise SignatureError("the SSH signature is of another algorithm than its key")
    signature = reader.string()
    if application is not None:
        flags, counter = reader.take(1), reader.take(4)
        if not flags[0] & _TOUCHED:
            raise SignatureError("the security key was not touched: sign again and touch it")
        digest = hashlib.sha256(application.encode("utf-8")).digest()
        covered = digest + flags + counter + hashlib.sha256(covered).digest()
    reader.end()
    _ = verify_ed25519(public, signature, covered)
