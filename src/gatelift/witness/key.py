"""The witness's signing key: an Ed25519 seed in a file that only its owner can read.

Invariants
- The file is one line of base64 of 32 bytes, a regular file, without any right for group or others.
- No error shows a byte of what the file holds.

Not here: making keys, which is for the command line.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatelift.encoding import EncodingError, parse_base64
from gatelift.errors import CallerError
from gatelift.tlog import SEED_BYTES

__all__ = ["SigningKeyError", "load_signing_key"]

_MAX_FILE_BYTES = 256


class SigningKeyError(CallerError):
    """The file is not a signing key, or others can read it."""

    code = "bad_signing_key"


def load_signing_key(path: Path) -> Ed25519PrivateKey:
    """Return the key in the file at `path`, or raise `SigningKeyError`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise SigningKeyError(f"cannot open the signing key {path}: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode):
            raise SigningKeyError(f"expected {path} to be a regular file")
        if state.st_mode & 0o077:
            raise SigningKeyError(
                f"expected mode 0600 on {path}, got {state.st_mode & 0o777:04o}: run chmod 600, "
                "and make a new key if others may have read it"
            )
        data = file.read(_MAX_FILE_BYTES)
    try:
        seed = parse_base64(data.decode("ascii").removesuffix("\n"))
    except (EncodingError, UnicodeDecodeError):
        # `from None`: the cause quotes what it could not read.
        raise SigningKeyError(f"expected one line of base64 in {path}") from None
    if len(seed) != SEED_BYTES:
        raise SigningKeyError(f"expected {SEED_BYTES} bytes in {path}, got {len(seed)}")
    return Ed25519PrivateKey.from_private_bytes(seed)
