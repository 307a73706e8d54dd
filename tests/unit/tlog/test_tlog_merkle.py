"""The tree against published vectors, a naive recursion, and proofs that were tampered with."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatelift.tlog import (
    EMPTY_FRONTIER,
    EMPTY_ROOT,
    Frontier,
    MemoryTree,
    MerkleError,
    hashes_for_append,
    leaf_hash,
    parse_frontier,
    root_at,
    root_of,
    verify_consistency,
    verify_inclusion,
)

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "tlog" / "rfc6962.json").read_text())
LEAVES = [bytes.fromhex(leaf) for leaf in VECTORS["leaves"]]
ROOTS = [bytes.fromhex(root) for root in VECTORS["roots"]]
MOST = 130


def naive_root(entries: list[bytes]) -> bytes:
    """RFC 6962 section 2.1 word for word, sharing nothing with the code under test."""
    if not entries:
        return hashlib.sha256(b"").digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    k = 1
    while k * 2 < len(entries):
        k *= 2
    return hashlib.sha256(b"\x01" + naive_root(entries[:k]) + naive_root(entries[k:])).digest()


def naive_path(m: int, entries: list[bytes]) -> list[bytes]:
    """PATH of RFC 6962 section 2.1.1."""
    if len(entries) == 1:
        return []
    k = 1
    while k * 2 < len(entries):
        k *= 2
    if m < k:
        return [*naive_path(m, entries[:k]), naive_root(entries[k:])]
    return [*naive_path(m - k, entries[k:]), naive_root(entries[:k])]


def naive_subproof(m: int, entries: list[bytes], known: bool) -> list[bytes]:
    """SUBPROOF of RFC 6962 section 2.1.2."""
    if m == len(entries):
        return [] if known else [naive_root(entries)]
    k = 1
    while k * 2 < len(entries):
        k *= 2
    if m <= k:
        return [*naive_subproof(m, entries[:k], known), naive_root(entries[k:])]
    return [*naive_subproof(m - k, entries[k:], False), naive_root(entries[:k])]


ENTRIES = [b"entry %d" % i for i in range(MOST)]
TREE = MemoryTree(ENTRIES)
ROOT_AT = [naive_root(ENTRIES[:n]) for n in range(MOST + 1)]
indexed = st.integers(1, MOST).flatmap(lambda n: st.tuples(st.integers(0, n - 1), st.just(n)))
grown = st.integers(0, MOST).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@pytest.mark.parametrize("size", [*range(20), 255, 256, 257])
def test_a_tree_made_at_once_is_the_tree_that_grew(size: int) -> None:
    entries = [b"entry %d" % number for number in range(size)]
    grown = MemoryTree()
    for entry in entries:
        grown.append(entry)
    made = MemoryTree(entries)
    assert made.frontier == grown.frontier
    assert [made.root(n) for n in range(size + 1)] == [grown.root(n) for n in range(size + 1)]
    for tree in (made, grown):
        tree.append(b"one more")
    assert made.root() == grown.root()
    for level in range(size.bit_length()):
        count = size >> level
        assert made.row(level, 0, count) == [grown.hash_at(level, i) for i in range(count)]


def test_the_reference_leaves_have_the_published_roots_at_every_size() -> None:
    tree = MemoryTree()
    frontier = EMPTY_FRONTIER
    assert tree.root() == frontier.root() == EMPTY_ROOT
    for leaf, root in zip(LEAVES, ROOTS, strict=True):
        tree.append(leaf)
        frontier = frontier.append(leaf_hash(leaf))
        assert tree.root() == frontier.root() == root
        assert root_of([leaf_hash(each) for each in LEAVES[: tree.size]]) == root


@pytest.mark.parametrize("vector", VECTORS["inclusion"], ids=str)
def test_inclusion_proofs_are_the_published_ones(vector: dict[str, object]) -> None:
    index, size = int(str(vector["index"])), int(str(vector["size"]))
    proof = MemoryTree(LEAVES).inclusion_proof(index, size)
    assert [hash_.hex() for hash_ in proof] == vector["proof"]
    leaf, root = leaf_hash(LEAVES[index]), ROOTS[size - 1]
    assert verify_inclusion(leaf=leaf, index=index, size=size, proof=proof, root=root) == root


@pytest.mark.parametrize("vector", VECTORS["consistency"], ids=str)
def test_consistency_proofs_are_the_published_ones(vector: dict[str, object]) -> None:
    old, new = int(str(vector["old"])), int(str(vector["new"]))
    proof = MemoryTree(LEAVES).consistency_proof(old, new)
    assert [hash_.hex() for hash_ in proof] == vector["proof"]
    verify_consistency(
        old_size=old, old_root=ROOTS[old - 1], new_size=new, new_root=ROOTS[new - 1], proof=proof
    )


def test_every_root_up_to_130_leaves_is_that_of_the_naive_recursion() -> None:
    for size in range(MOST + 1):
        assert root_at(TREE, size) == TREE.root(size) == ROOT_AT[size]


def test_every_inclusion_proof_up_to_66_leaves_verifies_and_is_the_naive_one() -> None:
    for size in range(1, 67):
        for index in range(size):
            proof = TREE.inclusion_proof(index, size)
            leaf, root = leaf_hash(ENTRIES[index]), ROOT_AT[size]
            verify_inclusion(leaf=leaf, index=index, size=size, proof=proof, root=root)
            if size % 7 == 3:
                assert list(proof) == naive_path(index, ENTRIES[:size])


def test_every_consistency_proof_up_to_66_leaves_verifies_and_is_the_naive_one() -> None:
    for size in range(67):
        for old in range(size + 1):
            proof = TREE.consistency_proof(old, size)
            verify_consistency(
                old_size=old,
                old_root=ROOT_AT[old],
                new_size=size,
                new_root=ROOT_AT[size],
                proof=proof,
            )
            if size % 7 == 3 and old:
                assert list(proof) == naive_subproof(old, ENTRIES[:size], True)


@settings(max_examples=60, deadline=None)
@given(indexed, st.data())
def test_a_flipped_bit_anywhere_is_refused_in_an_inclusion_proof(
    place: tuple[int, int], data: st.DataObject
) -> None:
    index, size = place
    parts = [leaf_hash(ENTRIES[index]), ROOT_AT[size], *TREE.inclusion_proof(index, size)]
    which, bit = data.draw(st.integers(0, len(parts) - 1)), data.draw(st.integers(0, 255))
    parts[which] = flip(parts[which], bit)
    with pytest.raises(MerkleError):
        verify_inclusion(leaf=parts[0], index=index, size=size, proof=parts[2:], root=parts[1])


@settings(max_examples=60, deadline=None)
@given(grown, st.data())
def test_a_flipped_bit_anywhere_is_refused_in_a_consistency_proof(
    sizes: tuple[int, int], data: st.DataObject
) -> None:
    old, new = sizes
    parts = [ROOT_AT[old], ROOT_AT[new], *TREE.consistency_proof(old, new)]
    which, bit = data.draw(st.integers(0, len(parts) - 1)), data.draw(st.integers(0, 255))
    if old == 0 and new > 0 and which == 1:
        return  # from the empty tree any root follows; its signature is all there is to check
    parts[which] = flip(parts[which], bit)
    with pytest.raises(MerkleError):
        verify_consistency(
            old_size=old, old_root=parts[0], new_size=new, new_root=parts[1], proof=parts[2:]
        )


@settings(max_examples=100, deadline=None)
@given(indexed, indexed)
def test_an_inclusion_proof_holds_for_its_own_index_and_leaf_only(
    place: tuple[int, int], other: tuple[int, int]
) -> None:
    (index, size), (wrong, _) = place, other
    proof = TREE.inclusion_proof(index, size)
    if wrong != index:
        with pytest.raises(MerkleError):
            verify_inclusion(
                leaf=leaf_hash(ENTRIES[index]),
                index=wrong,
                size=size,
                proof=proof,
                root=ROOT_AT[size],
            )
        with pytest.raises(MerkleError):
            verify_inclusion(
                leaf=leaf_hash(ENTRIES[wrong]),
                index=index,
                size=size,
                proof=proof,
                root=ROOT_AT[size],
            )


@settings(max_examples=100, deadline=None)
@given(grown, st.integers(-2, 200))
def test_a_consistency_proof_is_refused_for_another_old_size(
    sizes: tuple[int, int], wrong: int
) -> None:
    old, new = sizes
    if wrong in (old, 0) or old == 0:
        return
    with pytest.raises(MerkleError):
        verify_consistency(
            old_size=wrong,
            old_root=ROOT_AT[old],
            new_size=new,
            new_root=ROOT_AT[new],
            proof=TREE.consistency_proof(old, new),
        )


@settings(max_examples=60, deadline=None)
@given(indexed)
def test_proofs_with_a_hash_more_or_less_are_refused(place: tuple[int, int]) -> None:
    index, size = place
    leaf, root = leaf_hash(ENTRIES[index]), ROOT_AT[size]
    proof = TREE.inclusion_proof(index, size)
    for wrong in ((*proof, root), (root, *proof), proof[:-1], proof[1:]):
        if wrong != proof:
            with pytest.raises(MerkleError):
                verify_inclusion(leaf=leaf, index=index, size=size, proof=wrong, root=root)
    shorter = TREE.consistency_proof(index, size)
    for wrong in ((*shorter, root), (root, *shorter), shorter[:-1]):
        if wrong != shorter:
            with pytest.raises(MerkleError):
                verify_consistency(
                    old_size=index,
                    old_root=ROOT_AT[index],
                    new_size=size,
                    new_root=root,
                    proof=wrong,
                )


def test_a_proof_for_a_smaller_tree_is_refused_under_a_larger_size() -> None:
    # The hashes lead to the root that is claimed; only the path is too short for the size.
    with pytest.raises(MerkleError, match="too short"):
        verify_inclusion(
            leaf=leaf_hash(ENTRIES[1]),
            index=1,
            size=8,
            proof=TREE.inclusion_proof(1, 4),
            root=ROOT_AT[4],
        )
    with pytest.raises(MerkleError, match="too short"):
        verify_consistency(
            old_size=2,
            old_root=ROOT_AT[2],
            new_size=8,
            new_root=ROOT_AT[4],
            proof=TREE.consistency_proof(2, 4),
        )


def test_a_node_cannot_be_passed_off_as_a_leaf() -> None:
    # The two hashes under the root of two leaves, taken as one entry, must not hash to the root.
    root = MemoryTree(LEAVES[:2]).root()
    assert leaf_hash(leaf_hash(LEAVES[0]) + leaf_hash(LEAVES[1])) != root


@pytest.mark.parametrize(("index", "size"), [(-1, 4), (4, 4), (0, 0), (0, -1), (5, 2**63)])
def test_an_index_outside_the_tree_is_refused(index: int, size: int) -> None:
    with pytest.raises(MerkleError):
        TREE.inclusion_proof(index, size)
    with pytest.raises(MerkleError):
        verify_inclusion(leaf=EMPTY_ROOT, index=index, size=size, proof=(), root=EMPTY_ROOT)


@pytest.mark.parametrize("bad", [b"", b"\x00" * 31, b"\x00" * 33])
def test_hashes_of_another_length_are_refused(bad: bytes) -> None:
    with pytest.raises(MerkleError, match="32"):
        verify_inclusion(leaf=bad, index=0, size=1, proof=(), root=bad)
    with pytest.raises(MerkleError, match="32"):
        verify_inclusion(leaf=EMPTY_ROOT, index=0, size=2, proof=(bad,), root=EMPTY_ROOT)


def test_two_roots_at_one_size_are_called_a_split_view() -> None:
    with pytest.raises(MerkleError) as caught:
        verify_consistency(
            old_size=3, old_root=ROOT_AT[3], new_size=3, new_root=ROOT_AT[4], proof=()
        )
    assert caught.value.code == "split_view"


def test_a_tree_that_changed_an_old_leaf_has_no_consistency_proof() -> None:
    forked = MemoryTree([*ENTRIES[:20], b"another entry", *ENTRIES[21:40]])
    for old in range(21, 40):
        with pytest.raises(MerkleError, match="different histories"):
            verify_consistency(
                old_size=old,
                old_root=ROOT_AT[old],
                new_size=40,
                new_root=forked.root(),
                proof=forked.consistency_proof(old),
            )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, MOST))
def test_a_frontier_comes_back_from_its_bytes_and_goes_on(size: int) -> None:
    hashes = [leaf_hash(entry) for entry in ENTRIES]
    frontier = EMPTY_FRONTIER.extend(hashes[:size])
    read = parse_frontier(frontier.encode())
    assert read == frontier
    assert read.extend(hashes[size:]).root() == ROOT_AT[MOST]


def test_what_appends_store_is_each_complete_subtree_once() -> None:
    stored: dict[tuple[int, int], bytes] = {}
    frontier = EMPTY_FRONTIER
    for entry in ENTRIES:
        for level, index, hash_ in hashes_for_append(frontier, leaf_hash(entry)):
            assert (level, index) not in stored
            stored[level, index] = hash_
        frontier = frontier.append(leaf_hash(entry))
    expected = {(lv, i) for lv in range(8) for i in range(MOST >> lv)}
    assert stored.keys() == expected
    for (level, index), hash_ in stored.items():
        assert hash_ == naive_root(ENTRIES[index << level : (index + 1) << level])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 7,
        b"\x00" * 8 + b"x",
        (1).to_bytes(8, "big"),
        (3).to_bytes(8, "big") + b"x" * 32,
    ],
)
def test_bytes_that_are_no_frontier_are_refused(data: bytes) -> None:
    with pytest.raises(MerkleError):
        parse_frontier(data)


def test_a_frontier_has_as_many_hashes_as_its_size_has_one_bits() -> None:
    with pytest.raises(MerkleError):
        Frontier(size=4, hashes=(EMPTY_ROOT, EMPTY_ROOT))


def flip(value: bytes, bit: int) -> bytes:
    return (int.from_bytes(value, "big") ^ (1 << bit)).to_bytes(len(value), "big")
