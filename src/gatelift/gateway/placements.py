"""Where an exchange goes: several placements of one candidate, chosen, judged and watched.

Choice: every placement that the bundle in force enrols, that the keeper's probes call up, that was
not taken out, whose breaker lets through and that did not say it is busy. Fewest open exchanges
first, as this worker counts them; between equals the order of the bundle.

Another placement is tried only where not one byte of the request can have reached the last: no
connection, or none free. What was sent is never sent again, whatever comes back: a 500, a 503 or a
silence may come from a server whose model has worked, and would work twice. A 503 with Retry-After
or a 429 therefore makes the placement rest that long, and the caller is told to come again.

Invariants
- Before every attempt, the first too, the exchange is judged again: a stop, a lapse or a narrower
  envelope ends it there, and so does a bundle of another candidate.
- An attempt goes to a placement of the bundle in force at that moment.
- `sent` is true from the beginning of an attempt until it is shown that nothing left.
- Every attempt is told to its breaker exactly once as ended, failed or left.
- What a caller can bring about alone (a 400, say) is no failure of the placement, or one caller
  could close it for all.
- Busy lasts at most `max_busy_s`, whatever the placement asks for.

Does not read answers, and does not judge: `judge` does.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from types import TracebackType
from typing import Annotated, Final, NamedTuple, Self

import msgspec

from gatelift.encoding import Digest
from gatelift.errors import GateliftError, PeerError
from gatelift.gateway.answers import UpstreamAnswerError
from gatelift.gateway.breaker import Breaker, BreakerEvent, BreakerState, BreakerTerms
from gatelift.gateway.holdings import Holdings
from gatelift.messages import Placement
from gatelift.trust import Refusal
from gatelift.wire.http_client import (
    Upstream,
    UpstreamError,
    UpstreamLimits,
    UpstreamResponse,
    UpstreamTimeouts,
)
from gatelift.wire.sse import SseError

__all__ = [
    "Forward",
    "PlacementError",
    "PlacementTerms",
    "Placements",
    "StoppedError",
    "Told",
    "told_of",
]

_LOG = logging.getLogger(__name__)
_Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
_MAX_RETRY_AFTER_S: Final = 60
_CREDENTIAL_OR_ROUTE: Final = frozenset({401, 403, 404, 405})

Headers = list[tuple[bytes, bytes]]


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


class PlacementError(PeerError):
    """No placement took the exchange. Codes: `no_placement`, `upstream_busy`, `upstream_failed`.

    `retry_after_s` is when to come again, null where that is unknown; `retry` is false where the
    same request would fail again.
    """

    code = "no_placement"

    def __init__(
        self, message: str, *, code: str, retry_after_s: int | None = None, retry: bool = True
    ) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s
        self.retry = retry


class StoppedError(GateliftError):
    """The exchange was no longer permitted when it was judged again; nothing was sent."""

    code = "stopped"


class Told(NamedTuple):
    """What a caller reads of a failure upstream: a code of `CODES`, and when to come again."""

    code: str
    message: str
    retry_after_s: int | None = None
    retry: bool = True


_TOLD: Final[dict[str, Told]] = {
    **dict.fromkeys(
        ("timeout_connect", "timeout_write", "timeout_first_byte", "timeout_idle", "timeout_total"),
        Told("upstream_timeout", "the model server did not answer in time"),
    ),
    **dict.fromkeys(
        ("timeout_pool", "too_many_connections"),
        Told("upstream_busy", "all connections to the model server are in use"),
    ),
}
_FAILED: Final = Told("upstream_failed", "the model server failed or answered out of its contract")


def told_of(error: GateliftError) -> Told:
    """Return what the caller is told of an error on the way to or from a placement."""
    if isinstance(error, PlacementError):
        return Told(error.code, str(error), error.retry_after_s, error.retry)
    return _TOLD.get(error.code, _FAILED) if isinstance(error, UpstreamError) else _FAILED


class _Place:
    """What a worker knows of one enrolled placement."""

    __slots__ = ("breaker", "busy_until_s", "enrolled", "open")

    def __init__(self, enrolled: Placement, terms: BreakerTerms) -> None:
        self.enrolled = enrolled
        self.breaker = Breaker(terms)
        self.open = 0
        self.busy_until_s = 0.0

    def takes(self, now_s: float) -> bool:
        return now_s >= self.busy_until_s and self.breaker.lets_through(now_s)

    def on(self, event: BreakerEvent, begun: int, now_s: float) -> None:
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
        self.client = client
        self.headers = headers
        self._usable: tuple[Placement, ...] = ()
        self._ordered: list[_Place] = []
        self._known: dict[tuple[str, str], _Place] = {}

    def lacking(self) -> PlacementError | None:
        """Return why no placement would take an exchange now, null if one would."""
        now_s = asyncio.get_running_loop().time()
        return None if self.choose(frozenset(), now_s) else self.why_none(now_s)

    def forward(
        self,
        path: str,
        *,
        candidate: Digest,
        body: Callable[[Placement], bytes],
        judge: Callable[[Placement], Refusal | None],
        stream: bool,
    ) -> Forward:
        """Return the way of one exchange to a placement: an asynchronous context manager.

        `candidate` is the fingerprint it was admitted for; `body` what is sent to a placement;
        `judge` is called before each attempt. Entering raises `UpstreamError`, `PlacementError` or
        `StoppedError`.
        """
        return Forward(self, path, candidate, body, judge, stream=stream)

    # Called by `Forward`.

    def choose(self, tried: frozenset[_Place], now_s: float) -> _Place | None:
        """Return where an attempt would go."""
        best: _Place | None = None
        for place in self._places():
            if place in tried or not place.takes(now_s):
                continue
            if best is None or place.open < best.open:
                best = place
        return best

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
        retry_after_s = min(max(1, math.ceil(min(waits_s))), _MAX_RETRY_AFTER_S)
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

    def _places(self) -> list[_Place]:
        usable = self._holdings.placements()
        if usable is not self._usable:
            self._usable = usable
            known = {key: place for key, place in self._known.items() if place.open}
            self._ordered = []
            for enrolled in usable:
                key = (enrolled.name, enrolled.base_url)
                place = self._known.get(key) or _Place(enrolled, self.terms.breaker)
                place.enrolled = enrolled
                known[key] = place
                self._ordered.append(place)
            self._known = known
        return self._ordered


class Forward:
    """One exchange on its way: enter it to get `response` from `placement`, leave it when done."""

    __slots__ = (
        "_begun",
        "_body",
        "_candidate",
        "_judge",
        "_path",
        "_place",
        "_placements",
        "_response",
        "_stream",
        "sent",
    )

    def __init__(
        self,
        placements: Placements,
        path: str,
        candidate: Digest,
        body: Callable[[Placement], bytes],
        judge: Callable[[Placement], Refusal | None],
        *,
        stream: bool,
    ) -> None:
        self._placements = placements
        self._path = path
        self._candidate = candidate
        self._body = body
        self._judge = judge
        self._stream = stream
        self._place: _Place | None = None
        self._begun = 0
        self._response: UpstreamResponse | None = None
        self.sent = False
        """Whether any byte of the exchange may have reached a placement."""

    @property
    def response(self) -> UpstreamResponse:
        """The answer, status 200; only inside."""
        if self._response is None:
            raise GateliftError("an answer was asked for before the exchange was forwarded")
        return self._response

    @property
    def placement(self) -> Placement:
        """The placement that answers; only inside."""
        if self._place is None:
            raise GateliftError("a placement was asked for before the exchange was forwarded")
        return self._place.enrolled

    async def __aenter__(self) -> Self:
        tried: frozenset[_Place] = frozenset()
        last: UpstreamError | None = None
        for _ in range(self._placements.terms.max_attempts):
            place = self._next(tried, last)
            try:
                await self._attempt(place)
            except UpstreamError as error:
                if error.sent:
                    raise
                last, tried = error, tried | {place}
            else:
                return self
        raise self._none_left(last)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.response.close()
        if error is None:
            self._leave(BreakerEvent.ENDED)
        elif isinstance(error, (UpstreamError, UpstreamAnswerError, SseError)):
            self._leave(BreakerEvent.FAILED)
        else:
            self._leave(BreakerEvent.LEFT)

    def _next(self, tried: frozenset[_Place], last: UpstreamError | None) -> _Place:
        placements = self._placements
        place = placements.choose(tried, asyncio.get_running_loop().time())
        if place is None:
            raise self._none_left(last)
        refusal = self._judge(place.enrolled)
        if refusal is not None:
            raise StoppedError(refusal.message, code=refusal.code)
        if not placements.serves(self._candidate):
            raise PlacementError(
                "another candidate is served since this request came: ask again",
                code="no_placement",
            )
        return place

    def _none_left(self, last: UpstreamError | None) -> UpstreamError | PlacementError:
        # Where one was tried, what became of it says more than that no other is left.
        return last or self._placements.why_none(asyncio.get_running_loop().time())

    async def _attempt(self, place: _Place) -> None:
        placements = self._placements
        data = self._body(place.enrolled)
        self._place = place
        self._begun = place.breaker.begin(asyncio.get_running_loop().time())
        place.open += 1
        self.sent = True
        try:
            response = await placements.client(place.enrolled).request(
                "POST", self._path, placements.headers(), data, keep=not self._stream
            )
        except UpstreamError as error:
            self.sent = error.sent
            ours = error.code in {"too_many_connections", "timeout_pool"}
            self._leave(BreakerEvent.LEFT if ours else BreakerEvent.FAILED)
            raise
        except BaseException:
            self._leave(BreakerEvent.LEFT)
            raise
        if response.status != 200:
            response.close()
            raise self._refused(response)
        self._response = response
        place.on(BreakerEvent.ANSWERED, self._begun, asyncio.get_running_loop().time())

    def _refused(self, response: UpstreamResponse) -> PlacementError:
        """Take an answer that is none, and return what the caller is told of it."""
        terms, status = self._placements.terms, response.status
        if status == 429 or (status == 503 and b"retry-after" in response.headers):
            rest_s = min(_rest_s(response, terms.busy_s), terms.max_busy_s)
            if self._place is not None:
                now_s = asyncio.get_running_loop().time()
                self._place.busy_until_s = max(self._place.busy_until_s, now_s + rest_s)
            self._leave(BreakerEvent.LEFT)
            return PlacementError(
                "the model server is busy",
                code="upstream_busy",
                retry_after_s=min(max(1, math.ceil(rest_s)), _MAX_RETRY_AFTER_S),
            )
        by_caller = 400 <= status < 500 and status not in _CREDENTIAL_OR_ROUTE
        self._leave(BreakerEvent.LEFT if by_caller else BreakerEvent.FAILED)
        return PlacementError(
            f"the model server answered {status}", code="upstream_failed", retry=not by_caller
        )

    def _leave(self, event: BreakerEvent) -> None:
        if self._place is not None:
            self._place.open -= 1
            self._place.on(event, self._begun, asyncio.get_running_loop().time())


def _rest_s(response: UpstreamResponse, otherwise_s: float) -> float:
    """Return the seconds of a Retry-After (RFC 9110, 10.2.3), `otherwise_s` if it is not in seconds."""
    value = response.headers.get(b"retry-after", b"")
    return int(value) if value.isdigit() and len(value) <= 9 else otherwise_s
