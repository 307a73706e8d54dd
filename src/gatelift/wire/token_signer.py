"""Signing with a key inside a PKCS#11 token (a smart card, a YubiKey, an HSM), by securesystemslib.

Invariants
- The token's public key is read and held against the card's before the token is asked to sign; what
  comes back is verified against the card's before it is used.
- The PIN is asked for on the terminal, or read as one line from the descriptor that GATELIFT_PIN_FD
  numbers. It is never an argument, never the value of a variable, and stands in no error.
- A wrong PIN is not tried again: tokens lock themselves after a few.

The library of the token is found by PYKCS11LIB, a path, as securesystemslib has it. What signs is
ECDSA on P-256 over SHA-256. `securesystemslib` and `python-pkcs11` are the extra `gatelift[hsm]`.
"""

from __future__ import annotations

import getpass
import importlib
import os
import re
import sys
from collections.abc import Callable
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm

from gatelift.errors import PeerError
from gatelift.trust import KeyId, SignatureError, VerifyingKey, verify_signature
from gatelift.wire.signer_cards import TokenCard, card_of_pem

__all__ = ["PIN_FD", "TokenError", "TokenSigner", "read_pin", "read_token"]

PIN_FD: Final = "GATELIFT_PIN_FD"
_URI: Final = re.compile(r"hsm:(?P<id>[0-9]{0,9})(?:\?label=[\x21-\x7e]{1,96})?")
_MAX_PIN_BYTES: Final = 256


class TokenError(PeerError):
    """The token did not sign. Codes: `token_failed`, `token_other_key`, `token_no_library`."""

    code = "token_failed"


def read_pin(_: str = "") -> str:
    """Return the PIN from the descriptor that GATELIFT_PIN_FD numbers, or from the terminal."""
    number = os.environ.get(PIN_FD)
    if number is not None:
        if not number.isascii() or not number.isdigit():
            raise TokenError(f"expected {PIN_FD} to be the number of an open descriptor")
        try:
            with os.fdopen(int(number), "rb") as file:
                pin = file.readline(_MAX_PIN_BYTES).rstrip(b"\r\n").decode("utf-8")
        except (OSError, UnicodeDecodeError):
            raise TokenError(f"expected one line with the PIN on descriptor {number}") from None
    elif sys.stdin.isatty():
        pin = getpass.getpass("PIN of the token: ")
    else:
        raise TokenError(
            f"expected a terminal to ask the PIN on, or {PIN_FD}=N with one line on descriptor N"
        )
    if not pin:
        raise TokenError("expected a PIN, got an empty line: nothing was signed")
    return pin


def read_token(uri: str, ask_pin: Callable[[str], str] = read_pin) -> TokenCard:
    """Return the card of the key that `uri` names, read from its token; raises `TokenError`."""
    return card_of_pem(_held(uri, ask_pin).keyval["public"], uri)


class TokenSigner:
    """Signs with the key of a card's token; the PIN is asked for once."""

    def __init__(self, card: TokenCard, ask_pin: Callable[[str], str] = read_pin) -> None:
        self._card = card
        self._ask_pin = ask_pin
        self._pin: str | None = None
        self.key: VerifyingKey = card.key

    @property
    def id(self) -> KeyId:
        """The id of the public key."""
        return self.key.id

    def sign(self, message: bytes) -> bytes:
        """Return the signature over `message`, in DER; raises `TokenError`."""
        found = read_token(self._card.uri, self._asked)
        if found.key != self.key:
            raise TokenError(
                f"expected the key {self.id[:23]} in the token, found {found.key.id[:23]}: is it "
                "the right token? Nothing was signed",
                code="token_other_key",
            )
        key = _held(self._card.uri, self._asked)
        made = _asking(
            lambda: _hsm().from_priv_key_uri(self._card.uri, key, self._asked).sign(message)
        )
        signature = bytes.fromhex(made.signature)
        try:
            verify_signature(self.key, signature, message)
        except SignatureError as error:
            raise TokenError(
                f"what the token gave back is no signature by its key: {error}"
            ) from error
        return signature

    def _asked(self, what: str) -> str:
        if self._pin is None:
            self._pin = self._ask_pin(what)
        return self._pin


def _held(uri: str, ask_pin: Callable[[str], str]) -> Any:
    if _URI.fullmatch(uri) is None:
        raise TokenError(f"expected a token as hsm:2?label=NAME, got {uri[:80]!r}")
    signer = _hsm()
    # Parsed by its own rules: what is shown here and what signs later are one key.
    made = signer.from_priv_key_uri(uri, _any_key(), ask_pin)
    return _asking(lambda: signer.import_(made.hsm_keyid, made.token_label, ask_pin))[1]


def _any_key() -> Any:
    return _library("securesystemslib.signer").SSlibKey(
        "", "ecdsa", "ecdsa-sha2-nistp256", {"public": ""}
    )


def _hsm() -> Any:
    _ = _library("pkcs11")
    return _library("securesystemslib.signer").HSMSigner


def _library(name: str) -> Any:
    # An extra, and heavy: loaded only where a token signs.
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise TokenError(
            "expected the libraries for tokens: pip install 'gatelift[hsm]'",
            code="token_no_library",
        ) from error


def _asking(step: Callable[[], Any]) -> Any:
    try:
        return step()
    except _library("pkcs11.exceptions").PKCS11Error as error:
        # The kind alone: messages are the token library's, and may hold anything.
        raise TokenError(
            f"{_MEANING.get(type(error).__name__, _OTHER)} ({type(error).__name__}); "
            "nothing was signed"
        ) from None
    except (ValueError, RuntimeError, UnsupportedAlgorithm) as error:
        raise TokenError(f"the token cannot be used: {error}; nothing was signed") from error


_OTHER: Final = "the token failed"
_MEANING: Final = {
    "PinIncorrect": "the PIN is wrong: look at how many tries are left before the next",
    "PinLenRange": "the PIN has a length that the token does not take",
    "PinLocked": "the PIN is locked: unlock the token with its PUK",
    "TokenNotPresent": "no token: was it taken out?",
    "DeviceRemoved": "the token was taken out",
    "SessionHandleInvalid": "the token was taken out",
    "SlotIDInvalid": "no token: was it taken out?",
}
