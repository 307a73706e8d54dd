"""Key files of people: Ed25519 as services keep it, or P-256 with its scheme's name in front.

    <base64 of a 32 byte seed>                       Ed25519
    ecdsa-p256 <base64 of a 32 byte number>          P-256

Invariants
- Both are one line with mode 0600, made and read by the rules of `keyfiles`; neither is encrypted.
- A file says itself which it is. Services read Ed25519 alone, and refuse the other.
- No error shows what stands in the file.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

from gatelift.encoding import EncodingError, encode_base64, parse_base64
from gatelift.tlog import PublicKeyError
from gatelift.trust import P256_ORDER, P256Key, Scheme, SigningKey
from gatelift.wire.keyfiles import (
    KeyFileError,
    load_secret_text,
    load_signing_key,
    save_secret_text,
)

__all__ = ["create_p256_key", "load_key_file"]

_PREFIX: Final = f"{Scheme.ECDSA_P256.value} "
_NUMBER_BYTES: Final = 32


def create_p256_key(path: Path) -> P256Key:
    """Draw a new P-256 key, keep it at `path` and return it."""
    number = (secrets.randbelow(P256_ORDER - 1) + 1).to_bytes(_NUMBER_BYTES, "big")
    save_secret_text(path, _PREFIX + encode_base64(number))
    return P256Key(number)


def load_key_file(path: Path) -> SigningKey | P256Key:
    """Return the key of a person's key file, of either kind; raises `KeyFileError`."""
    text = load_secret_text(path)
    if not text.startswith(_PREFIX):
        return load_signing_key(path)
    try:
        return P256Key(parse_base64(text.removeprefix(_PREFIX)))
    except (EncodingError, PublicKeyError):
        # Neither message may quote what stands in the file.
        raise KeyFileError(
            f"expected '{_PREFIX}' and base64 of a {_NUMBER_BYTES} byte number in {path}"
        ) from None
