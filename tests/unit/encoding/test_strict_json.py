"""Strict JSON: the quick way to a value takes and refuses what the slow way does.

The reading by Python's own decoder, with a check at each object and number, is written out here:
`parse_json` may take a shorter way to a value, and may never come to another.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatelift.encoding import MAX_SAFE_INTEGER, EncodingError, parse_json

REFUSED = object()


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key twice")
    return dict(pairs)


def _safe(text: str) -> int:
    number = int(text)
    if abs(number) > MAX_SAFE_INTEGER:
        raise ValueError("too large")
    return number


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError("not finite")
    return number


def _depth(text: str) -> int:
    deepest = depth = 0
    inside = escaped = False
    for char in text:
        if inside:
            inside, escaped = char != '"' or escaped, char == "\\" and not escaped
        elif char == '"':
            inside = True
        elif char in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "]}":
            depth -= 1
    return deepest


def _by_the_book(data: bytes) -> object:
    try:
        text = data.decode("utf-8")
        if _depth(text) > 64:
            return REFUSED
        value = json.loads(
            text,
            object_pairs_hook=_once_each,
            parse_int=_safe,
            parse_float=_finite,
            parse_constant=lambda name: _finite(name.replace("NaN", "inf")),
        )
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except ValueError:
        return REFUSED
    return value


def _read(data: bytes) -> object:
    try:
        return parse_json(data)
    except EncodingError:
        return REFUSED


def _same(data: bytes) -> None:
    # By `repr`, for 1 is not 1.0 here, nor 0.0 -0.0.
    assert repr(_read(data)) == repr(_by_the_book(data))


_TEXTS = st.sampled_from(
    ['"a"', '"b"', '"A"', r'"\u0061"', r'"a\\"', r'"a\":"', '":b"', r'"\\\":"', '"{[\\""', '"é"']
)
_NUMBERS = st.sampled_from(
    ["0", "-0", "-0.0", "1E5", "9007199254740991", "-9007199254740992", "1e999", "1" * 30, "01"]
)
_BLANKS = st.sampled_from(["", "", " ", "\n", "\t \r"])


def _objects(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.builds("{}{}:{}".format, _TEXTS, _BLANKS, inner)
    return st.lists(pair, max_size=3).map(lambda pairs: "{" + ",".join(pairs) + "}")


def _lists(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(inner, max_size=3).map(lambda items: "[" + " , ".join(items) + "]")


_WRITTEN = st.recursive(
    _TEXTS | _NUMBERS | st.sampled_from(["null", "true", "NaN", r'"\ud800"']),
    lambda inner: _objects(inner) | _lists(inner),
    max_leaves=12,
)


@settings(max_examples=500)
@given(_WRITTEN)
def test_a_text_is_read_as_the_book_reads_it(text: str) -> None:
    _same(text.encode())


@settings(max_examples=300)
@given(_WRITTEN, st.integers(0, 200), st.sampled_from(list(b'"\\{}[]:, a1\x00\x1f\xff')))
def test_a_broken_text_is_read_as_the_book_reads_it(text: str, at: int, byte: int) -> None:
    broken = bytearray(text.encode())
    broken[at % len(broken)] = byte
    _same(bytes(broken))


@settings(max_examples=300)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_read_to_the_last_bit(number: float) -> None:
    assert repr(parse_json(repr(number).encode())) == repr(number)


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":1}',
        b'{"a":1,"\\u0061":1}',
        b'{"a" :1,"b":{"c":1,"c" :2}}',
        b'{"a\\\\":1,"a\\\\":2}',
        b'{"a\\":":1,"a\\":":2}',
        b'[{"":":"},{"":1,"":2}]',
    ],
)
def test_a_key_that_stands_twice_is_refused(data: bytes) -> None:
    with pytest.raises(EncodingError, match="duplicate key"):
        parse_json(data)


@pytest.mark.parametrize(
    "data",
    [
        b'{"a\\":":1,"b":"\\":"}',
        b'{"a":"{\\"b\\": {\\"b\\": 1}}","c":"see: \\"x\\":"}',
        b'{"a\\\\":1,"b":":"}',
    ],
)
def test_a_text_that_looks_like_a_key_is_none(data: bytes) -> None:
    assert parse_json(data) == json.loads(data)


@pytest.mark.parametrize(
    ("data", "deep"),
    [
        (b"[" * 64 + b"]" * 64, False),
        (b"[" * 65 + b"]" * 65, True),
        (b"[" * 64 + b'"[[\\"[["' + b"]" * 64, False),
        (b"[" + b"[]," * 100 + b"[]]", False),
        (b'{"a":' * 65 + b"1" + b"}" * 65, True),
        (b"[" * 100_000, True),
        (b'"' + b"[" * 100, False),
    ],
)
def test_only_what_is_nested_too_deep_is_refused_as_such(data: bytes, deep: bool) -> None:
    code = None
    try:
        parse_json(data)
    except EncodingError as error:
        code = error.code
    assert (code == "too_deep") is deep
