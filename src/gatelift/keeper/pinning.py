"""The root that this host pins, while the node serves: each successor that the log brings, in turn.

Invariants
- Only what the order desk verified by the root before it comes here.
- The digest is written last, so that a crash leaves a whole older pin; from there the log leads on.
- Workers hear of every root since this process began, in order, before the bundle that needs it.

What the root says of the node's keys, lists of orders and the log's key is read at the start alone.
"""

from __future__ import annotations

import logging
from pathlib import Path

from gatelift.encoding import Digest
from gatelift.messages import releases_policy
from gatelift.messages.frames import RootFrame
from gatelift.tlog import format_policy
from gatelift.trust import Root
from gatelift.wire.files import FileStore, replace_durably

__all__ = ["Pin"]

_LOG = logging.getLogger(__name__)


class Pin:
    """The pinned root of the deployment in `directory`."""

    def __init__(self, directory: Path, files: FileStore) -> None:
        self._directory = directory
        self._files = files
        self._taken: list[RootFrame] = []

    def frames(self) -> tuple[RootFrame, ...]:
        """Return what a worker must hear before any bundle."""
        return tuple(self._taken)

    def take(self, digest: Digest, root: Root) -> RootFrame:
        """Pin a verified successor; return the frame that tells workers."""
        replace_durably(self._directory / "root.json", self._files.get(digest))
        replace_durably(self._directory / "tlog-policy", format_policy(releases_policy(root)))
        replace_durably(self._directory / "root.sha256", f"{digest}\n".encode("ascii"))
        _LOG.warning("root %s of %s is pinned here now: %s", root.version, root.name, digest)
        frame = RootFrame(digest=digest)
        self._taken.append(frame)
        return frame
