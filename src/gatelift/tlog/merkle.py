"""The Merkle tree of a transparency log: hashes, roots, proofs and their verification.

A tree is an ordered list of leaves. The root over n > 1 leaves splits at k, the largest power of
two below n: `node_hash(root of the first k, root of the rest)`. Everything here follows from that.

Every hash that a log ever needs is a *complete subtree*: `hash_at(level, index)` is the root over
the leaves `index * 2**level` up to, not including, `(index + 1) * 2**level`. Such a hash never
changes once its leaves exist, so a store only ever adds them, and proofs of every size can be read
from them.

Invariants
- Leaves are hashed behind 0x00 and nodes behind 0x01, so that no node can be passed off as a leaf.
- Every hash is exactly 32 bytes; an index is below the size; a proof is used up to its last hash.
- A consistency proof binds both roots: the old root is recomputed, never believed.
- `verify_*` returns the root that was proved, or raises `MerkleError`.

Not here: where hashes are kept, what an entry means, and whether a root was signed. A proof against
an unsigned root proves nothing.

Follows RFC 6962 section 2.1 (tree and proofs) and RFC 9162 sections 2.1.3.2 and 2.1.4.2
(verification).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

from gatelift.errors import CallerError

__all__ = [
    "EMPTY_ROOT",
    "HASH_BYTES",
    "MAX_PROOF_HASHES",
    "MAX_SIZE",
    "HashReader",
    "MerkleError",
    "consistency_proof",
    "inclusion_proof",
    "leaf_hash",
    "node_hash",
    "root_at",
    "root_of",
    "tree_rows",
    "verify_consistency",
    "verify_inclusion",
]

HASH_BYTES = 32
MAX_SIZE = 2**63 - 1
MAX_PROOF_HASHES = 63
EMPTY_ROOT = hashlib.sha256(b"").digest()


class MerkleError(CallerError):
    """A proof does not prove what it claims, or a size or index is out of range."""

    code = "bad_merkle_proof"


class HashReader(Protocol):
    """Where a proof reads the hashes of complete subtrees from."""

    def hash_at(self, level: int, index: int) -> bytes:
        """Return the root over leaves [index * 2**level, (index + 1) * 2**level).

        Raises if the subtree is not complete or not stored; it never returns a guess.
        """
        ...


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of the leaf that holds `entry`."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of the node above `left` and `right`."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of(leaf_hashes: Sequence[bytes]) -> bytes:
    """Return the root over these leaf hashes; over none it is `EMPTY_ROOT`."""
    if not leaf_hashes:
        return EMPTY_ROOT
    row = list(leaf_hashes)
    if set(map(len, row)) != {HASH_BYTES}:
        row = [_check_hash(hash_, "leaf hash") for hash_ in row]
    return tree_rows(row)[-1][0]


def tree_rows(leaf_hashes: list[bytes]) -> list[list[bytes]]:
    """Return the hashes over at least one leaf hash row by row, from the leaves up to the root."""
    row = leaf_hashes
    rows = [row]
    sha256 = hashlib.sha256
    while len(row) > 1:
        # An unpaired last hash rises unchanged, which is the split at the largest power of two.
        pairs = zip(row[::2], row[1::2], strict=False)
        above = [sha256(b"\x01" + left + right).digest() for left, right in pairs]
        if len(row) % 2:
            above.append(row[-1])
        row = above
        rows.append(row)
    return rows


def root_at(reader: HashReader, size: int) -> bytes:
    """Return the root over the first `size` leaves, read from complete subtrees."""
    _check_size(size)
    if size == 0:
        return EMPTY_ROOT
    return _range_root(reader, 0, size)


def inclusion_proof(reader: HashReader, index: int, size: int) -> tuple[bytes, ...]:
    """Return the proof that leaf `index` is in the tree of `size` leaves, leaf's sibling first."""
    _check_size(size)
    _check_index(index, size)
    low, high = 0, size
    path: list[bytes] = []
    while high - low > 1:
        split = low + _split(high - low)
        if index < split:
            path.append(_range_root(reader, split, high))
            high = split
        else:
            path.append(_range_root(reader, low, split))
            low = split
    path.reverse()
    return tuple(path)


def consistency_proof(reader: HashReader, old_size: int, new_size: int) -> tuple[bytes, ...]:
    """Return the proof that the tree of `old_size` leaves is a prefix of that of `new_size`.

    The proof is empty if the old tree is empty or the sizes are equal.
    """
    _check_size(new_size)
    if not 0 <= old_size <= new_size:
        raise MerkleError(f"expected an old size from 0 to {new_size}, got {old_size}")
    if old_size in (0, new_size):
        return ()
    low, high = 0, new_size
    path: list[bytes] = []
    while old_size != high:
        split = low + _split(high - low)
        if old_size <= split:
            path.append(_range_root(reader, split, high))
            high = split
        else:
            path.append(_range_root(reader, low, split))
            low = split
    # The subtree where the walk ends is the whole old tree exactly if nothing lies left of it;
    # then the verifier has its hash already: the old root.
    if low > 0:
        path.append(_range_root(reader, low, high))
    path.reverse()
    return tuple(path)


def verify_inclusion(
    *, leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> bytes:
    """Return `root` once `proof` leads from `leaf` at `index` to it in a tree of `size` leaves.

    `leaf` is a leaf hash that the caller computed from the entry's own bytes; `size` and `root`
    come from a verified checkpoint.
    """
    _check_size(size)
    _check_index(index, size)
    _check_proof(proof)
    node, last = index, size - 1
    found = _check_hash(leaf, "leaf hash")
    for sibling in proof:
        if last == 0:
            raise MerkleError(f"inclusion proof of leaf {index} in {size} has hashes left over")
        if node & 1 or node == last:
            found = node_hash(sibling, found)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            found = node_hash(found, sibling)
        node >>= 1
        last >>= 1
    if last != 0:
        raise MerkleError(
            f"inclusion proof of leaf {index} in {size} is too short: {len(proof)} hashes"
        )
    if found != _check_hash(root, "root"):
        raise MerkleError(
            f"inclusion proof of leaf {index} in {size} leads to {found.hex()}, "
            f"expected the root {root.hex()}: the entry is not in this tree at this index"
        )
    return root


def verify_consistency(
    *, old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> bytes:
    """Return `new_root` once `proof` shows that the new tree only adds to the old one."""
    _check_size(new_size)
    _check_proof(proof)
    _check_hash(old_root, "old root")
    _check_hash(new_root, "new root")
    if not 0 <= old_size <= new_size:
        raise MerkleError(f"expected an old size from 0 to {new_size}, got {old_size}")
    if old_size in (0, new_size):
        return _verify_trivial(old_size, old_root, new_size, new_root, proof)
    node, last = old_size - 1, new_size - 1
    while node & 1:
        node >>= 1
        last >>= 1
    path = list(proof) if node else [old_root, *proof]
    if not path:
        raise MerkleError(f"consistency proof from {old_size} to {new_size} is too short: empty")
    found_old = found_new = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise MerkleError(f"consistency proof {old_size} to {new_size} has hashes left over")
        if node & 1 or node == last:
            found_old = node_hash(sibling, found_old)
            found_new = node_hash(sibling, found_new)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            found_new = node_hash(found_new, sibling)
        node >>= 1
        last >>= 1
    if last != 0:
        raise MerkleError(
            f"consistency proof from {old_size} to {new_size} is too short: {len(proof)} hashes"
        )
    if found_old != old_root or found_new != new_root:
        which = "old" if found_old != old_root else "new"
        raise MerkleError(
            f"consistency proof from {old_size} to {new_size} does not lead to the {which} root: "
            "the two trees have different histories, or the proof is for other sizes"
        )
    return new_root


def _verify_trivial(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> bytes:
    if proof:
        raise MerkleError(
            f"expected no hashes from {old_size} to {new_size}, got {len(proof)}: send none"
        )
    for size, root in ((old_size, old_root), (new_size, new_root)):
        if size == 0 and root != EMPTY_ROOT:
            raise MerkleError(
                f"expected the root of the empty tree {EMPTY_ROOT.hex()}, got {root.hex()}"
            )
    if old_size == new_size and old_root != new_root:
        raise MerkleError(
            f"two different roots at size {new_size}: {old_root.hex()} and {new_root.hex()}; "
            "the log shows two histories",
            code="split_view",
        )
    return new_root


def _split(count: int) -> int:
    # The largest power of two below count, for count > 1.
    return 1 << ((count - 1).bit_length() - 1)


def _range_root(reader: HashReader, low: int, high: int) -> bytes:
    # The root over leaves [low, high); low is aligned to every power of two in high - low, as it
    # is in each split that starts at leaf 0.
    parts: list[bytes] = []
    while low < high:
        level = (high - low).bit_length() - 1
        parts.append(_check_hash(reader.hash_at(level, low >> level), "stored hash"))
        low += 1 << level
    root = parts.pop()
    while parts:
        root = node_hash(parts.pop(), root)
    return root


def _check_hash(value: bytes, what: str) -> bytes:
    if len(value) != HASH_BYTES:
        raise MerkleError(f"expected a {what} of {HASH_BYTES} bytes, got {len(value)}")
    return value


def _check_size(size: int) -> None:
    if not 0 <= size <= MAX_SIZE:
        raise MerkleError(f"expected a tree size from 0 to {MAX_SIZE}, got {size}")


def _check_index(index: int, size: int) -> None:
    if not 0 <= index < size:
        raise MerkleError(f"expected a leaf index from 0 to {size - 1}, got {index}")


def _check_proof(proof: Sequence[bytes]) -> None:
    if len(proof) > MAX_PROOF_HASHES:
        raise MerkleError(f"expected at most {MAX_PROOF_HASHES} hashes, got {len(proof)}")
    for hash_ in proof:
        _check_hash(hash_, "proof hash")
