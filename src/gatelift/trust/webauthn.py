"""WebAuthn assertions as signatures: a passkey or security key in a browser signs our bytes.

The challenge is SHA-256 of the message, so that the assertion covers exactly what a DSSE signature
covers. What is stored is a JSON object of three members in base64url: `authenticatorData`,
`clientDataJSON`, `signature`, as a browser's `PublicKeyCredential.toJSON().response` names them.

Invariants
- Type is `webauthn.get`; the challenge is this message's; the origin is https on the relying party's
  domain or below it, never framed by another. The relying party is pinned with the key.
- The person was present and verified (UP and UV): a stolen token without its PIN signs nothing.
- Authenticator data are exactly 37 bytes: no attested key, no extension is read from a signature.
- JSON is strict. The algorithm follows from the pinned key (ES256 or EdDSA), never from the assertion.

Not here: counters (nothing is remembered between signatures), attestation (enrolment is a matter of
the ceremony), tokens bound to TLS.

Follows W3C Web Authentication Level 2, sections 5.8.1, 6.1 and 7.2.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from gatelift.encoding import (
    EncodingError,
    decode_json,
    encode_base64url,
    parse_base64url,
    parse_json,
)
from gatelift.tlog import PUBLIC_KEY_BYTES, SignatureError, verify_ed25519
from gatelift.trust.ecdsa_p256 import verify_ecdsa_p256

__all__ = ["challenge_of", "verify_webauthn"]

_MAX_BYTES: Final = 8192
_DATA_BYTES: Final = 37
_HASH_BYTES: Final = 32
_PRESENT: Final = 0x01
_VERIFIED: Final = 0x04
_BACKUP_ELIGIBLE: Final = 0x08
_BACKED_UP: Final = 0x10
_ATTESTED: Final = 0x40
_EXTENDED: Final = 0x80


class _Assertion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    authenticator_data: str = msgspec.field(name="authenticatorData")
    client_data: str = msgspec.field(name="clientDataJSON")
    signature: str


def challenge_of(message: bytes) -> str:
    """Return the challenge that a browser is asked to sign for `message`, in base64url."""
    return encode_base64url(hashlib.sha256(message).digest())


def verify_webauthn(public: bytes, rp_id: str, signature: bytes, message: bytes) -> bytes:
    """Return `message` once the assertion in `signature` covers it; raises `SignatureError`.

    `public` is 32 bytes (Ed25519) or an uncompressed P-256 point; `rp_id` is the pinned domain.
    """
    if len(signature) > _MAX_BYTES:
        raise SignatureError(f"expected a WebAuthn assertion of at most {_MAX_BYTES} bytes")
    try:
        assertion = decode_json(signature, _Assertion)
        data = parse_base64url(assertion.authenticator_data)
        client = parse_base64url(assertion.client_data)
        signed = parse_base64url(assertion.signature)
        said = parse_json(client)
    except EncodingError as error:
        raise SignatureError(f"expected a WebAuthn assertion as strict JSON: {error}") from error
    _check_client(said, rp_id, challenge_of(message))
    _check_authenticator(data, rp_id)
    covered = data + hashlib.sha256(client).digest()
    if len(public) == PUBLIC_KEY_BYTES:
        _ = verify_ed25519(public, signed, covered)
    else:
        _ = verify_ecdsa_p256(public, signed, covered)
    return message


def _check_client(said: Any, rp_id: str, challenge: str) -> None:
    if not isinstance(said, dict) or said.get("type") != "webauthn.get":
        raise SignatureError("expected clientDataJSON of type webauthn.get")
    shown = said.get("challenge")
    if not isinstance(shown, str) or not hmac.compare_digest(shown.encode(), challenge.encode()):
        raise SignatureError("the assertion answers another challenge: it signed something else")
    if said.get("crossOrigin", False) is not False or "topOrigin" in said:
        raise SignatureError("the assertion was made inside another site's frame: refuse it")
    origin = said.get("origin")
    if not isinstance(origin, str) or not _is_origin_of(origin, rp_id):
        raise SignatureError(f"expected an https origin of {rp_id!r}, the key's relying party")


def _is_origin_of(origin: str, rp_id: str) -> bool:
    try:
        parts = urlsplit(origin)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    plain = f"{parts.scheme}://{host}" + ("" if port is None else f":{port}")
    safe = parts.scheme == "https" or (parts.scheme == "http" and host == "localhost" == rp_id)
    return safe and plain == origin and (host == rp_id or host.endswith("." + rp_id))


def _check_authenticator(data: bytes, rp_id: str) -> None:
    if len(data) != _DATA_BYTES or data[_HASH_BYTES] & (_ATTESTED | _EXTENDED):
        raise SignatureError(
            f"expected {_DATA_BYTES} bytes of authenticator data without extensions"
        )
    if not hmac.compare_digest(data[:_HASH_BYTES], hashlib.sha256(rp_id.encode("utf-8")).digest()):
        raise SignatureError("the assertion is for another relying party than the key's")
    flags = data[_HASH_BYTES]
    if not (flags & _PRESENT and flags & _VERIFIED):
        raise SignatureError(
            "expected a person present and verified (UP and UV): ask for userVerification 'required'"
        )
    if flags & _BACKED_UP and not flags & _BACKUP_ELIGIBLE:
        raise SignatureError("the authenticator's flags contradict themselves (BS without BE)")
