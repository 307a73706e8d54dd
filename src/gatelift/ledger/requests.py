"""A node's requests log for one month: commit batches as leaves, kept in nothing but its tiles.

    append, append, ... --commit--> tiles --> signed checkpoint
    in memory only                  durable    and from here on what the log says

Invariants
- After `commit` the entries, tiles, memory and checkpoint are durable, in this order. A head is signed over
  leaf hashes of the very bytes that lie in the bundles.
- An entry that was appended before is not appended again: `append` returns its index. So whoever
  reads journals again after a crash loses nothing and repeats nothing.
- After a crash the log is what its checkpoint says, or the memory where it is ahead by the commit
  that was interrupted; tiles beyond it are removed. What was appended and not committed comes again
  from the journals, which are the source.
- A log whose files do not lead to the remembered head is not opened (`rolled_back`): journals would
  fill it up in another order, under heads of the same sizes.
- The part that is read back at opening is checked against the signed root (`TileLog`).
- Memory holds the right edge only: no more than a tile a level, and what waits for a commit.

It does not read journals, does not keep the interval (the keeper commits at least twice a second)
and knows nothing of months but its origin's name.

Follows C2SP tlog-tiles.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from gatelift.encoding import Digest, parse_digest
from gatelift.errors import CallerError
from gatelift.ledger.entry_index import EntryIndex
from gatelift.ledger.errors import LedgerError
from gatelift.ledger.head_memory import HeadMemory
from gatelift.ledger.tile_files import (
    drop_partials,
    drop_unpublished,
    places_for_growth,
    publish_checkpoint,
    read_checkpoint,
    write_tiles,
)
from gatelift.ledger.tiles_reader import TileLog
from gatelift.tlog import (
    EMPTY_FRONTIER,
    EMPTY_ROOT,
    MAX_ENTRY_BYTES,
    TILE_HEIGHT,
    TILE_WIDTH,
    Checkpoint,
    Frontier,
    NoteSigner,
    TlogProof,
    consistency_proof,
    leaf_hash,
    root_at,
    sign_checkpoint,
    verify_checkpoint,
)
from gatelift.wire.files import make_directory

__all__ = ["RequestsLog"]

_INDEX_NAME = ".index.sqlite"
_INDEXED_AT_ONCE = 4096


class _Edge:
    """The newest values of a growing list, from `base` on: the rest lies in full tiles."""

    __slots__ = ("base", "values")

    def __init__(self, base: int, values: list[bytes]) -> None:
        self.base = base
        self.values = values

    def slice(self, first: int, stop: int) -> list[bytes]:
        return self.values[first - self.base : stop - self.base]

    def trim(self) -> None:
        # What lies in full tiles is not needed again to write the next ones.
        full = (self.base + len(self.values)) // TILE_WIDTH * TILE_WIDTH
        if full > self.base:
            del self.values[: full - self.base]
            self.base = full


class RequestsLog:
    """The log in `directory`, opened or begun; `signer` is named as its origin.

    `memory` holds the largest head that it signed, and is closed with the log; without one only
    anchored heads tell an old copy from the newest. Used by one thread of one process. Raises
    `LedgerError` if the files do not lead to the checkpoint that was signed.
    """

    def __init__(
        self, directory: Path, signer: NoteSigner, memory: HeadMemory | None = None
    ) -> None:
        self._directory = directory
        self._signer = signer
        self._memory = memory
        make_directory(directory)
        note = read_checkpoint(directory)
        if memory is not None:
            note = _newest(directory, note, memory, signer)
        if note is None:
            self._head = Checkpoint(origin=signer.name, size=0, root=EMPTY_ROOT)
        else:
            self._head = verify_checkpoint(note, signer.key)
        self._note = note
        drop_unpublished(directory, self._head.size)
        self._log = TileLog(directory, self._head)
        self._frontier = self._read_frontier()
        self._entries, self._rows = self._read_edges()
        self._waiting: dict[bytes, int] = {}
        self._index = EntryIndex(directory / _INDEX_NAME)
        self._catch_up_index()

    @property
    def origin(self) -> str:
        """The log's name."""
        return self._signer.name

    @property
    def size(self) -> int:
        """How many entries there are, those that wait for a commit included."""
        return self._frontier.size

    @property
    def head(self) -> Checkpoint:
        """The last committed head; of size 0 before the first commit."""
        return self._head

    @property
    def note(self) -> bytes | None:
        """The note of the last committed head; None before the first commit."""
        return self._note

    def root_at(self, size: int) -> str | None:
        """Return the root over the first `size` entries in hex, null past the last committed head."""
        return root_at(self._log, size).hex() if 0 <= size <= self._head.size else None

    def append(self, entry: bytes) -> int:
        """Add an entry and return its index, or the index that it has already.

        It is durable after the next `commit`, not before.
        """
        return next(self.append_each([entry]))

    def append_each(self, entries: Sequence[bytes]) -> Iterator[int]:
        """Yield the index of each entry, which is added, as by `append`, when its turn comes.

        So the index on disk is asked once for all, and each may be verified just before its turn.
        """
        digests = [hashlib.sha256(entry).digest() for entry in entries]
        known = self._index.find_all(digests)
        for digest, entry in zip(digests, entries, strict=True):
            index = known.get(digest)
            if index is None:
                index = self._waiting.get(digest)
            yield self._add(digest, entry) if index is None else index

    def commit(self) -> bytes | None:
        """Make all entries durable and sign the head over them; None if nothing was added.

        After an `OSError` nothing was signed and the same call may be tried again.
        """
        size = self._frontier.size
        if size == self._head.size:
            return None
        places = places_for_growth(self._head.size, size)
        write_tiles(self._directory, places, self._hashes, self._entries.slice)
        head = Checkpoint(origin=self.origin, size=size, root=self._frontier.root())
        log = TileLog(self._directory, head)  # reads back what is about to be signed
        note = sign_checkpoint(head, self._signer)
        if self._memory is not None:
            self._memory.advance(note)
        publish_checkpoint(self._directory, note)
        self._index.add(self._head.size, self._waiting)
        self._head, self._note, self._log = head, note, log
        self._waiting.clear()
        for edge in (self._entries, *self._rows):
            edge.trim()
        drop_partials(self._directory, places)
        return note

    def index_of(self, digest: Digest) -> int | None:
        """Return the index of the entry with this digest, committed or not; None if unknown."""
        return self._find(_raw(digest))

    def proof(self, digest: Digest) -> TlogProof | None:
        """Return the proof of the entry with this digest at the last committed head.

        None if the entry is unknown or not committed yet (`index_of` tells which).
        """
        index = self._index.find(_raw(digest))
        if index is None or self._note is None:
            return None
        return TlogProof(
            index=index, hashes=self._log.inclusion_proof(index), checkpoint_note=self._note
        )

    def consistency(self, old_size: int) -> tuple[bytes, ...]:
        """Return the proof that the last committed head only adds to the one at `old_size`."""
        return consistency_proof(self._log, old_size, self._head.size)

    def close(self) -> None:
        """Close the index. What was not committed is forgotten."""
        self._index.close()
        if self._memory is not None:
            self._memory.close()

    def _add(self, digest: bytes, entry: bytes) -> int:
        if len(entry) > MAX_ENTRY_BYTES:
            raise LedgerError(
                f"expected an entry of at most {MAX_ENTRY_BYTES} bytes, got {len(entry)}",
                code="bad_group",
            )
        index = self._frontier.size
        self._frontier, completed = self._frontier.grow(leaf_hash(entry))
        self._entries.values.append(entry)
        for level, _, hash_ in completed:
            if level % TILE_HEIGHT == 0:
                if level // TILE_HEIGHT == len(self._rows):
                    self._rows.append(_Edge(0, []))
                self._rows[level // TILE_HEIGHT].values.append(hash_)
        self._waiting[digest] = index
        return index

    def _find(self, digest: bytes) -> int | None:
        waiting = self._waiting.get(digest)
        return self._index.find(digest) if waiting is None else waiting

    def _hashes(self, level: int, first: int, stop: int) -> list[bytes]:
        return self._rows[level // TILE_HEIGHT].slice(first, stop)

    def _read_frontier(self) -> Frontier:
        size, start = self._head.size, 0
        hashes: list[bytes] = []
        for level in range(size.bit_length() - 1, -1, -1):
            if size >> level & 1:
                hashes.append(self._log.hash_at(level, start >> level))
                start += 1 << level
        return Frontier(size=size, hashes=tuple(hashes)) if size else EMPTY_FRONTIER

    def _read_edges(self) -> tuple[_Edge, list[_Edge]]:
        size = self._head.size
        base = size // TILE_WIDTH * TILE_WIDTH
        entries = _Edge(base, [entry for _, entry in self._log.entries(base, size)])
        rows: list[_Edge] = []
        level, count = 0, size
        while count:
            base = count // TILE_WIDTH * TILE_WIDTH
            row = [self._log.hash_at(level, index) for index in range(base, count)]
            rows.append(_Edge(base, row))
            level += TILE_HEIGHT
            count //= TILE_WIDTH
        return entries, rows or [_Edge(0, [])]

    def _catch_up_index(self) -> None:
        size = self._head.size
        self._index.cut(size)
        for first in range(self._index.size(), size, _INDEXED_AT_ONCE):
            found = self._log.entries(first, min(size, first + _INDEXED_AT_ONCE))
            self._index.add(first, [hashlib.sha256(entry).digest() for _, entry in found])


def _newest(
    directory: Path, note: bytes | None, memory: HeadMemory, signer: NoteSigner
) -> bytes | None:
    """Return the note that the log stands at, published if it was not; raises `LedgerError`."""
    published = None if note is None else verify_checkpoint(note, signer.key)
    largest = memory.largest
    if largest is None or (published is not None and published.size > largest.size):
        if largest is not None and published is not None:
            TileLog(directory, published).verify_extends(largest)
        if note is not None:
            memory.advance(note)
        return note
    if published == largest:
        return note
    try:
        # Tiles were durable before it was remembered.
        log = TileLog(directory, largest)
        if published is not None:
            log.verify_extends(published)
    except (LedgerError, CallerError) as error:
        raise LedgerError(
            f"{signer.name!r} was signed at size {largest.size} (it is remembered outside the log), "
            f"but its files do not lead there ({error}): it was rolled back. Restore the newest copy "
            "of its folder; what that lacks comes from the journals",
            code="rolled_back",
        ) from error
    if memory.note is not None:
        publish_checkpoint(directory, memory.note)
    return memory.note


def _raw(digest: Digest) -> bytes:
    return bytes.fromhex(parse_digest(digest).removeprefix("sha256:"))
