"""Following the releases log as it stands in `logs/releases`, and never back.

A checkpoint is believed when the log and a quorum of witnesses signed it, its tiles lead to its
root, and it extends the largest one that this node has ever seen, which is kept on disk.

Invariants
- No entry is returned that is not under a verified checkpoint, and each is returned once.
- A log that shrank, changed its past or lacks an entry is an error, each time, until it is mended.
- A checkpoint is remembered durably before its entries are returned.
- Whether a checkpoint still is the newest is judged by how old its quorum's word is (`check_fresh`),
  on this host's clock; without a quorum there is nothing to judge. It fails closed.

It does not judge entries (`orders`) and writes nothing but `largest-checkpoint`.
"""

from __future__ import annotations

from pathlib import Path

from gatelift.errors import GateliftError
from gatelift.ledger.errors import LedgerError
from gatelift.ledger.tiles_reader import TileLog
from gatelift.tlog import Checkpoint, Policy, WitnessedCheckpoint, verify_witnessed
from gatelift.wire.files import replace_durably

__all__ = ["ReleasesFollower"]

_MAX_CHECKPOINT_BYTES = 64 * 1024
_CLOCK_SLACK_MS = 300_000


class ReleasesFollower:
    """Reads the releases log in `directory`; remembers the largest checkpoint in `memory`."""

    def __init__(self, directory: Path, memory: Path, policy: Policy) -> None:
        """Load what was remembered; raises `LedgerError` (`bad_log`) when that is damaged."""
        self._directory = directory
        self._memory = memory
        self._policy = policy
        self._read = 0
        self._largest: Checkpoint | None = None
        self._last_note = b""
        self._confirmed_at_ms: int | None = None
        if memory.exists():
            self._largest = self._verify(memory.read_bytes()).checkpoint

    def judge_by(self, policy: Policy) -> None:
        """Judge checkpoints by the policy of the next root from now on."""
        self._policy = policy

    @property
    def largest_size(self) -> int:
        """The size of the largest checkpoint ever seen, also before this process began."""
        return self._largest.size if self._largest else 0

    def read(self) -> list[bytes]:
        """Return the entries since the last call, under the checkpoint published now.

        Raises `LedgerError` (`bad_log`); nothing is taken then, and the next call tries again.
        """
        try:
            with (self._directory / "checkpoint").open("rb") as file:
                note = file.read(_MAX_CHECKPOINT_BYTES)
        except FileNotFoundError:
            if self._largest is not None:
                raise LedgerError("the releases log is gone: restore it", code="bad_log") from None
            return []
        return [] if note == self._last_note else self._advance(note, self._verify(note))

    def read_to(self, note: bytes) -> list[bytes]:
        """Return the entries not yet read up to the checkpoint in `note`, once that is verified.

        Raises `LedgerError` (`went_back`) when it is smaller than one that was seen.
        """
        if note == self._last_note:
            return []
        witnessed = self._verify(note)
        if witnessed.checkpoint.size < self.largest_size:
            raise LedgerError(
                f"a checkpoint of {witnessed.checkpoint.size} entries came after one of "
                f"{self.largest_size}",
                code="went_back",
            )
        return self._advance(note, witnessed)

    def check_fresh(self, now_ms: int, max_age_ms: int) -> None:
        """Return if a quorum confirmed the checkpoint read last within `max_age_ms`.

        Raises `LedgerError` (`stale_head`; `clock_behind` where this host's clock stands before
        the quorum's word: who cannot tell the time cannot tell what has expired).
        """
        at_ms = self._confirmed_at_ms
        if at_ms is None:
            return
        if at_ms > now_ms + _CLOCK_SLACK_MS:
            raise LedgerError(
                f"this host's clock stands {(at_ms - now_ms) // 1000} s before the time at which a "
                f"quorum of witnesses confirmed the head of {self.largest_size} entries, expected at "
                f"most {_CLOCK_SLACK_MS // 1000} s: set the clock right, nothing is served until then",
                code="clock_behind",
            )
        if at_ms < now_ms - max_age_ms:
            raise LedgerError(
                f"the head of {self.largest_size} entries was confirmed by a quorum of witnesses "
                f"{(now_ms - at_ms) // 1000} s ago, expected at most {max_age_ms // 1000} s: the log "
                "stands still or its witnesses are away. `gatelift status` says which, look there",
                code="stale_head",
            )

    def _verify(self, note: bytes) -> WitnessedCheckpoint:
        try:
            return verify_witnessed(note, self._policy)
        except GateliftError as error:
            raise LedgerError(f"the releases log's checkpoint: {error}", code="bad_log") from error

    def _advance(self, note: bytes, witnessed: WitnessedCheckpoint) -> list[bytes]:
        checkpoint = witnessed.checkpoint
        confirmed_at_s = witnessed.confirmed_at_s(self._policy)
        try:
            log = TileLog(self._directory, checkpoint)
            if self._largest is not None:
                log.verify_extends(self._largest)
            entries = [entry for _, entry in log.entries(self._read)]
        except (GateliftError, OSError) as error:
            raise LedgerError(f"the releases log: {error}", code="bad_log") from error
        if checkpoint.size > self.largest_size:
            replace_durably(self._memory, note)
        self._read, self._largest, self._last_note = checkpoint.size, checkpoint, note
        self._confirmed_at_ms = None if confirmed_at_s is None else confirmed_at_s * 1000
        return entries
