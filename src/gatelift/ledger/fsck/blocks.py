"""A log that is kept in nothing but its files, derived again from what of them is whole.

Entries and their hashes lie in two files for each 256 entries: the bundle, and the tile of level 0.
Where they disagree the signed root says which of the two is right.

Invariants
- The leaf hashes that are handed out lead to the signed root; what leads elsewhere is not guessed at.
- A damaged bundle gives the entries that still hash right; the others are for whoever has a copy.

Pure but for the reading of files. Follows C2SP tlog-tiles.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Final, NamedTuple

from gatelift.ledger.errors import LedgerError
from gatelift.ledger.tile_files import read_bundle, read_tile
from gatelift.tlog import (
    Checkpoint,
    EntryTile,
    Tile,
    TileError,
    entry_tiles_for_size,
    leaf_hash,
    parse_tile,
    root_of,
)

__all__ = ["Block", "read_blocks"]

_DISPUTES_TRIED: Final = 8


class Block(NamedTuple):
    """Up to 256 entries: their leaf hashes, and the entries that are known; none where they are not."""

    place: EntryTile
    leaves: tuple[bytes, ...]
    entries: tuple[bytes | None, ...]

    @property
    def tile(self) -> Tile:
        """The tile that holds these leaf hashes."""
        return Tile(level=0, index=self.place.index, width=self.place.width)

    @property
    def is_whole(self) -> bool:
        """Whether every entry is known."""
        return None not in self.entries


def read_blocks(directory: Path, head: Checkpoint) -> list[Block] | None:
    """Return the log's blocks once their leaf hashes lead to the root of `head`; none if none do.

    Where bundle and tile disagree both are tried, in at most a few blocks.
    """
    choices = [_read_block(directory, place) for place in entry_tiles_for_size(head.size)]
    if not all(choices) or sum(len(each) > 1 for each in choices) > _DISPUTES_TRIED:
        return None
    roots = [[root_of(block.leaves) for block in each] for each in choices]
    for picked in itertools.product(*(range(len(each)) for each in choices)):
        # Blocks are complete subtrees but for the last, so their roots combine as leaves do.
        if root_of([row[i] for row, i in zip(roots, picked, strict=True)]) == head.root:
            return [each[i] for each, i in zip(choices, picked, strict=True)]
    return None


def _read_block(directory: Path, place: EntryTile) -> list[Block]:
    """Return what the block may be: after its bundle, and after its tile where that differs."""
    entries = _read_entries(directory, place)
    by_bundle = None if entries is None else tuple(leaf_hash(entry) for entry in entries)
    by_tile = _read_leaves(directory, place)
    found = []
    if by_bundle is not None:
        found.append(Block(place, by_bundle, entries or ()))
    if by_tile is not None and by_tile != by_bundle:
        known = zip(by_tile, entries or [None] * place.width, by_bundle or by_tile, strict=True)
        right = tuple(entry if leaf == hash_ else None for leaf, entry, hash_ in known)
        found.append(Block(place, by_tile, right))
    return found


def _read_entries(directory: Path, place: EntryTile) -> tuple[bytes, ...] | None:
    try:
        return read_bundle(directory, place)
    except (TileError, LedgerError):
        return None


def _read_leaves(directory: Path, place: EntryTile) -> tuple[bytes, ...] | None:
    tile = Tile(level=0, index=place.index, width=place.width)
    try:
        return tuple(parse_tile(read_tile(directory, tile), tile))
    except (TileError, LedgerError):
        return None
