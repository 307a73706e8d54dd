"""The roots that one worker knows: the one its host pins, its successors, and those before it.

    first ──> … ──> pinned by the host ──> each successor that the keeper brings
    └───────────────── these judge orders beside the bundle's own root ────────────┘

Invariants
- Every root is verified by the one before it. The earlier ones are believed only once they lead from the
  first that this host pinned to the very root that it pins: nobody else's history is taken for ours.
- Roots beside the bundle's judge orders and nothing else: a stop outlives the key that gave it, and no permission does.
- A root that does not follow changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from gatelift.encoding import Digest, sha256_digest
from gatelift.errors import CallerError
from gatelift.trust import Root, unverified_root, verify_root

__all__ = ["RootLine", "WrongRootError"]


class WrongRootError(CallerError):
    """A file that is not the root of its digest."""

    code = "wrong_root"


class RootLine:
    """The line from the root `first` to `pinned` and on; `read` returns a file's bytes by digest."""

    def __init__(self, first: Digest, pinned: Digest, read: Callable[[Digest], bytes]) -> None:
        self.pinned = pinned
        self._read = read
        self._first = first
        self._history: list[Root] = []
        self._newest: tuple[Root, ...] = ()
        self._earlier: tuple[Root, ...] = ()

    @property
    def known(self) -> tuple[Root, ...]:
        """The roots that an order may hold by beside the bundle's, the newest first."""
        return (*self._newest, *self._earlier)

    def follow(self, digest: Digest, now_ms: int) -> Root | None:
        """Take a root that the keeper brings; return it if it is pinned now in place of the last.

        Raises the error of its verification, and changes nothing then.
        """
        data = self._bytes(digest)
        trusted = unverified_root(self._bytes(self.pinned))
        if unverified_root(data).version <= trusted.version:
            self._remember(digest, data)
            return None
        found = verify_root(data, now_ms, trusted)
        self.pinned = digest
        self._newest, self._earlier = (found,), (trusted, *self._earlier)
        return found

    def _remember(self, digest: Digest, data: bytes) -> None:
        """Take the next root of the history; once it leads to the pinned one, what came before counts."""
        if not self._history:
            self._history.append(unverified_root(self._bytes(self._first)))
        found = unverified_root(data)
        if found.version != self._history[-1].version + 1:
            return
        # It may be over by now: it is judged for what was said while it was not.
        verify_root(data, found.issued_at, self._history[-1])
        self._history.append(found)
        if digest == self.pinned:
            self._earlier = tuple(reversed(self._history[:-1]))

    def _bytes(self, digest: Digest) -> bytes:
        data = self._read(digest)
        if sha256_digest(data) != digest:
            raise WrongRootError(
                f"expected the root of digest {digest}, its file holds other bytes: fetch it again"
            )
        return data
