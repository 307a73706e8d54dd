"""Preparing an erasure: whose records, whether they may go yet, and the lines that take their place.

    records of the requests logs ──select──> subject's records ──ripe?──> tombstone lines, by log
                                                                              └─> ErasedRange, signed

Invariants
- All or nothing: of a subject every record that is in a log is covered, by whole sessions; one exchange
  without its end, one window that still counts or one grant that still holds refuses the whole.
  So no sum by subject and no count by unit comes out otherwise than before.
- Lines stand in the order of the log; a record that an earlier erasure took is covered again only by one
  that supersedes it.
- The secret of the aliases is drawn for this one erasure and kept nowhere.

It erases nothing: what it writes holds no name. The keeper checks every line against its record before it
puts it in the record's place. `TombstoneLines` gives a dossier the same lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from gatelift.encoding import Digest, encode_json, sha256_digest
from gatelift.errors import CallerError
from gatelift.journal import StoredRecord
from gatelift.ledger.audit.folder import REQUESTS, origin_of
from gatelift.ledger.audit.log import CHECKPOINT
from gatelift.ledger.committed import CommittedBatches
from gatelift.ledger.logged import newest_grants
from gatelift.ledger.tiles_reader import TileLog
from gatelift.messages import (
    MAX_ERASED,
    Beat,
    ErasedLine,
    ErasedRange,
    Erasure,
    ErasureError,
    ErasureScope,
    Finish,
    Record,
    Renaming,
    Start,
    make_alias,
    parse_erased_line,
    record_leaf,
    redact,
    verify_redaction,
)
from gatelift.terms import Window, window_ms
from gatelift.tlog import parse_checkpoint, parse_note
from gatelift.watch import session_window_start_ms
from gatelift.wire.files import FileStore

__all__ = ["NotRipeError", "Prepared", "TombstoneLines", "check_ripe", "prepare_erasure"]

_LATE_MS: Final = 2_000
"""After a window's end: clocks of one node may differ so much."""


class NotRipeError(CallerError):
    """Records cannot be erased yet.

    Codes: `still_open`, `still_counted`, `still_admitted`, `nothing_to_erase`, `overlaps`, `too_many`.
    """

    code = "still_counted"


class Prepared(NamedTuple):
    """What an erasure would cover, the lines by digest, and the earlier ones that it supersedes."""

    covers: tuple[ErasedRange, ...]
    lines: dict[Digest, bytes]
    supersedes: tuple[str, ...]
    sessions: int


class _Placed(NamedTuple):
    origin: str
    batch: int
    i: int
    stored: StoredRecord


Select = Callable[[Start], bool]
"""Whether a start is of the subject; a session of which one start is, is meant whole."""


def window_end_of(counter: str, window: int) -> int | None:
    """Return when a counter's window is over, in ms UTC; null for one that never ends."""
    span = Window(counter.split(":", 2)[1].rpartition("/")[2])
    return None if span is Window.NONE else window + window_ms(span)


def prepare_erasure(
    directory: Path,
    root_name: str,
    *,
    erasure: str,
    scope: ErasureScope,
    select: Select,
    session_window_ms: int,
    secret: bytes,
    now_ms: int,
) -> Prepared:
    """Return what the erasure with the id `erasure` covers of the deployment in `directory`.

    `secret` makes the aliases: 32 fresh bytes. Raises `NotRipeError`, and the error of the layer that
    failed when logs and journals do not hold.
    """
    sessions = {
        each.stored.record.session
        for each in _records(directory, root_name)
        if isinstance(each.stored.record, Start) and select(each.stored.record)
    }
    mine = [each for each in _records(directory, root_name) if _session_of(each) in sessions]
    if not mine:
        raise NotRipeError(
            "no record of that subject is in a requests log here: nothing was prepared",
            code="nothing_to_erase",
        )
    check_ripe((each.stored.record for each in mine), scope, session_window_ms, now_ms)
    if scope is not ErasureScope.SESSIONS:
        _check_left(directory, (each.stored.record for each in mine), scope, now_ms)
    gone = {each.stored.gone.erasure for each in mine if each.stored.gone is not None}
    beside = (
        each
        for each in _records(directory, root_name)
        if each.stored.gone is not None and each.stored.gone.erasure in gone
    )
    if gone and any(_session_of(each) not in sessions for each in beside):
        raise NotRipeError(
            "an earlier erasure took some of these records together with others: name a subject that "
            "holds all of them, such as their organisation",
            code="overlaps",
        )
    lines = [_line(each, erasure, scope, secret) for each in mine]
    return _pack(lines, tuple(sorted(gone)), len(sessions))


def _check_left(
    directory: Path, records: Iterable[Record], scope: ErasureScope, now_ms: int
) -> None:
    # Counted under another name, a subject that goes on would have its first units counted again.
    kind = scope.value
    names = {getattr(record, kind) for record in records if isinstance(record, Start)}
    for grant in newest_grants(directory):
        if getattr(grant, kind) in names and now_ms < grant.not_after:
            raise NotRipeError(
                f"grant {grant.id} of that {kind} holds until {grant.not_after}: end it first "
                "(a grant of the same id that ends now), or erase single sessions",
                code="still_admitted",
            )


def _session_of(placed: _Placed) -> str:
    record = placed.stored.record
    return "" if isinstance(record, Beat) else record.session


def check_ripe(
    records: Iterable[Record], scope: ErasureScope, session_window_ms: int, now_ms: int
) -> None:
    """Return if these records, all of a subject, may be erased at `now_ms`; raises `NotRipeError`."""
    started: set[tuple[str, str, int]] = set()
    ended: set[tuple[str, str, int]] = set()
    until = 0
    for record in records:
        if isinstance(record, Start):
            started.add((record.worker, record.run, record.seq))
            until = max(until, session_window_start_ms(record.session) + session_window_ms)
            charges = record.reserved
        elif isinstance(record, Finish):
            # One that the keeper closed may stand before its start in the order of the logs.
            ended.add((record.of.worker, record.of.run, record.of.seq))
            charges = record.spent
        else:
            continue
        if scope is not ErasureScope.SESSIONS:
            ends = [window_end_of(charge.counter, charge.window) for charge in charges]
            until = max([until, *(end for end in ends if end is not None)])
    if started - ended:
        raise NotRipeError(
            f"{len(started - ended)} exchange(s) of that subject have not ended: wait for them, or stop them",
            code="still_open",
        )
    if now_ms < until + _LATE_MS:
        raise NotRipeError(
            f"a session or a cap's window of these records counts until {until}, now is {now_ms}: "
            f"prepare again after {until + _LATE_MS}"
        )


def _records(directory: Path, root_name: str) -> Iterator[_Placed]:
    batches = CommittedBatches(directory / "journal")
    folder = directory / "logs" / REQUESTS
    names = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    for name in sorted(names, key=lambda n: (n[:-8], n)):
        if not (folder / name / CHECKPOINT).exists():
            continue
        checkpoint = parse_checkpoint(parse_note((folder / name / CHECKPOINT).read_bytes()).text)
        origin = origin_of(root_name, name)
        for index, leaf in TileLog(folder / name, checkpoint).entries():
            batch = batches.find(leaf)
            if batch is None:
                raise ErasureError(
                    f"batch {index} of {origin} is in no journal here: restore it, then prepare again"
                )
            for i, stored in enumerate(batch.records):
                yield _Placed(origin, index, i, stored)


def _line(placed: _Placed, erasure: str, scope: ErasureScope, secret: bytes) -> ErasedLine:
    stored = placed.stored
    leaf = stored.gone.leaf if stored.gone else record_leaf(stored.salt, stored.data)
    left = redact(stored.record, scope, lambda kind, name: make_alias(kind, name, secret))
    return ErasedLine(
        log=placed.origin,
        batch=placed.batch,
        i=placed.i,
        leaf=Digest(f"sha256:{leaf.hex()}"),
        erasure=erasure,
        record=encode_json(left).decode("utf-8"),
    )


def _pack(lines: list[ErasedLine], gone: tuple[str, ...], sessions: int) -> Prepared:
    by_log: dict[str, list[ErasedLine]] = {}
    for line in lines:
        by_log.setdefault(line.log, []).append(line)
    covers: list[ErasedRange] = []
    files: dict[Digest, bytes] = {}
    for origin, mine in by_log.items():
        if len(mine) > MAX_ERASED:
            raise NotRipeError(
                f"{len(mine)} records of {origin}, at most {MAX_ERASED} can go in one erasure",
                code="too_many",
            )
        data = b"".join(encode_json(line) + b"\n" for line in mine)
        digest = sha256_digest(data)
        files[digest] = data
        covers.append(
            ErasedRange(
                origin=origin,
                first=mine[0].batch,
                last=mine[-1].batch,
                records=len(mine),
                tombstones=digest,
            )
        )
    return Prepared(tuple(covers), files, gone, sessions)


class TombstoneLines:
    """The lines of logged erasures, by place; of several for one record the newest counts."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, int, int], ErasedLine] = {}
        self._scopes: dict[str, ErasureScope] = {}
        self._renamings: dict[str, Renaming] = {}

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, erasure: Erasure, files: FileStore) -> None:
        """Take the lines of an erasure; raises `ErasureError` and `FileStoreError`."""
        for each in erasure.covers:
            data = files.get(each.tombstones)
            found = [parse_erased_line(line) for line in data.splitlines()]
            places = [(line.batch, line.i) for line in found]
            inside = places and each.first <= places[0][0] and places[-1][0] <= each.last
            if (
                len(found) != each.records
                or not inside
                or places != sorted(set(places))
                or any((line.log, line.erasure) != (each.origin, erasure.id) for line in found)
            ):
                raise ErasureError(
                    f"the lines of erasure {erasure.id[:60]} are not what it says that it covers of "
                    f"{each.origin[:120]}: nothing is erased by it"
                )
            self._lines |= {(line.log, line.batch, line.i): line for line in found}
        self._scopes[erasure.id] = erasure.scope
        self._renamings[erasure.id] = Renaming()

    def at(self, origin: str, batch: int, i: int) -> ErasedLine | None:
        """Return the line for a record's place, null where nothing was erased."""
        return self._lines.get((origin, batch, i))

    def replacing(self, origin: str, batch: int, i: int, stored: StoredRecord) -> ErasedLine | None:
        """Return the line that takes a record's place; null where none does, or may.

        A line that says something else than erasing leaves is not taken, as no keeper takes it.
        """
        line = self.at(origin, batch, i)
        if line is None or stored.gone is not None:
            return line
        leaf = record_leaf(stored.salt, stored.data)
        scope, renaming = self._scopes[line.erasure], self._renamings[line.erasure]
        try:
            verify_redaction(stored.record, line.record.encode("utf-8"), scope, renaming)
        except ErasureError:
            return None
        return line if line.raw_leaf == leaf else None

    def by_leaf(self) -> dict[bytes, ErasedLine]:
        """Return all lines by their leaf hash."""
        return {line.raw_leaf: line for line in self._lines.values()}
