"""The largest head that a log ever signed, remembered in a file of its own outside the store.

A store that was restored from a backup does not know what was signed after the backup was taken.
This file does, as long as it was not restored with it: so it lies in `DIR/heads`, which no backup
of the store holds and which may be a link to a folder on another disk. A witness is the third
memory, for when the whole folder was restored.

    root computed from the entries --> this file, durably --> store or checkpoint --> anybody else

A requests log, which has no store, has its memory likewise: `DIR/heads/requests/<node>-<yyyy-mm>`.

Invariants
- A head is in the file, durably, before the store or the publication holds it, and anybody sees it.
- Compare and swap: before the file is replaced it is read again, and must be what this process
  wrote or read last, or tried to write when the disk failed. Who finds another head stops: somebody
  else signs under this name.
- A second root at a size is refused, and so is a smaller size.
- The note's own signature protects its bytes: a changed bit is an error, never a smaller head.
- One process holds the memory. A store moved away under a running process takes its lock along;
  this lock stays.

It does not compare heads with entries (`opening`, `requests`, `fsck`).
"""

from __future__ import annotations

from pathlib import Path

from gatelift.errors import CallerError
from gatelift.ledger.errors import LedgerError
from gatelift.store import StoreLock
from gatelift.tlog import Checkpoint, VerifierKey, verify_checkpoint
from gatelift.wire.files import make_directory, replace_durably

__all__ = ["HEADS", "HeadMemory", "read_remembered"]

HEADS = "heads"
"""The folder of the memories, beside `store` and `logs`."""


def read_remembered(path: Path, key: VerifierKey) -> tuple[bytes, Checkpoint] | None:
    """Return the remembered note and what it says, none if there is no such file.

    Raises `LedgerError` (`memory_corrupt`) for bytes that the log did not sign.
    """
    try:
        note = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return note, verify_checkpoint(note, key)
    except CallerError as error:
        raise LedgerError(
            f"expected in {path} the largest head that {key.name!r} ever signed, got bytes that it "
            f"did not sign ({error}): restore the file from a copy, or compare the store with a "
            "witness and remove the file",
            code="memory_corrupt",
        ) from error


class HeadMemory:
    """The memory in the file at `path`, locked; `key` is the log's own.

    Raises `StoreError` (`store_locked`) while another process signs, `LedgerError`
    (`memory_corrupt`).
    """

    __slots__ = ("_held", "_key", "_lock", "_path", "_tried")

    def __init__(self, path: Path, key: VerifierKey) -> None:
        make_directory(path.parent)
        self._path = path
        self._key = key
        self._tried: tuple[bytes, Checkpoint] | None = None
        self._lock = StoreLock(path.with_name(f"{path.name}.lock"), "signs the heads kept")
        try:
            self._held = read_remembered(path, key)
        except BaseException:
            self._lock.release()
            raise

    @property
    def largest(self) -> Checkpoint | None:
        """The largest head that was signed; none if none was, or the file is gone."""
        return None if self._held is None else self._held[1]

    @property
    def note(self) -> bytes | None:
        """The note of the largest head; none if there is none."""
        return None if self._held is None else self._held[0]

    def advance(self, note: bytes) -> None:
        """Remember `note`, signed by the log, as the largest; durable once this returns.

        Raises `LedgerError` (`two_writers`, `two_roots`) and `OSError`, after which the head must
        not be shown to anybody before a later call returned for it or a larger one.
        """
        new = verify_checkpoint(note, self._key)
        there = read_remembered(self._path, self._key)
        if there != self._held and (there is None or there != self._tried):
            raise LedgerError(
                f"{self._path} does not hold what this process left there: another process signs "
                f"as {new.origin!r}, or a backup was laid over it. Stop both, keep the larger head, "
                "then run `gatelift ledger fsck`",
                code="two_writers",
            )
        held = None if there is None else there[1]
        if held is not None and (new.size < held.size or self._is_fork(held, new)):
            raise LedgerError(
                f"refused to sign {new.origin!r} at size {new.size} with root {new.root.hex()}: it "
                f"was signed at size {held.size} with root {held.root.hex()}. The store is not the "
                "newest: restore the newest, then run `gatelift ledger fsck`",
                code="two_roots",
            )
        if held is not None and new == held and there == self._held:
            return
        self._tried = note, new
        replace_durably(self._path, note)
        self._held = note, new

    @staticmethod
    def _is_fork(held: Checkpoint, new: Checkpoint) -> bool:
        return new.size == held.size and new.root != held.root

    def close(self) -> None:
        """Give the lock back; a second call does nothing."""
        self._lock.release()
