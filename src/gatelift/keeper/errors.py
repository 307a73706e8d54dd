"""The errors of the keeper."""

from __future__ import annotations

from gatelift.errors import PeerError

__all__ = ["KeeperError"]


class KeeperError(PeerError):
    """A worker, a journal, a log or control broke its contract; the keeper closes, never guesses.

    Codes: `bad_lease` (a frame about leases that no correct worker sends), `bad_journal` (a batch
    that does not follow from its records or its signature), `bad_deployment` (a key or file that
    should be there is not).
    """

    code = "keeper"
