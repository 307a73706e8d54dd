"""Request fields that OpenAI's dialects share: functions, schemas, ids, limits, who asks.

Invariants
- Every text in a function, a schema or a call's arguments becomes a `Part`.
- JSON inside a text is inspected as it is written and, where it has escapes, as it reads: some
  model servers show the model the one, some the other. Counted is the one that is sent.
- Keys of a schema that differ only by case are refused: some parsers take them for one.

Follows the OpenAI API reference: "Function calling" and "Structured outputs".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from gatelift.encoding import encode_json
from gatelift.gateway.dialects.request import (
    MAX_END_USER_CHARS,
    DialectError,
    expect,
    expect_only,
    expect_positive,
)
from gatelift.safeguards import Part, PartKind

__all__ = [
    "MAX_CHOICES",
    "Reading",
    "arguments_parts",
    "both_readings",
    "check_keys",
    "read_call_id",
    "read_choices",
    "read_end_user",
    "read_function",
    "read_schema_format",
    "read_stops",
    "read_usage_wanted",
    "schema_parts",
    "told_apart",
]

MAX_CHOICES: Final = 8
_MAX_STOPS = 4
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ESCAPE: Final = re.compile(r'\\(u[0-9A-Fa-f]{4}|["\\/bfnrt])')
_SHORT: Final = {
    '"': '"',
    "\\": "\\",
    "/": "/",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
}
_FUNCTION: Final = frozenset({"name", "description", "parameters", "strict"})
_SCHEMA_FORMAT: Final = frozenset({"name", "description", "schema", "strict"})


def read_call_id(value: object, param: str) -> str:
    """Return the id of a call; raises `DialectError`."""
    # Some chat templates show it to the model, so it may hold no words of its own.
    text = expect(value, str, param)
    if not _ID.fullmatch(text):
        raise DialectError(f"expected {param} of 1 to 64 of A-Z a-z 0-9 _ -", param=param)
    return text


def _unescaped(text: str) -> str:
    # Letter by letter, not by parsing: parsers disagree on what is JSON at all, and some mend it.
    plain = _ESCAPE.sub(lambda found: _SHORT.get(found[1]) or chr(int(found[1][1:], 16)), text)
    # Two escapes may make one character; half of one is none.
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class Reading(Part, frozen=True, kw_only=True):
    """The part before it as it reads: inspected, never counted as more text."""


def told_apart(found: Iterable[Part]) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """Return the parts that are sent, and the other readings of some of them."""
    parts = tuple(found)
    readings = tuple([part for part in parts if isinstance(part, Reading)])
    if readings:
        parts = tuple([part for part in parts if not isinstance(part, Reading)])
    return parts, readings


def both_readings(kind: PartKind, text: str, read_as: PartKind) -> list[Part]:
    """Return a text as it is written, and as it reads where it has escapes."""
    parts = [Part(kind=kind, text=text)]
    if "\\" in text:
        parts.append(Reading(kind=read_as, text=_unescaped(text)))
    return parts


def arguments_parts(text: str) -> list[Part]:
    """Return a call's arguments as they are written, and as they read where they have escapes."""
    # A second time it is no step of an agent any more, only a text that was there.
    return both_readings(PartKind.TOOL_CALL_ARGUMENTS, text, PartKind.TOOL_RESULT)


def check_keys(value: object, param: str) -> None:
    """Return if no two keys of an object differ only by case; raises `DialectError`."""
    if isinstance(value, dict):
        if len({key.casefold() for key in value}) < len(value):
            raise DialectError(
                f"{param} has keys that differ only by case: parsers disagree on them", param=param
            )
        for each in value.values():
            check_keys(each, param)
    elif isinstance(value, list):
        for each in value:
            check_keys(each, param)


def schema_parts(value: object, param: str) -> list[Part]:
    """Return the texts of a schema, as it is written and as it reads; raises `DialectError`."""
    schema = expect(value, dict, param)
    check_keys(schema, param)
    text = encode_json(schema).decode("utf-8")
    return both_readings(PartKind.SYSTEM, text, PartKind.SYSTEM)


def _spec_parts(
    spec: dict[str, Any], allowed: frozenset[str], schema: str, name_kind: PartKind, param: str
) -> list[Part]:
    expect_only(spec, allowed, param)
    parts = [Part(kind=name_kind, text=expect(spec.get("name"), str, f"{param}.name"))]
    if spec.get("strict") is not None:
        expect(spec["strict"], bool, f"{param}.strict")
    if spec.get("description") is not None:
        text = expect(spec["description"], str, f"{param}.description")
        parts.append(Part(kind=PartKind.SYSTEM, text=text))
    if spec.get(schema) is not None:
        # A schema's texts reach the model too: they are inspected as one text.
        parts += schema_parts(spec[schema], f"{param}.{schema}")
    return parts


def read_function(function: dict[str, Any], param: str) -> list[Part]:
    """Return the texts of a declared function; raises `DialectError`."""
    return _spec_parts(function, _FUNCTION, "parameters", PartKind.TOOL_DECLARATION, param)


def read_schema_format(spec: dict[str, Any], param: str) -> list[Part]:
    """Return the texts of a `json_schema` that an answer must follow; raises `DialectError`."""
    read_call_id(spec.get("name"), f"{param}.name")
    return _spec_parts(spec, _SCHEMA_FORMAT, "schema", PartKind.SYSTEM, param)


def read_stops(body: dict[str, Any]) -> tuple[str, ...]:
    """Return the stop texts; raises `DialectError`."""
    value = body.get("stop")
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else expect(value, list, "stop")
    if len(stops) > _MAX_STOPS:
        raise DialectError(f"expected at most {_MAX_STOPS} stop texts", param="stop")
    return tuple(expect(stop, str, "stop") for stop in stops)


def read_choices(body: dict[str, Any]) -> int:
    """Return how many answers are asked for; raises `DialectError`."""
    value = body.get("n")
    choices = 1 if value is None else expect_positive(value, "n")
    if choices > MAX_CHOICES:
        raise DialectError(f"expected n of at most {MAX_CHOICES}, got {choices}", param="n")
    return choices


def read_end_user(body: dict[str, Any]) -> str:
    """Return who the caller says is behind the request, empty where it does not."""
    for name in ("safety_identifier", "user"):
        if body.get(name) is not None:
            value = expect(body[name], str, name)
            if len(value) > MAX_END_USER_CHARS:
                raise DialectError(
                    f"expected {name} of at most {MAX_END_USER_CHARS} characters", param=name
                )
            return value
    return ""


def read_usage_wanted(body: dict[str, Any]) -> bool:
    """Return whether a stream is to end with its usage; raises `DialectError`."""
    options = body.get("stream_options")
    if options is None:
        return False
    found = expect(options, dict, "stream_options")
    expect_only(found, frozenset({"include_usage"}), "stream_options")
    wanted = found.get("include_usage")
    return False if wanted is None else expect(wanted, bool, "stream_options.include_usage")
