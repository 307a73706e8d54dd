"""Own calls of overseers in the records: under which own grant, and how many.

A record names its grant, and an own grant is logged under the id of the grant that it seals. So each
own call can be counted by anybody, disclosed or not; whether a call lay inside what was sealed shows
when it is disclosed.

Invariants
- An exchange is an own call only inside its own grant's time, release and, once disclosed, names.
- No own grant serves more requests in a UTC day than it says, by the charges of its records.
- Who discloses says no fewer calls than the records show; it may have made more that went elsewhere.

An own grant may be logged after its first call: it acts by its signature, as an order does.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple

from gatelift.encoding import Digest, parse_base64
from gatelift.ledger.audit.report import Findings
from gatelift.messages import Start
from gatelift.trust import (
    Disclosure,
    Grant,
    OwnGrant,
    OwnGrantError,
    StandingOwnGrant,
    check_room,
    open_own_grant,
)

__all__ = ["OWN_CAP", "OwnCallCount", "OwnFact", "OwnFacts"]

OWN_CAP: Final = "principal.requests/d"
"""The cap that every own call is charged to, whether the stage has it or not."""
_SLACK_MS: Final = 1_000


class OwnFact(NamedTuple):
    """A logged own grant, and what its disclosure showed."""

    standing: StandingOwnGrant
    place: str
    disclosure: Disclosure | None = None
    grant: Grant | None = None

    @property
    def own(self) -> OwnGrant:
        """What it says of itself."""
        return self.standing.own_grant


class OwnFacts:
    """The own grants of a releases log, by the id that records name."""

    def __init__(self) -> None:
        self.by_id: dict[str, OwnFact] = {}
        self._ids: dict[Digest, str] = {}

    def take_grant(self, standing: StandingOwnGrant, place: str) -> None:
        """Take an own grant in the order of the log; raises `OwnGrantError` past the root's bound.

        The first of an id counts.
        """
        check_room([held.standing for held in self.by_id.values()], standing)
        name = standing.own_grant.id
        if name not in self.by_id:
            self.by_id[name] = OwnFact(standing, place)
            self._ids[standing.digest] = name

    def take_disclosure(self, value: Disclosure, organisations: frozenset[str]) -> None:
        """Take a disclosure by overseers of these; raises `OwnGrantError` where it opens nothing."""
        held = self.by_id.get(self._ids.get(value.own_grant, ""))
        if held is None or held.disclosure is not None:
            raise OwnGrantError(
                f"{value.own_grant} is no own grant that is sealed", code="unknown_digest"
            )
        if held.standing.organisation not in organisations:
            raise OwnGrantError(
                f"{held.standing.organisation} sealed own grant {held.own.id}, and others disclose it",
                code="own_grant_of_another",
            )
        grant = open_own_grant(held.own, parse_base64(value.seed))
        self.by_id[held.own.id] = held._replace(disclosure=value, grant=grant)

    def of(self, start: Start) -> OwnFact | None:
        """Return the own grant that an exchange was admitted by."""
        held = self.by_id.get(start.grant) if self.by_id else None
        if held is None or held.own.release != start.release:
            return None
        if not held.own.not_before - _SLACK_MS <= start.at < held.own.not_after + _SLACK_MS:
            return None
        grant = held.grant
        if grant is not None and (grant.principal, grant.organisation, grant.stage) != (
            start.principal,
            start.organisation,
            start.stage,
        ):
            return None
        return held


class OwnCallCount:
    """Counts own calls by own grant and day, and holds them against what was sealed and said."""

    def __init__(self, facts: OwnFacts, findings: Findings) -> None:
        self._facts = facts
        self._findings = findings
        self._charged: Counter[tuple[str, int]] = Counter()
        self._calls: Counter[str] = Counter()

    @property
    def calls(self) -> int:
        """How many own calls went to the model."""
        return self._calls.total()

    def take(self, start: Start, own: OwnFact, where: str) -> None:
        """Take an own call that went to the model."""
        self._calls[own.own.id] += 1
        charged = [
            each
            for each in start.reserved
            if each.counter.partition(":")[2].startswith(f"{OWN_CAP}:")
        ]
        if not charged:
            self._findings.error(
                "cap_not_charged",
                where,
                f"record {start.worker}/{start.run}/{start.seq}: an own call that is not charged to "
                f"{OWN_CAP}",
            )
        for each in charged:
            self._charged[own.own.id, each.window] += each.amount

    def close(self) -> None:
        """Report days that were overdrawn, and disclosures that say too little."""
        for (name, window), count in self._charged.items():
            held = self._facts.by_id[name]
            if count > held.own.requests_per_day:
                self._findings.error(
                    "own_calls_exceeded",
                    held.place,
                    f"own grant {name} allows {held.own.requests_per_day} requests a day, "
                    f"{count} were charged on the day from {window}",
                )
        for name, count in self._calls.items():
            said = self._facts.by_id[name].disclosure
            if said is not None and said.calls < count:
                self._findings.warn(
                    "own_calls_undisclosed",
                    self._facts.by_id[name].place,
                    f"own grant {name}: {said.calls} calls were disclosed, {count} went to the model",
                )
