"""The one clock of control."""

from __future__ import annotations

import time

__all__ = ["wall_clock_ms"]


def wall_clock_ms() -> int:
    """Return the time in ms UTC."""
    return time.time_ns() // 1_000_000
