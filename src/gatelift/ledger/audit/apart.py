"""Verifying records beside counting them: two processes, one reading of the files.

    this process   reads a piece ── hands its bytes over ── decodes it, counts it
    the other one                    opens every line, hashes, compares roots

Invariants
- The very bytes that are counted here are verified there; a file is read once.
- What is counted here stands only if the other one found nothing at all and ended well. Otherwise it is
  thrown away and everything is done again in one process, which then says what is wrong.
- The other process gets no path and no name of a file: it is handed bytes, and answers with a number.
- It is started without the current folder on its path: nothing that lies beside a dossier is run.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import IO, Final

import msgspec

from gatelift.errors import CallerError
from gatelift.ledger.audit.folder import RECORDS, Folder
from gatelift.ledger.audit.record_lines import RecordLines, decode_plainly
from gatelift.ledger.audit.report import Findings
from gatelift.ledger.audit.requests import Batch, RequestsLog, node_of, open_batches
from gatelift.messages import Record, RecordError, decode_batch_entry
from gatelift.tlog import MAX_ENTRY_BYTES

__all__ = ["ApartError", "main", "read_beside", "seldom_collect", "worth_it"]

_LEAST_BYTES: Final = 32 * 1024 * 1024
"""Below this, starting a process takes longer than it saves."""
_MOST_RECORDS: Final = 1_000_000
"""Of one batch: more are left to the careful way, which holds no more than it needs."""
_START: Final = "from gatelift.ledger.audit.apart import main; main()"
_WAIT_S: Final = 600
_PIPE_BYTES: Final = 1 << 20
_COLLECT_AFTER: Final = 200_000


class ApartError(CallerError):
    """The records could not be verified beside counting them: do it in one process."""

    code = "not_apart"


class _Asked(msgspec.Struct, frozen=True):
    """What the other process is told of a log: its name, its origin, and how many entries follow."""

    name: str
    origin: str
    entries: int


class _Answer(msgspec.Struct, frozen=True):
    errors: int
    records: int


def worth_it(folder: Folder, logs: tuple[RequestsLog, ...]) -> bool:
    """Return whether there is enough to do for two, and a second core to do it on."""
    if _cores() < 2 or not sys.executable:
        return False
    total = 0
    for held in logs:
        try:
            with folder.opened(f"{RECORDS}/{held.name}.jsonl") as (_, size):
                total += size
        except CallerError:
            return False
    return total >= _LEAST_BYTES


def seldom_collect() -> None:
    """Let the collector of this process look seldom: records lead back to nothing, and are millions.

    For who runs one audit and ends; it changes the whole process.
    """
    gc.set_threshold(_COLLECT_AFTER, 10, 10)


def _cores() -> int:
    # What this process may use, which may be less than what there is.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def read_beside(folder: Folder, logs: tuple[RequestsLog, ...]) -> Iterator[Batch]:
    """Yield all batches as they are written; raises `ApartError` unless every one was verified.

    The error may come after the last batch: what was made of them must then be thrown away.
    """
    words = [sys.executable, "-P", "-c", _START]
    pipe = subprocess.PIPE
    try:
        with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as other:
            try:
                yield from _read_all(folder, logs, other)
            finally:
                other.kill()
    except (CallerError, msgspec.MsgspecError, UnicodeError, OSError) as error:
        raise ApartError(f"not verified apart: {error}") from error


def _read_all(
    folder: Folder, logs: tuple[RequestsLog, ...], other: subprocess.Popen[bytes]
) -> Iterator[Batch]:
    if other.stdin is None or other.stdout is None:
        raise ApartError("the other process has no pipes")
    _widen(other.stdin)
    records = 0
    for held in logs:
        for batch in _read_log(folder, held, other.stdin):
            records += len(batch.records)
            yield batch
    other.stdin.close()
    answer = msgspec.json.decode(other.stdout.read(), type=_Answer)
    if other.wait(_WAIT_S) or answer != _Answer(0, records):
        raise ApartError(f"the other process found {answer.errors} errors")


def _read_log(folder: Folder, held: RequestsLog, pipe: IO[bytes]) -> Iterator[Batch]:
    entries = held.log.entries
    asked = _Asked(held.name, held.log.origin, len(entries))
    _send(pipe, msgspec.json.encode(asked))
    for leaf in entries:
        _send(pipe, leaf)
    waiting: list[Record] = []
    at = 0
    pieces = folder.pieces(f"{RECORDS}/{held.name}.jsonl")
    for index, leaf in enumerate(entries):
        entry = decode_batch_entry(leaf)
        if not 1 <= entry.n <= _MOST_RECORDS:
            raise ApartError(f"a batch of {entry.n} records")
        while len(waiting) - at < entry.n:
            piece = next(pieces, None)
            if piece is None:
                raise ApartError("records are missing")
            _send(pipe, piece)
            waiting, at = waiting[at:] + decode_plainly(piece), 0
        records = tuple(waiting[at : at + entry.n])
        at += entry.n
        yield Batch(held.log.origin, index, held.log.place(index), entry, records)
    for piece in pieces:
        _send(pipe, piece)
    _send(pipe, b"")


def _widen(pipe: IO[bytes]) -> None:
    """Let the pipe hold a whole piece, where the system has a word for that: fewer waits for a turn."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _send(pipe: IO[bytes], data: bytes) -> None:
    pipe.write(len(data).to_bytes(4, "big"))
    pipe.write(data)


def _receive(pipe: IO[bytes]) -> bytes:
    size = int.from_bytes(pipe.read(4), "big")
    data = pipe.read(size)
    if len(data) != size:
        raise RecordError("the pipe ended in the middle")
    return data


def main() -> None:
    """Verify what comes on standard input, and write how many errors and records there were."""
    seldom_collect()
    pipe = sys.stdin.buffer
    findings = Findings()
    records = 0
    while head := pipe.read(4):
        asked = msgspec.json.decode(pipe.read(int.from_bytes(head, "big")), type=_Asked)
        entries = tuple(_receive(pipe)[:MAX_ENTRY_BYTES] for _ in range(asked.entries))
        pieces = iter(lambda: _receive(pipe), b"")
        lines = RecordLines(pieces, asked.name, asked.origin, findings)
        for batch in open_batches(
            entries, lambda index: f"#{index}", node_of(asked.name), asked.origin, lines
        ):
            records += len(batch.records)
        for _ in pieces:  # what a reader that fell over left
            findings.error("unreadable", asked.name, "not read to its end")
    sys.stdout.buffer.write(msgspec.json.encode(_Answer(findings.errors, records)))
