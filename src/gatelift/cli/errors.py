"""How the command line fails: what it raises itself, and which exit code an error ends with.

    0  done, or it holds
    1  refused, or it does not hold: the same command again fails again
    2  bad usage, or an input that cannot be read
    3  consistent with itself, but not authenticated (verify without an anchor)
    4  a peer could not be reached or failed: it may work later
    70 a fault of Gatelift itself; GATELIFT_TRACE=1 shows where

Invariants
- Every `GateliftError` has exactly one exit code, found by class first and family second.
- An error of the system about a file is an unreadable input, never a traceback.
"""

from __future__ import annotations

import enum

from gatelift.encoding import EncodingError
from gatelift.errors import CallerError, GateliftError, PeerError

__all__ = [
    "AdminRefusedError",
    "AdminUnreachableError",
    "Exit",
    "InputError",
    "LitellmUnreachableError",
    "exit_code",
    "first_error",
]


class Exit(enum.IntEnum):
    """Exit codes of every command."""

    OK = 0
    REFUSED = 1
    UNREADABLE = 2
    NOT_AUTHENTICATED = 3
    PEER = 4
    FAULT = 70


class InputError(CallerError):
    """A file or an argument cannot be used as it is."""

    code = "unreadable_input"


class AdminRefusedError(CallerError):
    """The admin API refused; code, message and `detail` (the gate's reasons) are its own."""

    code = "refused"

    def __init__(self, message: str, *, code: str, detail: object = None) -> None:
        super().__init__(message, code=code)
        self.detail = detail


class AdminUnreachableError(PeerError):
    """The admin API did not answer, or not as it must."""

    code = "admin_unreachable"


class LitellmUnreachableError(PeerError):
    """LiteLLM's database did not answer, or not as it must."""

    code = "litellm_unreachable"


# By code rather than class where the class would cost an import of its room at every start.
_UNREADABLE_CODES = frozenset(
    {
        "bad_arrival",
        "bad_plan",
        "bad_candidate",
        "bad_key_file",
        "key_file_missing",
        "key_file_mode",
        "key_file_exists",
        "bad_quantity",
        "unreadable_input",
        "bad_signing_key",
        "bad_paper_key",
    }
)


def first_error(error: BaseException) -> BaseException:
    """Return the first error inside nested groups: tasks fail together, one sentence is read."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def exit_code(error: GateliftError) -> Exit:
    """Return the exit code that an error ends with."""
    if isinstance(error, AdminRefusedError):
        return Exit.REFUSED
    if isinstance(error, InputError | EncodingError) or error.code in _UNREADABLE_CODES:
        return Exit.UNREADABLE
    if isinstance(error, PeerError):
        return Exit.PEER
    return Exit.REFUSED
