"""The one error of the beacon."""

from __future__ import annotations

from gatelift.errors import PeerError

__all__ = ["BeaconError"]


class BeaconError(PeerError):
    """It does not sign, or cannot run.

    Codes: `paused` (its people told it to be silent), `two_statuses` (another status of a number that
    it signed), `not_fetched` (the log or a body that it names cannot be had), `not_in_root` (its key
    is no beacon's of the root).
    """

    code = "not_fetched"
