"""A commit batch as it was signed, and the records that wait for one.

Invariants
- A batch's tree is RFC 6962's over the record leaves, so a ticket's path is what `verify_ticket`
  takes, and its text is what `encode_ticket` would write.
- `Pending.durable` has a result only after the batch was synced to disk.
- A failed `durable` promises nothing either way: the record may still be committed later, with the
  same sequence number and bytes, when the disk works again.
- Who waits for `durable` waits alone: giving up takes nothing from anybody else.
- Records that gather together are told of together, by one `Acknowledgement`: most are asked by
  nobody, and cost nothing then.

It does not touch the disk (`writer`).
"""

from __future__ import annotations

import asyncio
from binascii import b2a_base64
from collections.abc import Sequence

from gatelift.encoding import Digest, encode_base64, encode_json, sha256_digest
from gatelift.journal.errors import JournalError
from gatelift.messages import SALT_BYTES, BatchEntry, sign_batch
from gatelift.terms import Durability
from gatelift.tlog import tree_rows
from gatelift.trust import SigningKey

__all__ = ["Acknowledgement", "Pending", "SignedBatch", "make_batch"]


class SignedBatch:
    """A batch entry, its stored bytes, the node's signature and the tree below its root."""

    __slots__ = ("_paths", "_rows", "_ticket_head", "data", "entry", "signature")

    def __init__(
        self, entry: BatchEntry, data: bytes, signature: bytes, rows: list[list[bytes]]
    ) -> None:
        self.entry = entry
        self.data = data
        self.signature = signature
        self._rows = rows
        self._ticket_head = b""
        self._paths: list[str] = []

    @property
    def digest(self) -> Digest:
        """The digest of the stored entry, under which a receipt is asked for."""
        return sha256_digest(self.data)

    def ticket(self, index: int, salted: bytes, content_salt: bytes, request_salt: bytes) -> bytes:
        """Return the ticket of record `index`, given as its salt with the stored bytes behind it.

        It is what `encode_ticket` writes, from parts that tickets of one batch share.
        """
        if not self._ticket_head:
            self._prepare_tickets()
        salt, stored = salted[:SALT_BYTES], salted[SALT_BYTES:]
        place = f'{index},"path":[{self._path(index)}],"salt":"{encode_base64(salt)}","record":'
        opening = (
            f',"content_salt":"{encode_base64(content_salt)}"'
            f',"request_salt":"{encode_base64(request_salt)}"}}'
        )
        parts = (self._ticket_head, place.encode(), _quoted(stored), opening.encode())
        return b2a_base64(b"".join(parts), newline=False)

    def _path(self, index: int) -> str:
        """Return the inclusion proof of record `index` as JSON, its sibling first."""
        leaves, above = self._rows[0], self._paths[index >> 1]
        return _joined(leaves[index ^ 1], above) if index ^ 1 < len(leaves) else above

    def _prepare_tickets(self) -> None:
        """Write what tickets share: the batch, and the paths from all nodes above the leaves."""
        paths = [""]
        for row in reversed(self._rows[1:-1]):
            paths = [
                _joined(row[i ^ 1], paths[i >> 1]) if i ^ 1 < len(row) else paths[i >> 1]
                for i in range(len(row))
            ]
        self._paths = paths
        signed = f',"signature":"{encode_base64(self.signature)}","index":'
        self._ticket_head = b'{"v":1,"entry":' + _quoted(self.data) + signed.encode()


def _quoted(stored: bytes) -> bytes:
    """Return stored JSON as it stands inside a ticket: a text."""
    return encode_json(stored.decode())


def _joined(step: bytes, path: str) -> str:
    return f'"{encode_base64(step)}",{path}' if path else f'"{encode_base64(step)}"'


class Acknowledgement:
    """What becomes of the records that gather together: told once, to all who wait for it."""

    __slots__ = ("_loop", "_waiters", "batch", "error")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiters: list[asyncio.Future[SignedBatch]] = []
        self.batch: SignedBatch | None = None
        self.error: JournalError | None = None

    def wait(self) -> asyncio.Future[SignedBatch]:
        """Return a future of its own for whoever asks."""
        waiter: asyncio.Future[SignedBatch] = self._loop.create_future()
        if self.batch is not None:
            waiter.set_result(self.batch)
        elif self.error is not None:
            waiter.set_exception(_again(self.error))
        else:
            self._waiters.append(waiter)
        return waiter

    def resolve(self, batch: SignedBatch) -> None:
        """Tell that all is on disk. On the loop's thread; what was told before stays."""
        if self.batch is None and self.error is None:
            self.batch = batch
            for waiter in self._take_waiters():
                waiter.set_result(batch)

    def reject(self, error: JournalError) -> None:
        """Tell that nothing is promised. On the loop's thread; what was told before stays."""
        if self.batch is None and self.error is None:
            self.error = error
            for waiter in self._take_waiters():
                waiter.set_exception(_again(error))

    def _take_waiters(self) -> list[asyncio.Future[SignedBatch]]:
        waiters, self._waiters = self._waiters, []
        return [waiter for waiter in waiters if not waiter.done()]


def _again(error: JournalError) -> JournalError:
    # Each who waited raises one of its own: a raised error remembers where.
    return JournalError(str(error), code=error.code)


class Pending:
    """An appended record: on disk when `durable` is done."""

    __slots__ = ("_acknowledged", "leaf", "salted", "seq")

    def __init__(self, seq: int, salted: bytes, leaf: bytes, acknowledged: Acknowledgement) -> None:
        self.seq = seq
        self.salted = salted
        """The salt of its leaf, and behind it the stored bytes."""
        self.leaf = leaf
        self._acknowledged = acknowledged

    @property
    def durable(self) -> asyncio.Future[SignedBatch]:
        """A future of its own for whoever asks: the signed batch, or `JournalError`."""
        return self._acknowledged.wait()

    def ticket(self, content_salt: bytes, request_salt: bytes = b"") -> bytes:
        """Return the caller's ticket; the salts open the record's commitments to content and request.

        Raises `JournalError` (`journal_not_durable`) before `durable` is done, and its own error
        after it failed.
        """
        acknowledged = self._acknowledged
        if acknowledged.error is not None:
            raise _again(acknowledged.error)
        batch = acknowledged.batch
        if batch is None:
            raise JournalError(
                f"record {self.seq} is not on disk yet: await `durable` first",
                code="journal_not_durable",
            )
        return batch.ticket(self.seq - batch.entry.seq, self.salted, content_salt, request_salt)


def make_batch(
    pendings: Sequence[Pending],
    *,
    node: str,
    worker: str,
    run: str,
    at: int,
    key: SigningKey,
    relaxed: bool = False,
) -> SignedBatch:
    """Return the signed batch over `pendings`, which are consecutive by `seq`. `at` in ms UTC.

    `relaxed` says on it that callers are answered before it is on disk.
    """
    rows = tree_rows([pending.leaf for pending in pendings])
    entry = BatchEntry(
        v=1,
        node=node,
        worker=worker,
        run=run,
        seq=pendings[0].seq,
        n=len(pendings),
        root=Digest(f"sha256:{rows[-1][0].hex()}"),
        at=at,
        durability=Durability.RELAXED if relaxed else None,
    )
    data, signature = sign_batch(entry, key)
    return SignedBatch(entry, data, signature, rows)
