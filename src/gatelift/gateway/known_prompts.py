"""Which prompts this worker has forwarded before: what `coverage` counts is how many different ones.

A prompt that is new to the worker needs 1 of each cap on coverage, one that it knows under the cap's
counter needs 0. A prompt is known from the moment it was forwarded; it is charged in the record of
the exchange that took it there, whatever becomes of the answer.

Invariants
- Nothing readable is kept: 16 bytes of a hash keyed with a secret of the process.
- Wherever it is unsure it counts too much, never too little. Two workers each count a prompt; so does
  a worker again after a restart, when its sets are full, while a first exchange with the prompt has
  not been answered yet, and always where a prompt holds images, which nobody compares.

Pure but for its own state; the secret is an argument.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from gatelift.gateway.dialects import ModelRequest
from gatelift.gateway.reservation import CapLine
from gatelift.terms import CapUnit

__all__ = ["MAX_OF_A_COUNTER", "MAX_PROMPTS", "KnownPrompts"]

MAX_PROMPTS: Final = 131_072
"""Over all counters of a worker: some 16 MB at most."""
MAX_OF_A_COUNTER: Final = 32_768
"""So that no counter fills the room of all."""
_DIGEST_BYTES = 16


class KnownPrompts:
    """The bounded sets of one worker, one for each counter."""

    __slots__ = ("_held", "_most", "_most_of_a_counter", "_secret", "_sets")

    def __init__(
        self,
        secret: bytes,
        *,
        most: int = MAX_PROMPTS,
        most_of_a_counter: int = MAX_OF_A_COUNTER,
    ) -> None:
        self._secret = secret
        self._most = most
        self._most_of_a_counter = most_of_a_counter
        self._held = 0
        self._sets: dict[str, set[bytes]] = {}

    def digest(self, request: ModelRequest) -> bytes | None:
        """Return what tells a prompt apart, null for one that is always new.

        It is made of every text that the safeguards are shown, and of where one ends.
        """
        if request.images:
            return None
        hashed = hashlib.blake2b(digest_size=_DIGEST_BYTES, key=self._secret)
        hashed.update(b"%d" % request.messages)
        for part in request.inspected:
            text = part.text.encode("utf-8", "surrogatepass")
            hashed.update(b"\n%b %d\n" % (part.kind.encode(), len(text)))
            hashed.update(text)
        return hashed.digest()

    def counters(self, lines: Iterable[CapLine], digest: bytes | None) -> frozenset[str]:
        """Return the counters of coverage that have counted a prompt already."""
        if digest is None:
            return frozenset()
        return frozenset(
            line.counter
            for line in lines
            if line.unit is CapUnit.COVERAGE and digest in self._sets.get(line.counter, ())
        )

    def learn(self, counters: Iterable[str], digest: bytes | None) -> None:
        """Note that a prompt was forwarded and counts under these; a full set learns nothing."""
        if digest is None:
            return
        for counter in counters:
            known = self._sets.get(counter)
            if self._held >= self._most or len(known or ()) >= self._most_of_a_counter:
                continue
            if known is None:
                known = self._sets[counter] = set()
            if digest not in known:
                known.add(digest)
                self._held += 1
