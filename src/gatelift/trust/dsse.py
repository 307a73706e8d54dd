"""DSSE envelopes: signatures over exact bytes, many signers on one payload.

Invariants
- What is signed is PAE(payload type, payload): the bytes as stored, never a re-serialisation.
- Verified bytes are the only bytes that are parsed further.
- `keyid` is a hint. Signers are told apart by the bytes of the key that verified.
- How a signature is verified stands with the key (`keys`), never in the envelope.
- An unknown key is ignored; a known key whose signature fails refuses the whole envelope.

Follows DSSE v1.0.2 (secure-systems-lab/dsse, protocol.md and envelope.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from gatelift.encoding import decode_json, encode_base64, encode_json, parse_base64
from gatelift.errors import CallerError
from gatelift.trust.keys import (
    KeyId,
    MessageSigner,
    SignatureError,
    VerifyingKey,
    verify_signature,
)

__all__ = [
    "MAX_SIGNATURES",
    "STATEMENT_TYPE",
    "DsseError",
    "DsseSignature",
    "Envelope",
    "add_signature",
    "join_signature",
    "parse_envelope",
    "pre_authentication_encoding",
    "sign_also",
    "sign_envelope",
    "verify_envelope",
]

STATEMENT_TYPE = "application/vnd.in-toto+json"
MAX_SIGNATURES = 32


class DsseError(CallerError):
    """An envelope is malformed or its signatures do not hold."""

    code = "bad_envelope"


class DsseSignature(msgspec.Struct, frozen=True, kw_only=True):
    """One signature. `keyid` only says which key to try."""

    keyid: str = ""
    sig: str


class Envelope(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An envelope as it lies in a file."""

    payload: str
    payload_type: str
    signatures: tuple[DsseSignature, ...]

    def unverified_payload(self) -> bytes:
        """Return the payload without saying anything about who signed it."""
        return _parse_either_base64(self.payload)


def _parse_either_base64(text: str) -> bytes:
    # DSSE verifiers must accept the standard and the url-safe alphabet.
    return parse_base64(text.replace("-", "+").replace("_", "/"))


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """Return PAE: the bytes that a DSSE signature covers."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def parse_envelope(data: bytes) -> Envelope:
    """Return the envelope in `data`; raises `EncodingError` or `DsseError`."""
    envelope = decode_json(data, Envelope)
    if not 1 <= len(envelope.signatures) <= MAX_SIGNATURES:
        raise DsseError(
            f"expected 1 to {MAX_SIGNATURES} signatures, got {len(envelope.signatures)}"
        )
    return envelope


def sign_envelope(payload: bytes, payload_type: str, keys: Iterable[MessageSigner]) -> bytes:
    """Return the bytes of an envelope over `payload`, signed by each key in turn."""
    message = pre_authentication_encoding(payload_type, payload)
    return encode_json(
        Envelope(
            payload=encode_base64(payload),
            payload_type=payload_type,
            signatures=tuple(
                DsseSignature(keyid=key.id, sig=encode_base64(key.sign(message))) for key in keys
            ),
        )
    )


def add_signature(data: bytes, key: MessageSigner) -> bytes:
    """Return the envelope in `data` with one more signature over the same payload bytes."""
    return join_signature(data, sign_also(data, key))


def sign_also(data: bytes, key: MessageSigner) -> DsseSignature:
    """Return one more signature over the payload of the envelope in `data`."""
    envelope = parse_envelope(data)
    message = pre_authentication_encoding(envelope.payload_type, envelope.unverified_payload())
    return DsseSignature(keyid=key.id, sig=encode_base64(key.sign(message)))


def join_signature(data: bytes, more: DsseSignature) -> bytes:
    """Return the envelope in `data` with `more`, in place of an earlier one of its key; verifies nothing."""
    envelope = parse_envelope(data)
    kept = tuple(s for s in envelope.signatures if s.keyid != more.keyid)
    if len(kept) >= MAX_SIGNATURES:
        raise DsseError(f"expected at most {MAX_SIGNATURES} signatures: this envelope is full")
    return encode_json(msgspec.structs.replace(envelope, signatures=(*kept, more)))


def verify_envelope(
    data: bytes, payload_type: str, keys: Mapping[KeyId, VerifyingKey]
) -> tuple[bytes, tuple[KeyId, ...]]:
    """Return the payload and the ids of the known keys that signed it, each once.

    Raises `DsseError` when the type differs, a known key's signature fails, or no known key signed.
    """
    envelope = parse_envelope(data)
    if envelope.payload_type != payload_type:
        raise DsseError(
            f"expected payload type {payload_type!r}, got {envelope.payload_type[:80]!r}",
            code="wrong_type",
        )
    payload = envelope.unverified_payload()
    message = pre_authentication_encoding(payload_type, payload)
    signers: list[KeyId] = []
    for signature in envelope.signatures:
        key = keys.get(KeyId(signature.keyid))
        if key is None or signature.keyid in signers:
            continue
        try:
            verify_signature(key, _parse_either_base64(signature.sig), message)
        except SignatureError as error:
            raise DsseError(
                f"signature of {signature.keyid[:24]} does not hold: the envelope was altered "
                "or forged; ask its signers for the original",
                code="forged",
            ) from error
        signers.append(KeyId(signature.keyid))
    if not signers:
        raise DsseError(
            "no signature by a key of this root: check that root and envelope belong together",
            code="unknown_signers",
        )
    return payload, tuple(signers)
