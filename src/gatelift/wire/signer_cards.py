"""Cards: files that say where a key is that no file can hold, and what its public half is.

    {"v": 1, "scheme": "ecdsa-p256", "public": "<base64>", "uri": "hsm:2?label=board"}
    {"v": 1, "scheme": "ecdsa-p256", "public": "<base64>", "uri": "awskms:alias/board"}
    {"v": 1, "scheme": "webauthn", "public": "<base64>", "rp_id": "localhost", "credential": "<base64url>"}

A card goes wherever a key file goes (`--key CARD`).

Invariants
- Nothing in a card is secret, and whoever alters one gains no signature: the public half that is
  pinned in it is held against the token's or service's before it signs, and against each signature after.
- JSON is strict; fields that are not known are refused, a PIN among them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from gatelift.encoding import (
    EncodingError,
    decode_json,
    encode_base64,
    encode_json,
    parse_base64,
    parse_base64url,
    parse_json,
)
from gatelift.errors import CallerError
from gatelift.trust import Scheme, VerifyingKey, check_verifying_key
from gatelift.wire.keyfiles import KeyFileError

__all__ = [
    "HSM_SCHEME",
    "KMS_SCHEME",
    "PASSKEY_RP_ID",
    "PasskeyCard",
    "TokenCard",
    "card_of_pem",
    "encode_card",
    "parse_card",
]

_VERSION: Final = 1
HSM_SCHEME: Final = "hsm:"
KMS_SCHEME: Final = "awskms:"
PASSKEY_RP_ID: Final = "localhost"


class TokenCard(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="scheme",
    tag="ecdsa-p256",
):  # fmt: skip
    """A P-256 key inside a PKCS#11 token or a key management service, as the `uri` says."""

    v: int
    public: str
    uri: str

    @property
    def key(self) -> VerifyingKey:
        """The pinned public half."""
        return VerifyingKey(scheme=Scheme.ECDSA_P256, public=parse_base64(self.public))


class PasskeyCard(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="scheme",
    tag="webauthn",
):  # fmt: skip
    """A passkey that a browser of this machine reaches."""

    v: int
    public: str
    rp_id: str
    credential: str

    @property
    def key(self) -> VerifyingKey:
        """The pinned public half."""
        public = parse_base64(self.public)
        return VerifyingKey(scheme=Scheme.WEBAUTHN, public=public, rp_id=self.rp_id)


def parse_card(path: Path, data: bytes) -> TokenCard | PasskeyCard:
    """Return the card in `data`, read from `path`; raises `KeyFileError`."""
    try:
        found = parse_json(data)
        passkey = isinstance(found, dict) and found.get("scheme") == Scheme.WEBAUTHN.value
        card = decode_json(data, PasskeyCard) if passkey else decode_json(data, TokenCard)
        _ = check_verifying_key(card.key)
        if isinstance(card, PasskeyCard):
            _ = parse_base64url(card.credential)
    except (EncodingError, CallerError) as error:
        raise KeyFileError(f"expected a card of a token or passkey in {path}: {error}") from error
    if card.v != _VERSION:
        raise KeyFileError(f"expected version {_VERSION} of a card in {path}, got {card.v}")
    if isinstance(card, TokenCard) and not card.uri.startswith((HSM_SCHEME, KMS_SCHEME)):
        raise KeyFileError(
            f"expected a uri such as {HSM_SCHEME}2?label=NAME or {KMS_SCHEME}alias/NAME in {path}"
        )
    if isinstance(card, PasskeyCard) and card.rp_id != PASSKEY_RP_ID:
        raise KeyFileError(f"expected rp_id {PASSKEY_RP_ID!r} in {path}: the page is served there")
    return card


def card_of_pem(public: str, uri: str) -> TokenCard:
    """Return the card of a key that a token or service tells in PEM; raises `KeyFileError`."""
    point = load_pem_public_key(public.encode("ascii"))
    if not isinstance(point, ec.EllipticCurvePublicKey) or point.curve.name != "secp256r1":
        raise KeyFileError(f"expected a P-256 key at {uri}: make one on that curve")
    data = point.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return TokenCard(v=_VERSION, public=encode_base64(data), uri=uri)


def encode_card(card: TokenCard | PasskeyCard) -> bytes:
    """Return the bytes of a card's file."""
    return encode_json(card)
