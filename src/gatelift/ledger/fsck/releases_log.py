"""The releases log on disk: its store, the memory of heads, its publication, its bodies.

    store entries --recompute--> tree, heads
         |                        |-- notes of the heads: signed by the log, by known witnesses
         |                        |-- heads/releases: the largest ever signed
         |                        '-- logs/releases: checkpoint, tiles, bundles
         '-- header --digest--> files/sha256: bodies, plan, candidate

Invariants
- Keys come from the roots in the log itself, each signed by the one before it; the pinned one is
  among them. Where the store is empty the deployment's own root is asked, so that a lost log is seen.
- Published files are mended from a store that is whole only, and the store from a publication that
  leads to its signed root (`mending`).

It does not judge bodies: what they say was verified when they were logged, and is again when control
starts; a body with its digest is the one that was logged.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from gatelift.encoding import Digest, decode_json, parse_digest, sha256_digest
from gatelift.errors import CallerError
from gatelift.ledger.errors import LedgerError
from gatelift.ledger.faults import Fault
from gatelift.ledger.fsck.bodies import Bodies
from gatelift.ledger.fsck.mending import mend_store
from gatelift.ledger.fsck.report import Checkup, LogFound
from gatelift.ledger.head_memory import HEADS, read_remembered
from gatelift.ledger.opening import verify_note
from gatelift.ledger.recompute import LEAVES_AT_ONCE, recompute
from gatelift.ledger.tile_files import (
    CHECKPOINT_NAME,
    Place,
    differing_places,
    publish_checkpoint,
    read_checkpoint,
    write_tiles,
)
from gatelift.messages import EntryHeader, EntryKind, Head, releases_policy, verify_body
from gatelift.store import Store, StoredCheckpoint
from gatelift.tlog import (
    Checkpoint,
    Frontier,
    MerkleError,
    PolicyError,
    VerifierKey,
    parse_note,
    parse_vkey,
    root_at,
    verify_checkpoint,
    verify_cosignatures,
    verify_witnessed,
)
from gatelift.trust import Root, verify_root

__all__ = ["Anchored", "ReleasesCheck"]

Anchored = dict[str, list[tuple[int, str]]]
"""By origin of a requests log: the entries of the releases log that hold a head of it, and its note."""

_HEADS_AT_ONCE = 256
_NEWER = (
    "restore the newest store: this one was rolled back. If the newest is lost, begin a log under a "
    "new name (docs/how-to/restore-from-backup.md)"
)


class ReleasesCheck:
    """Checks the releases log of `directory`; afterwards `roots` and `anchored` say what it holds."""

    def __init__(self, directory: Path, store: Store, checkup: Checkup) -> None:
        self._directory = directory
        self._published = directory / "logs" / "releases"
        self._store = store
        self._checkup = checkup
        self._bodies = Bodies(directory, checkup)
        self.roots: list[Root] = []
        self.anchored: Anchored = {}
        self._root_digests: set[Digest] = set()

    def run(self) -> None:
        """Check all of it."""
        faults = self._checkup.faults
        with faults.reading("store", "a database that can be read", "restore its newest copy"):
            for found in self._store.database_faults():
                faults.add(
                    Fault(
                        code="database_corrupt",
                        where="store/control.sqlite",
                        expected="a whole SQLite database",
                        found=found,
                        do="restore the newest copy of the store",
                    )
                )
            before = len(faults)
            frontier = self._recompute()
            self._read_entries()
            self._bodies.check_all()
            if not self.roots:
                return
            key = parse_vkey(self.roots[-1].releases_vkey)
            self._check_notes(key)
            is_whole = len(faults) == before and self._is_newest(key)
            published = self._check_published(key, is_whole=is_whole)
            self._checkup.logs.append(
                LogFound(
                    origin=key.name,
                    size=frontier.size,
                    root=frontier.root().hex(),
                    published=published,
                )
            )

    def _recompute(self) -> Frontier:
        frontier, found = recompute(self._store)
        if found.kept and self._checkup.repairs:
            problem = mend_store(self._store, self._published, self._own_key())
            if problem is None:
                self._checkup.mended(found)
                return recompute(self._store)[0]
            self._checkup.notes.append(
                f"the store was not mended from the published log: {problem}"
            )
        self._checkup.faults.extend(found)
        return frontier

    def _own_key(self) -> VerifierKey:
        # Roots are read from the entries later; which root began the log is pinned beside them.
        return parse_vkey(self._pinned_root().releases_vkey)

    def _pinned_root(self) -> Root:
        return verify_root((self._directory / "root.json").read_bytes(), 0)

    def _read_entries(self) -> None:
        size = self._store.size()
        for first in range(0, size, LEAVES_AT_ONCE):
            for row in self._store.entry_rows(first, min(size, first + LEAVES_AT_ONCE)):
                where = f"entry {row.position} of the releases log"
                with self._checkup.faults.reading(
                    where, "a header and the body that it names", "restore it from a copy"
                ):
                    self._take_entry(row.position, decode_json(row.leaf, EntryHeader))
        self._check_pin()

    def _take_entry(self, index: int, header: EntryHeader) -> None:
        data = self._bodies.check(header.body, f"the body of entry {index}")
        if data is None or header.kind not in Bodies.NAMING:
            return
        if header.kind is EntryKind.ROOT:
            last = self.roots[-1] if self.roots else None
            self.roots.append(verify_root(data, header.at, last))
            self._root_digests.add(header.body)
            return
        if not self.roots:
            return  # told with the first entry, which must be one
        value = verify_body(header.kind, data, self.roots[-1], header.at).value
        if isinstance(value, Head):
            self.anchored.setdefault(value.origin, []).append((index, value.checkpoint))
        self._bodies.check_named(value, index)

    def _check_pin(self) -> None:
        with self._checkup.faults.reading("root.sha256", "the digest of a root", "restore it"):
            digest = parse_digest((self._directory / "root.sha256").read_text("ascii").strip())
            if self._store.size() == 0:
                # Whose log was lost stands in the root that begins it.
                self.roots.append(self._pinned_root())
            elif digest not in self._root_digests:
                self._checkup.faults.add(
                    Fault(
                        code="wrong_root",
                        where="root.sha256",
                        expected="the digest of a root in the log",
                        found=digest,
                        do="find out which of the two was changed: this is another log's store, or "
                        "another deployment's pin",
                    )
                )

    def _check_notes(self, key: VerifierKey) -> None:
        witnesses = {w.vkey: parse_vkey(w.vkey) for root in self.roots for w in root.witnesses}
        size = -1
        while heads := self._store.checkpoints_above(size, _HEADS_AT_ONCE):
            for head in heads:
                self._check_note(head, key, list(witnesses.values()))
            size = heads[-1].size

    def _check_note(
        self, head: StoredCheckpoint, key: VerifierKey, witnesses: list[VerifierKey]
    ) -> None:
        with self._checkup.faults.reading(
            f"store checkpoints#{head.size}",
            f"a note that {key.name!r} signed at size {head.size}, and its witnesses' lines",
            "restore the newest copy of the store",
        ):
            verify_note(head.note, head.size, head.root, key)
            # A changed name or key id makes a line a stranger's, which would pass unseen.
            count = 1 + len(verify_cosignatures(parse_note(head.note), witnesses))
            if count != head.signatures:
                raise LedgerError(f"{count} signatures that hold of {head.signatures} stored")

    def _is_newest(self, key: VerifierKey) -> bool:
        """Return whether the store leads to the largest head that was remembered outside it."""
        where = f"{HEADS}/releases"
        before = len(self._checkup.faults)
        with self._checkup.faults.reading(
            where,
            "the largest head that was ever signed",
            "compare the store with a witness; if it is the newest, remove the file",
        ):
            held = read_remembered(self._directory / HEADS / "releases", key)
            if held is None:
                if self._store.checkpoint() is not None:
                    self._checkup.notes.append(
                        f"no {where}: only a witness can tell whether this store is the newest. "
                        "Control begins the file again"
                    )
            else:
                self._check_leads_to(held[1], where)
        return len(self._checkup.faults) == before

    def _check_leads_to(self, seen: Checkpoint, where: str) -> bool:
        try:
            root = root_at(self._store, seen.size) if seen.size <= self._store.size() else None
        except (LedgerError, MerkleError):
            root = None
        if root == seen.root:
            return True
        self._checkup.faults.add(
            Fault(
                code="rolled_back",
                where=where,
                expected=f"a store that leads to size {seen.size}, root {seen.root.hex()}",
                found=f"{self._store.size()} entries that do not",
                do=_NEWER,
            )
        )
        return False

    def _check_published(self, key: VerifierKey, *, is_whole: bool) -> int:
        note = read_checkpoint(self._published)
        if note is None:
            return 0
        published = self._verify_published(note, key, is_whole=is_whole)
        if published is None:
            return 0
        if not self._check_leads_to(published, f"logs/releases/{CHECKPOINT_NAME}"):
            return published.size
        if is_whole:
            self._check_tiles(published.size)
        return published.size

    def _verify_published(
        self, note: bytes, key: VerifierKey, *, is_whole: bool
    ) -> Checkpoint | None:
        try:
            return verify_checkpoint(note, key)
        except CallerError as error:
            return self._replace_checkpoint(str(error), is_whole=is_whole)

    def _replace_checkpoint(self, error: str, *, is_whole: bool) -> Checkpoint | None:
        head = self._publishable() if is_whole else None
        fault = Fault(
            code="checkpoint_corrupt",
            where=f"logs/releases/{CHECKPOINT_NAME}",
            expected="a head that the log signed",
            found=error,
            do="`--repair` puts the newest stored head there that may be published"
            if head
            else "restore the store first: there is no head that could take its place",
            derivable=head is not None,
        )
        if head is None:
            self._checkup.faults.add(fault)
            return None
        size, root, note, _ = head
        self._checkup.derivable(fault, lambda: self._publish(size, note))
        return Checkpoint(origin=self.roots[-1].name, size=size, root=root)

    def _publishable(self) -> StoredCheckpoint | None:
        policy = releases_policy(self.roots[-1])
        head = self._store.checkpoint()
        while head is not None:
            try:
                verify_witnessed(head.note, policy)
            except PolicyError:
                head = self._store.checkpoint_below(head.size)
            else:
                return head
        return None

    def _check_tiles(self, size: int) -> None:
        for place, found in self._differing(size):
            fault = Fault(
                code="tile_missing" if found is None else "tile_differs",
                where=f"logs/releases/{place.path}",
                expected="the bytes that follow from the store's entries",
                found="no file"
                if found is None
                else f"{len(found)} bytes with {sha256_digest(found)}",
                do="`--repair` writes it again; so does control when it starts",
                derivable=True,
            )
            self._checkup.derivable(fault, partial(self._write, [place]))

    def _differing(self, size: int) -> list[tuple[Place, bytes | None]]:
        return differing_places(self._published, size, self._store.hashes, self._store.leaves)

    def _publish(self, size: int, note: bytes) -> None:
        # Never a checkpoint before the files that it implies.
        self._write([place for place, _ in self._differing(size)])
        publish_checkpoint(self._published, note)

    def _write(self, places: list[Place]) -> None:
        write_tiles(self._published, places, self._store.hashes, self._store.leaves)
