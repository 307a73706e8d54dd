"""Records that are committed together, and their frames.

Invariants
- A group's records are consecutive; its batch, once there, is over exactly them.
- The same group gives the same bytes each time: what is written again is what was written first.

Does not write.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gatelift.journal.batches import Pending, SignedBatch
from gatelift.journal.segments import FrameKind, encode_frame

__all__ = ["Group", "Unsure", "batch_frame", "frames_of", "record_frame"]


@dataclass(slots=True)
class Group:
    """Consecutive records, and the batch over them once it is signed."""

    pendings: list[Pending] = field(default_factory=list)
    batch: SignedBatch | None = None


class Unsure:
    """What was refused because nobody knows whether it is on disk: to be written again."""

    __slots__ = ("_groups",)

    def __init__(self) -> None:
        self._groups: list[Group] = []

    def add(self, group: Group) -> None:
        """Keep a group, in the order of the numbers."""
        self._groups.append(group)
        self._groups.sort(key=lambda unsure: unsure.pendings[0].seq)

    def all_signed(self, sign: Callable[[list[Pending]], SignedBatch]) -> list[Group]:
        """Return all of it in signed groups.

        Under the numbers, salts and signatures that may have been read from the old segment: whoever
        saw it finds the same batch again. What is signed here is kept in case this try fails too.
        """
        signed = [group for group in self._groups if group.batch is not None]
        rest = [p for group in self._groups if group.batch is None for p in group.pendings]
        if rest:
            signed.append(Group(rest, sign(rest)))
        self._groups = signed
        return signed


def record_frame(salt: bytes, data: bytes) -> bytes:
    """Return the frame of a record's stored bytes."""
    return encode_frame(FrameKind.RECORD, salt + data)


def batch_frame(batch: SignedBatch) -> bytes:
    """Return the frame of a signed batch."""
    return encode_frame(FrameKind.BATCH, batch.signature + batch.data)


def frames_of(group: Group) -> bytes:
    """Return all frames of a group, the batch's last."""
    frames = [record_frame(pending.salt, pending.data) for pending in group.pendings]
    if group.batch is not None:
        frames.append(batch_frame(group.batch))
    return b"".join(frames)
