"""What is asked of store, memory and publication before a releases log may be signed again.

    entries --recompute--> stored tree, stored heads
       |                      |-- their notes, as far as they may still be published
       |                      |-- the memory outside the store
       '----------------------'-- the published checkpoint

Invariants
- Nothing is signed, and only the memory is written: where it is younger than the log, or lost, it
  is given the store's largest head, which all it knew leads to.
- Each line by the log or a known witness verifies; a line that lost its name or key id is a
  stranger's to whoever reads it, so that the head is handed to that witness again.
- Each of the three may be behind the store, as a crash leaves them; none may be ahead of it.

Tiles are not looked at here: they are derived (`tile_files.differing_places`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gatelift.errors import CallerError
from gatelift.ledger.errors import LedgerError
from gatelift.ledger.head_memory import HeadMemory
from gatelift.ledger.recompute import recompute
from gatelift.ledger.tile_files import CHECKPOINT_NAME, read_checkpoint
from gatelift.store import Reader
from gatelift.tlog import (
    Checkpoint,
    VerifierKey,
    parse_note,
    root_at,
    verify_checkpoint,
    verify_cosignatures,
)

__all__ = ["HEADS_TRIED", "check_leads_to", "check_opening", "verify_note"]

HEADS_TRIED: Final = 32
"""How many of the newest heads may still be published."""


def check_opening(
    store: Reader,
    directory: Path,
    key: VerifierKey,
    memory: HeadMemory,
    witnesses: Sequence[VerifierKey],
) -> int:
    """Return the published size once everything agrees with the entries; raises `LedgerError`.

    Codes: `corrupt`, `rolled_back`, `checkpoint_corrupt`.
    """
    _, faults = recompute(store)
    if faults.kept:
        raise LedgerError(
            f"the store of {key.name!r} has {len(faults)} fault(s), and nothing was signed. The "
            f"first: {faults.kept[0]}. `gatelift ledger fsck` says all",
            code="corrupt",
        )
    _check_notes(store, key, witnesses)
    if memory.largest is not None:
        check_leads_to(store, memory.largest, "it is remembered outside the store")
    published = _check_published(store, directory, key)
    _bring_up(memory, store)
    return published


def check_leads_to(store: Reader, seen: Checkpoint, how: str) -> None:
    """Return if the entries in `store` lead to a head that was signed; raises `LedgerError`.

    `how` says how it is known. The stored tree is believed: it was computed again before.
    """
    size = store.size()
    if seen.size > size or root_at(store, seen.size) != seen.root:
        raise LedgerError(
            f"{seen.origin!r} was signed at size {seen.size} ({how}), but the store holds {size} "
            "entries that do not lead there: it was rolled back, and nothing was signed. Restore "
            "the newest store; if it is lost, begin a log under a new name "
            "(docs/how-to/restore-from-backup.md)",
            code="rolled_back",
        )


def verify_note(note: bytes, size: int, root: bytes, key: VerifierKey) -> None:
    """Return if `note` is the log's own head of this size and root; raises `CallerError`."""
    found = verify_checkpoint(note, key)
    if (found.size, found.root) != (size, root):
        raise CallerError(f"it says size {found.size} and root {found.root.hex()}")


def _check_notes(store: Reader, key: VerifierKey, witnesses: Sequence[VerifierKey]) -> None:
    head = store.checkpoint()
    for _ in range(HEADS_TRIED):
        if head is None:
            return
        try:
            verify_note(head.note, head.size, head.root, key)
            verify_cosignatures(parse_note(head.note), witnesses)
        except CallerError as error:
            raise LedgerError(
                f"expected at size {head.size} in the store a head that {key.name!r} signed, got "
                f"another ({error}): nothing was signed. Run `gatelift ledger fsck`",
                code="corrupt",
            ) from error
        head = store.checkpoint_below(head.size)


def _bring_up(memory: HeadMemory, store: Reader) -> None:
    largest, head = memory.largest, store.checkpoint()
    if head is not None and (largest is None or largest.size < head.size):
        memory.advance(head.note)


def _check_published(store: Reader, directory: Path, key: VerifierKey) -> int:
    note = read_checkpoint(directory)
    if note is None:
        return 0
    try:
        published = verify_checkpoint(note, key)
    except CallerError as error:
        raise LedgerError(
            f"expected {directory / CHECKPOINT_NAME} to be a head that {key.name!r} signed, it is "
            f"not ({error}): nothing was signed. Run `gatelift ledger fsck --repair`, which puts "
            "the stored head there",
            code="checkpoint_corrupt",
        ) from error
    check_leads_to(store, published, "it is published")
    return published.size
