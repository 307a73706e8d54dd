"""The own grants that a node holds: from the log, an overseer's list, the host's socket or a file.

An own grant acts by its own signature, whoever brings it, as an order does. It is kept before it is
passed on: the envelope in `files/`, its digest as a name in `own-grants/`, with its place in the order
of coming, because it is that order in which the root's bound is filled.

Invariants
- Nothing unverified is kept or passed on, and nothing past the root's bound.
- What was once taken stays taken over a restart. Workers hear of it until the day of its end is over.
- Whether the log holds one is learnt from the log alone; until then it is reported to control.

What is sealed in them is not known here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gatelift.encoding import Digest, parse_digest, sha256_digest
from gatelift.errors import GateliftError
from gatelift.messages.frames import OwnGrantFrame
from gatelift.trust import Root, StandingOwnGrant, check_room, verify_own_grant
from gatelift.wire.files import FileStore, make_directory, replace_durably

__all__ = ["OwnGrantDesk"]

_DAY_MS: Final = 86_400_000
_LOG = logging.getLogger(__name__)


class OwnGrantDesk:
    """Holds own grants. `index` is the folder of their digests.

    `on_new(frame)` is called for each that was not held before.
    """

    def __init__(
        self,
        *,
        root: Root,
        files: FileStore,
        index: Path,
        on_new: Callable[[OwnGrantFrame], None],
    ) -> None:
        self._root = root
        self._files = files
        self._index = index
        self._on_new = on_new
        self._held: dict[Digest, StandingOwnGrant] = {}
        self._logged: set[Digest] = set()
        self._next = 0
        make_directory(index)
        self._load()

    def adopt(self, envelope: bytes) -> Digest:
        """Keep and pass on an own grant; raises the error of its verification."""
        digest = sha256_digest(envelope)
        if digest in self._held:
            return digest
        found = verify_own_grant(envelope, self._root)
        check_room(self._held.values(), found)
        _ = self._files.put(envelope)
        name = self._index / digest.removeprefix("sha256:")
        replace_durably(name, f"{self._next}\n".encode("ascii"))
        self._next += 1
        self._held[digest] = found
        self._on_new(OwnGrantFrame(envelope=envelope))
        return digest

    def judge_by(self, root: Root) -> None:
        """Let go of what does not hold under the root that follows, and judge what comes by it."""
        self._root = root
        for digest in list(self._held):
            self._judge(digest)

    def _judge(self, digest: Digest) -> None:
        try:
            self._held[digest] = verify_own_grant(self._files.get(digest), self._root)
        except GateliftError as error:
            # Another root is in force: who may not seal any more admits nobody any more.
            self._held.pop(digest, None)
            _LOG.warning("an own grant held before is not held any more: %s", error.code)

    def adopt_logged(self, envelope: bytes) -> None:
        """Take one that the log holds; raises as `adopt` does, and counts as logged all the same."""
        self._logged.add(sha256_digest(envelope))
        _ = self.adopt(envelope)

    def frames(self, now_ms: int) -> tuple[OwnGrantFrame, ...]:
        """Return what a worker must hold, in the order of coming."""
        return tuple(
            OwnGrantFrame(envelope=self._files.get(digest))
            for digest, held in self._held.items()
            if now_ms < held.own_grant.not_after + _DAY_MS
        )

    def unlogged(self, now_ms: int) -> tuple[bytes, ...]:
        """Return the envelopes that are held, not in the log yet, and not over."""
        return tuple(
            self._files.get(digest)
            for digest, held in self._held.items()
            if digest not in self._logged and now_ms < held.own_grant.not_after
        )

    def _load(self) -> None:
        # A name with a dot is a write that a crash cut short; it was not passed on.
        kept = [path for path in self._index.iterdir() if not path.name.startswith(".")]
        for path in sorted(kept, key=lambda path: int(path.read_text("ascii"))):
            digest = parse_digest(f"sha256:{path.name}")
            self._next = int(path.read_text("ascii")) + 1
            self._judge(digest)
