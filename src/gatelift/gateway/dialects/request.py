"""A request in its parsed form, whatever its dialect, and how its fields are read.

Invariants
- What was inspected is what is sent: every text that the model will read is a `Part`, and the
  upstream body is written from the parsed form, never from the caller's bytes.
- Fields are allow-listed by name. Any other field is refused by name, so that no engine-specific
  field reaches the upstream unseen.
- A value is of exactly the type that was asked for: a bool is no number.
- Text holds no NUL, where a model server written in C could stop reading and the safeguards go on.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec

from gatelift.encoding import EncodingError, parse_json
from gatelift.errors import CallerError
from gatelift.safeguards import Part
from gatelift.wire.sse import MAX_EVENT_BYTES

__all__ = [
    "MAX_END_USER_CHARS",
    "DialectError",
    "ModelRequest",
    "check_fields",
    "expect",
    "expect_only",
    "expect_positive",
    "narrowed",
    "parse_body",
    "read_bool",
]

MAX_END_USER_CHARS: Final = 64

T = TypeVar("T")


class DialectError(CallerError):
    """The body is not a request of this dialect. `param` names the field."""

    code = "invalid_request"

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.param = param


class ModelRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What every dialect's request says. A dialect adds what it needs to write the upstream body.

    `max_tokens` is what the caller asked for, null where it left that open; of each of `choices`
    answers. `messages` counts what the model server puts words of its own around. A request that
    does not `generate` (embeddings) reserves no output tokens and at most `data_bytes` of answer.
    `end_user_field` is where the dialect names who the request is made for.
    Where `costs_input` is false the prompt is measured, not answered: it spends no input tokens.
    `images` counts what the model sees and no safeguard reads. One without `carries_system` has no
    place for the candidate's system prompt, and is refused where the candidate has one.
    `event_bytes` bounds one event of the upstream's stream. `readings` are parts as they read where
    they are sent in another spelling: `inspected` with the rest, counted never.
    """

    model: str
    parts: tuple[Part, ...]
    messages: int
    readings: tuple[Part, ...] = ()
    stream: bool = False
    max_tokens: int | None = None
    choices: int = 1
    end_user: str = ""
    end_user_field: str = "safety_identifier"
    generates: bool = True
    costs_input: bool = True
    data_bytes: int = 0
    images: int = 0
    carries_system: bool = True
    event_bytes: int = MAX_EVENT_BYTES

    @property
    def inspected(self) -> tuple[Part, ...]:
        """Return every text that the safeguards are shown."""
        return (*self.parts, *self.readings) if self.readings else self.parts


R = TypeVar("R", bound=ModelRequest)


def parse_body(data: bytes) -> dict[str, Any]:
    """Return the JSON object in a body; raises `DialectError`."""
    try:
        body = parse_json(data)
    except EncodingError as error:
        raise DialectError(str(error), code=error.code) from error
    found: dict[str, Any] = expect(body, dict, "body")
    # A backslash alone is sought many times as fast, and few texts hold one.
    if b"\\" in data and b"\\u0000" in data and _holds_nul(found):
        raise DialectError("a text holds U+0000: leave it out", code="nul")
    return found


def _holds_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_holds_nul(key) or _holds_nul(each) for key, each in value.items())
    return isinstance(value, list) and any(_holds_nul(each) for each in value)


def expect(value: object, kind: type[T], param: str) -> T:
    """Return a value of exactly this type; raises `DialectError` that names the field."""
    # bool is an int in Python and never one in JSON.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise DialectError(
            f"expected {param} to be of type {kind.__name__}, got {type(value).__name__}",
            param=param,
        )
    return value


def expect_only(value: dict[str, Any], allowed: frozenset[str], param: str) -> None:
    """Return if an object has no other keys; raises `DialectError` that names the first."""
    if allowed.issuperset(value):
        return
    for name in value:
        if name not in allowed:
            raise DialectError(
                f"{param}.{name[:60]} is not accepted here: leave it out",
                param=f"{param}.{name[:60]}",
            )


def check_fields(body: dict[str, Any], known: frozenset[str], fixed: frozenset[str]) -> None:
    """Return if a body has only `known` fields; raises `DialectError`.

    `fixed` are known to the dialect and belong to the candidate: a caller cannot choose them.
    """
    if known.issuperset(body):
        return
    for name in body:
        if name in known:
            continue
        if name in fixed:
            raise DialectError(
                f"{name} is part of the candidate and cannot be chosen by a caller: leave it out",
                param=name,
                code="fixed_by_candidate",
            )
        raise DialectError(
            f"{name[:60]} is not accepted by this gateway: leave it out",
            param=name[:60],
            code="unknown_field",
        )


def expect_positive(value: object, param: str) -> int:
    """Return an integer of 1 or more; raises `DialectError`."""
    number = expect(value, int, param)
    if number < 1:
        raise DialectError(f"expected {param} of 1 or more, got {number}", param=param)
    return number


def read_bool(body: dict[str, Any], name: str) -> bool:
    """Return a flag that is false where it is null or left out; raises `DialectError`."""
    value = body.get(name)
    return False if value is None else expect(value, bool, name)


def narrowed(request: ModelRequest, kind: type[R]) -> R:
    """Return a request as the kind that its own dialect made; raises `TypeError` for another's."""
    if not isinstance(request, kind):
        raise TypeError(f"expected a {kind.__name__}, got a {type(request).__name__}")
    return request
