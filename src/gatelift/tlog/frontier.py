"""The frontier of a growing tree: all that is needed to append to it and to know its root.

A frontier of size n holds the roots of the complete subtrees that the binary digits of n name,
largest first: 13 = 8 + 4 + 1 leaves have three. Appending a leaf carries like adding one to n.

Invariants
- As many hashes as n has one-bits, each of 32 bytes.
- A frontier never changes; `append` returns the next one.
- `grow` yields every complete subtree that its leaf completes, once each over the tree's life: n
  leaves leave fewer than 2n hashes, and a store that inserts them never updates one.
- `parse_frontier(f.encode())` is `f`; the bytes have one spelling.

Not here: the leaves. A frontier cannot make proofs; keep what `grow` yields for that.

Follows RFC 6962 section 2.1; the construction is known as a compact range.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gatelift.tlog.merkle import EMPTY_ROOT, HASH_BYTES, MAX_SIZE, MerkleError, node_hash

__all__ = ["EMPTY_FRONTIER", "Frontier", "SubtreeHash", "hashes_for_append", "parse_frontier"]

SubtreeHash = tuple[int, int, bytes]
"""(level, index, hash): the root over leaves [index * 2**level, (index + 1) * 2**level)."""

_SIZE_BYTES = 8
_RIGHT_LENGTHS = frozenset({HASH_BYTES})


class Frontier(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The right edge of a tree of `size` leaves: its complete subtrees, largest first."""

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.size <= MAX_SIZE:
            raise MerkleError(f"expected a frontier size from 0 to {MAX_SIZE}, got {self.size}")
        if len(self.hashes) != self.size.bit_count():
            raise MerkleError(
                f"expected {self.size.bit_count()} hashes in a frontier of size {self.size}, "
                f"got {len(self.hashes)}"
            )
        if not _RIGHT_LENGTHS.issuperset(map(len, self.hashes)):
            raise MerkleError(f"expected frontier hashes of {HASH_BYTES} bytes each")

    def root(self) -> bytes:
        """Return the root over all leaves so far."""
        if not self.hashes:
            return EMPTY_ROOT
        root = self.hashes[-1]
        for hash_ in reversed(self.hashes[:-1]):
            root = node_hash(hash_, root)
        return root

    def grow(self, leaf: bytes) -> tuple[Frontier, tuple[SubtreeHash, ...]]:
        """Return the frontier with leaf hash `leaf` added, and the subtrees this completed."""
        hash_, level = leaf, 0
        hashes = list(self.hashes)
        completed: list[SubtreeHash] = [(0, self.size, leaf)]
        while (self.size >> level) & 1:
            hash_ = node_hash(hashes.pop(), hash_)
            level += 1
            completed.append((level, self.size >> level, hash_))
        hashes.append(hash_)
        return Frontier(size=self.size + 1, hashes=tuple(hashes)), tuple(completed)

    def append(self, leaf: bytes) -> Frontier:
        """Return the frontier with leaf hash `leaf` added."""
        return self.grow(leaf)[0]

    def extend(self, leaves: Iterable[bytes]) -> Frontier:
        """Return the frontier with all these leaf hashes added in order."""
        frontier = self
        for leaf in leaves:
            frontier = frontier.append(leaf)
        return frontier

    def encode(self) -> bytes:
        """Return the stored form: the size as 8 bytes big-endian, then the hashes."""
        return self.size.to_bytes(_SIZE_BYTES, "big") + b"".join(self.hashes)


EMPTY_FRONTIER = Frontier()


def parse_frontier(data: bytes) -> Frontier:
    """Return the frontier stored as `data`, or raise `MerkleError`."""
    body = data[_SIZE_BYTES:]
    if len(data) < _SIZE_BYTES or len(body) % HASH_BYTES:
        raise MerkleError(f"expected 8 bytes and whole hashes of 32, got {len(data)} bytes")
    hashes = tuple(body[i : i + HASH_BYTES] for i in range(0, len(body), HASH_BYTES))
    return Frontier(size=int.from_bytes(data[:_SIZE_BYTES], "big"), hashes=hashes)


def hashes_for_append(frontier: Frontier, leaf: bytes) -> list[SubtreeHash]:
    """Return what a store must insert when leaf hash `leaf` is appended after `frontier`."""
    return list(frontier.grow(leaf)[1])
