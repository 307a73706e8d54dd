"""The session id: which exchanges belong to one unit.

    <window start in ms UTC>-<24 hex digits>

Invariants
- All exchanges of one (grant, end-user id) in one session window have one id; the id is made by the
  gateway and never named by the caller.
- The window is counted from the epoch, so every worker computes the same one without asking.
- The end-user id does not stand in it and can't be read from it without the grant's id.

Does not say how long a window is: the plan does.
"""

from __future__ import annotations

import hashlib
import hmac
import re

from gatelift.errors import CallerError
from gatelift.trust import SigningKey

__all__ = ["SessionError", "make_session", "session_secret", "session_window_start_ms"]

_HEX_DIGITS = 24
# Ed25519 is deterministic, so all workers of a node make the same secret and nobody else can.
_SECRET_LABEL = b"gatelift/session/v1\n"
_SESSION = re.compile(r"(0|[1-9][0-9]{0,15})-[0-9a-f]{24}", re.ASCII)


class SessionError(CallerError):
    """The text is not a session id."""

    code = "bad_session"


def session_secret(key: SigningKey) -> bytes:
    """Return the secret that a node makes session ids with; `key` is the one that signs its batches."""
    return hashlib.sha256(key.sign(_SECRET_LABEL)).digest()


def make_session(
    grant: str, end_user: str, now_ms: int, session_window_ms: int, secret: bytes
) -> str:
    """Return the session id of an exchange at `now_ms`; an absent end-user id is the empty text.

    `secret` is the node's, so that who reads a record can't find an end-user id by guessing.
    """
    window = now_ms - now_ms % session_window_ms
    # The length keeps grant and end-user id apart, whatever characters they have.
    name = f"{len(grant)}:{grant}:{end_user}:{window}".encode("utf-8", "surrogatepass")
    digest = hmac.digest(secret, name, "sha256").hex()
    return f"{window}-{digest[:_HEX_DIGITS]}"


def session_window_start_ms(session: str) -> int:
    """Return where the session's window starts, in ms UTC; raises `SessionError`."""
    found = _SESSION.fullmatch(session)
    if found is None:
        raise SessionError(f"expected <window start ms>-<24 hex digits>, got {session[:60]!r}")
    return int(found[1])
