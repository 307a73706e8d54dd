"""What a node tells control: its counts, whole each time, in a frame that is never too large.

Invariants
- Observations are left out from the oldest on, and only when all of them do not fit; those have
  been told before, as they were the newest once.
"""

from __future__ import annotations

from typing import Final

import msgspec

from gatelift.messages import EventCount, Observation
from gatelift.messages.frames import Counted

__all__ = ["fit_counts"]

_MAX_BYTES: Final = 700_000


def fit_counts(
    node: str, observations: tuple[Observation, ...], events: tuple[EventCount, ...]
) -> Counted:
    """Return the frame of all events and as many of the newest observations as it may hold."""
    left = _MAX_BYTES - len(msgspec.msgpack.encode(events))
    first = len(observations)
    while first and left > 0:
        left -= len(msgspec.msgpack.encode(observations[first - 1]))
        first -= left > 0
    return Counted(node=node, observations=observations[first:], events=events)
