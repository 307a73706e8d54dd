"""A commit batch as it was signed, and the records that wait for one.

Invariants
- A batch's tree is RFC 6962's over the record leaves, so `path` is what `verify_ticket` takes.
- `Pending.durable` has a result only after the batch was synced to disk.
- A failed `durable` promises nothing either way: the record may still be committed later, with the
  same sequence number and bytes, when the disk works again.

It does not touch the disk (`writer`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gatelift.encoding import Digest, encode_base64, sha256_digest
from gatelift.journal.errors import JournalError
from gatelift.messages import BatchEntry, Ticket, record_leaf, sign_batch
from gatelift.tlog import node_hash
from gatelift.trust import SigningKey

__all__ = ["Pending", "SignedBatch", "make_batch"]


class SignedBatch:
    """A batch entry, its stored bytes, the node's signature and the tree below its root."""

    __slots__ = ("_rows", "data", "entry", "signature")

    def __init__(
        self, entry: BatchEntry, data: bytes, signature: bytes, rows: list[list[bytes]]
    ) -> None:
        self.entry = entry
        self.data = data
        self.signature = signature
        self._rows = rows

    @property
    def digest(self) -> Digest:
        """The digest of the stored entry, under which a receipt is asked for."""
        return sha256_digest(self.data)

    def path(self, index: int) -> tuple[bytes, ...]:
        """Return the inclusion proof of record `index` of the batch, leaf's sibling first."""
        steps: list[bytes] = []
        for row in self._rows:
            sibling = index ^ 1
            if sibling < len(row):
                steps.append(row[sibling])
            index >>= 1
        return tuple(steps)


class Pending:
    """An appended record: in the page cache now, on disk when `durable` is done.

    `durable` yields the signed batch, or raises `JournalError`.
    """

    __slots__ = ("data", "durable", "salt", "seq")

    def __init__(
        self, seq: int, salt: bytes, data: bytes, durable: asyncio.Future[SignedBatch]
    ) -> None:
        self.seq = seq
        self.salt = salt
        self.data = data
        self.durable = durable

    def ticket(self, content_salt: bytes) -> Ticket:
        """Return the caller's ticket; `content_salt` opens the record's commitment to content.

        Raises `JournalError` (`journal_not_durable`) before `durable` is done, and its own error
        after it failed.
        """
        if not self.durable.done():
            raise JournalError(
                f"record {self.seq} is not on disk yet: await `durable` first",
                code="journal_not_durable",
            )
        batch = self.durable.result()
        index = self.seq - batch.entry.seq
        return Ticket(
            v=1,
            entry=batch.data.decode("utf-8"),
            signature=encode_base64(batch.signature),
            index=index,
            path=tuple(encode_base64(step) for step in batch.path(index)),
            salt=encode_base64(self.salt),
            record=self.data.decode("utf-8"),
            content_salt=encode_base64(content_salt),
        )


def make_batch(
    pendings: Sequence[Pending], *, node: str, worker: str, run: str, at: int, key: SigningKey
) -> SignedBatch:
    """Return the signed batch over `pendings`, which are consecutive by `seq`. `at` in ms UTC."""
    row = [record_leaf(pending.salt, pending.data) for pending in pendings]
    rows: list[list[bytes]] = []
    while len(row) > 1:
        rows.append(row)
        above = [node_hash(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)]
        if len(row) % 2:
            above.append(row[-1])
        row = above
    entry = BatchEntry(
        v=1,
        node=node,
        worker=worker,
        run=run,
        seq=pendings[0].seq,
        n=len(pendings),
        root=Digest(f"sha256:{row[0].hex()}"),
        at=at,
    )
    data, signature = sign_batch(entry, key)
    return SignedBatch(entry, data, signature, rows)
