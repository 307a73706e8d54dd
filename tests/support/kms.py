"""A key management service that answers `GetPublicKey` and `Sign` as AWS KMS documents them, for boto3.

    https://docs.aws.amazon.com/kms/latest/APIReference/API_Sign.html

Keys are found by alias. A digest is signed as it is (`MessageType: DIGEST`). Nothing else is answered.
"""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

__all__ = ["KeyService"]

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class _RefusedError(Exception):
    """A code of the service's."""


class KeyService:
    """Serves on loopback until closed; `messages` are what it was asked to sign."""

    def __init__(self) -> None:
        self.keys: dict[str, PrivateKey] = {}
        self.disabled: set[str] = set()
        self.messages: list[bytes] = []
        self.authorizations: list[str] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                service.authorizations.append(self.headers["authorization"])
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                try:
                    status, value = 200, service.answer(self.headers["x-amz-target"], asked)
                except _RefusedError as error:
                    status, value = 400, {"__type": str(error), "message": "of account 1234"}
                body = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-type", "application/x-amz-json-1.1")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def make(self, alias: str, curve: ec.EllipticCurve | None = None) -> None:
        """Put a new key behind an alias: on P-256, or on another curve."""
        self.keys[f"alias/{alias}"] = ec.generate_private_key(curve or ec.SECP256R1())

    def make_rsa(self, alias: str) -> None:
        """Put a new RSA key behind an alias."""
        self.keys[f"alias/{alias}"] = rsa.generate_private_key(65537, 2048)

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, target: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of an answer."""
        name = asked["KeyId"]
        if name not in self.keys:
            raise _RefusedError("NotFoundException")
        if name in self.disabled:
            raise _RefusedError("DisabledException")
        private = self.keys[name]
        is_rsa = isinstance(private, rsa.RSAPrivateKey)
        algorithm = "RSASSA_PSS_SHA_256" if is_rsa else f"ECDSA_SHA_{private.key_size}"
        if target == "TrentService.GetPublicKey":
            public = private.public_key()
            der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            return {
                "KeyId": name,
                "PublicKey": base64.b64encode(der).decode(),
                "SigningAlgorithms": [algorithm],
                "KeyUsage": "SIGN_VERIFY",
            }
        if (target, asked["SigningAlgorithm"]) != ("TrentService.Sign", algorithm) or is_rsa:
            raise _RefusedError("InvalidKeyUsageException")
        message = base64.b64decode(asked["Message"])
        self.messages.append(message)
        how = Prehashed(hashes.SHA256()) if asked["MessageType"] == "DIGEST" else hashes.SHA256()
        signature = private.sign(message, ec.ECDSA(how))
        return {
            "KeyId": name,
            "Signature": base64.b64encode(signature).decode(),
            "SigningAlgorithm": algorithm,
        }
