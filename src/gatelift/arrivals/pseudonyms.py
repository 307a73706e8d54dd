"""Names that stand for other names, the same in every run with the same salt.

A team's or a person's own name never goes into a grant: grants stand on a log for ever. A plain
hash of a name can be guessed; this one is keyed with a salt that stays with the operator.

Invariants
- One salt, one kind and one name always give one pseudonym; without the salt nobody gets back.
- `names` says which name each pseudonym given out stands for.

HMAC-SHA256 (RFC 2104), 80 bits shown.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

__all__ = ["Pseudonyms"]

_HEX = 20


class Pseudonyms:
    """Gives out pseudonyms and remembers them."""

    def __init__(self, salt: bytes) -> None:
        self._salt = salt
        self._names: dict[str, str] = {}

    @property
    def names(self) -> Mapping[str, str]:
        """Pseudonyms given out, with what each stands for."""
        return dict(sorted(self._names.items()))

    def of(self, kind: str, *name: str, shown: str | None = None) -> str:
        """Return the pseudonym of something, such as `team-1f0c...`.

        `shown` is what `names` says of it beside its id; it does not make the pseudonym.
        """
        parts = b"".join(b"%d:%b" % (len(p.encode()), p.encode()) for p in (kind, *name))
        made = hmac.new(self._salt, parts, hashlib.sha256).hexdigest()[:_HEX]
        found = f"{kind}-{made}"
        self._names[found] = " / ".join(name if shown is None else (*name, shown))
        return found
