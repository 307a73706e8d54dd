"""What a dialect is: how a request is read and sent, how an answer is read and written.

A route serves one dialect, and every dialect goes the same way through the gateway: only reading
and writing differ. A `Dialect` has no state; `open_answer` makes an `AnswerCodec` for each exchange.

Invariants
- Upstream bytes are hostile: a codec reads named fields only, and what the caller gets is written
  anew from what the safeguards released.
- Text leaves a codec as a typed `Piece`, and comes back to it as what may be released of it.
- `parse_event` says when a stream has ended in order; a stream that just stops is a broken one.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Annotated, Any, Final, Protocol, TypeVar

import msgspec

from gatelift.errors import PeerError
from gatelift.gateway.dialects.request import ModelRequest
from gatelift.plan import Candidate
from gatelift.safeguards import PartKind
from gatelift.terms import Endpoint
from gatelift.wire.sse import SseEvent

__all__ = [
    "Answer",
    "AnswerCodec",
    "AnswerEnd",
    "Dialect",
    "ErrorShape",
    "FinishReason",
    "Piece",
    "TokenCount",
    "UpstreamAnswerError",
    "decode_answer",
    "refuse_broken_off",
]

# Numbers that go on to callers and records: what is beyond these is no count of a model's.
TokenCount = Annotated[int, msgspec.Meta(ge=0, le=2**31)]

# How common servers say in good form that they broke off: the caller must not read it as an end.
_BROKEN_OFF: Final = frozenset(
    {"abort", "aborted", "cancelled", "error", "insufficient_system_resource"}
)

T = TypeVar("T")


class UpstreamAnswerError(PeerError):
    """The upstream sent something that is not an answer of this dialect."""

    code = "bad_upstream_answer"


def decode_answer(decoder: msgspec.json.Decoder[T], data: bytes | msgspec.Raw, what: str) -> T:
    """Return what the upstream's bytes say; raises `UpstreamAnswerError` that says `what` they aren't."""
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamAnswerError(f"not {what}: {error}") from error


def refuse_broken_off(reason: str | None) -> None:
    """Return if a reason to end does not say that it is no end; raises `UpstreamAnswerError`."""
    if reason in _BROKEN_OFF:
        raise UpstreamAnswerError(f"the answer was broken off: {reason}", code="upstream_died")


class ErrorShape(enum.Enum):
    """Whose clients read the errors of a route."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"


class FinishReason(enum.StrEnum):
    """Why a choice of an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


class Piece(msgspec.Struct, frozen=True, gc=False):
    """One typed stretch of an answer: of which choice, and of which call or part of it.

    `ends`: with it the text of its kind, channel and choice has ended, so that nothing of it is
    held back behind what follows. Such a piece is no token of its own.
    """

    kind: PartKind
    text: str
    channel: int = 0
    choice: int = 0
    ends: bool = False


class Answer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A whole answer, or what one event of it says. Token counts are the upstream's word.

    `data_bytes` counts what is no text and leaves as it was read (numbers of an embedding).
    `ended`: the stream ends in order with this event.
    """

    pieces: tuple[Piece, ...] = ()
    finishes: tuple[tuple[int, FinishReason], ...] = ()
    input_tokens: int | None = None
    output_tokens: int | None = None
    data_bytes: int = 0
    ended: bool = False


class AnswerEnd(msgspec.Struct, frozen=True, kw_only=True):
    """How an answer ended, for the caller: every choice, with counts and what cut it, if anything."""

    finishes: Mapping[int, FinishReason]
    input_tokens: int
    output_tokens: int
    note: dict[str, Any] | None = None


class AnswerCodec(Protocol):
    """Reads the upstream's answer to one exchange and writes the caller's."""

    @property
    def choices(self) -> int:
        """How many choices were asked for: each of them ends, and for a reason."""

    def parse_whole(self, data: bytes) -> Answer:
        """Return what a whole answer says; raises `UpstreamAnswerError`."""

    def parse_event(self, event: SseEvent) -> Answer:
        """Return what an event of a stream says; raises `UpstreamAnswerError`."""

    def release(self, piece: Piece, text: str) -> bytes:
        """Note that `text` may leave as a part of `piece`; return the events that carry it.

        Nothing is returned where the answer goes out whole.
        """

    def whole(self, end: AnswerEnd) -> bytes:
        """Return the whole answer as one body."""

    def last(self, end: AnswerEnd) -> bytes:
        """Return the last events of a stream, its mark of an orderly end included."""

    def refusal(self, text: str, end: AnswerEnd) -> bytes | None:
        """Return a body or a stream that holds our refusal; null where the dialect has no form."""


class Dialect(Protocol):
    """One route's language."""

    @property
    def endpoint(self) -> Endpoint:
        """What a scope must open for it."""

    @property
    def path(self) -> str:
        """The route, which is also the upstream's."""

    @property
    def errors(self) -> ErrorShape:
        """Whose clients read its errors."""

    def parse(self, data: bytes) -> ModelRequest:
        """Return the request in a body; raises `DialectError` that names the field."""

    def upstream_body(
        self, request: ModelRequest, candidate: Candidate, *, model: str, max_tokens: int
    ) -> bytes:
        """Return what goes upstream; `max_tokens` of each choice."""

    def open_answer(self, request: ModelRequest, *, request_id: str, created_s: int) -> AnswerCodec:
        """Return the codec of one exchange's answer."""
