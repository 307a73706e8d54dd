"""Signing with a passkey, and enrolling one: a browser of this machine asks its authenticator.

Invariants
- The challenge is the message's digest, as docs/reference/signatures.md has it; an assertion that does
  not verify under the card's key over this very message is refused while the page still waits.
- The page shows the payload that the challenge covers, with nothing in it that could hide a letter.
- The relying party is `localhost`: the page is this machine's, never the operator's.
- At enrolment the browser's client data must answer our challenge from our page; who made the key is
  not attested. What counts is that its holder reads the key's id aloud in the ceremony.

Follows W3C Web Authentication Level 2, sections 5.1.3, 5.1.4, 5.2.1 and 7.1.
"""

from __future__ import annotations

import hmac
import secrets
import sys
from collections.abc import Callable
from typing import Final

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

from gatelift.encoding import (
    decode_json,
    encode_base64,
    encode_base64url,
    parse_base64url,
    parse_json,
    sha256_digest,
)
from gatelift.errors import PeerError
from gatelift.trust import KeyId, VerifyingKey, challenge_of, check_verifying_key, verify_signature
from gatelift.wire.passkey_page import PageText, ask_browser
from gatelift.wire.signer_cards import PASSKEY_RP_ID, PasskeyCard

__all__ = ["PasskeyError", "PasskeySigner", "enrol_passkey"]

_CHALLENGE_BYTES: Final = 32
_PAE_PARTS: Final = 5


class PasskeyError(PeerError):
    """The browser did not make the key that was asked for."""

    code = "passkey_not_made"


class _Made(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    credential: str
    public: str
    client_data: str = msgspec.field(name="clientDataJSON")


def _tell(url: str) -> None:
    sys.stderr.write(f"Open this in a browser on this machine, once:\n{url}\n")
    sys.stderr.flush()


class PasskeySigner:
    """Signs through a page on loopback under the passkey of a card."""

    def __init__(self, card: PasskeyCard, tell: Callable[[str], None] = _tell) -> None:
        self._card = card
        self._tell = tell
        self.key: VerifyingKey = card.key

    @property
    def id(self) -> KeyId:
        """The id of the public key."""
        return self.key.id

    def sign(self, message: bytes) -> bytes:
        """Return the assertion over `message`; raises `PageError` or `SignatureError`."""
        signed: list[bytes] = []

        def take(body: bytes, _origin: str) -> None:
            verify_signature(self.key, body, message)
            signed.append(body)

        payload = _payload_of(message)
        page = PageText(
            title="Sign with your passkey",
            lead=f"You are asked to sign exactly this, {sha256_digest(payload)}. "
            "Compare the digest with the one in your terminal.",
            shown=payload.decode("utf-8", "backslashreplace")
            .encode("ascii", "backslashreplace")
            .decode("ascii"),
            action="Sign",
        )
        asked = {
            "challenge": challenge_of(message),
            "rp_id": self._card.rp_id,
            "credential": self._card.credential,
        }
        ask_browser(page, asked, take, self._tell)
        return signed[0]


def enrol_passkey(person: str, tell: Callable[[str], None] = _tell) -> PasskeyCard:
    """Have a browser make a passkey and return its card; raises `PageError` or `PasskeyError`."""
    challenge = encode_base64url(secrets.token_bytes(_CHALLENGE_BYTES))
    made: list[PasskeyCard] = []

    def take(body: bytes, origin: str) -> None:
        made.append(_card_of(decode_json(body, _Made), challenge, origin))

    page = PageText(
        title="Make a passkey for signing",
        lead="Your authenticator makes a new key that signs for you. Gatelift reads its public half.",
        shown=f"person: {person}\nrelying party: {PASSKEY_RP_ID}".encode(
            "ascii", "backslashreplace"
        ).decode("ascii"),
        action="Make the passkey",
    )
    asked = {
        "challenge": challenge,
        "rp_id": PASSKEY_RP_ID,
        "credential": None,
        "person": person,
        "user": encode_base64url(secrets.token_bytes(_CHALLENGE_BYTES)),
    }
    ask_browser(page, asked, take, tell)
    return made[0]


def _card_of(made: _Made, challenge: str, origin: str) -> PasskeyCard:
    said = parse_json(parse_base64url(made.client_data))
    if not isinstance(said, dict) or said.get("type") != "webauthn.create":
        raise PasskeyError("expected client data of type webauthn.create: try another browser")
    shown = said.get("challenge")
    if not isinstance(shown, str) or not hmac.compare_digest(shown.encode(), challenge.encode()):
        raise PasskeyError("the browser answered another challenge: run the command again")
    if said.get("origin") != origin or said.get("crossOrigin", False) is not False:
        raise PasskeyError(f"expected an answer from {origin} itself: run the command again")
    card = PasskeyCard(
        v=1,
        public=encode_base64(_raw(parse_base64url(made.public))),
        rp_id=PASSKEY_RP_ID,
        credential=encode_base64url(parse_base64url(made.credential)),
    )
    _ = check_verifying_key(card.key)
    return card


def _raw(spki: bytes) -> bytes:
    try:
        found = load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise PasskeyError("the browser gave no public key that can be read") from error
    if isinstance(found, ed25519.Ed25519PublicKey):
        return found.public_bytes_raw()
    if isinstance(found, ec.EllipticCurvePublicKey) and found.curve.name == "secp256r1":
        return found.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    raise PasskeyError("expected a passkey on P-256 or Ed25519: use another authenticator")


def _payload_of(message: bytes) -> bytes:
    # A DSSE message is "DSSEv1 n type n payload"; whatever else is signed is shown whole.
    parts = message.split(b" ", _PAE_PARTS - 1)
    return parts[-1] if parts[0] == b"DSSEv1" and len(parts) == _PAE_PARTS else message
