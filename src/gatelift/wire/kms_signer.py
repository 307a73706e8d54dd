"""Signing with a key inside a key management service, by securesystemslib.

Invariants
- The service is asked for its public key first, and that is held against the card's: an alias that was
  pointed elsewhere signs nothing. What comes back is verified against the card's before it is used.
- The message is hashed here, and the hash alone is sent.
- Credentials are found as the service's own tools find them; none is an argument or stands in an error.

The service is AWS KMS; what signs is ECDSA on P-256 over SHA-256. `securesystemslib` and `boto3` are the
extra `gatelift[kms]`.
"""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

from gatelift.errors import PeerError
from gatelift.trust import KeyId, SignatureError, VerifyingKey, verify_signature
from gatelift.wire.signer_cards import KMS_SCHEME, TokenCard, card_of_pem

__all__ = ["KmsError", "KmsSigner", "read_kms"]

_URI: Final = re.compile(rf"{KMS_SCHEME}(?P<id>[A-Za-z0-9:/_-]{{1,256}})")
_P256: Final = "ecdsa-sha2-nistp256"
T = TypeVar("T")


class KmsError(PeerError):
    """The service did not sign. Codes: `kms_failed`, `kms_other_key`, `kms_no_library`."""

    code = "kms_failed"


def read_kms(uri: str) -> TokenCard:
    """Return the card of the key that `uri` names, read from its service; raises `KmsError`."""
    return card_of_pem(_held(uri).keyval["public"], uri)


class KmsSigner:
    """Signs with the key of a card's service."""

    def __init__(self, card: TokenCard) -> None:
        self._uri = card.uri
        self.key: VerifyingKey = card.key

    @property
    def id(self) -> KeyId:
        """The id of the public key."""
        return self.key.id

    def sign(self, message: bytes) -> bytes:
        """Return the signature over `message`, in DER; raises `KmsError`."""
        held = _held(self._uri)
        found = card_of_pem(held.keyval["public"], self._uri)
        if found.key != self.key:
            raise KmsError(
                f"expected the key {self.id[:23]} at {self._uri}, found {found.key.id[:23]}: was the "
                "alias pointed elsewhere? Nothing was signed",
                code="kms_other_key",
            )
        made = _asking(lambda: _aws().from_priv_key_uri(self._uri, held).sign(message))
        signature = bytes.fromhex(made.signature)
        try:
            verify_signature(self.key, signature, message)
        except SignatureError as error:
            raise KmsError(f"what {self._uri} gave back is no signature by its key") from error
        return signature


def _held(uri: str) -> Any:
    match = _URI.fullmatch(uri)
    if match is None:
        raise KmsError(f"expected a key as {KMS_SCHEME}alias/NAME, got {uri[:80]!r}")
    return _asking(lambda: _aws().import_(match["id"], _P256))[1]


def _aws() -> Any:
    # An extra, and heavy: loaded only where a service signs.
    try:
        importlib.import_module("boto3")
        library = importlib.import_module("securesystemslib.signer")
    except ImportError as error:
        raise KmsError(
            "expected the libraries for AWS KMS: pip install 'gatelift[kms]'",
            code="kms_no_library",
        ) from error
    # It logs what the service said, which is said once and in our words below.
    logging.getLogger("securesystemslib").setLevel(logging.CRITICAL)
    return library.AWSSigner


def _asking(step: Callable[[], T]) -> T:
    try:
        return step()
    except KmsError:
        raise
    except Exception as error:  # noqa: BLE001  what is not the service's is passed on as it is
        raise _told(error) from None


def _told(error: Exception) -> Exception:
    """Return what the service's library said as our error; what it did not say itself stays as it is."""
    errors = importlib.import_module("botocore.exceptions")
    unsupported = importlib.import_module("securesystemslib.exceptions").UnsupportedAlgorithmError
    if isinstance(error, errors.ClientError):
        # The code alone: messages name accounts and users.
        what = f"the service refused: {error.response['Error']['Code']}"
    elif isinstance(error, errors.BotoCoreError):
        what = f"the service cannot be asked ({type(error).__name__}): {error}"
    elif isinstance(error, unsupported):
        what = (
            "expected a P-256 key (ECC_NIST_P256, SIGN_VERIFY) in the service: make one like that"
        )
    else:
        return error
    return KmsError(f"{what}; nothing was signed")
