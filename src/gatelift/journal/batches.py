"""A commit batch as it was signed, and the records that wait for one.

Invariants
- A batch's tree is RFC 6962's over the record leaves, so `path` is what `verify_ticket` takes.
- `Pending.durable` has a result only after the batch was synced to disk.
- A failed `durable` promises nothing either way: the record may still be committed later, with the
  same sequence number and bytes, when the disk works again.
- Who waits for `durable` waits alone: giving up takes nothing from anybody else.

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

    __slots__ = ("_rows", "_written_rows", "data", "entry", "signature")

    def __init__(
        self, entry: BatchEntry, data: bytes, signature: bytes, rows: list[list[bytes]]
    ) -> None:
        self.entry = entry
        self.data = data
        self.signature = signature
        self._rows = rows
        self._written_rows: list[list[str]] | None = None

    @property
    def digest(self) -> Digest:
        """The digest of the stored entry, under which a receipt is asked for."""
        return sha256_digest(self.data)

    def path(self, index: int) -> tuple[str, ...]:
        """Return the inclusion proof of record `index` in base64, leaf's sibling first."""
        if self._written_rows is None:
            # Once for all: the upper rows are in the proof of nearly every record.
            self._written_rows = [[encode_base64(node) for node in row] for row in self._rows]
        steps: list[str] = []
        for row in self._written_rows:
            sibling = index ^ 1
            if sibling < len(row):
                steps.append(row[sibling])
            index >>= 1
        return tuple(steps)


class Pending:
    """An appended record: on disk when `durable` is done.

    `durable` yields the signed batch, or raises `JournalError`.
    """

    __slots__ = ("_batch", "_error", "_loop", "_waiters", "data", "salt", "seq")

    def __init__(self, seq: int, salt: bytes, data: bytes, loop: asyncio.AbstractEventLoop) -> None:
        self.seq = seq
        self.salt = salt
        self.data = data
        self._loop = loop
        self._batch: SignedBatch | None = None
        self._error: JournalError | None = None
        self._waiters: tuple[asyncio.Future[SignedBatch], ...] = ()

    @property
    def durable(self) -> asyncio.Future[SignedBatch]:
        """A future of its own for whoever asks; most starts are never asked, and cost none."""
        waiter: asyncio.Future[SignedBatch] = self._loop.create_future()
        if self._batch is not None:
            waiter.set_result(self._batch)
        elif self._error is not None:
            waiter.set_exception(self._error)
        else:
            self._waiters += (waiter,)
        return waiter

    def resolve(self, batch: SignedBatch) -> None:
        """Tell that it is on disk. On the loop's thread; what was told before stays."""
        if self._batch is None and self._error is None:
            self._batch = batch
            for waiter in self._take_waiters():
                waiter.set_result(batch)

    def reject(self, error: JournalError) -> None:
        """Tell that nothing is promised. On the loop's thread; what was told before stays."""
        if self._batch is None and self._error is None:
            self._error = error
            for waiter in self._take_waiters():
                waiter.set_exception(error)

    def _take_waiters(self) -> list[asyncio.Future[SignedBatch]]:
        waiters, self._waiters = self._waiters, ()
        return [waiter for waiter in waiters if not waiter.done()]

    def ticket(self, content_salt: bytes) -> Ticket:
        """Return the caller's ticket; `content_salt` opens the record's commitment to content.

        Raises `JournalError` (`journal_not_durable`) before `durable` is done, and its own error
        after it failed.
        """
        if self._error is not None:
            raise JournalError(str(self._error), code=self._error.code)
        batch = self._batch
        if batch is None:
            raise JournalError(
                f"record {self.seq} is not on disk yet: await `durable` first",
                code="journal_not_durable",
            )
        index = self.seq - batch.entry.seq
        return Ticket(
            v=1,
            entry=batch.data.decode("utf-8"),
            signature=encode_base64(batch.signature),
            index=index,
            path=batch.path(index),
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
