"""What goes wrong on the way to a placement or back, and what the caller is told of it.

Invariants
- Every error has a code of its own for the record; the caller reads one of four: `no_placement`,
  `upstream_busy`, `upstream_timeout`, `upstream_failed`.
- Nothing that an upstream said of itself is passed on.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from gatelift.errors import GateliftError, PeerError
from gatelift.wire.http_client import UpstreamError

__all__ = ["PlacementError", "StoppedError", "Told", "told_of"]


class PlacementError(PeerError):
    """No placement took the exchange. Codes: `no_placement`, `upstream_busy`, `upstream_failed`.

    `retry_after_s` is when to come again, null where that is unknown; `retry` is false where the
    same request would fail again.
    """

    code = "no_placement"

    def __init__(
        self, message: str, *, code: str, retry_after_s: int | None = None, retry: bool = True
    ) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s
        self.retry = retry


class StoppedError(GateliftError):
    """The exchange was no longer permitted when it was judged again; nothing was sent."""

    code = "stopped"


class Told(NamedTuple):
    """What a caller reads of a failure upstream: a code of `CODES`, and when to come again."""

    code: str
    message: str
    retry_after_s: int | None = None
    retry: bool = True


_TOLD: Final[dict[str, Told]] = {
    **dict.fromkeys(
        ("timeout_connect", "timeout_write", "timeout_first_byte", "timeout_idle", "timeout_total"),
        Told("upstream_timeout", "the model server did not answer in time"),
    ),
    **dict.fromkeys(
        ("timeout_pool", "too_many_connections"),
        Told("upstream_busy", "all connections to the model server are in use"),
    ),
}
_FAILED: Final = Told("upstream_failed", "the model server failed or answered out of its contract")


def told_of(error: GateliftError) -> Told:
    """Return what the caller is told of an error on the way to or from a placement."""
    if isinstance(error, PlacementError):
        return Told(error.code, str(error), error.retry_after_s, error.retry)
    return _TOLD.get(error.code, _FAILED) if isinstance(error, UpstreamError) else _FAILED
