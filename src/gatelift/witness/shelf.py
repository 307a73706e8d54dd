"""The witness's memory on disk: the last checkpoint of each log, and evidence against logs.

    DIR/lock                                      held while a witness runs
    DIR/checkpoints/<sha256 of origin>            the last note we cosigned, with our cosignature
    DIR/forks/<sha256 of origin>/<kind>-<size>-<digest>.note

Invariants
- One process holds the directory; a second one refuses to start.
- A file is replaced whole: written beside, synced, renamed, and the folder synced, before
  `keep_head` returns. After a crash the old or the new one is there, never a part.
- What is loaded at start was cosigned by our own key and signed by the log; anything else stops
  the start, because a witness that forgot might cosign a fork.
- An error of the disk is never retried: what is on disk is unknown then, so the witness must stop
  and read again at its next start.
- Evidence is bounded in number for each log, and only checkpoints that the log signed get here.

Not here: what is accepted (`decision`). A directory restored from a backup makes the witness forget,
which nothing here can notice: give a restored witness a new key.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import msgspec

from gatelift.errors import GateliftError, PeerError
from gatelift.tlog import (
    Checkpoint,
    Note,
    VerifierKey,
    format_note,
    origin_id,
    parse_note,
    verify_cosignatures,
    verify_log_signature,
)
from gatelift.witness.decision import Evidence

__all__ = ["MAX_EVIDENCE_FILES", "CosignedHead", "Shelf", "ShelfError", "read_evidence"]

MAX_EVIDENCE_FILES = 1000
_PART_SUFFIX = ".part"


class ShelfError(PeerError):
    """The witness's directory is in use, damaged, or the disk failed."""

    code = "witness_disk"


class CosignedHead(msgspec.Struct, frozen=True, kw_only=True):
    """The last checkpoint of a log that we cosigned, as it is on disk."""

    checkpoint: Checkpoint
    note: bytes
    time_s: int


class Shelf:
    """The directory, locked; close it to let another process have it."""

    def __init__(self, folder: Path) -> None:
        self._heads = folder / "checkpoints"
        self._forks = folder / "forks"
        try:
            for each in (folder, self._heads, self._forks):
                each.mkdir(mode=0o700, parents=True, exist_ok=True)
                _sync_folder(each.parent)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ShelfError(f"cannot use the witness directory: {error}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise ShelfError(
                f"expected {folder} to be free, another witness holds it: stop that one first",
                code="witness_running",
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the directory."""
        os.close(self._lock)

    def load_heads(
        self, *, log_keys: Mapping[str, Sequence[VerifierKey]], own_key: VerifierKey
    ) -> dict[str, CosignedHead]:
        """Return the last cosigned head of each known origin that has one, verified again."""
        heads = {}
        for origin, keys in log_keys.items():
            path = self._heads / origin_id(origin)
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise ShelfError(f"cannot read {path}: {error}") from error
            heads[origin] = _verify_head(path, data, origin, keys, own_key)
        return heads

    def keep_head(self, head: CosignedHead) -> None:
        """Make `head` durable in place of the last one of its origin."""
        self._replace(self._heads / origin_id(head.checkpoint.origin), head.note)

    def keep_evidence(self, kind: Evidence, checkpoint: Checkpoint, note: Note) -> bool:
        """Keep a note that the log signed; say whether there was room for it."""
        path = self._evidence_path(kind, checkpoint, note)
        folder = path.parent
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            _sync_folder(self._forks)
            if path.exists():
                return True
            kept = sum(path.name.startswith(f"{kind}-") for path in folder.iterdir())
        except OSError as error:
            raise ShelfError(f"cannot keep evidence in {folder}: {error}") from error
        if kept >= MAX_EVIDENCE_FILES:
            return False
        self._replace(path, format_note(note))
        return True

    def evidence(self, origin: str) -> dict[str, bytes]:
        """Return the notes kept against the log `origin`, by file name."""
        return read_evidence(self._forks, origin)

    def drop_unproven(self, checkpoint: Checkpoint, note: Note) -> None:
        """Forget that this checkpoint was unproven, now that it was proved consistent."""
        try:
            self._evidence_path("unproven", checkpoint, note).unlink(missing_ok=True)
        except OSError as error:
            raise ShelfError(f"cannot drop settled evidence: {error}") from error

    def _evidence_path(self, kind: Evidence, checkpoint: Checkpoint, note: Note) -> Path:
        digest = hashlib.sha256(note.text).hexdigest()[:32]
        return (
            self._forks / origin_id(checkpoint.origin) / f"{kind}-{checkpoint.size}-{digest}.note"
        )

    def _replace(self, path: Path, data: bytes) -> None:
        part = path.with_name(path.name + _PART_SUFFIX)
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            _sync_folder(path.parent)
        except OSError as error:
            raise ShelfError(
                f"cannot make {path.name} durable, stop and look at the disk: {error}"
            ) from error


def read_evidence(forks: Path, origin: str) -> dict[str, bytes]:
    """Return the notes kept in the folder `forks` against the log `origin`, by file name.

    It takes no lock: a file there is whole, or gone because its head was proved meanwhile.
    """
    folder = forks / origin_id(origin)
    found: dict[str, bytes] = {}
    try:
        for path in sorted(folder.glob("*.note")):
            with suppress(FileNotFoundError):
                found[path.name] = path.read_bytes()
    except OSError as error:
        raise ShelfError(f"cannot read evidence in {folder}: {error}") from error
    return found


def _verify_head(
    path: Path, data: bytes, origin: str, keys: Sequence[VerifierKey], own_key: VerifierKey
) -> CosignedHead:
    try:
        note = parse_note(data)
        checkpoint, _ = verify_log_signature(note, keys)
        cosignatures = verify_cosignatures(note, [own_key])
    except GateliftError as error:
        raise ShelfError(
            f"{path} is not a checkpoint of {origin!r} that we cosigned: {error}. "
            "Restore the file, or start anew with a new key",
            code="witness_state",
        ) from error
    if checkpoint.origin != origin or not cosignatures:
        raise ShelfError(
            f"expected {path} to hold our own cosignature for {origin!r}, found none. "
            "Restore the file, or start anew with a new key",
            code="witness_state",
        )
    return CosignedHead(checkpoint=checkpoint, note=data, time_s=cosignatures[0].time_s)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
