"""Own grants and promises without results, as the state view shows them."""

from __future__ import annotations

import msgspec

from gatelift.decide import State
from gatelift.encoding import Digest
from gatelift.trust import Disclosure, OwnGrant

__all__ = ["OwnGrantView", "view_own_grants"]


class OwnGrantView(msgspec.Struct, frozen=True, kw_only=True):
    """An own grant as it was logged, sealed, and its disclosure if it was disclosed."""

    own_grant: OwnGrant
    digest: Digest
    organisation: str
    index: int
    at: int
    disclosure: Disclosure | None


def view_own_grants(state: State) -> tuple[OwnGrantView, ...]:
    """Return every own grant of the log, in order."""
    return tuple(
        OwnGrantView(
            own_grant=each.standing.own_grant,
            digest=each.standing.digest,
            organisation=each.standing.organisation,
            index=each.index,
            at=each.at,
            disclosure=each.disclosure,
        )
        for each in state.own_grants.values()
    )
