"""A tree held in memory, for tests, batches and small logs.

Invariants
- Level 0 holds every leaf hash; level l holds the hash of each complete subtree of 2**l leaves.
- It answers as a `HashReader` for every size up to its own.

Not here: durability. The journal's batches use it within one commit; logs are kept by a store.
"""

from __future__ import annotations

from collections.abc import Iterable

from gatelift.tlog.frontier import EMPTY_FRONTIER, Frontier
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
        self._frontier = EMPTY_FRONTIER
        self._levels: list[list[bytes]] = [[]]
        for entry in entries:
            self.append(entry)

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
