"""A client of the admin API: one call a request, strict, with a deadline.

Invariants
- A refusal keeps the code and the message that control gave.
- The token comes from a file of mode 0600, goes into one header, and into nothing else.
- Plain HTTP is used to loopback only; elsewhere it takes https.

Synchronous: commands ask one thing after the other.
"""

from __future__ import annotations

import http.client
import json
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from gatelift.cli.errors import AdminRefusedError, AdminUnreachableError, InputError
from gatelift.encoding import Digest, EncodingError, encode_base64, encode_json, parse_json
from gatelift.wire.keyfiles import load_secret_text

__all__ = ["AdminClient"]

_PREFIX = "/admin/v1"
_TIMEOUT_S = 20.0
_MAX_ANSWER_BYTES = 256 * 1024 * 1024
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class AdminClient:
    """Talks to one admin API. `token` null: only what is open to everybody."""

    def __init__(self, url: str, token: str | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or parts.hostname is None or parts.query:
            raise InputError(f"expected the admin URL as http://host:port, got {url[:80]!r}")
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise InputError(
                "a token does not travel in the clear: use https, or a tunnel to loopback"
            )
        self.url = url.rstrip("/")
        self._parts = parts
        self._token = token

    @classmethod
    def with_token_file(cls, url: str, token_file: Path | None) -> AdminClient:
        """Return a client with the token of a file, or without one."""
        return cls(url, load_secret_text(token_file) if token_file is not None else None)

    def get(self, path: str, **query: object) -> Any:
        """Return the JSON of a resource; raises `AdminRefusedError` or `AdminUnreachableError`."""
        return _parsed(self._call("GET", _with_query(path, query)))

    def get_bytes(self, path: str) -> bytes:
        """Return the bytes of a resource."""
        return self._call("GET", path)

    def put_file(self, data: bytes) -> Digest:
        """Keep bytes by digest at control, and return the digest that it names."""
        answer = _parsed(self._call("PUT", "/files", data, "application/octet-stream"))
        return Digest(answer["digest"] if isinstance(answer, dict) else answer)

    def post_entry(
        self,
        kind: str,
        envelope: bytes,
        *,
        attachments: tuple[bytes, ...] = (),
        expected_size: int | None = None,
        cosigned: bool = False,
    ) -> dict[str, Any]:
        """Have an entry logged; `cosigned` waits until witnesses have cosigned a head with it."""
        body: dict[str, Any] = {"kind": kind, "envelope": envelope.decode("utf-8")}
        if attachments:
            body["attachments"] = [encode_base64(each) for each in attachments]
        if expected_size is not None:
            body["expected_size"] = expected_size
        if cosigned:
            body["cosigned"] = True
        answer: dict[str, Any] = _parsed(self._call("POST", "/entries", encode_json(body)))
        return answer

    def post_order(self, envelope: bytes) -> dict[str, Any]:
        """Deliver an order: no token is asked, its signature alone counts."""
        body = encode_json({"envelope": envelope.decode("utf-8")})
        answer: dict[str, Any] = _parsed(self._call("POST", "/orders", body))
        return answer

    def post_heads(self) -> dict[str, Any]:
        """Have the newest heads of the requests logs anchored, and wait for the witnesses."""
        answer: dict[str, Any] = _parsed(self._call("POST", "/heads", b""))
        return answer

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_S, context=context)
        return http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)

    def _call(
        self, method: str, path: str, body: bytes | None = None, kind: str = "application/json"
    ) -> bytes:
        headers = {"accept": "*/*"}
        if body is not None:
            headers["content-type"] = kind
        if self._token is not None:
            headers["authorization"] = f"Bearer {self._token}"
        connection = self._connect()
        try:
            connection.request(
                method, f"{self._parts.path.rstrip('/')}{_PREFIX}{path}", body, headers
            )
            response = connection.getresponse()
            data = response.read(_MAX_ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            raise AdminUnreachableError(
                f"no answer from {self.url}: {str(error) or type(error).__name__}; is control running?"
            ) from error
        finally:
            connection.close()
        if len(data) > _MAX_ANSWER_BYTES:
            raise AdminUnreachableError(f"{self.url} sent more than {_MAX_ANSWER_BYTES} bytes")
        if 200 <= response.status < 300:
            return data
        raise _refusal(response.status, data)


def _with_query(path: str, query: dict[str, object]) -> str:
    given = [f"{name}={quote(str(value))}" for name, value in query.items() if value is not None]
    return f"{path}?{'&'.join(given)}" if given else path


def _parsed(data: bytes) -> Any:
    try:
        # State holds no numbers that two parsers would read differently; sizes stay below 2**53.
        return parse_json(data)
    except EncodingError as error:
        raise AdminUnreachableError(f"the admin API sent what is no JSON: {error}") from error


def _refusal(status: int, data: bytes) -> AdminRefusedError | AdminUnreachableError:
    code, message, reasons = f"http_{status}", data[:300].decode("utf-8", "replace"), None
    try:
        found = json.loads(data)
        code, message = str(found["code"]), str(found["message"])
        reasons = found.get("reasons") or None
    except (ValueError, KeyError, TypeError):
        message = f"the admin API answered {status}: {message}"
    if status >= 500:
        return AdminUnreachableError(message, code=code)
    return AdminRefusedError(message, code=code, detail=reasons)
