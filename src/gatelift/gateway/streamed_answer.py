"""A streamed answer on its way: the upstream's events become the caller's, each as it arrives.

A thousand streams of a token a second are a thousand wake-ups a second. So the events are read,
inspected and written where the bytes come in, on the connection's own call; the exchange's task
waits once, for the end, or until a caller who reads too slowly has caught up.

Invariants
- Events are passed on in order, one at a time: the next is read only when what came of the last was
  handed to the caller's connection.
- Nothing is read on while the caller has too much unread.
- After the upstream's end mark, and after a stop, nothing more is read.
- Only an end that the codec reads as one ends in order; a stream that just stops raises.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from gatelift.gateway.dialects import AnswerCodec, UpstreamAnswerError
from gatelift.gateway.exchange import Event, Exchange, State
from gatelift.gateway.http_responder import Responder
from gatelift.gateway.releasing import Release
from gatelift.wire.http_client import UpstreamResponse
from gatelift.wire.sse import SseEvent, SseParser

__all__ = ["StreamedAnswer"]

_NONE: Final[Iterable[SseEvent]] = ()
_RELEASING: Final = State.RELEASING


class StreamedAnswer:
    """One stream, from an upstream's response to a caller's responder whose head has left."""

    __slots__ = (
        "_behind",
        "_codec",
        "_events",
        "_over",
        "_parser",
        "_release",
        "_responder",
        "_steps",
    )

    def __init__(
        self,
        codec: AnswerCodec,
        release: Release,
        responder: Responder,
        steps: Exchange,
        *,
        max_event_bytes: int,
    ) -> None:
        self._codec = codec
        self._release = release
        self._responder = responder
        self._steps = steps
        self._parser = SseParser(max_event_bytes=max_event_bytes)
        self._events: Iterator[SseEvent] = iter(_NONE)
        self._behind = False
        self._over = False

    async def pass_on(self, response: UpstreamResponse) -> None:
        """Release what arrives until the answer has ended, or nothing more of it may be released."""
        while not self._over:
            if not await response.pour(self._take):
                raise UpstreamAnswerError(
                    "the stream ended without its end mark", code="upstream_died"
                )
            while self._behind:
                await self._responder.drained()
                self._go_on()

    def _take(self, data: bytes) -> bool:
        self._events = iter(self._parser.feed(data))
        return self._go_on()

    def _go_on(self) -> bool:
        """Pass on the events that have come; return whether more are wanted now."""
        release = self._release
        self._behind = False
        for event in self._events:
            answer = self._codec.parse_event(event)
            out = release.take(answer)
            if out:
                # Every release but the first leads from this state to itself.
                if self._steps.state is not _RELEASING:
                    self._steps.on(Event.RELEASE)
                self._behind = not self._responder.push(out)
            if answer.ended or release.stopped:
                self._over, self._events = True, iter(_NONE)
                return False
            if self._behind:
                return False
        return True
