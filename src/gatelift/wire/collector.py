"""Python's garbage collector in a process that serves.

What a process has loaded lives as long as it does, and what an exchange makes is freed by its
reference counts. The collector's default, a look at all that is young every 700 objects, then finds
nothing: it was a sixth of a worker's CPU under load.

Does not switch the collector off: a cycle that slips in is still found, later.
"""

from __future__ import annotations

import gc
from typing import Final

__all__ = ["calm_collector"]

_YOUNG_OBJECTS: Final = 50_000


def calm_collector() -> None:
    """Set aside what is loaded by now, and look rarely from now on. Once a process, when it is up."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, 20, 20)
