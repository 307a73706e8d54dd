"""Several placements of one candidate, as one worker sees them, and the choice between them.

Chosen from is every placement that the bundle in force enrols, that the keeper's probes call up,
that was not taken out, whose breaker lets through and that did not say it is busy. Fewest open
exchanges first, as this worker counts them; between equals the order of the bundle.

Invariants
- What a placement is known for belongs to its name and address together: enrolled elsewhere under
  the same name it begins anew.
- Busy lasts at most `max_busy_s`, whatever the placement asked for.
- Without a placement the answer is an error that says when to come again, never a wait.

Does not send: `forward` does.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Annotated, Final

import msgspec

from gatelift.encoding import Digest
from gatelift.gateway.breaker import Breaker, BreakerEvent, BreakerState, BreakerTerms
from gatelift.gateway.holdings import Holdings
from gatelift.gateway.upstream_errors import PlacementError
from gatelift.messages import Placement
from gatelift.wire.http_client import Upstream, UpstreamLimits, UpstreamTimeouts

__all__ = ["MAX_RETRY_AFTER_S", "Headers", "Place", "PlacementTerms", "Placements"]

_LOG = logging.getLogger(__name__)
_Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
_CLOSED: Final = BreakerState.CLOSED
MAX_RETRY_AFTER_S: Final = 60

Headers = tuple[tuple[bytes, bytes], ...]


class PlacementTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a worker deals with its placements: `DIR/upstream.json`, every field may be left out."""

    timeouts: UpstreamTimeouts = UpstreamTimeouts()
    limits: UpstreamLimits = UpstreamLimits()
    breaker: BreakerTerms = BreakerTerms()
    max_attempts: Annotated[int, msgspec.Meta(ge=1, le=16)] = 3
    """So many placements are tried for one exchange, each once."""
    busy_s: _Seconds = 1.0
    """A placement that is busy and names no seconds in Retry-After gets nothing for this long."""
    max_busy_s: _Seconds = 30.0
    """A placement gets nothing for at most this long, whatever its Retry-After says."""


class Place:
    """What a worker knows of one enrolled placement."""

    __slots__ = ("breaker", "busy_until_s", "client", "enrolled", "open")

    def __init__(self, enrolled: Placement, terms: BreakerTerms) -> None:
        self.enrolled = enrolled
        self.client: Upstream | None = None
        """Its client, null until the first exchange under this enrolment."""
        self.breaker = Breaker(terms)
        self.open = 0
        self.busy_until_s = 0.0

    def takes(self, now_s: float) -> bool:
        """Return whether an exchange may begin here."""
        breaker = self.breaker
        return now_s >= self.busy_until_s and (
            breaker.state is _CLOSED or breaker.lets_through(now_s)
        )

    def rest(self, until_s: float) -> None:
        """Begin nothing here before `until_s`."""
        self.busy_until_s = max(self.busy_until_s, until_s)

    def on(self, event: BreakerEvent, begun: int, now_s: float) -> None:
        """Tell the breaker what became of an exchange."""
        before = self.breaker.state
        after = self.breaker.on(event, begun, now_s)
        if after is not before:
            report = _LOG.warning if after is BreakerState.OPEN else _LOG.info
            report("placement %s: breaker %s", self.enrolled.name, after.value)


class Placements:
    """All placements of one worker.

    `client` returns the HTTP client of a placement, `headers` what goes with every request.
    """

    def __init__(
        self,
        holdings: Holdings,
        *,
        client: Callable[[Placement], Upstream],
        headers: Callable[[], Headers],
        terms: PlacementTerms,
    ) -> None:
        self.terms = terms
        self._holdings = holdings
        self._client = client
        self.headers = headers
        self._usable: tuple[Placement, ...] = ()
        self._ordered: list[Place] = []
        self._known: dict[tuple[str, str], Place] = {}

    def lacking(self) -> PlacementError | None:
        """Return why no placement would take an exchange now, null if one would."""
        now_s = time.monotonic()
        return None if self.choose(frozenset(), now_s) else self.why_none(now_s)

    def choose(self, tried: frozenset[Place], now_s: float) -> Place | None:
        """Return where an attempt would go."""
        best: Place | None = None
        usable = self._holdings.placements()
        for place in self._ordered if usable is self._usable else self._enrol(usable):
            if place in tried or not place.takes(now_s):
                continue
            if best is None or place.open < best.open:
                best = place
        return best

    def connect(self, place: Place) -> Upstream:
        """Return the client of a place, and keep it there while its enrolment is the same."""
        place.client = self._client(place.enrolled)
        return place.client

    def serves(self, candidate: Digest) -> bool:
        """Return whether the bundle in force is of this candidate."""
        bundle = self._holdings.bundle
        return bundle is not None and bundle.bundle.candidate == candidate

    def why_none(self, now_s: float) -> PlacementError:
        """Return what a caller is told when no placement takes an exchange."""
        places = self._places()
        if not places:
            return PlacementError(
                "no enrolled placement of this candidate is up", code="no_placement"
            )
        waits_s = [
            max(place.busy_until_s - now_s, place.breaker.waits_s(now_s)) for place in places
        ]
        retry_after_s = min(max(1, math.ceil(min(waits_s))), MAX_RETRY_AFTER_S)
        if any(place.breaker.lets_through(now_s) for place in places):
            return PlacementError(
                "every model server that could answer is busy",
                code="upstream_busy",
                retry_after_s=retry_after_s,
            )
        return PlacementError(
            "every model server failed just now and is left alone for a moment",
            code="no_placement",
            retry_after_s=retry_after_s,
        )

    def _places(self) -> list[Place]:
        usable = self._holdings.placements()
        return self._ordered if usable is self._usable else self._enrol(usable)

    def _enrol(self, usable: tuple[Placement, ...]) -> list[Place]:
        self._usable = usable
        known = {key: place for key, place in self._known.items() if place.open}
        self._ordered = []
        for enrolled in usable:
            key = (enrolled.name, enrolled.base_url)
            place = self._known.get(key) or Place(enrolled, self.terms.breaker)
            if place.enrolled is not enrolled:
                place.enrolled, place.client = enrolled, None
            known[key] = place
            self._ordered.append(place)
        self._known = known
        return self._ordered
