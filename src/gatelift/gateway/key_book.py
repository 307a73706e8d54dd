"""Whose key a request shows, looked for once in each roster.

Invariants
- A key is somebody's only while the roster in force says so: with another roster all is forgotten.
- Kept is the digest of a whole key that was found, never the key, and nothing of one that was not;
  so what is compared tells a guesser nothing of how much of a guess is right.

Pure but for its own state.
"""

from __future__ import annotations

import hashlib

from gatelift.messages import VerifiedRoster
from gatelift.trust import Grant, KeyBinding, matches_key, public_id_of

__all__ = ["Identified", "KeyBook"]


class Identified:
    """A grant and the key that was shown for it."""

    __slots__ = ("binding", "grant", "public_id")

    def __init__(self, grant: Grant, public_id: str, binding: KeyBinding | None = None) -> None:
        self.grant = grant
        self.public_id = public_id
        self.binding = binding


class KeyBook:
    """The keys of one roster that were shown so far."""

    __slots__ = ("_found", "_roster")

    def __init__(self) -> None:
        self._found: dict[bytes, Identified] = {}
        self._roster: VerifiedRoster | None = None

    def identify(self, shown: bytes, roster: VerifiedRoster) -> Identified | None:
        """Return the grant of an API key, null when it is nobody's.

        Raises `GrantError` or `UnicodeDecodeError` for what has not the form of a key.
        """
        if roster is not self._roster:
            self._found.clear()
            self._roster = roster
        digest = hashlib.sha256(shown).digest()
        found = self._found.get(digest)
        if found is None:
            found = _search(shown.decode("ascii"), roster)
            if found is not None:
                self._found[digest] = found
        return found


def _search(api_key: str, roster: VerifiedRoster) -> Identified | None:
    public_id = public_id_of(api_key)
    grant = roster.by_public_id.get(public_id)
    if grant is None:
        return None
    for key in grant.keys:
        if key.public_id == public_id and matches_key(api_key, key):
            return Identified(grant, public_id, key.binding)
    return None
