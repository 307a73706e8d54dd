"""Keys at rest: one line of base64, readable by their owner alone.

Invariants
- A file that others may read or write is refused, before its bytes are looked at.
- A key file is created exclusively with mode 0600 and made durable; it is never overwritten.
- No error, repr or traceback shows what stands in the file.

It does not talk to agents or hardware, and does not encrypt: the host's own protection of the
folder is what guards the key.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatelift.encoding import EncodingError, encode_base64, parse_base64
from gatelift.errors import CallerError
from gatelift.tlog import SEED_BYTES
from gatelift.trust import SigningKey
from gatelift.wire.files import sync_directory

__all__ = [
    "KeyFileError",
    "create_signing_key",
    "load_private_key",
    "load_secret_bytes",
    "load_secret_text",
    "load_seed",
    "load_signing_key",
    "save_secret_text",
    "save_seed",
]

_MAX_BYTES = 16_384
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class KeyFileError(CallerError):
    """A key file is not there, not safe or not a key.

    Codes: `key_file_missing`, `key_file_mode`, `key_file_exists`, `bad_key_file`.
    """

    code = "bad_key_file"


def load_secret_bytes(path: Path) -> bytes:
    """Return the bytes of a secret file (a PEM key, say); raises `KeyFileError`."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise KeyFileError(f"no key file at {path}: create it", code="key_file_missing") from error
    with os.fdopen(fd, "rb") as file:
        # Of the file that is open, not of the path: nobody can change it in between.
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise KeyFileError(f"expected {path} to be a plain file")
        if status.st_mode & _OTHERS:
            raise KeyFileError(
                f"{path} has mode {stat.S_IMODE(status.st_mode):04o}, others may use it: "
                f"chmod 600 {path}, and replace the key if somebody may have read it",
                code="key_file_mode",
            )
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise KeyFileError(f"expected at most {_MAX_BYTES} bytes in {path}")
    return data


def load_secret_text(path: Path) -> str:
    """Return the one line of a secret file, without its newline; raises `KeyFileError`."""
    try:
        text = load_secret_bytes(path).decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError:
        raise KeyFileError(f"expected text in {path}") from None
    if not text or not text.isprintable() or text != text.strip():
        raise KeyFileError(f"expected exactly one line without blanks around it in {path}")
    return text


def save_secret_text(path: Path, text: str) -> None:
    """Create a secret file with mode 0600, durably; raises `KeyFileError` if there is one."""
    if not text or not text.isprintable() or text != text.strip():
        raise KeyFileError(f"expected one printable line for {path}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, 0o600)
    except FileExistsError as error:
        raise KeyFileError(
            f"{path} exists and is not overwritten: move it away first", code="key_file_exists"
        ) from error
    with os.fdopen(fd, "wb") as file:
        os.fchmod(fd, 0o600)
        file.write(text.encode("utf-8") + b"\n")
        file.flush()
        os.fsync(fd)
    sync_directory(path.parent)


def save_seed(path: Path, seed: bytes) -> None:
    """Create a key file from an Ed25519 seed of 32 bytes."""
    if len(seed) != SEED_BYTES:
        raise KeyFileError(f"expected a seed of {SEED_BYTES} bytes, got {len(seed)}")
    save_secret_text(path, encode_base64(seed))


def create_signing_key(path: Path) -> SigningKey:
    """Draw a new Ed25519 key, keep it at `path` and return it."""
    seed = secrets.token_bytes(SEED_BYTES)
    save_seed(path, seed)
    return SigningKey(seed)


def load_seed(path: Path) -> bytes:
    """Return the seed of a key file, for paper alone; raises `KeyFileError`."""
    return _load_seed(path)


def load_signing_key(path: Path) -> SigningKey:
    """Return the key of a key file; raises `KeyFileError`."""
    return SigningKey(_load_seed(path))


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """Return the same key as `load_signing_key`, as note and cosignature signers take it."""
    return Ed25519PrivateKey.from_private_bytes(_load_seed(path))


def _load_seed(path: Path) -> bytes:
    text = load_secret_text(path)
    try:
        seed = parse_base64(text)
    except EncodingError:
        # Its message quotes what it was given; this one must not.
        raise KeyFileError(f"expected base64 of a {SEED_BYTES} byte seed in {path}") from None
    if len(seed) != SEED_BYTES:
        raise KeyFileError(f"expected a seed of {SEED_BYTES} bytes in {path}, got {len(seed)}")
    return seed
