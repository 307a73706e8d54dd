"""Bytes that leave a process: strict JSON, digests, base64 and ids.

Invariants
- What is signed or hashed is the stored bytes; nothing here re-serialises to compare.
- `parse_json` refuses what two parsers could read differently: duplicate keys, NaN and infinities,
  integers beyond 2**53, invalid UTF-8, half a surrogate pair, a byte order mark, nesting deeper than
  `MAX_DEPTH`.
- `parse_base64` accepts exactly one spelling of each byte string.
- Ids are made from a time and entropy that the caller passes in; this module draws nothing.

Follows RFC 8259 with the strictness of RFC 7493 (I-JSON) section 2, and RFC 4648 section 4.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import json
import re
from collections.abc import Callable
from typing import Any, Final, NewType, TypeVar

import msgspec

from gatelift.errors import CallerError

__all__ = [
    "ID_ENTROPY_BYTES",
    "ID_LETTERS_BYTES",
    "MAX_DEPTH",
    "MAX_SAFE_INTEGER",
    "Digest",
    "EncodingError",
    "decode_json",
    "encode_base64",
    "encode_base64url",
    "encode_json",
    "make_id",
    "make_id_of_letters",
    "parse_base64",
    "parse_base64url",
    "parse_digest",
    "parse_json",
    "sha256_digest",
]

Digest = NewType("Digest", str)
"""`sha256:` followed by 64 lowercase hex digits."""

MAX_DEPTH = 64
MAX_SAFE_INTEGER = 2**53 - 1
ID_ENTROPY_BYTES = 10
ID_LETTERS_BYTES = 16
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CROCKFORD_PAIRS = tuple(high + low for high in _CROCKFORD for low in _CROCKFORD)
_PAIR_SHIFTS = tuple(range(120, -1, -10))
_LETTER_OF_BYTE = bytes(ord(_CROCKFORD[byte & 31]) for byte in range(256))
_PREFIX = "sha256:"
_NO_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
_NO_OPENING: Final = bytes(byte for byte in range(256) if byte not in b"[{")
# A string as JSON has it; one that never ends goes on to the end of the text.
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_KEY_END: Final = re.compile(rb'"[ \t\n\r]*+:')
_PLAIN_KEY_END: Final = re.compile(rb'(?<!\\)"[ \t\n\r]*+:')
_UNSURE: Final = object()

T = TypeVar("T")


class EncodingError(CallerError):
    """The bytes are not in the one form that everybody would read alike."""

    code = "encoding"


def sha256_digest(data: bytes) -> Digest:
    """Return the digest of `data` in its written form."""
    return Digest(_PREFIX + hashlib.sha256(data).hexdigest())


def parse_digest(text: str) -> Digest:
    """Return `text` as a digest, or raise `EncodingError`."""
    hexes = text.removeprefix(_PREFIX)
    if len(hexes) != 64 or len(text) != 71 or any(c not in "0123456789abcdef" for c in hexes):
        raise EncodingError(
            f"expected a digest as 'sha256:' and 64 lowercase hex digits, got {text[:80]!r}",
            code="bad_digest",
        )
    return Digest(text)


def encode_base64(data: bytes) -> str:
    """Return standard base64 with padding."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def parse_base64(text: str) -> bytes:
    """Return the bytes of standard base64 with padding; any other spelling is refused."""
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise EncodingError(
            f"expected standard base64 with padding, got {text[:40]!r}", code="bad_base64"
        ) from error
    if encode_base64(raw) != text:
        raise EncodingError(
            f"expected canonical base64 (no stray bits), got {text[:40]!r}", code="bad_base64"
        )
    return raw


def encode_base64url(data: bytes) -> str:
    """Return base64url without padding, as RFC 7515 section 2 has it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def parse_base64url(text: str) -> bytes:
    """Return the bytes of base64url without padding; any other spelling is refused."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise EncodingError("expected base64url without padding", code="bad_base64") from error
    if encode_base64url(raw) != text:
        raise EncodingError("expected canonical base64url without padding", code="bad_base64")
    return raw


def make_id(kind: str, now_ms: int, entropy: bytes) -> str:
    """Return `<kind>_<26 Crockford characters>` from 48 bits of time and 80 bits of entropy."""
    if len(entropy) != ID_ENTROPY_BYTES:
        raise EncodingError(f"expected {ID_ENTROPY_BYTES} bytes of entropy, got {len(entropy)}")
    if not 0 <= now_ms < 2**48:
        raise EncodingError(f"expected a time of 48 bits in milliseconds, got {now_ms}")
    number = (now_ms << 80) | int.from_bytes(entropy, "big")
    pairs = [_CROCKFORD_PAIRS[(number >> shift) & 1023] for shift in _PAIR_SHIFTS]
    return f"{kind}_{''.join(pairs)}"


def make_id_of_letters(kind: str, now_ms: int, letters: bytes) -> str:
    """Return an id as `make_id` does, from 128 bits of entropy of which it takes 80.

    The low five bits of each byte are one letter: so that entropy becomes text in one step in C,
    and the time, which ids of one moment share, is written once.
    """
    if len(letters) != ID_LETTERS_BYTES:
        raise EncodingError(f"expected {ID_LETTERS_BYTES} bytes of entropy, got {len(letters)}")
    return f"{kind}_{_time_letters(now_ms)}{letters.translate(_LETTER_OF_BYTE).decode('ascii')}"


@functools.lru_cache(maxsize=64)
def _time_letters(now_ms: int) -> str:
    return make_id("", now_ms, bytes(ID_ENTROPY_BYTES))[1:11]


encode_json: Final[Callable[[object], bytes]] = msgspec.json.Encoder().encode
"""Return compact UTF-8 JSON of a value, fields in the order of their declaration."""


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise EncodingError(
                f"duplicate key {key[:60]!r}: write each key once", code="duplicate_key"
            )
        found[key] = value
    return found


def _refuse_constant(name: str) -> Any:
    raise EncodingError(f"{name} is not JSON: write a finite number", code="not_finite")


def _parse_int(text: str) -> int:
    # The length check comes first: int() of a very long string is slow and may raise by itself.
    if len(text) > 17 or abs(int(text)) > MAX_SAFE_INTEGER:
        raise EncodingError(
            f"integer {text[:24]} is beyond 2**53 - 1: parsers disagree on it", code="big_integer"
        )
    return int(text)


def _parse_float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise EncodingError(f"number {text[:24]} is out of range", code="not_finite")
    return value


def _check_depth(data: bytes, max_depth: int) -> None:
    # Before parsing, so that no parser recurses on hostile input; strings hold no brackets.
    depth = 0
    for bracket in _STRING.sub(b"", data).translate(None, _NO_BRACKETS):
        if bracket in b"[{":
            depth += 1
            if depth > max_depth:
                raise EncodingError(f"nested deeper than {max_depth} levels", code="too_deep")
        else:
            depth -= 1


def _check_surrogates(value: Any) -> None:
    # Only an escape can spell half a pair; such a text has no UTF-8, so writing it is the test.
    try:
        msgspec.json.encode(value)
    except UnicodeEncodeError as error:
        raise EncodingError(
            "half a surrogate pair: write whole characters", code="lone_surrogate"
        ) from error


# Made once: `json.loads` with any of these would make one for each text.
_STRICT = json.JSONDecoder(
    object_pairs_hook=_refuse_duplicates,
    parse_constant=_refuse_constant,
    parse_int=_parse_int,
    parse_float=_parse_float,
)


def _count_pairs(value: Any) -> int:
    """Return how many keys all objects in `value` have, -1 if a number is not safe."""
    pairs = 0
    waiting = [value]
    while waiting:
        each = waiting.pop()
        kind = type(each)
        if kind is dict:
            pairs += len(each)
            waiting.extend(each.values())
        elif kind is list:
            waiting.extend(each)
        elif kind is int and not -MAX_SAFE_INTEGER <= each <= MAX_SAFE_INTEGER:
            return -1
    return pairs


def _most_pairs(data: bytes, pairs: int) -> int:
    """Return a number that no count of the keys written in `data` exceeds: `pairs` if possible."""
    # Behind every key stand its quote, blanks and a colon. A text may hold the same: then the bound
    # is too high.
    most = len(_KEY_END.findall(data))
    if most != pairs and b'\\"' in data:
        # An escaped quote ends no key, unless what escapes it is itself the end of an escape.
        most = len(_PLAIN_KEY_END.findall(data)) + data.count(b'\\\\"')
    return most


def _parse_surely(data: bytes) -> Any:
    """Return the value of `data` if that is surely strict, else `_UNSURE`.

    The decoder in C is as strict as `_STRICT`, but for large integers and for duplicate keys, of
    which it keeps the last. A duplicate leaves fewer keys than were written: so where there are as
    many as can have been written, there is none.
    """
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _UNSURE
    pairs = _count_pairs(value)
    return value if pairs >= 0 and pairs == _most_pairs(data, pairs) else _UNSURE


def parse_json(data: bytes, *, max_depth: int = MAX_DEPTH) -> Any:
    """Return the value of strict JSON bytes, or raise `EncodingError` that says why not."""
    # Deep or not is told from the brackets alone in nearly all texts.
    flat = len(data.translate(None, _NO_OPENING)) <= max_depth
    if flat and (value := _parse_surely(data)) is not _UNSURE:
        return value
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise EncodingError(f"invalid UTF-8 at byte {error.start}", code="bad_utf8") from error
    if not flat:
        _check_depth(data, max_depth)
        if (value := _parse_surely(data)) is not _UNSURE:
            return value
    try:
        value = _STRICT.decode(text)
    except json.JSONDecodeError as error:
        raise EncodingError(
            f"not JSON at line {error.lineno} column {error.colno}: {error.msg}", code="not_json"
        ) from error
    if b"\\u" in data:
        _check_surrogates(value)
    return value


def decode_json(data: bytes, kind: type[T], *, strict: bool = True) -> T:
    """Return strict JSON bytes as a `kind`, or raise `EncodingError` naming the field."""
    value = parse_json(data)
    try:
        return msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise EncodingError(
            f"not a {getattr(kind, '__name__', kind)}: {error}", code="bad_shape"
        ) from error
