"""What a keeper has folded, kept in a file, so that a restart folds only what came after it.

    publish ──> SavedFold ──signed──> run/folded        next start: the fold from there, or from the beginning

Invariants
- It is believed only if this node's batch key signed it, the node's logs lead to every head that it
  names, and it counts under every plan that is counted now. Otherwise, and where its windows are ahead of
  the clock, all is folded from the journals: the file may be lost at any time.
- It is written only while all that was folded is published, so it says how far it goes by heads alone.
- Who was erased stands in it no longer: before a record is overwritten it is deleted, and this process
  makes none again, as it holds what it read.

Its form is this version's own: `VERSION` is raised whenever the same records would be folded otherwise.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from gatelift.encoding import Digest, encode_json
from gatelift.errors import CallerError
from gatelift.keeper.charges import SavedCharges
from gatelift.tlog import SIGNATURE_BYTES, verify_ed25519
from gatelift.trust import SigningKey
from gatelift.watch import SavedCounter
from gatelift.wire.files import replace_durably

__all__ = ["VERSION", "FoldFile", "SavedFold", "SavedLog", "SavedPlace"]

VERSION: Final = 1
_LOG = logging.getLogger(__name__)
_DOMAIN: Final = b"gatelift/folded/v1\n"
_EACH_S: Final = 60.0
_SHARE: Final = 0.005
"""Of the thread's time: what takes a second to write is written each 200 s."""


class SavedLog(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A requests log up to which all was folded; `root` in hex digits."""

    month: str
    size: int
    root: str


class SavedPlace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where reading a run's journal goes on."""

    worker: str
    run: str
    segment: int
    offset: int
    next_seq: int


class SavedFold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that was folded from the journals of `node`; `counters` by the digest of their plan."""

    v: int
    node: str
    logs: tuple[SavedLog, ...]
    places: tuple[SavedPlace, ...]
    charges: SavedCharges
    counters: dict[Digest, SavedCounter]


class FoldFile:
    """The file at `path`, signed by the node's batch key."""

    def __init__(self, path: Path, key: SigningKey) -> None:
        self._path = path
        self._key = key
        self._due_s = time.monotonic() + _EACH_S
        self._ended = False

    def load(self) -> SavedFold | None:
        """Return what was saved, null if there is nothing that may be believed."""
        try:
            stored = self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            _LOG.warning("%s cannot be read, all is folded again: %s", self._path.name, error)
            return None
        signature, data = stored[:SIGNATURE_BYTES], stored[SIGNATURE_BYTES:]
        try:
            verify_ed25519(self._key.public, signature, _DOMAIN + data)
            # Our own bytes, as the signature says, and many: read at once, not in canonical form only.
            found = msgspec.json.decode(data, type=SavedFold)
        except (CallerError, msgspec.DecodeError, UnicodeDecodeError) as error:
            _LOG.warning("%s is not believed, all is folded again: %s", self._path.name, error)
            return None
        return found if found.v == VERSION else None

    def save_if_due(self, make: Callable[[], SavedFold | None], *, now: bool = False) -> None:
        """Keep what `make` returns, durably, if it is time or asked for `now`; tells what fails."""
        began_s = time.monotonic()
        if self._ended or (began_s < self._due_s and not now):
            return
        value = make()
        if value is None:
            return
        data = encode_json(value)
        try:
            replace_durably(self._path, self._key.sign(_DOMAIN + data) + data, mode=0o600)
        except OSError as error:
            _LOG.warning("%s was not written: %s", self._path.name, error)
        took_s = time.monotonic() - began_s
        self._due_s = began_s + max(_EACH_S, took_s / _SHARE)

    def end(self) -> None:
        """Delete the file and make none again; raises `OSError`."""
        self._ended = True
        self._path.unlink(missing_ok=True)
