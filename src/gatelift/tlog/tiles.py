"""Tiles: a log as static files that anybody can fetch, cache and check.

A full tile holds 256 hashes. Tile n of level l holds the roots over 256**l leaves each, from leaf
n * 256**(l+1); in the terms of `merkle` these are the complete subtrees of level 8 * l. An entry
bundle holds the entries under a tile of level 0. At the right edge a tile is partial: as wide as
there are hashes.

Invariants
- A tile never changes: its path names its level, number and width.
- A tile is never empty, and a partial tile is never hashed upward: only full ones have a parent.
- `parse_tile_path(tile.path) == tile`; there is one path per tile.
- An entry has at most 65,535 bytes, the bound of its 16 bit length; a bundle has no byte left over.
- `TileReader` hands out hashes of full or implied tiles only, of the size that it was made for.

Not here: files, HTTP, and who checked the hashes. What a reader computes from tiles is trusted only
when it leads to a verified checkpoint's root.

Follows C2SP tlog-tiles.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import msgspec

from gatelift.errors import CallerError
from gatelift.tlog.merkle import HASH_BYTES, MAX_SIZE, HashReader, node_hash

__all__ = [
    "MAX_ENTRY_BYTES",
    "TILE_HEIGHT",
    "TILE_WIDTH",
    "EntryTile",
    "Tile",
    "TileError",
    "TileReader",
    "encode_entries",
    "entry_tiles_for_size",
    "new_entry_tiles",
    "new_tiles",
    "parse_entries",
    "parse_tile",
    "parse_tile_path",
    "tile_bytes",
    "tiles_for_size",
]

TILE_HEIGHT = 8
TILE_WIDTH = 256
MAX_LEVEL = 63
MAX_ENTRY_BYTES = 65_535
_LENGTH_BYTES = 2
_PATH = re.compile(
    r"tile/(?P<level>entries|0|[1-9][0-9]?)/(?P<n>(?:x[0-9]{3}/)*[0-9]{3})"
    r"(?:\.p/(?P<width>[1-9][0-9]{0,2}))?",
    re.ASCII,
)


class TileError(CallerError):
    """A tile, a path or an entry is not of the form that the log's files have."""

    code = "bad_tile"


class Tile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, order=True):
    """A tile of hashes; `width` is 256 unless it is partial."""

    level: int
    index: int
    width: int = TILE_WIDTH

    def __post_init__(self) -> None:
        if not 0 <= self.level <= MAX_LEVEL:
            raise TileError(f"expected a tile level from 0 to {MAX_LEVEL}, got {self.level}")
        _check_place(self.index, self.width)

    @property
    def path(self) -> str:
        """The path below the log's prefix."""
        return f"tile/{self.level}/{_numbered(self.index, self.width)}"


class EntryTile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, order=True):
    """An entry bundle: the entries under the tile of level 0 with this index and width."""

    index: int
    width: int = TILE_WIDTH

    def __post_init__(self) -> None:
        _check_place(self.index, self.width)

    @property
    def path(self) -> str:
        """The path below the log's prefix."""
        return f"tile/entries/{_numbered(self.index, self.width)}"

    @property
    def first(self) -> int:
        """The index in the log of the first entry here."""
        return self.index * TILE_WIDTH


def parse_tile_path(path: str) -> Tile | EntryTile:
    """Return what `path` (without leading slash) names, or raise `TileError`."""
    found = _PATH.fullmatch(path)
    if found is None:
        raise TileError(f"expected tile/<level>/<number>[.p/<width>], got {path[:120]!r}")
    groups = found["n"].replace("x", "").split("/")
    index = int("".join(groups))
    width = int(found["width"] or TILE_WIDTH)
    if found["width"] is not None and width >= TILE_WIDTH:
        raise TileError(f"expected a partial width from 1 to 255, got {width}")
    if len(groups) > 1 and groups[0] == "000":
        raise TileError(f"expected a tile number without leading groups of zeros, got {path!r}")
    if found["level"] == "entries":
        return EntryTile(index=index, width=width)
    return Tile(level=int(found["level"]), index=index, width=width)


def tiles_for_size(size: int) -> Iterator[Tile]:
    """Yield every tile that a log of `size` leaves has, level by level from 0."""
    yield from new_tiles(0, size)


def entry_tiles_for_size(size: int) -> Iterator[EntryTile]:
    """Yield every entry bundle that a log of `size` leaves has."""
    yield from new_entry_tiles(0, size)


def new_tiles(old_size: int, new_size: int) -> Iterator[Tile]:
    """Yield the tiles of `new_size` that a log published at `old_size` lacks."""
    _check_growth(old_size, new_size)
    level = 0
    old_count, new_count = old_size, new_size
    while new_count:
        for index, width in _new_places(old_count, new_count):
            yield Tile(level=level, index=index, width=width)
        level += 1
        old_count //= TILE_WIDTH
        new_count //= TILE_WIDTH


def new_entry_tiles(old_size: int, new_size: int) -> Iterator[EntryTile]:
    """Yield the entry bundles of `new_size` that a log published at `old_size` lacks."""
    _check_growth(old_size, new_size)
    for index, width in _new_places(old_size, new_size):
        yield EntryTile(index=index, width=width)


def tile_bytes(reader: HashReader, tile: Tile) -> bytes:
    """Return the bytes of `tile`: its hashes, one after the other."""
    level, first = TILE_HEIGHT * tile.level, tile.index * TILE_WIDTH
    return b"".join(reader.hash_at(level, first + i) for i in range(tile.width))


def parse_tile(data: bytes, tile: Tile) -> tuple[bytes, ...]:
    """Return the hashes of `tile`, as many as it is wide."""
    if len(data) != tile.width * HASH_BYTES:
        raise TileError(f"expected {tile.width * HASH_BYTES} bytes at {tile.path}, got {len(data)}")
    return tuple(data[i : i + HASH_BYTES] for i in range(0, len(data), HASH_BYTES))


def encode_entries(entries: Sequence[bytes]) -> bytes:
    """Return an entry bundle: each entry behind its length as 2 bytes big-endian."""
    if not 1 <= len(entries) <= TILE_WIDTH:
        raise TileError(f"expected 1 to {TILE_WIDTH} entries in a bundle, got {len(entries)}")
    for entry in entries:
        if len(entry) > MAX_ENTRY_BYTES:
            raise TileError(
                f"expected an entry of at most {MAX_ENTRY_BYTES} bytes, got {len(entry)}: "
                "log a digest and keep the body beside it",
                code="entry_too_large",
            )
    return b"".join(len(entry).to_bytes(_LENGTH_BYTES, "big") + entry for entry in entries)


def parse_entries(data: bytes, count: int) -> tuple[bytes, ...]:
    """Return the `count` entries of a bundle, with nothing left over."""
    entries: list[bytes] = []
    at = 0
    while at < len(data) and len(entries) < count:
        start = at + _LENGTH_BYTES
        at = start + int.from_bytes(data[at:start], "big")
        if start > len(data) or at > len(data):
            raise TileError(f"entry {len(entries)} of the bundle ends beyond its last byte")
        entries.append(data[start:at])
    if len(entries) != count or at != len(data):
        raise TileError(
            f"expected {count} entries and no byte more, got {len(entries)} entries and "
            f"{len(data) - at} bytes after them"
        )
    return tuple(entries)


class TileReader:
    """Answers `hash_at` for one tree size from tiles, so that proofs can be made from files.

    `read_tile` returns the bytes of a tile; it is asked once for each tile. Only tiles that `size`
    implies are asked for.
    """

    __slots__ = ("_read_tile", "_size", "_tiles")

    def __init__(self, read_tile: Callable[[Tile], bytes], size: int) -> None:
        _check_growth(0, size)
        self._read_tile = read_tile
        self._size = size
        self._tiles: dict[Tile, tuple[bytes, ...]] = {}

    def hash_at(self, level: int, index: int) -> bytes:
        """Return the hash of a complete subtree, folded from the tile that holds it."""
        if level < 0 or index < 0 or (index + 1) << level > self._size:
            raise TileError(f"no complete subtree {index} of level {level} in {self._size} leaves")
        tile_level, height = divmod(level, TILE_HEIGHT)
        tile_index, start = divmod(index << height, TILE_WIDTH)
        row = list(self._hashes(tile_level, tile_index)[start : start + (1 << height)])
        while len(row) > 1:
            row = [node_hash(row[i], row[i + 1]) for i in range(0, len(row), 2)]
        return row[0]

    def _hashes(self, level: int, index: int) -> tuple[bytes, ...]:
        count = self._size >> (TILE_HEIGHT * level)
        tile = Tile(level=level, index=index, width=min(TILE_WIDTH, count - index * TILE_WIDTH))
        if tile not in self._tiles:
            self._tiles[tile] = parse_tile(self._read_tile(tile), tile)
        return self._tiles[tile]


def _new_places(old_count: int, new_count: int) -> Iterator[tuple[int, int]]:
    # From the tile that was partial at old_count on; if nothing was added, none.
    if new_count == old_count:
        return
    full, width = divmod(new_count, TILE_WIDTH)
    for index in range(old_count // TILE_WIDTH, full):
        yield index, TILE_WIDTH
    if width:
        yield full, width


def _numbered(index: int, width: int) -> str:
    groups: list[str] = []
    while True:
        index, group = divmod(index, 1000)
        groups.append(f"x{group:03d}" if groups else f"{group:03d}")
        if not index:
            break
    number = "/".join(reversed(groups))
    return number if width == TILE_WIDTH else f"{number}.p/{width}"


def _check_place(index: int, width: int) -> None:
    if not 0 <= index <= MAX_SIZE or not 1 <= width <= TILE_WIDTH:
        raise TileError(
            f"expected a tile number from 0 and a width from 1 to {TILE_WIDTH}, "
            f"got {index} and {width}"
        )


def _check_growth(old_size: int, new_size: int) -> None:
    if not 0 <= old_size <= new_size <= MAX_SIZE:
        raise TileError(f"expected sizes that grow from 0, got {old_size} and {new_size}")
