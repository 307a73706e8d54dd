"""The root of every error that Gatelift raises on purpose.

Two families, after who can mend it: `CallerError` (you broke a rule: a bad plan, a bad request, a
forged statement) and `PeerError` (the other side did: an upstream, a witness, a disk, a keeper).

Invariants
- Every error has a `code`: a stable snake_case word that callers may match on.
- The message says what was expected, what came and what to do. It never holds a secret.

Expected outcomes (a shut gate, a refused prompt, a spent cap) are return values, not errors.
"""

from __future__ import annotations

__all__ = ["CallerError", "GateliftError", "PeerError"]


class GateliftError(Exception):
    """Root of all errors raised on purpose. `code` is stable, the message is for people."""

    code: str = "error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class CallerError(GateliftError):
    """What was handed to us breaks a rule; repeating it unchanged fails again."""

    code = "invalid"


class PeerError(GateliftError):
    """The other side failed or broke its contract; we closed instead of guessing."""

    code = "peer_failed"
