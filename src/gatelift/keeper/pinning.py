"""The roots that this node knows while it serves, told to workers in order.

Invariants
- Only what the order desk verified by the root before it comes here.
- A root newer than the pinned one is pinned before any worker hears of it (`wire.pinned_root`).
- Workers hear of every root that the log has led to, in order, before the orders and the bundle that need
  it: a stop that an earlier key gave holds in a worker that starts today.

What the root says of the node's keys, lists of orders and the log's key is read at the start alone.
"""

from __future__ import annotations

import logging
from pathlib import Path

from gatelift.encoding import Digest
from gatelift.messages.frames import RootFrame
from gatelift.trust import Root
from gatelift.wire.files import FileStore
from gatelift.wire.pinned_root import pin_root

__all__ = ["Pin"]

_LOG = logging.getLogger(__name__)


class Pin:
    """The pinned root of the deployment in `directory`, of version `version`."""

    def __init__(self, directory: Path, files: FileStore, version: int) -> None:
        self._directory = directory
        self._files = files
        self._version = version
        self._led_to: list[RootFrame] = []

    def frames(self) -> tuple[RootFrame, ...]:
        """Return what a worker must hear before any order and bundle."""
        return tuple(self._led_to)

    def take(self, digest: Digest, root: Root) -> bool:
        """Take a root that the log has led to; return whether it is new, and pinned here from now on."""
        is_new = root.version > self._version
        if is_new:
            pin_root(self._directory, self._files, digest, root)
            self._version = root.version
            _LOG.warning("root %s of %s is pinned here now: %s", root.version, root.name, digest)
        self._led_to.append(RootFrame(digest=digest))
        return is_new
