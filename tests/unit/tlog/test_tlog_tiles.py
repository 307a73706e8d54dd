"""Tiles: paths, which ones a size implies, bundles, and proofs made from files."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatelift.tlog import (
    EMPTY_FRONTIER,
    EntryTile,
    MemoryTree,
    Tile,
    TileError,
    TileReader,
    consistency_proof,
    encode_entries,
    entry_tiles_for_size,
    inclusion_proof,
    leaf_hash,
    new_tiles,
    node_hash,
    parse_entries,
    parse_tile,
    parse_tile_path,
    root_at,
    tile_bytes,
    tiles_for_size,
)


def test_the_example_of_the_specification_has_its_path() -> None:
    assert Tile(level=3, index=1234067).path == "tile/3/x001/x234/067"
    assert Tile(level=0, index=1234067, width=1).path == "tile/0/x001/x234/067.p/1"
    assert Tile(level=0, index=0).path == "tile/0/000"
    assert Tile(level=0, index=1000).path == "tile/0/x001/000"
    assert EntryTile(index=273, width=112).path == "tile/entries/273.p/112"


def test_seventy_thousand_leaves_imply_the_tiles_of_the_specification() -> None:
    tiles = list(tiles_for_size(70_000))
    assert [t for t in tiles if t.level == 0] == [
        *(Tile(level=0, index=i) for i in range(273)),
        Tile(level=0, index=273, width=112),
    ]
    assert [t for t in tiles if t.level > 0] == [
        Tile(level=1, index=0),
        Tile(level=1, index=1, width=17),
        Tile(level=2, index=0, width=1),
    ]
    bundles = list(entry_tiles_for_size(70_000))
    assert len(bundles) == 274
    assert bundles[-1] == EntryTile(index=273, width=112)


@pytest.mark.parametrize(
    ("size", "tiles"),
    [
        (0, []),
        (1, [Tile(level=0, index=0, width=1)]),
        (255, [Tile(level=0, index=0, width=255)]),
        (256, [Tile(level=0, index=0), Tile(level=1, index=0, width=1)]),
        (
            257,
            [
                Tile(level=0, index=0),
                Tile(level=0, index=1, width=1),
                Tile(level=1, index=0, width=1),
            ],
        ),
    ],
)
def test_small_sizes_imply_these_tiles(size: int, tiles: list[Tile]) -> None:
    assert list(tiles_for_size(size)) == tiles


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 70_000), st.integers(0, 70_000))
def test_what_is_new_is_all_of_the_larger_size_that_the_smaller_lacks(a: int, b: int) -> None:
    old, new = sorted((a, b))
    had = set(tiles_for_size(old))
    assert set(new_tiles(old, new)) == set(tiles_for_size(new)) - had


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 63), st.integers(0, 2**55), st.integers(1, 256))
def test_a_path_names_one_tile_and_comes_back(level: int, index: int, width: int) -> None:
    tile = Tile(level=level, index=index, width=width)
    entries = EntryTile(index=index, width=width)
    assert parse_tile_path(tile.path) == tile
    assert parse_tile_path(entries.path) == entries


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/1",
        "tile/0/0001",
        "tile/00/001",
        "tile/64/001",
        "tile/0/001.p/0",
        "tile/0/001.p/256",
        "tile/0/001.p/01",
        "tile/0/001/002",
        "tile/0/x001",
        "tile/0/x000/001",
        "tile/0/../../key",
        "/tile/0/001",
        "tile/0/001\n",
        "tile/0/\N{ARABIC-INDIC DIGIT ONE}\N{ARABIC-INDIC DIGIT ONE}\N{ARABIC-INDIC DIGIT ONE}",
        "tile/data/001",
    ],
)
def test_every_other_spelling_of_a_path_is_refused(path: str) -> None:
    with pytest.raises(TileError):
        parse_tile_path(path)


def test_a_tile_one_level_up_holds_the_roots_of_the_full_tiles_below() -> None:
    tree = MemoryTree(b"%d" % i for i in range(600))
    files = {tile.path: tile_bytes(tree, tile) for tile in tiles_for_size(600)}
    assert {path: len(data) // 32 for path, data in files.items()} == {
        "tile/0/000": 256,
        "tile/0/001": 256,
        "tile/0/002.p/88": 88,
        "tile/1/000.p/2": 2,
    }
    for index in (0, 1):
        row = list(parse_tile(files[f"tile/0/00{index}"], Tile(level=0, index=index)))
        frontier = EMPTY_FRONTIER.extend(row)
        assert frontier.root() == files["tile/1/000.p/2"][32 * index : 32 * index + 32]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 600), st.integers(0, 600), st.integers(0, 600))
def test_proofs_read_from_tiles_are_those_of_the_tree(size: int, a: int, b: int) -> None:
    files = {tile: tile_bytes(TREE, tile) for tile in tiles_for_size(size)}
    reader = TileReader(files.__getitem__, size)
    assert root_at(reader, size) == TREE.root(size)
    assert inclusion_proof(reader, a % size, size) == TREE.inclusion_proof(a % size, size)
    old = b % (size + 1)
    assert consistency_proof(reader, old, size) == TREE.consistency_proof(old, size)


def test_a_tile_reader_asks_for_no_tile_that_its_size_does_not_imply() -> None:
    asked: list[Tile] = []

    def read(tile: Tile) -> bytes:
        asked.append(tile)
        return tile_bytes(TREE, tile)

    reader = TileReader(read, 300)
    root_at(reader, 300)
    inclusion_proof(reader, 7, 300)
    assert set(asked) <= set(tiles_for_size(300))
    assert len(asked) == len(set(asked))
    with pytest.raises(TileError):
        reader.hash_at(0, 300)
    with pytest.raises(TileError):
        reader.hash_at(8, 1)


def test_a_tile_of_the_wrong_length_is_refused() -> None:
    for length in (0, 31, 32 * 255, 32 * 257):
        with pytest.raises(TileError):
            parse_tile(b"\x00" * length, Tile(level=0, index=0))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=256))
def test_entries_come_back_from_their_bundle(entries: list[bytes]) -> None:
    assert list(parse_entries(encode_entries(entries), len(entries))) == entries


def test_a_bundle_is_lengths_and_bytes() -> None:
    assert encode_entries([b"ab", b"", b"c" * 258]) == (
        b"\x00\x02ab" + b"\x00\x00" + b"\x01\x02" + b"c" * 258
    )


def test_an_entry_has_at_most_65535_bytes() -> None:
    assert len(encode_entries([b"x" * 65_535])) == 65_537
    with pytest.raises(TileError) as caught:
        encode_entries([b"x" * 65_536])
    assert caught.value.code == "entry_too_large"


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (b"\x00\x02ab", 2),
        (b"\x00\x02ab\x00\x01c", 1),
        (b"\x00\x02ab\x00", 2),
        (b"\x00\x02ab\x00", 1),
        (b"\x00\x03ab", 1),
        (b"\x00\x02ab\x00\x01", 2),
        (b"", 1),
    ],
)
def test_bundles_that_are_cut_short_or_too_long_are_refused(data: bytes, count: int) -> None:
    with pytest.raises(TileError):
        parse_entries(data, count)


TREE = MemoryTree(b"%d" % i for i in range(600))


def test_a_node_of_two_leaves_is_hashed_once_above_them() -> None:
    pair = node_hash(leaf_hash(b"0"), leaf_hash(b"1"))
    assert TileReader(lambda tile: tile_bytes(TREE, tile), 600).hash_at(1, 0) == pair
