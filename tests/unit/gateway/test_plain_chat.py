"""The short way to read a plain chat and the long way to read any agree on every body."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gatelift.gateway.dialects import DialectError
from gatelift.gateway.dialects.chat_request import (
    ChatRequest,
    parse_any_chat,
    parse_chat,
    upstream_chat,
)
from gatelift.plan import parse_candidate
from tests.support.world import World

CANDIDATE = parse_candidate(World().candidate_bytes)

texts = st.sampled_from(
    [
        "",
        "hi",
        'a "quoted" word',
        "back\\slash",
        "ends in \\",
        "two \\\\",
        '\\"',
        "a: b",
        "é\U0001f600",
    ]
)
written = st.one_of(
    texts.map(json.dumps),
    texts.map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.sampled_from(['"\\u0000"', '"\\ud83d"', '"\\"\\\\\\""', "null", "1", '"\\/"']),
)
roles = st.sampled_from(
    ['"user"', '"system"', '"developer"', '"assistant"', '"tool"', '"r\\u006fle"', "null"]
)
pairs = st.one_of(
    st.tuples(st.sampled_from(['"role"', '"rol\\u0065"']), roles),
    st.tuples(st.just('"content"'), written),
    st.tuples(st.just('"name"'), written),
)
messages = st.one_of(
    st.tuples(st.tuples(st.just('"role"'), roles), st.tuples(st.just('"content"'), written)),
    st.lists(pairs, max_size=3),
)
numbers = st.sampled_from(
    ["1", "256", "0", "-1", "1.0", "1e2", "null", "true", '"1"', "9007199254740992", "-0"]
)
blanks = st.sampled_from(["", " ", "\n\t"])


def an_object(pairs: Any) -> str:
    return "{" + ",".join(f"{key}:{value}" for key, value in pairs) + "}"


fields = st.one_of(
    st.tuples(st.just('"model"'), written),
    st.tuples(st.sampled_from(['"max_tokens"', '"max_completion_tokens"']), numbers),
    st.tuples(st.just('"stream"'), st.sampled_from(["true", "false", "null", "1"])),
    st.tuples(
        st.sampled_from(['"safety_identifier"', '"user"']),
        st.one_of(written, st.integers(63, 65).map(lambda n: json.dumps("é" * n))),
    ),
    st.tuples(st.sampled_from(['"n"', '"temperature"', '"Model"']), numbers),
)


@st.composite
def bodies(draw: Any) -> bytes:
    listed = draw(st.lists(messages, max_size=3))
    found = [('"model"', '"m"'), ('"messages"', f"[{','.join(map(an_object, listed))}]")]
    found = draw(st.permutations(found + draw(st.lists(fields, max_size=3))))
    return f"{draw(blanks)}{an_object(found)}{draw(blanks)}".encode("utf-8", "surrogatepass")


def told(parse: Any, data: bytes) -> object:
    try:
        found: ChatRequest = parse(data)
    except DialectError as error:
        return (str(error), error.code, error.param)
    sent = upstream_chat(found, CANDIDATE, model="m", max_tokens=7)
    return sent, msgspec.structs.replace(found, conversation=())


@given(bodies())
@example(b'{"model":"m","messages":[{"role":"user","content":"a","content":"b"}]}')
@example(b'{"model":"m","messages":[{"role":"user","content":"a"}],"model":"other"}')
@example(b'{"model":"m","messages":[{"role":"user","content":"\\\\","content":"b"}]}')
@example(b'{"model":"m","messages":[{"role":"user","content":"\\"\\"","content":"b"}]}')
@example(b'{"model":"m","messages":[{"role":"user","content":"\\u0000"}]}')
@example(b'{"model":"m","messages":[]}')
@example(
    b'{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":1,'
    b'"max_completion_tokens":1}'
)
@example(b'{"model":"m","messages":[%b]}' % b",".join([b'{"role":"user","content":"x"}'] * 257))
@example(b'\xef\xbb\xbf{"model":"m","messages":[{"role":"user","content":"x"}]}')
@example(b'{"model":"m","messages":[{"role":"user","content":"\xed\xa0\x80"}]}')
def test_a_plain_chat_is_read_as_any_other_is(data: bytes) -> None:
    assert told(parse_chat, data) == told(parse_any_chat, data)


@pytest.mark.parametrize(
    "twice",
    [
        '{"model":"m","model":"m","messages":[{"role":"user","content":"x"}]}',
        '{"model":"m","messages":[],"messages":[{"role":"user","content":"x"}]}',
        '{"model":"m","messages":[{"role":"user","role":"user","content":"x"}]}',
        '{"model":"m","messages":[{"role":"user","content":"\\"","content":"x"}]}',
        '{"model":"m","messages":[{"role":"user","content":"\\\\","content":"x\\\\\\""}]}',
        '{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":1,"max_tokens":2}',
        (
            '{"model":"m","messages":[{"role":"user","content":"\\\\"},'
            '{"role":"user","content":"\\\\"}],"max_tokens":1,"max_tokens":2}'
        ),
    ],
)
def test_a_key_that_stands_twice_is_refused_however_plain_the_body(twice: str) -> None:
    with pytest.raises(DialectError) as caught:
        parse_chat(twice.encode())
    assert caught.value.code == "duplicate_key"


def test_what_a_developer_says_is_sent_as_the_systems() -> None:
    asked = parse_chat(b'{"model":"m","messages":[{"role":"developer","content":"x"}]}')
    sent = json.loads(upstream_chat(asked, CANDIDATE, model="m", max_tokens=7))
    assert sent["messages"][-1] == {"role": "system", "content": "x"}
    assert [(part.kind.value, part.text) for part in asked.parts] == [("system", "x")]
