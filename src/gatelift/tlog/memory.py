"""A tree held in memory, for tests, batches and small logs.

Invariants
- Level 0 holds every leaf hash; level l holds the hash of each complete subtree of 2**l leaves.
- It answers as a `HashReader` for every size up to its own.

Not here: durability. The journal's batches use it within one commit; logs are kept by a store.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from gatelift.tlog.frontier import Frontier
from gatelift.tlog.merkle import (
    MerkleError,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_at,
)

__all__ = ["MemoryTree"]


class MemoryTree:
    """An append-only tree in memory that reads its own proofs."""

    __slots__ = ("_frontier", "_levels")

    def __init__(self, entries: Iterable[bytes] = ()) -> None:
        # All at once: growing by one leaf makes a frontier each time, which is most of the work.
        row = [leaf_hash(entry) for entry in entries]
        self._levels: list[list[bytes]] = [row]
        while len(row) > 1:
            # An unpaired last hash is no complete subtree: it waits for its sibling.
            pairs = zip(row[::2], row[1::2], strict=False)
            row = [hashlib.sha256(b"\x01" + left + right).digest() for left, right in pairs]
            self._levels.append(row)
        size = len(self._levels[0])
        edge = [level for level in reversed(range(size.bit_length())) if size >> level & 1]
        self._frontier = Frontier(
            size=size, hashes=tuple(self._levels[level][(size >> level) - 1] for level in edge)
        )

    @property
    def size(self) -> int:
        """How many leaves there are."""
        return self._frontier.size

    @property
    def frontier(self) -> Frontier:
        """The frontier at the present size."""
        return self._frontier

    def append(self, entry: bytes) -> int:
        """Add the entry's bytes and return its index."""
        return self.append_leaf(leaf_hash(entry))

    def append_leaf(self, leaf: bytes) -> int:
        """Add a leaf hash and return its index."""
        index = self._frontier.size
        self._frontier, completed = self._frontier.grow(leaf)
        for level, _, hash_ in completed:
            if level == len(self._levels):
                self._levels.append([])
            self._levels[level].append(hash_)
        return index

    def hash_at(self, level: int, index: int) -> bytes:
        """Return the hash of the complete subtree `index` of 2**level leaves."""
        if not (0 <= level < len(self._levels) and 0 <= index < len(self._levels[level])):
            raise MerkleError(
                f"no complete subtree at level {level}, index {index} in {self.size} leaves"
            )
        return self._levels[level][index]

    def row(self, level: int, first: int, stop: int) -> list[bytes]:
        """Return the hashes of the complete subtrees `first` to before `stop` of a level."""
        self.hash_at(level, first)
        self.hash_at(level, stop - 1)
        return self._levels[level][first:stop]

    def root(self, size: int | None = None) -> bytes:
        """Return the root at `size`, by default the present one."""
        if size is None:
            return self._frontier.root()
        return root_at(self, size)

    def inclusion_proof(self, index: int, size: int | None = None) -> tuple[bytes, ...]:
        """Return the proof of leaf `index` at `size`, by default the present one."""
        return inclusion_proof(self, index, self.size if size is None else size)

    def consistency_proof(self, old_size: int, size: int | None = None) -> tuple[bytes, ...]:
        """Return the proof from `old_size` to `size`, by default the present one."""
        return consistency_proof(self, old_size, self.size if size is None else size)
