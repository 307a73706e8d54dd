"""The one error of the journal, and how it is told."""

from __future__ import annotations

from gatelift.errors import PeerError

__all__ = ["JournalError", "write_failed"]


class JournalError(PeerError):
    """The disk, or what stands on it, did not keep the journal's contract.

    Codes: `journal_failed` (writing or syncing failed; nothing was acknowledged), `journal_full`
    (the disk is slower than the traffic), `journal_locked` (another process writes this journal),
    `journal_run_used`,
    `journal_closed`, `journal_corrupt` (bytes that no crash explains), `journal_not_durable` (a
    ticket was asked for before its record was on disk).
    """

    code = "journal_failed"


def write_failed(error: Exception) -> JournalError:
    """Return what is told of a write or sync that failed."""
    return JournalError(
        f"the journal could not be written: {error}. Nothing was acknowledged; "
        "free or mend the disk, writing goes on in a new segment"
    )
