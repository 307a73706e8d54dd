"""The own grants that one worker holds, opened by the keys that are shown for them.

Invariants
- Everything kept was verified here; what comes before any root is known waits, and one that does not
  hold takes none of the others with it.
- An own grant admits nobody until its key is shown: till then nothing here knows stage, principal or key.
- An opened grant is refused unless the plan's stage admits it, and where its key, principal or
  organisation stands in the roster: nobody's caps are spent but its own.
- What it may do is judged as of any grant; its day's requests are one cap more. It does not fall back
  to an earlier stage, where that cap would be counted anew.
- None is taken past the root's bound. Under a root that follows all are judged again, also those that
  were opened.

Pure but for its own state.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Final

import msgspec

from gatelift.encoding import Digest
from gatelift.errors import CallerError
from gatelift.gateway.key_book import Identified
from gatelift.plan import Plan
from gatelift.terms import Cap, CapUnit, Envelope, Subject, Window, meet
from gatelift.trust import (
    Grant,
    Permission,
    Refusal,
    Root,
    StandingOwnGrant,
    check_grant_within,
    check_room,
    locator_of,
    matches_key,
    open_own_grant,
    seed_of,
    verify_own_grant,
)

__all__ = ["OwnGrantBook"]

_MAX_WAITING: Final = 1024


class OwnGrantBook:
    """Own grants by their locator, and those that were opened by the public id of their key."""

    __slots__ = (
        "_by_locator",
        "_by_public_id",
        "_envelopes",
        "_opened",
        "_root",
        "_waiting",
    )

    def __init__(self) -> None:
        self._root: Root | None = None
        self._by_locator: dict[Digest, StandingOwnGrant] = {}
        self._envelopes: dict[Digest, bytes] = {}
        self._opened: dict[Digest, Grant] = {}
        self._by_public_id: dict[str, tuple[Grant, StandingOwnGrant]] = {}
        self._waiting: list[bytes] = []

    def adopt(self, data: bytes) -> None:
        """Verify an own grant and hold it; it waits while no root is known to verify it with."""
        if self._root is None:
            if len(self._waiting) < _MAX_WAITING:
                self._waiting.append(data)
            return
        found = verify_own_grant(data, self._root)
        locator = found.own_grant.locator
        if locator not in self._by_locator:
            check_room(self._by_locator.values(), found)
            self._by_locator[locator], self._envelopes[locator] = found, data

    def judge_by(self, root: Root) -> None:
        """Judge by this root from now on, unless a newer one was heard of.

        What does not hold under it is let go at once, opened or not; what has waited is verified.
        """
        if self._root is not None and root.version <= self._root.version:
            return
        self._root = root
        held, self._waiting = [*self._envelopes.values(), *self._waiting], []
        self._by_locator, self._envelopes = {}, {}
        for data in held:
            with contextlib.suppress(CallerError):
                self.adopt(data)
        for locator in self._opened.keys() - self._by_locator.keys():
            gone = self._opened.pop(locator)
            del self._by_public_id[gone.keys[0].public_id]

    def identify(self, shown: bytes, plan: Plan, roster: Mapping[str, Grant]) -> Identified | None:
        """Return the grant that this API key opens, null when it opens none.

        `roster` holds the grants of admissions by public id. Found by a digest of the whole key, so the
        time taken tells nothing of a guess.
        """
        if not self._by_locator:
            return None
        seed = seed_of(shown)
        held = self._by_locator.get(locator_of(seed))
        if held is None or held.own_grant.release != plan.name:
            return None
        locator = held.own_grant.locator
        grant = self._opened.get(locator)
        if grant is None:
            grant = self._open(held, seed, shown, plan)
            if grant is None or _stands_in(roster, grant):
                return None
            self._opened[locator] = grant
            self._by_public_id[grant.keys[0].public_id] = (grant, held)
        key = grant.keys[0]
        return None if key.public_id in roster else Identified(grant, key.public_id, key.binding)

    def _open(self, held: StandingOwnGrant, seed: bytes, shown: bytes, plan: Plan) -> Grant | None:
        try:
            grant = open_own_grant(held.own_grant, seed)
            check_grant_within(grant, grant.stage, plan.stage(grant.stage).envelope)
        except CallerError:
            # Nobody's key, and not a word of it: a line in the host's log would tell it from the others.
            return None
        key = grant.keys[0]
        if key.public_id in self._by_public_id or not matches_key(shown.decode("ascii"), key):
            return None
        return grant

    def holds(self, grant: Grant, public_id: str) -> bool:
        """Return whether this very grant was opened here."""
        opened = self._by_public_id.get(public_id)
        return opened is not None and opened[0] is grant

    def narrowed(self, found: Permission | Refusal, public_id: str) -> Permission | Refusal:
        """Return what is left of a judgement: at its own stage only, with one cap more."""
        if isinstance(found, Refusal):
            return found
        grant, held = self._by_public_id[public_id]
        if found.certificate.certificate.stage != grant.stage:
            return Refusal(
                code="no_certificate",
                message=f"no certificate stands for stage {grant.stage!r}",
            )
        cap = Cap(
            subject=Subject.PRINCIPAL,
            unit=CapUnit.REQUESTS,
            window=Window.DAY,
            limit=held.own_grant.requests_per_day,
        )
        envelope = meet(found.envelope, Envelope(caps=(cap,)))
        return msgspec.structs.replace(found, envelope=envelope)


def _stands_in(roster: Mapping[str, Grant], grant: Grant) -> bool:
    return any(
        grant.principal == each.principal or grant.organisation == each.organisation
        for each in roster.values()
    )
