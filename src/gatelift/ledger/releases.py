"""The releases log, written: append, sign, publish, gather cosignatures.

    bodies to files --> one transaction: headers, tree hashes --> sign --> tiles --> witnesses
                        (the truth from here on)                                 --> checkpoint

Invariants
- An entry whose index was returned is durable, and so is its body; the index is never used again.
- Opening computes the whole log again (`recompute`): a changed bit in an entry, a stored hash or a
  stored head stops it (`corrupt`); a published tile that differs is written again (`mended`).
- What is signed was computed again from the entries as the store gives them back, after the commit,
  and has to agree with the stored tree; so was each entry of a bundle that is published with it.
- One root a size: a head is remembered outside the store (`head_memory`), then stored, each time
  refusing a second root, before anybody sees it.
- A head that was published, remembered, or that a witness holds, and that the store does not lead
  to, stops the log (`rolled_back`): a store restored from a backup must not tell another history
  under the same name.
- Publishing only repeats what the store says; after a crash it is done again.

It does not know who may write what, or what follows: `control` checks and decides before it
appends. An entry that was acknowledged and never under a signed head is remembered by the store
alone.

Follows C2SP tlog-tiles and tlog-checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from gatelift.encoding import encode_json, sha256_digest
from gatelift.ledger.errors import LedgerError
from gatelift.ledger.head_memory import HeadMemory
from gatelift.ledger.opening import HEADS_TRIED, check_leads_to, check_opening
from gatelift.ledger.recompute import LEAVES_AT_ONCE
from gatelift.ledger.tile_files import (
    Place,
    differing_places,
    drop_partials,
    drop_unpublished,
    places_for_growth,
    publish_checkpoint,
    read_checkpoint,
    write_tiles,
)
from gatelift.messages import EntryHeader, EntryKind, Visibility
from gatelift.store import Store, Transaction
from gatelift.tlog import (
    TILE_WIDTH,
    Checkpoint,
    Frontier,
    HashReader,
    Note,
    NoteSigner,
    Policy,
    PolicyError,
    SubtreeHash,
    TlogProof,
    VerifierKey,
    consistency_proof,
    format_note,
    inclusion_proof,
    known_signatures,
    leaf_hash,
    parse_note,
    root_at,
    sign_checkpoint,
    verify_checkpoint,
    verify_cosignatures,
    verify_witnessed,
)
from gatelift.wire.files import FileStore, make_directory

__all__ = ["NewEntry", "ReleasesLog"]


class NewEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An entry to be appended: the header's fields, and the body's bytes. `at` in ms UTC."""

    at: int
    kind: EntryKind
    actor: tuple[str, ...]
    visibility: Visibility
    body: bytes
    end: bool

    def header(self) -> EntryHeader:
        """Return the header under which the entry is logged."""
        return EntryHeader(
            v=1,
            at=self.at,
            kind=self.kind,
            actor=self.actor,
            body=sha256_digest(self.body),
            body_bytes=len(self.body),
            visibility=self.visibility,
            end=self.end,
        )


class ReleasesLog:
    """The log kept in `store` and `files` and published in `publish_dir`.

    `signer` is named as the log's origin; `memory` holds the largest head that it ever signed;
    stored lines of `witnesses` are verified at the opening. Used by one thread. Raises `LedgerError` (`rolled_back`, `corrupt`, `checkpoint_corrupt`) if store,
    memory and publication disagree.
    """

    def __init__(
        self,
        store: Store,
        files: FileStore,
        publish_dir: Path,
        signer: NoteSigner,
        memory: HeadMemory,
        witnesses: Sequence[VerifierKey] = (),
    ) -> None:
        self._store = store
        self._files = files
        self._directory = publish_dir
        self._signer = signer
        self._memory = memory
        self._grown: Frontier | None = None
        make_directory(publish_dir)
        self._published = check_opening(store, publish_dir, signer.key, memory, witnesses)
        head = store.checkpoint()
        self._signed = 0 if head is None else head.size
        self._base = _frontier_at(store, self._signed // TILE_WIDTH * TILE_WIDTH)
        self._tiled = self._published
        drop_unpublished(publish_dir, self._published)
        self.mended = self._mend()
        """The published files that differed from the store, and were written again."""

    @property
    def origin(self) -> str:
        """The log's name."""
        return self._signer.name

    @property
    def key(self) -> VerifierKey:
        """The key that its heads verify under."""
        return self._signer.key

    @property
    def size(self) -> int:
        """How many entries are stored."""
        return self._store.size()

    @property
    def head(self) -> bytes | None:
        """The note of the largest head that was signed, with all its cosignatures."""
        head = self._store.checkpoint()
        return None if head is None else head.note

    def append(self, group: Sequence[NewEntry], *, expected_size: int | None = None) -> list[int]:
        """Append `group` as one transaction and return the indices, once all of it is durable.

        The last entry, and no other, has `end`. Raises `LedgerError` (`bad_group`; `moved` if the
        log is not of `expected_size`) and `StoreError`; then nothing was appended.
        """
        _check_group(group)
        self._files.put_all([entry.body for entry in group])
        grown, self._grown = self._grown, None
        with self._store.transaction() as transaction:
            size = transaction.size()
            if expected_size is not None and size != expected_size:
                raise LedgerError(
                    f"expected a log of {expected_size} entries, it has {size}: read it again",
                    code="moved",
                )
            if group[0].at < transaction.last_at():
                raise LedgerError(
                    f"expected a time of at least {transaction.last_at()}, got {group[0].at}",
                    code="bad_group",
                )
            if grown is None or grown.size != size:
                grown = _frontier_at(transaction, size)
            headers = [entry.header() for entry in group]
            indices = transaction.append_entries([(h, encode_json(h)) for h in headers])
            grown, completed = _grow(transaction, grown, size + len(group))
            transaction.put_hashes(completed)
        self._grown = grown
        return indices

    def sign_checkpoint(self) -> bytes:
        """Sign the log at its present size and return the note; the same note if it was signed.

        Raises `LedgerError` (`corrupt`) if the stored entries do not lead to the stored tree.
        """
        with self._store.transaction() as transaction:
            size = transaction.size()
            # From the last whole tile on: the bundles that will be published with this head.
            base, _ = _grow(transaction, self._base, size // TILE_WIDTH * TILE_WIDTH)
            root = _grow(transaction, base, size)[0].root()
            if root != root_at(transaction, size):
                raise self._corrupt(size)
            held = transaction.checkpoint(size)
            if held is None:
                note = sign_checkpoint(
                    Checkpoint(origin=self.origin, size=size, root=root), self._signer
                )
                self._memory.advance(note)
                transaction.put_checkpoint(size, root, note, signatures=1)
            elif held.root == root:
                note = held.note
            else:
                raise self._corrupt(size)
        self._base, self._signed = base, size
        return note

    def check_seen(self, seen: Checkpoint) -> None:
        """Return if this log holds all that `seen`, which it signed, covers.

        Raises `LedgerError` (`rolled_back`): whoever holds `seen` has seen more, or another history.
        """
        check_leads_to(self._store, seen, "a witness holds it")

    def publish_tiles(self) -> None:
        """Write the tiles of the largest signed head, so that its proofs can be fetched."""
        if self._signed > self._tiled:
            self._write(places_for_growth(self._tiled, self._signed))
            self._tiled = self._signed

    def publish(self, policy: Policy) -> bytes | None:
        """Publish the tiles and the largest head that meets `policy`; return the head that stands.

        None if no head was ever published. A head that still lacks its quorum of witnesses leaves
        the one before it standing; only the newest few are tried.
        """
        self.publish_tiles()
        standing = read_checkpoint(self._directory)
        head = self._store.checkpoint()
        for _ in range(HEADS_TRIED):
            if head is None or head.size < self._published:
                break
            if _meets(head.note, policy):
                if head.note != standing:
                    publish_checkpoint(self._directory, head.note)
                    drop_partials(self._directory, places_for_growth(self._published, head.size))
                    self._published = head.size
                return head.note
            head = self._store.checkpoint_below(head.size)
        return standing

    def add_cosignatures(self, note: bytes, witnesses: Sequence[VerifierKey]) -> bytes:
        """Keep the cosignatures by `witnesses` under `note` and return the note that is stored now.

        The newest line of each witness is kept. Raises `LedgerError` (`not_logged`) for a head that
        was never signed here, and the error of a cosignature that fails.
        """
        checkpoint = verify_checkpoint(note, self._signer.key)
        parsed = parse_note(note)
        verify_cosignatures(parsed, witnesses)
        with self._store.transaction() as transaction:
            held = transaction.checkpoint(checkpoint.size)
            if held is None or parse_note(held.note).text != parsed.text:
                raise LedgerError(
                    f"expected a head of {self.origin!r} that was signed here, got another one at "
                    f"size {checkpoint.size}",
                    code="not_logged",
                )
            merged = _merge(parse_note(held.note), parsed, witnesses)
            count = len(parse_note(merged).signatures)
            transaction.put_checkpoint(held.size, held.root, merged, signatures=count)
        return merged

    def proof(self, index: int, note: bytes) -> TlogProof:
        """Return the proof that entry `index` is in the log at the head `note`, signed here."""
        size = verify_checkpoint(note, self._signer.key).size
        if not 0 <= index < size:
            raise LedgerError(f"no entry {index} in a head of {size}", code="not_logged")
        return TlogProof(
            index=index,
            hashes=inclusion_proof(self._store, index, size),
            checkpoint_note=note,
        )

    def earliest_proof(self, index: int, policy: Policy) -> TlogProof | None:
        """Return the proof of entry `index` under the first head that holds it and meets `policy`.

        None while no such head is cosigned. Later heads would prove a later moment.
        """
        size = index
        while heads := self._store.checkpoints_above(size, HEADS_TRIED):
            for head in heads:
                if _meets(head.note, policy):
                    return self.proof(index, head.note)
            size = heads[-1].size
        return None

    def consistency(self, old_size: int, new_size: int) -> tuple[bytes, ...]:
        """Return the proof that the log at `new_size` only adds to the log at `old_size`."""
        return consistency_proof(self._store, old_size, new_size)

    def _mend(self) -> tuple[str, ...]:
        read = self._store.hashes, self._store.leaves
        wrong = [place for place, _ in differing_places(self._directory, self._published, *read)]
        self._write(wrong)
        return tuple(place.path for place in wrong)

    def _write(self, places: Sequence[Place]) -> None:
        write_tiles(self._directory, places, self._store.hashes, self._store.leaves)

    def _corrupt(self, size: int) -> LedgerError:
        return LedgerError(
            f"the entries of {self.origin!r} do not lead to the stored tree at size {size}: "
            "nothing was signed. Stop, and run `gatelift ledger fsck`",
            code="corrupt",
        )


def _check_group(group: Sequence[NewEntry]) -> None:
    if not group:
        raise LedgerError("expected at least one entry in a transaction", code="bad_group")
    ats = [entry.at for entry in group]
    if ats != sorted(ats):
        raise LedgerError("expected the times of a transaction not to decrease", code="bad_group")
    if [entry.end for entry in group] != [False] * (len(group) - 1) + [True]:
        raise LedgerError(
            "expected `end` on the last entry of a transaction and on no other", code="bad_group"
        )


def _grow(
    transaction: Transaction, frontier: Frontier, size: int
) -> tuple[Frontier, list[SubtreeHash]]:
    # From the bytes as the database gives them back, not from those that were handed to it.
    completed: list[SubtreeHash] = []
    for first in range(frontier.size, size, LEAVES_AT_ONCE):
        for leaf in transaction.leaves(first, min(size, first + LEAVES_AT_ONCE)):
            frontier, hashes = frontier.grow(leaf_hash(leaf))
            completed += hashes
    return frontier, completed


def _frontier_at(reader: HashReader, size: int) -> Frontier:
    hashes: list[bytes] = []
    start = 0
    for level in range(size.bit_length() - 1, -1, -1):
        if size >> level & 1:
            hashes.append(reader.hash_at(level, start >> level))
            start += 1 << level
    return Frontier(size=size, hashes=tuple(hashes))


def _meets(note: bytes, policy: Policy) -> bool:
    try:
        verify_witnessed(note, policy)
    except PolicyError:
        return False
    return True


def _merge(held: Note, new: Note, witnesses: Sequence[VerifierKey]) -> bytes:
    lines = {(line.name, line.key_id): line for line in held.signatures}
    for key, line in known_signatures(new, witnesses):
        mark = (key.name, key.key_id)
        old = lines.get(mark)
        # The signature begins with its time, big-endian: the newest compares largest.
        if old is None or line.signature[:8] > old.signature[:8]:
            lines[mark] = line
    return format_note(Note(text=held.text, signatures=tuple(lines.values())))
