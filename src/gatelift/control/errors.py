"""Errors of control: what a submitter did wrong, and what failed on our side.

Invariants
- Every code is stable; `api` maps codes and families to HTTP and adds nothing of its own.
"""

from __future__ import annotations

from gatelift.errors import CallerError, PeerError

__all__ = ["ControlError", "ControlFailedError", "SizeMovedError"]


class ControlError(CallerError):
    """What was handed to control breaks a rule of its own: a token, a kind, a size, a rate."""

    code = "not_accepted"


class SizeMovedError(ControlError):
    """The log grew since the caller read it: read again, decide again, submit again."""

    code = "size_moved"

    def __init__(self, expected: int, actual: int) -> None:
        super().__init__(
            f"expected the log at size {expected}, it is at {actual}: "
            "read what was added, then submit again"
        )


class ControlFailedError(PeerError):
    """Control cannot go on: disk, writer or a peer failed. Nothing more is signed as current."""

    code = "control_failed"
