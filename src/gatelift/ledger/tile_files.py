"""The files of a published log: `checkpoint`, `tile/...` and `tile/entries/...` in one folder.

Invariants
- The checkpoint is replaced last, after every file that it implies is durable.
- The partial tiles of a published checkpoint stay until the full tile is there and a checkpoint
  that implies it is published; a reader of an older head then takes the full tile's beginning.
- A write is repeatable: a file that holds the same bytes already is left alone.

It checks no hashes (`tiles_reader`) and signs nothing (`releases`, `requests`).

Follows C2SP tlog-tiles.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from gatelift.ledger.errors import LedgerError
from gatelift.tlog import (
    HASH_BYTES,
    TILE_HEIGHT,
    TILE_WIDTH,
    EntryTile,
    Tile,
    encode_entries,
    entry_tiles_for_size,
    new_entry_tiles,
    new_tiles,
    parse_entries,
    tiles_for_size,
)
from gatelift.wire.files import replace_all_durably, replace_durably, sync_directory

__all__ = [
    "CHECKPOINT_NAME",
    "Place",
    "differing_places",
    "drop_partials",
    "drop_unpublished",
    "places_for_growth",
    "places_to_check",
    "publish_checkpoint",
    "read_bundle",
    "read_checkpoint",
    "read_tile",
    "write_tiles",
]

CHECKPOINT_NAME: Final = "checkpoint"
_FILES_AT_ONCE: Final = 64

Place = Tile | EntryTile

HashesOf = Callable[[int, int, int], list[bytes]]
"""(level, first, stop) -> the hashes of complete subtrees of 2**level leaves."""
EntriesOf = Callable[[int, int], list[bytes]]
"""(first, stop) -> the entries' bytes."""


def read_checkpoint(directory: Path) -> bytes | None:
    """Return the published checkpoint's note, unverified; None if nothing was published yet."""
    try:
        return (directory / CHECKPOINT_NAME).read_bytes()
    except FileNotFoundError:
        return None


def publish_checkpoint(directory: Path, note: bytes) -> None:
    """Put the checkpoint in its place, durably."""
    replace_durably(directory / CHECKPOINT_NAME, note)


def places_for_growth(old_size: int, new_size: int) -> list[Place]:
    """Return every bundle and tile that `new_size` has and `old_size` lacks."""
    return [*new_entry_tiles(old_size, new_size), *new_tiles(old_size, new_size)]


def differing_places(
    directory: Path, size: int, hashes: HashesOf, entries: EntriesOf
) -> list[tuple[Place, bytes | None]]:
    """Return the bundles and tiles of `size` whose file is not what it must be, and what it is.

    None where there is no file. Partial ones of smaller sizes are looked at where they lie.
    `hashes` and `entries` are believed.
    """
    read = ((place, _read(directory, place.path)) for place in places_to_check(directory, size))
    return [(place, data) for place, data in read if data != _data_of(place, hashes, entries)]


def places_to_check(directory: Path, size: int) -> list[Place]:
    """Return the bundles and tiles of `size`, and the partial ones of smaller sizes that lie there."""
    found: list[Place] = []
    newest: list[Place] = [*entry_tiles_for_size(size), *tiles_for_size(size)]
    for place in newest:
        older = sorted(int(path.name) for path in _partials(directory, _of_width(place)))
        found += [_of_width(place, width) for width in older if 0 < width < place.width]
        found.append(place)
    return found


def _of_width(place: Place, width: int = TILE_WIDTH) -> Place:
    if isinstance(place, Tile):
        return Tile(level=place.level, index=place.index, width=width)
    return EntryTile(index=place.index, width=width)


def write_tiles(
    directory: Path, places: Sequence[Place], hashes: HashesOf, entries: EntriesOf
) -> None:
    """Write these bundles and tiles, durably once this returns."""
    for start in range(0, len(places), _FILES_AT_ONCE):
        files: dict[Path, bytes] = {}
        for place in places[start : start + _FILES_AT_ONCE]:
            files[directory / place.path] = _data_of(place, hashes, entries)
        changed = {path: data for path, data in files.items() if not _holds(path, data)}
        replace_all_durably(changed)
        # Those that were there may stem from a process that died before their names were durable.
        for folder in {path.parent for path in files.keys() - changed.keys()}:
            sync_directory(folder)


def drop_partials(directory: Path, places: Iterable[Place]) -> None:
    """Remove the partial tiles that full ones of `places` replaced, once those are published."""
    for place in places:
        if place.width == TILE_WIDTH:
            shutil.rmtree(_partial_folder(directory, place), ignore_errors=True)


def drop_unpublished(directory: Path, size: int) -> None:
    """Remove tiles beyond `size`, which a process wrote that died before its checkpoint."""
    _drop_beyond(directory, size, None)
    level = 0
    while _drop_beyond(directory, size, level) or size:
        level += 1
        size //= TILE_WIDTH


def read_tile(directory: Path, tile: Tile) -> bytes:
    """Return a tile's bytes, from the full tile if the partial one is gone; unverified."""
    data = _read(directory, tile.path)
    if data is not None:
        return data
    full = _read(directory, Tile(level=tile.level, index=tile.index).path)
    if full is None:
        raise _missing(directory, tile.path)
    return full[: tile.width * HASH_BYTES]


def read_bundle(directory: Path, bundle: EntryTile) -> tuple[bytes, ...]:
    """Return a bundle's entries, from the full one if the partial one is gone; unverified."""
    data = _read(directory, bundle.path)
    if data is not None:
        return parse_entries(data, bundle.width)
    full = _read(directory, EntryTile(index=bundle.index).path)
    if full is None:
        raise _missing(directory, bundle.path)
    return parse_entries(full, TILE_WIDTH)[: bundle.width]


def _data_of(place: Place, hashes: HashesOf, entries: EntriesOf) -> bytes:
    first = place.index * TILE_WIDTH
    stop = first + place.width
    if isinstance(place, Tile):
        return b"".join(hashes(TILE_HEIGHT * place.level, first, stop))
    return encode_entries(entries(first, stop))


def _drop_beyond(directory: Path, count: int, level: int | None) -> bool:
    # Tiles are written in order without holes, so the first number without any file ends the
    # search. Says whether there was any file.
    found = False
    index, width = divmod(count, TILE_WIDTH)
    while True:
        place: Place = EntryTile(index=index) if level is None else Tile(level=level, index=index)
        full = directory / place.path
        partials = _partials(directory, place)
        if not partials and not full.exists():
            return found
        found = True
        for path in partials:
            if int(path.name) > width:
                path.unlink()
        full.unlink(missing_ok=True)
        index, width = index + 1, 0


def _partials(directory: Path, place: Place) -> list[Path]:
    try:
        return [p for p in _partial_folder(directory, place).iterdir() if p.name.isdigit()]
    except FileNotFoundError:
        return []


def _partial_folder(directory: Path, place: Place) -> Path:
    full = directory / place.path
    return full.with_name(f"{full.name}.p")


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except FileNotFoundError:
        return False


def _read(directory: Path, path: str) -> bytes | None:
    try:
        return (directory / path).read_bytes()
    except FileNotFoundError:
        return None


def _missing(directory: Path, path: str) -> LedgerError:
    return LedgerError(
        f"no {path} in {directory.name}, which its checkpoint implies: fetch it again, "
        "or publish the log again from its store",
        code="tile_missing",
    )
