"""Reading the log back at the start: from stored entries to the state, and what control remembers.

Invariants
- Every entry is decoded, its body hashed, its signatures verified again, and folded; one that does
  not hold stops the start. A state is never loaded from anywhere else.
"""

from __future__ import annotations

import msgspec

from gatelift.control.errors import ControlFailedError
from gatelift.decide import State, fold
from gatelift.encoding import Digest, decode_json
from gatelift.errors import GateliftError
from gatelift.messages import Body, EntryHeader, EntryKind, Visibility, verify_body
from gatelift.store import Store
from gatelift.trust import Root, verify_root
from gatelift.wire.files import FileStore

__all__ = ["Refolded", "refold"]

_AT_ONCE = 1024


class Refolded(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the log, the first index of each body, and the bodies not for everybody."""

    state: State
    logged: dict[Digest, int]
    hidden: set[Digest]


def refold(store: Store, files: FileStore) -> Refolded:
    """Return what the stored log says; raises `ControlFailedError` naming the entry that fails."""
    state = State()
    logged: dict[Digest, int] = {}
    hidden: set[Digest] = set()
    size = store.size()
    for first in range(0, size, _AT_ONCE):
        leaves = store.leaves(first, min(size, first + _AT_ONCE))
        for index, leaf in enumerate(leaves, start=first):
            try:
                header = decode_json(leaf, EntryHeader)
                body = verify_stored(header, files.get(header.body), state.root)
                state = fold(state, index, header, body, files.get)
            except GateliftError as error:
                raise ControlFailedError(
                    f"entry {index} of the log cannot be read back ({error.code}): {error}",
                    code="bad_log",
                ) from error
            logged.setdefault(header.body, index)
            if header.visibility is Visibility.OVERSEER:
                hidden.add(header.body)
    return Refolded(state=state, logged=logged, hidden=hidden)


def verify_stored(header: EntryHeader, data: bytes, root: Root | None) -> Body:
    """Return a logged body, verified as it was when it was logged."""
    if root is None:
        if header.kind is not EntryKind.ROOT:
            raise ControlFailedError("the log does not begin with a root", code="bad_log")
        return Body(kind=EntryKind.ROOT, value=verify_root(data, header.at), signers=())
    return verify_body(header.kind, data, root, header.at)
