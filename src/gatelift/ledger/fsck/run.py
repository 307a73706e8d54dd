"""`fsck`: hold everything still, compute all logs again, say what differs.

Invariants
- Nothing is read while control or the keeper runs, and neither can begin while it is read: their
  locks are held.
- Nothing is ever signed, and no key is opened. Without `repair` nothing is written.
- `repair` writes only bytes that follow from what was signed and is whole: published tiles, bundles
  and checkpoints, bodies of which a copy lies beside, and in the store entries that the published
  log still has, with their hashes. Heads in the store, the memory of heads and journals are never
  written.
- A check that cannot go on says so as a fault and does not stop the others.

Workers may run: they write journals only, which grow at their end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gatelift.journal import JournalError, keep_still
from gatelift.ledger.errors import LedgerError
from gatelift.ledger.fsck.releases_log import ReleasesCheck
from gatelift.ledger.fsck.report import Checkup, FsckReport
from gatelift.ledger.fsck.requests_logs import RequestsCheck
from gatelift.ledger.head_memory import HEADS
from gatelift.store import Store, StoreLock

__all__ = ["fsck"]

_KEEPER = "keeper"


def fsck(directory: Path, *, repair: bool = False) -> FsckReport:
    """Check the logs of the deployment in `directory`, and mend what can be derived if `repair`.

    Raises `StoreError` (`store_locked`, `store_missing`) and `LedgerError` (`keeper_running`).
    """
    checkup = Checkup(repair=repair)
    with _still(directory, read_only=not repair) as store:
        releases = ReleasesCheck(directory, store, checkup)
        releases.run()
        RequestsCheck(directory, releases.roots, releases.anchored, checkup).run()
    return checkup.report()


@contextmanager
def _still(directory: Path, *, read_only: bool) -> Iterator[Store]:
    store = Store.inspect(directory / "store", read_only=read_only)
    memory: StoreLock | None = None
    try:
        if (directory / HEADS).is_dir():
            memory = StoreLock(directory / HEADS / "releases.lock", "signs the heads kept")
        try:
            with keep_still(directory / "journal" / _KEEPER):
                yield store
        except JournalError as error:
            if error.code != "journal_locked":
                raise
            raise LedgerError(
                f"the keeper of {directory} runs and writes the requests log: stop it first",
                code="keeper_running",
            ) from error
    finally:
        if memory is not None:
            memory.release()
        store.close()
