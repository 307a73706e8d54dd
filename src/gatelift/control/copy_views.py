"""The registered copies of the weights, as the state view shows them."""

from __future__ import annotations

import msgspec

from gatelift.decide import State, overdue_copies
from gatelift.encoding import Digest
from gatelift.messages import CopyClosing, Export

__all__ = ["CopyView", "view_copies"]


class CopyView(msgspec.Struct, frozen=True, kw_only=True):
    """A registered copy of the weights; `overdue` while it should have been closed and was not."""

    export: Export
    digest: Digest
    index: int
    at: int
    closing: CopyClosing | None
    overdue: bool


def view_copies(state: State, now_ms: int) -> tuple[CopyView, ...]:
    """Return every copy that was ever registered, in order."""
    late = overdue_copies(state, now_ms)
    return tuple(
        CopyView(
            export=each.export,
            digest=each.digest,
            index=each.index,
            at=each.at,
            closing=each.closing,
            overdue=each in late,
        )
        for each in state.copies.values()
    )
