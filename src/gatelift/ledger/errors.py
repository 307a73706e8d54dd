"""The one error of the ledger."""

from __future__ import annotations

from gatelift.errors import PeerError

__all__ = ["LedgerError"]


class LedgerError(PeerError):
    """A log is not what it was, or does not hold what was asked for.

    Codes: `rolled_back` (what was signed is ahead of what is stored, or differs from it),
    `corrupt` (stored bytes do not lead to the stored root), `checkpoint_corrupt` (the published one),
    `memory_corrupt`, `two_writers`, `two_roots` (`head_memory`), `moved` (the log grew since the
    caller read it), `bad_group` (entries that may not be appended), `not_logged`, `tile_missing`,
    `tile_corrupt`, `index_failed`, `witness_failed`, `witness_refused`, `keeper_running` (`fsck`),
    `no_deployment`. Of a log that is followed (`following`): `bad_log` (it shrank, lacks something or
    shows two histories), `went_back`, `stale_head`, `clock_behind`; of a status by it:
    `incomplete_status`, `superseded`, `objection_hidden`, `not_logged`.
    """

    code = "corrupt"
