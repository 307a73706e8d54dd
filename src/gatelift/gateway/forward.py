"""One exchange on its way to a placement: tried, judged before each attempt, told to the breaker.

Another placement is tried only where not one byte of the request can have reached the last: no
connection, or none free. What was sent is never sent again, whatever comes back: a 500, a 503 or a
silence may come from a server whose model has worked, and would work twice. A 503 with Retry-After
or a 429 therefore makes the placement rest that long, and the caller is told to come again.

Invariants
- Before every attempt the exchange is judged again: a stop, a lapse or a narrower envelope ends it
  there, and so does a bundle of another candidate.
- An attempt goes to a placement of the bundle in force at that moment, and to none twice.
- `sent` is true from the beginning of an attempt until it is shown that nothing left.
- Every attempt is told to its breaker exactly once as ended, failed or left.
- What a caller can bring about alone (a 400, say) is no failure of the placement, or one caller
  could close it for all.

Does not read answers, and does not judge: `judge` does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from gatelift.encoding import Digest
from gatelift.errors import GateliftError
from gatelift.gateway.breaker import BreakerEvent, BreakerState
from gatelift.gateway.dialects import UpstreamAnswerError
from gatelift.gateway.placements import MAX_RETRY_AFTER_S, Place, Placements
from gatelift.gateway.upstream_errors import PlacementError, StoppedError
from gatelift.messages import Placement
from gatelift.trust import Refusal
from gatelift.wire.http_client import UpstreamError, UpstreamResponse
from gatelift.wire.sse import SseError

__all__ = ["Forward"]

_CREDENTIAL_OR_ROUTE: Final = frozenset({401, 403, 404, 405})
_CLOSED: Final = BreakerState.CLOSED


class Forward:
    """One exchange on its way: enter it to get `response` from `placement`, leave it when done.

    `path` is the upstream's; `candidate` the fingerprint that the exchange was admitted for; `body`
    returns what is sent to a placement, `extra` its dialect's own headers; `judge` is called before each attempt. Entering raises
    `UpstreamError`, `PlacementError` or `StoppedError`.
    """

    __slots__ = (
        "_begun",
        "_body",
        "_candidate",
        "_extra",
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
        *,
        candidate: Digest,
        body: Callable[[Placement], bytes],
        judge: Callable[[Placement], Refusal | None],
        stream: bool,
        extra: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        self._placements = placements
        self._extra = extra
        self._path = path
        self._candidate = candidate
        self._body = body
        self._judge = judge
        self._stream = stream
        self._place: Place | None = None
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
        placements = self._placements
        tried: frozenset[Place] = frozenset()
        last: UpstreamError | None = None
        for _ in range(placements.terms.max_attempts):
            now_s = time.monotonic()
            place = self._next(tried, last, now_s)
            data = self._body(place.enrolled)
            self._begin(place, now_s)
            try:
                client = place.client or placements.connect(place)
                response = await client.request(
                    "POST",
                    self._path,
                    placements.headers() + self._extra,
                    data,
                    keep=not self._stream,
                )
            except UpstreamError as error:
                self._failed(error)
                if error.sent:
                    raise
                last, tried = error, tried | {place}
            except BaseException:
                self._leave(BreakerEvent.LEFT)
                raise
            else:
                self._take(place, response)
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

    def _next(self, tried: frozenset[Place], last: UpstreamError | None, now_s: float) -> Place:
        placements = self._placements
        place = placements.choose(tried, now_s)
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
        return last or self._placements.why_none(time.monotonic())

    def _begin(self, place: Place, now_s: float) -> None:
        self._place = place
        self._begun = place.breaker.begin(now_s)
        place.open += 1
        self.sent = True

    def _failed(self, error: UpstreamError) -> None:
        """Tell the breaker of an attempt that got no answer; what was full was full of ours."""
        self.sent = error.sent
        ours = error.code in {"too_many_connections", "timeout_pool"}
        self._leave(BreakerEvent.LEFT if ours else BreakerEvent.FAILED)

    def _take(self, place: Place, response: UpstreamResponse) -> None:
        if response.status != 200:
            response.close()
            raise self._refused(response)
        self._response = response
        if place.breaker.state is not _CLOSED:
            place.on(BreakerEvent.ANSWERED, self._begun, time.monotonic())

    def _refused(self, response: UpstreamResponse) -> PlacementError:
        """Take an answer that is none, and return what the caller is told of it."""
        terms, status = self._placements.terms, response.status
        if status == 429 or (status == 503 and b"retry-after" in response.headers):
            rest_s = min(_rest_s(response, terms.busy_s), terms.max_busy_s)
            if self._place is not None:
                self._place.rest(time.monotonic() + rest_s)
            self._leave(BreakerEvent.LEFT)
            return PlacementError(
                "the model server is busy",
                code="upstream_busy",
                retry_after_s=min(max(1, math.ceil(rest_s)), MAX_RETRY_AFTER_S),
            )
        by_caller = 400 <= status < 500 and status not in _CREDENTIAL_OR_ROUTE
        self._leave(BreakerEvent.LEFT if by_caller else BreakerEvent.FAILED)
        return PlacementError(
            f"the model server answered {status}", code="upstream_failed", retry=not by_caller
        )

    def _leave(self, event: BreakerEvent) -> None:
        if self._place is not None:
            self._place.open -= 1
            self._place.on(event, self._begun, time.monotonic())


def _rest_s(response: UpstreamResponse, otherwise_s: float) -> float:
    """Return the seconds of a Retry-After (RFC 9110, 10.2.3), `otherwise_s` if it is not in seconds."""
    value = response.headers.get(b"retry-after", b"")
    return int(value) if value.isdigit() and len(value) <= 9 else otherwise_s
