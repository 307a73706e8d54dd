"""DPoP proofs made as a caller makes them (RFC 9449 section 4), apart from the code that checks them."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Holder:
    """Somebody with a DPoP key."""

    def __init__(self, kind: str = "ES256") -> None:
        self.kind = kind
        self.key: Any = (
            ec.generate_private_key(ec.SECP256R1())
            if kind == "ES256"
            else ed25519.Ed25519PrivateKey.generate()
        )

    @property
    def jwk(self) -> dict[str, str]:
        public = self.key.public_key()
        if self.kind != "ES256":
            return {"kty": "OKP", "crv": "Ed25519", "x": b64(public.public_bytes_raw())}
        n = public.public_numbers()
        x, y = n.x.to_bytes(32, "big"), n.y.to_bytes(32, "big")
        return {"kty": "EC", "crv": "P-256", "x": b64(x), "y": b64(y)}

    def thumbprint(self) -> str:
        text = json.dumps(self.jwk, sort_keys=True, separators=(",", ":"))
        return b64(hashlib.sha256(text.encode()).digest())

    def sign(self, data: bytes) -> bytes:
        if self.kind != "ES256":
            return bytes(self.key.sign(data))
        r, s = decode_dss_signature(self.key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def proof(
        self,
        url: str,
        api_key: str,
        *,
        method: str = "POST",
        header: dict[str, Any] | None = None,
        claims: dict[str, Any] | None = None,
        raw_claims: str | None = None,
    ) -> str:
        head = {"typ": "dpop+jwt", "alg": self.kind, "jwk": self.jwk} | (header or {})
        body = {
            "jti": secrets.token_urlsafe(16),
            "htm": method,
            "htu": url,
            "iat": int(time.time()),
            "ath": b64(hashlib.sha256(api_key.encode()).digest()),
        } | (claims or {})
        body = {name: value for name, value in body.items() if value is not None}
        text = raw_claims if raw_claims is not None else json.dumps(body)
        signed = f"{b64(json.dumps(head).encode())}.{b64(text.encode())}"
        return f"{signed}.{b64(self.sign(signed.encode()))}"
