"""The requests logs on disk: checkpoint, bundles and tiles, journals, anchored heads.

    journals --batches--> entries (bundles) --> leaf hashes --> tiles --> root == signed checkpoint
                                                     '-- heads anchored in the releases log

Invariants
- An entry is a batch of the log's own node, signed by it, and the next one of its run in the journal.
- Each anchored head, and the one remembered beside the log, is a prefix of it.
- Bundles and tiles are mended from each other and from the journals, under the signed root only.

What is committed in a journal and not in a log yet is no fault: the keeper appends it when it starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gatelift.encoding import decode_json
from gatelift.errors import CallerError
from gatelift.ledger.audit.folder import LOG_NAME, log_name_of, origin_of
from gatelift.ledger.audit.requests import node_of, requests_keys
from gatelift.ledger.errors import LedgerError
from gatelift.ledger.faults import Fault
from gatelift.ledger.fsck.blocks import Block, read_blocks
from gatelift.ledger.fsck.node_journals import NodeJournals
from gatelift.ledger.fsck.releases_log import Anchored
from gatelift.ledger.fsck.report import Checkup, LogFound
from gatelift.ledger.head_memory import HEADS, read_remembered
from gatelift.ledger.tile_files import CHECKPOINT_NAME, Place, places_to_check, read_checkpoint
from gatelift.messages import BatchEntry, verify_batch
from gatelift.tlog import (
    Checkpoint,
    MemoryTree,
    Tile,
    VerifierKey,
    encode_entries,
    parse_checkpoint,
    parse_note,
    root_of,
    tile_bytes,
    verify_log_signature,
)
from gatelift.trust import Root, parse_public_key
from gatelift.wire.files import replace_all_durably

__all__ = ["RequestsCheck"]

_NEWEST = (
    "restore the newest copy of this log's folder; what it lacks comes from the journals. Do not start "
    "the keeper before"
)


class RequestsCheck:
    """Checks all requests logs of `directory` under `roots`; `anchored` are their heads elsewhere."""

    def __init__(
        self, directory: Path, roots: Sequence[Root], anchored: Anchored, checkup: Checkup
    ) -> None:
        self._logs = directory / "logs" / "requests"
        self._heads = directory / HEADS / "requests"
        self._roots = tuple(roots)
        self._anchored = anchored
        self._checkup = checkup
        self._journals = NodeJournals(directory / "journal", checkup.faults)

    def run(self) -> None:
        """Check each log, oldest month first."""
        if not self._roots:
            return
        names = sorted(path.name for path in self._logs.iterdir()) if self._logs.is_dir() else []
        names = [name for name in names if LOG_NAME.fullmatch(name)]
        for name in sorted(names, key=lambda n: (node_of(n), n)):
            with self._checkup.faults.reading(
                f"logs/requests/{name}", "a log of this node", "restore it from a copy"
            ):
                self._check_log(name)
        self._check_lost(set(names))
        if self._journals.waiting:
            self._checkup.notes.append(
                f"{self._journals.waiting} committed batches of the journals are not in a log yet: "
                "the keeper appends them when it starts"
            )

    def _check_log(self, name: str) -> None:
        directory, origin = self._logs / name, origin_of(self._roots[0].name, name)
        note = read_checkpoint(directory)
        if note is None:
            return  # opened and not published yet
        verified = self._verify_note(note, name, origin)
        if verified is None:
            return
        head, key = verified
        self._check_memory(name, head, key)
        blocks = read_blocks(directory, head)
        if blocks is None:
            self._checkup.faults.add(_root_fault(name, head))
            return
        tree = MemoryTree()
        for block in blocks:
            for leaf in block.leaves:
                _ = tree.append_leaf(leaf)
        entries = [entry for block in blocks for entry in self._entries_of(block)]
        self._check_files(name, tree, entries)
        self._check_batches(name, entries)
        self._check_anchors(origin, name, tree)
        self._checkup.logs.append(
            LogFound(origin=origin, size=head.size, root=tree.root().hex(), published=head.size)
        )

    def _check_memory(self, name: str, head: Checkpoint, key: VerifierKey) -> None:
        remembered = read_remembered(self._heads / name, key)
        if remembered is None:
            return
        largest = remembered[1]
        # A larger one was being committed when the keeper died: its files came first.
        at = max(head, largest, key=lambda each: each.size)
        blocks = read_blocks(self._logs / name, at)
        if blocks is None and at == head:
            return  # told with the log itself
        leaves = [leaf for block in blocks or () for leaf in block.leaves]
        if len(leaves) == at.size and root_of(leaves[: largest.size]) == largest.root:
            return
        self._checkup.faults.add(
            Fault(
                code="rolled_back",
                where=f"{HEADS}/requests/{name}",
                expected=f"a log that leads to size {largest.size}, root {largest.root.hex()}",
                found=f"a log published at size {head.size} whose files do not",
                do=_NEWEST,
            )
        )

    def _verify_note(
        self, note: bytes, name: str, origin: str
    ) -> tuple[Checkpoint, VerifierKey] | None:
        where = f"logs/requests/{name}/{CHECKPOINT_NAME}"
        try:
            keys = requests_keys(self._roots, origin, node_of(name))
            if not keys:
                raise LedgerError(f"no root enrols node {node_of(name)!r}", code="unknown_node")
            return verify_log_signature(parse_note(note), keys)
        except (CallerError, LedgerError) as error:
            self._checkup.faults.add(
                Fault(
                    code="checkpoint_corrupt",
                    where=where,
                    expected="a head that the node signed",
                    found=str(error),
                    do="restore this log's folder from its newest copy; the keeper appends from the "
                    "journals what the copy lacks",
                )
            )
            return None

    def _entries_of(self, block: Block) -> list[bytes | None]:
        return [
            self._journals.entry_with(leaf) if entry is None else entry
            for leaf, entry in zip(block.leaves, block.entries, strict=True)
        ]

    def _check_files(self, name: str, tree: MemoryTree, entries: list[bytes | None]) -> None:
        directory = self._logs / name
        for place in places_to_check(directory, tree.size):
            data = _data_of(place, tree, entries)
            path = directory / place.path
            found = path.read_bytes() if path.is_file() else None
            if found != data or data is None:
                self._take_difference(name, place, data, found)

    def _take_difference(
        self, name: str, place: Place, data: bytes | None, found: bytes | None
    ) -> None:
        kind = "tile" if isinstance(place, Tile) else "bundle"
        fault = Fault(
            code=f"{kind}_missing" if found is None else f"{kind}_differs",
            where=f"logs/requests/{name}/{place.path}",
            expected="the bytes that lead to the signed root",
            found="no file" if found is None else f"{len(found)} other bytes",
            do="restore it from a copy: no journal holds these batches"
            if data is None
            else "`--repair` writes it again",
            derivable=data is not None,
        )
        if data is None:
            self._checkup.faults.add(fault)
            return
        path = self._logs / name / place.path
        self._checkup.derivable(fault, lambda: replace_all_durably({path: data}))

    def _check_batches(self, name: str, entries: list[bytes | None]) -> None:
        node = node_of(name)
        keys = {
            parse_public_key(n.batch_key) for r in self._roots for n in r.nodes if n.name == node
        }
        is_here = node in self._journals.nodes
        for index, data in enumerate(entries):
            where = f"logs/requests/{name}#{index}"
            if data is None:
                continue  # told with its bundle
            with self._checkup.faults.reading(
                where, "a batch of this node, signed and in its journal", "restore the journal"
            ):
                entry = decode_json(data, BatchEntry)
                if entry.node != node:
                    raise LedgerError(f"a batch of node {entry.node!r}", code="wrong_node")
                if is_here:
                    self._compare(entry, data, keys)
        if entries and not is_here:
            self._checkup.notes.append(
                f"no journal of node {node!r} is here: logs/requests/{name} was not compared with any"
            )

    def _compare(self, entry: BatchEntry, data: bytes, keys: set[bytes]) -> None:
        batch = self._journals.next_of(entry.worker, entry.run)
        if batch is None or batch.data != data:
            raise LedgerError(
                f"another batch, or none, is next in the journal of {entry.worker}/{entry.run}",
                code="batch_missing",
            )
        errors: list[CallerError] = []
        for key in sorted(keys):
            try:
                _ = verify_batch(data, batch.signature, key)
            except CallerError as error:
                errors.append(error)
            else:
                return
        raise LedgerError(f"no key of the node signed it: {errors}", code="batch_signature")

    def _check_anchors(self, origin: str, name: str, tree: MemoryTree) -> None:
        for index, text in self._anchored.get(origin, []):
            head = parse_checkpoint(parse_note(text.encode("utf-8")).text)
            if head.size > tree.size or tree.root(head.size) != head.root:
                self._checkup.faults.add(
                    Fault(
                        code="rolled_back",
                        where=f"logs/requests/{name}",
                        expected=f"the log that entry {index} of the releases log anchors at size "
                        f"{head.size}",
                        found=f"{tree.size} entries that do not lead there",
                        do=_NEWEST,
                    )
                )
                return

    def _check_lost(self, names: set[str]) -> None:
        here = self._journals.nodes
        remembered = self._heads.iterdir() if self._heads.is_dir() else ()
        for lost in {path.name for path in remembered if LOG_NAME.fullmatch(path.name)} - names:
            self._checkup.faults.add(_lost_fault(lost, f"{HEADS}/requests/{lost} remembers"))
        for origin, heads in self._anchored.items():
            with self._checkup.faults.reading(origin, "the origin of a requests log", "compare it"):
                name = log_name_of(self._roots[0].name, origin)
            if name not in names and node_of(name) in here:
                where = f"entry {heads[-1][0]} of the releases log anchors"
                self._checkup.faults.add(_lost_fault(name, where))


def _lost_fault(name: str, who: str) -> Fault:
    return Fault(
        code="log_missing",
        where=f"logs/requests/{name}",
        expected=f"the log that {who}",
        found="no folder",
        do=_NEWEST,
    )


def _data_of(place: Place, tree: MemoryTree, entries: list[bytes | None]) -> bytes | None:
    """Return what the file must hold; none if one of its entries is nowhere to be found."""
    if isinstance(place, Tile):
        return tile_bytes(tree, place)
    rows = entries[place.first : place.first + place.width]
    known = [row for row in rows if row is not None]
    return encode_entries(known) if len(known) == len(rows) else None


def _root_fault(name: str, head: Checkpoint) -> Fault:
    return Fault(
        code="root_differs",
        where=f"logs/requests/{name}",
        expected=f"bundles or tiles that lead to the signed root {head.root.hex()} at {head.size}",
        found="none that do",
        do="restore this log's folder from its newest copy",
    )
