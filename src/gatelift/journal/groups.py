"""Records that are committed together, and their frames.

Invariants
- A group's records are consecutive; its batch, once there, is over exactly them.
- The same group gives the same bytes each time: what is written again is what was written first.

Does not write.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gatelift.journal.batches import Acknowledgement, Pending, SignedBatch
from gatelift.journal.segments import FrameKind, encode_frame

__all__ = ["Group", "Unsure", "batch_frame", "frames_of"]


@dataclass(slots=True)
class Group:
    """Consecutive records, the batch over them once it is signed, and how they are told of it."""

    acknowledged: Acknowledgement
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
        for group in self._groups:
            if group.batch is None:
                group.batch = sign(group.pendings)
        return self._groups


def batch_frame(batch: SignedBatch) -> bytes:
    """Return the frame of a signed batch."""
    return encode_frame(FrameKind.BATCH, batch.signature + batch.data)


def frames_of(group: Group) -> bytes:
    """Return all frames of a group, the batch's last."""
    frames = [encode_frame(FrameKind.RECORD, pending.salted) for pending in group.pendings]
    if group.batch is not None:
        frames.append(batch_frame(group.batch))
    return b"".join(frames)
