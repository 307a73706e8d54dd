"""Reading a published log and believing none of its files.

A checkpoint's root vouches for the right edge of the tree; from there each full tile vouches, by
the hash that its parent holds, for the one below, and a tile of level 0 for its entries.

Invariants
- Every hash and entry that is handed out leads to the checkpoint's root. Whoever makes a `TileLog`
  verified that checkpoint first (`tlog.verify_witnessed`, `tlog.verify_checkpoint`).
- A file that is missing or does not lead there is a `LedgerError`, never a shorter answer.

It reads folders only; fetching a foreign log into one is somebody else's work.

Follows C2SP tlog-tiles.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gatelift.ledger.errors import LedgerError
from gatelift.ledger.tile_files import read_bundle, read_tile
from gatelift.tlog import (
    HASH_BYTES,
    TILE_HEIGHT,
    TILE_WIDTH,
    Checkpoint,
    EntryTile,
    Tile,
    TileError,
    TileReader,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    parse_tile,
    root_at,
    root_of,
    verify_consistency,
)

__all__ = ["TileLog"]

_CACHED_TILES: Final = 64


class TileLog:
    """The log in `directory` at a verified `checkpoint`; raises `LedgerError` if it is not that."""

    __slots__ = ("_cache", "_directory", "checkpoint")

    def __init__(self, directory: Path, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self._directory = directory
        self._cache: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        # Partial tiles have no parent; all of their hashes go into the root that is checked here.
        root = root_at(TileReader(self._read_edge, checkpoint.size), checkpoint.size)
        if root != checkpoint.root:
            raise self._corrupt(f"the tiles lead to the root {root.hex()}")

    @property
    def size(self) -> int:
        """How many entries there are."""
        return self.checkpoint.size

    def hash_at(self, level: int, index: int) -> bytes:
        """Return the verified hash of a complete subtree, as `tlog.HashReader` asks for it."""
        return TileReader(self._read_verified, self.size).hash_at(level, index)

    def entry(self, index: int) -> bytes:
        """Return the verified bytes of one entry."""
        for _, entry in self.entries(index, index + 1):
            return entry
        raise LedgerError(f"no entry {index} in a log of {self.size}", code="not_logged")

    def entries(self, first: int = 0, stop: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Yield (index, entry) from `first` up to, not including, `stop` (by default all)."""
        stop = self.size if stop is None else stop
        if not 0 <= first <= stop <= self.size:
            raise LedgerError(
                f"expected entries within 0 and {self.size}, got {first} to {stop}",
                code="not_logged",
            )
        for number in range(first // TILE_WIDTH, -(-stop // TILE_WIDTH)):
            bundle = self._verified_bundle(number)
            start = number * TILE_WIDTH
            for index in range(max(first, start), min(stop, start + len(bundle))):
                yield index, bundle[index - start]

    def inclusion_proof(self, index: int) -> tuple[bytes, ...]:
        """Return the proof of entry `index` at this checkpoint."""
        return inclusion_proof(self, index, self.size)

    def verify_extends(self, older: Checkpoint) -> None:
        """Return if this log only adds to `older`; raises `MerkleError`, or `LedgerError`.

        A reader calls it with the largest checkpoint that it has believed, before it forgets that.
        """
        if older.origin != self.checkpoint.origin or older.size > self.size:
            raise LedgerError(
                f"expected {older.origin!r} at {older.size} or larger, got "
                f"{self.checkpoint.origin!r} at {self.size}: the log was rolled back",
                code="rolled_back",
            )
        verify_consistency(
            old_size=older.size,
            old_root=older.root,
            new_size=self.size,
            new_root=self.checkpoint.root,
            proof=consistency_proof(self, older.size, self.size),
        )

    def _verified_bundle(self, number: int) -> tuple[bytes, ...]:
        width = min(TILE_WIDTH, self.size - number * TILE_WIDTH)
        place = EntryTile(index=number, width=width)
        try:
            bundle = read_bundle(self._directory, place)
        except TileError as error:
            raise self._corrupt(f"{place.path}: {error}") from error
        tile = self._read_verified(Tile(level=0, index=number, width=width))
        if b"".join(leaf_hash(entry) for entry in bundle) != tile:
            raise self._corrupt(f"the entries of {place.path} do not hash to their tile")
        return bundle

    def _read_edge(self, tile: Tile) -> bytes:
        data = read_tile(self._directory, tile)
        if len(data) != tile.width * HASH_BYTES:
            raise self._corrupt(f"{tile.path} has {len(data)} bytes")
        return data

    def _read_verified(self, tile: Tile) -> bytes:
        place = (tile.level, tile.index)
        if place in self._cache:
            self._cache.move_to_end(place)
            return self._cache[place]
        data = self._read_edge(tile)
        if tile.width == TILE_WIDTH:
            number, slot = divmod(tile.index, TILE_WIDTH)
            above = self.size >> (TILE_HEIGHT * (tile.level + 1))
            width = min(TILE_WIDTH, above - number * TILE_WIDTH)
            parent = self._read_verified(Tile(level=tile.level + 1, index=number, width=width))
            expected = parent[slot * HASH_BYTES : (slot + 1) * HASH_BYTES]
            if root_of(parse_tile(data, tile)) != expected:
                raise self._corrupt(f"{tile.path} does not hash to what its parent says")
        else:
            self._check_edge(tile, data)
        self._cache[place] = data
        if len(self._cache) > _CACHED_TILES:
            self._cache.popitem(last=False)
        return data

    def _check_edge(self, tile: Tile, data: bytes) -> None:
        # Read again since construction: the file may have changed meanwhile.
        def read(wanted: Tile) -> bytes:
            return data if wanted == tile else self._read_edge(wanted)

        if root_at(TileReader(read, self.size), self.size) != self.checkpoint.root:
            raise self._corrupt(f"{tile.path} does not lead to the root")

    def _corrupt(self, what: str) -> LedgerError:
        return LedgerError(
            f"in {self._directory.name}: {what}; expected the root "
            f"{self.checkpoint.root.hex()} at size {self.size}. Fetch or publish it again",
            code="tile_corrupt",
        )
