"""Carrying out logged erasures on this node: journals and their copies on the second store.

    releases log ──Erasure──> lines (files/) ──> scan ──> each line against its record ──> overwrite
                 ──Hold─────> nothing that it covers is taken while it stands

Invariants
- Nothing is erased before the erasure is under a verified checkpoint: it is announced first.
- Nothing is erased that a hold covered when the erasure was logged, whoever logged it: fails closed.
- A line takes a record's place only if it is exactly what erasing leaves of that record. One that is not,
  or a window that still counts, keeps that whole erasure back, and no other; it is told in the log of
  this process.
- What was begun is completed at the next start, before any journal is read (`journal.erasing`), and each
  start looks for all that was ever erased: what comes back with an old copy is erased again.

Scanning runs beside everything else; only overwriting keeps the readers of journals waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, NamedTuple

from gatelift.encoding import Digest
from gatelift.errors import GateliftError
from gatelift.journal import (
    LocatedRecord,
    Patch,
    find_records,
    finish_overwrite,
    overwrite,
    patch_of,
)
from gatelift.keeper.errors import KeeperError
from gatelift.ledger.erasing import TombstoneLines, check_ripe
from gatelift.ledger.following.desk import Erasing, OrderDesk
from gatelift.messages import (
    SALT_BYTES,
    ErasedLine,
    Erasure,
    Finish,
    Hold,
    HoldLift,
    Renaming,
    Start,
    Tombstone,
    decode_record,
    encode_tombstone,
    holds_back,
    verify_redaction,
)
from gatelift.messages.frames import ClearFrame, OrderFrame
from gatelift.trust import Root
from gatelift.wire.files import FileStore

__all__ = ["Eraser", "MakeDesk"]

_LOG = logging.getLogger(__name__)
_RETRY_S: Final = 10.0
_LONGEST_RETRY_S: Final = 3600.0
_AT_ONCE: Final = 2048
"""Frames that are overwritten before who reads the journals has a turn again: 0.05 s."""

MakeDesk = Callable[
    [
        Callable[[OrderFrame | ClearFrame], None],
        Callable[[Erasing], None],
        Callable[[bytes], None],
        Callable[[Digest, Root], None],
    ],
    OrderDesk,
]
"""Makes the desk that follows the log, from its `on_new`, `on_erasing`, `on_own_grant`, `on_root`."""

Exclusive = Callable[[Callable[[], None]], Awaitable[None]]
"""Runs work while nobody reads the journals."""


class Eraser:
    """Holds what the log says of erasures and carries them out. `redo` is a folder on this host.

    `before_erasing` lets go of copies of what the journals hold.
    """

    def __init__(
        self,
        *,
        journals: Path,
        replica: Path | None,
        redo: Path,
        files: FileStore,
        exclusive: Exclusive,
        before_erasing: Callable[[], None],
    ) -> None:
        self._journals = journals
        self._replica = replica
        self._redo = redo / "erasing.redo"
        self._replica_redo = redo / "erasing-replica.redo"
        self._files = files
        self._exclusive = exclusive
        self._before_erasing = before_erasing
        self._erasures: dict[str, Erasure] = {}
        self._holds: dict[str, Hold] = {}
        self._news = asyncio.Event()

    def take(self, value: Erasing) -> None:
        """Take a statement of the releases log, in the order of the log."""
        match value:
            case Hold():
                self._holds[value.id] = value
            case HoldLift():
                self._holds.pop(value.id, None)
            case Erasure():
                held = [hold.id for hold in self._holds.values() if holds_back(hold, value)]
                if held or value.id in self._erasures:
                    _LOG.error(
                        "erasure %s is not carried out: hold %s stood on it, or its id is taken",
                        value.id[:60],
                        held[:1],
                    )
                    return
                self._erasures[value.id] = value
                self._news.set()

    def recover(self) -> None:
        """Complete what a crash interrupted; before anybody reads the journals.

        Raises `JournalError` and `OSError`.
        """
        if finish_overwrite(self._redo):
            _LOG.warning("an erasure that was interrupted is completed")

    async def run(self) -> None:
        """Carry out what is taken, until cancelled; what fails is told and tried again, ever later."""
        wait_s = _RETRY_S
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self._carry_out()
                wait_s = _RETRY_S
            except (GateliftError, OSError) as error:
                _LOG.error("erasing is not complete: %s", error)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._news.wait()
                self._news.set()
                wait_s = min(2 * wait_s, _LONGEST_RETRY_S)

    async def _carry_out(self) -> None:
        erasures = dict(self._erasures)
        work = await asyncio.to_thread(_plan, self._journals, erasures, self._files)
        if work.patches:
            await self._exclusive(self._before_erasing)
        for first in range(0, len(work.patches), _AT_ONCE):
            part = work.patches[first : first + _AT_ONCE]
            await self._exclusive(functools.partial(overwrite, self._redo, part))
        if work.patches:
            _LOG.warning("%d records were erased from the journals", len(work.patches))
        if self._replica is not None:
            await asyncio.to_thread(self._erase_replica, self._replica, erasures)
        if work.kept_back:
            raise KeeperError("; ".join(work.kept_back.values()), code="kept_back")

    def _erase_replica(self, replica: Path, erasures: dict[str, Erasure]) -> None:
        # Nobody reads it while this node runs.
        finish_overwrite(self._replica_redo)
        work = _plan(replica, erasures, self._files)
        if work.patches:
            overwrite(self._replica_redo, work.patches)


class _Work(NamedTuple):
    """What is to be overwritten, and by id why an erasure is kept back as a whole."""

    patches: list[Patch]
    kept_back: dict[str, str]


def _plan(directory: Path, erasures: dict[str, Erasure], files: FileStore) -> _Work:
    """Return what is to be done below `directory`; one erasure that does not hold stops no other."""
    lines, kept_back = TombstoneLines(), dict[str, str]()
    for name, erasure in erasures.items():
        try:
            lines.add(erasure, files)
        except GateliftError as error:
            kept_back[name] = str(error)
    by_leaf = lines.by_leaf()
    now_ms = time.time_ns() // 1_000_000
    by_erasure: dict[str, list[ErasedLine]] = {}
    for line in by_leaf.values():
        by_erasure.setdefault(line.erasure, []).append(line)
    for name, mine in by_erasure.items():
        try:
            records = [decode_record(line.record.encode("utf-8")) for line in mine]
            # Whole sessions are for who prepares; that no cap is loosened is for us.
            check_ripe(records, erasures[name].scope, 0, now_ms)
        except GateliftError as error:
            kept_back[name] = str(error)
    renamings = {name: Renaming() for name in erasures}
    patches: dict[str, list[Patch]] = {}
    for found in find_records(directory, by_leaf):
        line = by_leaf[found.leaf]
        is_done = found.gone is not None and found.gone.erasure == line.erasure
        if is_done or line.erasure in kept_back:
            continue
        try:
            patch = _patch(found, line, erasures, renamings)
        except GateliftError as error:
            kept_back[line.erasure] = str(error)
        else:
            patches.setdefault(line.erasure, []).append(patch)
    done = [each for name, mine in patches.items() if name not in kept_back for each in mine]
    return _Work(done, kept_back)


def _patch(
    found: LocatedRecord,
    line: ErasedLine,
    erasures: dict[str, Erasure],
    renamings: dict[str, Renaming],
) -> Patch:
    stored = found.payload[SALT_BYTES:] if found.gone is None else found.gone.record
    record, left = decode_record(stored), line.record.encode("utf-8")
    if not isinstance(record, Start | Finish):
        raise KeeperError("an erasure names a beat, which is about nobody", code="bad_erasure")
    verify_redaction(record, left, erasures[line.erasure].scope, renamings[line.erasure])
    tombstone = Tombstone(found.leaf, line.erasure, left)
    return patch_of(found, encode_tombstone(tombstone, len(found.payload)))
