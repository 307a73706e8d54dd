"""Bearer tokens of the admin API: who may read, who may read what names people, who may submit.

A token reads `glat_<role>_<secret>`; `keys/admin-tokens.json` holds `{role: digest of the token}`.
An overseer reads all, as a beacon does; a submitter reads all and submits. A token admits to the API only: what an entry is worth depends on its
signatures alone, so a stolen token can neither widen nor lift anything.

Invariants
- Only digests are kept; a token is compared by its digest in constant time.
- No error and no repr holds a token or a digest.
- A file that cannot be read, or names an unknown role, stops the start (fails closed).
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from pathlib import Path

from gatelift.control.errors import ControlError
from gatelift.encoding import Digest, EncodingError, decode_json, parse_digest, sha256_digest

__all__ = ["OVERSEER", "READER", "SUBMITTER", "AdminTokens", "TokenError", "load_admin_tokens"]

READER = "reader"
OVERSEER = "overseer"
SUBMITTER = "submitter"
_MAX_TOKEN_CHARS = 200
_MAX_FILE_BYTES = 4096
_ALSO: Mapping[str, frozenset[str]] = {
    READER: frozenset({READER}),
    OVERSEER: frozenset({READER, OVERSEER}),
    SUBMITTER: frozenset({READER, OVERSEER, SUBMITTER}),
}
_NOBODY = sha256_digest(b"")


class TokenError(ControlError):
    """No token, or one that does not admit here. Codes `token_missing`, `token_refused`."""

    code = "token_refused"


class AdminTokens:
    """The digests of the tokens in force, by role."""

    __slots__ = ("_digests",)

    def __init__(self, digests: Mapping[str, Digest]) -> None:
        unknown = sorted(set(digests) - set(_ALSO))
        if unknown:
            raise ControlError(
                f"expected tokens for {sorted(_ALSO)}, got one for {unknown[0][:40]!r}",
                code="bad_tokens_file",
            )
        self._digests = dict(digests)

    def verify(self, header: str | None, need: str) -> str:
        """Return the role of an `Authorization` header that admits to `need`; raises `TokenError`."""
        if header is None:
            raise TokenError(
                f"expected 'Authorization: Bearer glat_<role>_<secret>' of a {need}, got none",
                code="token_missing",
            )
        scheme, _, token = header.partition(" ")
        parts = token.split("_", 2)
        shaped = len(token) <= _MAX_TOKEN_CHARS and len(parts) == 3 and parts[0] == "glat"
        role = parts[1] if shaped else ""
        presented = sha256_digest(token.encode("utf-8"))
        # A role without a token costs the same compare as one with the wrong token.
        stored = self._digests.get(role, _NOBODY)
        matches = hmac.compare_digest(presented.encode("ascii"), stored.encode("ascii"))
        if scheme.lower() != "bearer" or not matches or need not in _ALSO.get(role, frozenset()):
            raise TokenError(f"the token does not admit here: use the one of a {need}")
        return role


def load_admin_tokens(path: Path) -> AdminTokens:
    """Return the tokens of a file; raises `ControlError` when it cannot be read or is not one."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
        raw = decode_json(data, dict[str, str])
        return AdminTokens({role: parse_digest(text) for role, text in raw.items()})
    except OSError as error:
        raise ControlError(
            f"cannot read {path}: {error.strerror}", code="bad_tokens_file"
        ) from error
    except EncodingError:
        # `from None`: the cause quotes what it could not read.
        raise ControlError(
            f"expected {path} to hold JSON of digests by role", code="bad_tokens_file"
        ) from None
