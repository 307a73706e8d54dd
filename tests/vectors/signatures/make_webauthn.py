"""Makes `webauthn.json`: two assertions, written out by hand from the specification.

Imports nothing from the package: bytes are put together from WebAuthn Level 2 sections 6.1 and
5.8.1 alone. P-256 signatures differ at each run; the file that is stored is one of them.

    python tests/vectors/signatures/make_webauthn.py > tests/vectors/signatures/webauthn.json
"""

import base64
import hashlib
import json
import sys

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

RP_ID = "sign.example"
MESSAGE = b"DSSEv1 1 a 5 hello"


def text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def made(algorithm: str) -> dict[str, object]:
    client = json.dumps(
        {
            "type": "webauthn.get",
            "challenge": text(hashlib.sha256(MESSAGE).digest()),
            "origin": f"https://{RP_ID}",
            "crossOrigin": False,
        },
        separators=(",", ":"),
    ).encode()
    # SHA-256 of the relying party, flags UP and UV, counter 7.
    data = hashlib.sha256(RP_ID.encode()).digest() + bytes([0x05]) + (7).to_bytes(4, "big")
    covered = data + hashlib.sha256(client).digest()
    if algorithm == "ES256":
        key = ec.generate_private_key(ec.SECP256R1())
        signature = key.sign(covered, ec.ECDSA(hashes.SHA256()))
        public = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    else:
        edwards = ed25519.Ed25519PrivateKey.generate()
        signature = edwards.sign(covered)
        public = edwards.public_key().public_bytes_raw()
    return {
        "algorithm": algorithm,
        "rp_id": RP_ID,
        "message": MESSAGE.hex(),
        "public": public.hex(),
        "response": {
            "authenticatorData": text(data),
            "clientDataJSON": text(client),
            "signature": text(signature),
        },
    }


if __name__ == "__main__":
    json.dump([made("ES256"), made("EdDSA")], sys.stdout, indent=2)
    sys.stdout.write("\n")
