"""One log of a dossier, recomputed from its entry bundles.

Invariants
- Leaf hashes, every tile and the root are computed from the entries; nothing stored is believed.
- The entries handed out are exactly those under the verified checkpoint, in order.
- Nothing beyond what the checkpoint implies is read.

Does not verify the checkpoint's signatures: its caller knows whose they must be.
Follows C2SP tlog-tiles.
"""

from __future__ import annotations

from gatelift.ledger.audit.folder import Folder
from gatelift.ledger.audit.report import Findings
from gatelift.tlog import (
    HASH_BYTES,
    MAX_NOTE_BYTES,
    TILE_HEIGHT,
    TILE_WIDTH,
    Checkpoint,
    MemoryTree,
    entry_tiles_for_size,
    parse_entries,
    tiles_for_size,
)

__all__ = ["CHECKPOINT", "AuditedLog", "read_checkpoint", "read_log"]

CHECKPOINT = "checkpoint"


class AuditedLog:
    """A log whose entries lead to its checkpoint's root. `folder` is where it lies."""

    __slots__ = ("_tree", "checkpoint", "entries", "folder")

    def __init__(
        self, folder: str, checkpoint: Checkpoint, entries: tuple[bytes, ...], tree: MemoryTree
    ) -> None:
        self.folder = folder
        self.checkpoint = checkpoint
        self.entries = entries
        self._tree = tree

    @property
    def origin(self) -> str:
        """The log's name."""
        return self.checkpoint.origin

    def place(self, index: int) -> str:
        """Return where entry `index` stands, for a finding."""
        return f"{self.folder}#{index}"

    def root_at(self, size: int) -> bytes:
        """Return the root over the first `size` entries, which must be there."""
        return self._tree.root(size)


def read_checkpoint(folder: Folder, name: str) -> bytes:
    """Return the checkpoint note of the log below `name`; raises `FolderError`."""
    return folder.read(f"{name}/{CHECKPOINT}", MAX_NOTE_BYTES)


def read_log(
    folder: Folder, name: str, checkpoint: Checkpoint, findings: Findings
) -> AuditedLog | None:
    """Return the log below `name` once its entries lead to the root of a verified checkpoint.

    Tiles that differ from what the entries give are findings; a log whose root differs is none.
    """
    entries: list[bytes] = []
    before = findings.errors
    for bundle in entry_tiles_for_size(checkpoint.size):
        where = f"{name}/{bundle.path}"
        with findings.reading(where):
            entries.extend(parse_entries(folder.read(where), bundle.width))
        if findings.errors != before:
            return None
    tree = MemoryTree(entries)
    if tree.root() != checkpoint.root:
        findings.error(
            "root_mismatch",
            f"{name}/{CHECKPOINT}",
            f"expected the root {checkpoint.root.hex()} over {checkpoint.size} entries, "
            f"they lead to {tree.root().hex()}: entries were altered, or belong to another log",
        )
        return None
    _check_tiles(folder, name, tree, findings)
    return AuditedLog(name, checkpoint, tuple(entries), tree)


def _check_tiles(folder: Folder, name: str, tree: MemoryTree, findings: Findings) -> None:
    for tile in tiles_for_size(tree.size):
        where = f"{name}/{tile.path}"
        with findings.reading(where):
            first = tile.index * TILE_WIDTH
            hashes = tree.row(TILE_HEIGHT * tile.level, first, first + tile.width)
            if folder.read(where, TILE_WIDTH * HASH_BYTES) != b"".join(hashes):
                findings.error(
                    "tile_mismatch", where, "expected the hashes of the log's entries, got others"
                )
