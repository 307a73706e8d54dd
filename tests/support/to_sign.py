"""An envelope that asks for a P-256 signature, and the check that the key of a card has given it."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

__all__ = ["check_signed", "write_envelope"]


_REVIEW = b'{"predicateType":"urn:gatelift:review:v1"}'


def write_envelope(path: Path, payload: bytes = _REVIEW) -> Path:
    """Write an envelope with a signature that means nothing; return its path."""
    value = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": "application/vnd.in-toto+json",
        "signatures": [{"keyid": "sha256:" + "0" * 64, "sig": "AA=="}],
    }
    path.write_text(json.dumps(value))
    return path


def check_signed(envelope: Path, card: Path) -> bytes:
    """Return what the card's key has signed; raises `InvalidSignature` when it has not."""
    found = json.loads(envelope.read_bytes())
    payload = base64.b64decode(found["payload"])
    kind = found["payloadType"].encode()
    message = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    point = base64.b64decode(json.loads(card.read_bytes())["public"])
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    signature = base64.b64decode(found["signatures"][-1]["sig"])
    key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    return message
