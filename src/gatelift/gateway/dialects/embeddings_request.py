"""Embeddings, the request: what is read, what is inspected, what is sent.

Invariants
- As `request`; `EDITS` is the closed list of what differs between what came and what is sent.
- Only texts are taken: numbers of tokens can't be inspected.
- The upstream is always asked for plain numbers; base64 is written here.
- What the answer may weigh is set aside before it is asked for: name `dimensions` to set aside less.

The candidate's system prompt has no part in it: nothing is generated.

Follows the OpenAI API reference, "Create embeddings".
"""

from __future__ import annotations

from typing import Any, Final

from gatelift.encoding import encode_json
from gatelift.gateway.dialects.fields import read_end_user
from gatelift.gateway.dialects.request import (
    DialectError,
    ModelRequest,
    check_fields,
    expect,
    expect_positive,
    parse_body,
)
from gatelift.safeguards import Part, PartKind

__all__ = [
    "EDITS",
    "MAX_DIMENSIONS",
    "MAX_INPUTS",
    "MAX_NUMBERS",
    "EmbeddingsRequest",
    "parse_embeddings",
    "upstream_embeddings",
]

EDITS: Final = ("model_set", "encoding_format_float")

MAX_INPUTS: Final = 256
MAX_DIMENSIONS: Final = 4096
MAX_NUMBERS: Final = 262_144
"""In all vectors of an answer together: what is read whole is bounded."""
# The longest that a double is written: sign, 17 digits, point and exponent; and a comma.
_NUMBER_BYTES = 25
_KNOWN: Final = frozenset(
    {"model", "input", "encoding_format", "dimensions", "user", "safety_identifier"}
)


class EmbeddingsRequest(ModelRequest, frozen=True, kw_only=True):
    """A request for one vector for each of `texts`; `dimensions` null where it is left open."""

    texts: tuple[str, ...]
    dimensions: int | None
    base64: bool


def _texts(body: dict[str, Any]) -> tuple[str, ...]:
    value = body.get("input")
    listed = [value] if isinstance(value, str) else expect(value, list, "input")
    if not 1 <= len(listed) <= MAX_INPUTS:
        raise DialectError(f"expected 1 to {MAX_INPUTS} texts, got {len(listed)}", param="input")
    for number, item in enumerate(listed):
        if not isinstance(item, str):
            raise DialectError(
                f"expected input[{number}] to be a text: numbers of tokens can't be inspected",
                param=f"input[{number}]",
            )
    return tuple(listed)


def _dimensions(body: dict[str, Any]) -> int | None:
    value = body.get("dimensions")
    if value is None:
        return None
    number = expect_positive(value, "dimensions")
    if number > MAX_DIMENSIONS:
        raise DialectError(f"expected at most {MAX_DIMENSIONS} dimensions", param="dimensions")
    return number


def vector_bytes(dimensions: int, *, base64: bool) -> int:
    """Return the most bytes that one vector is written with."""
    return (4 * dimensions + 2) // 3 * 4 + 2 if base64 else _NUMBER_BYTES * dimensions + 1


def parse_embeddings(data: bytes) -> EmbeddingsRequest:
    """Return the request in a body; raises `DialectError` that names the field."""
    body = parse_body(data)
    check_fields(body, _KNOWN, frozenset())
    form = body.get("encoding_format")
    if form not in (None, "float", "base64"):
        raise DialectError("expected encoding_format float or base64", param="encoding_format")
    texts, dimensions, base64 = _texts(body), _dimensions(body), form == "base64"
    if len(texts) * (dimensions or MAX_DIMENSIONS) > MAX_NUMBERS:
        raise DialectError(
            f"expected at most {MAX_NUMBERS} numbers in all: send fewer texts, or name dimensions "
            f"({MAX_DIMENSIONS} are set aside for each text without)",
            param="input",
        )
    return EmbeddingsRequest(
        model=expect(body.get("model"), str, "model"),
        texts=texts,
        dimensions=dimensions,
        base64=base64,
        parts=tuple(Part(kind=PartKind.USER, text=text) for text in texts),
        messages=len(texts),
        end_user=read_end_user(body),
        generates=False,
        data_bytes=len(texts) * vector_bytes(dimensions or MAX_DIMENSIONS, base64=base64),
    )


def upstream_embeddings(asked: EmbeddingsRequest, *, model: str) -> bytes:
    """Return the body that goes upstream, written from the parsed form."""
    body: dict[str, Any] = {
        "model": model,
        "input": list(asked.texts),
        "encoding_format": "float",
    }
    if asked.dimensions is not None:
        body["dimensions"] = asked.dimensions
    return encode_json(body)
