"""No parser behind us reads another request than the safeguards saw, whatever a caller writes.

For every dialect: a hostile body is refused, or what is sent upstream is read alike by Python, Node,
Go and C++, and every text in it is one that the safeguards were shown.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from gatelift.encoding import encode_json, parse_json
from gatelift.gateway.dialects import DIALECTS, DialectError, ModelRequest
from gatelift.plan import parse_candidate
from tests.support.differential import (
    ENGINE_FIELDS,
    STATE_FIELDS,
    dump,
    hostile_bodies,
    parser_command,
    read_all,
)
from tests.support.world import PROMPT, World

CANDIDATE = parse_candidate(World().candidate_bytes)
UPSTREAM_MODEL = "upstream-model"
SCHEMA = '{"type":"object","title":"TEXT","default":424242,"properties":{"TEXT":{"type":"string"}}}'
IMAGE = "data:image/gif;base64,R0lGODlh"
BLOCK = '{"type":"image","source":{"type":"base64","media_type":"image/gif","data":"R0lGODlh"}}'
_WRITTEN: dict[str, str] = {
    "/v1/chat/completions": (
        '{"model":"m","messages":[{"role":"system","content":"TEXT"},{"role":"user","content":'
        '[{"type":"text","text":"see TEXT"},{"type":"image_url","image_url":{"url":"$IMAGE"}}]},'
        '{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":'
        '{"name":"look","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c1","content":"TEXT"}],'
        '"tools":[{"type":"function","function":{"name":"look","description":"TEXT","parameters":$SCHEMA}}],'
        '"response_format":{"type":"json_schema","json_schema":{"name":"form","schema":$SCHEMA}},'
        '"stop":["end"],"user":"u1","stream":true}'
    ),
    "/v1/responses": (
        '{"model":"m","instructions":"TEXT","input":[{"role":"user","content":[{"type":"input_text",'
        '"text":"TEXT"},{"type":"input_image","image_url":"$IMAGE"}]},{"type":"message","id":"msg_1",'
        '"role":"assistant","content":[{"type":"output_text","text":"TEXT","annotations":[]}]},'
        '{"type":"reasoning","id":"rs_1","summary":[]},{"type":"function_call","call_id":"c1",'
        '"name":"look","arguments":"{}"},{"type":"function_call_output","call_id":"c1",'
        '"output":"TEXT"}],"tools":[{"type":"function","name":"look","description":"TEXT",'
        '"parameters":$SCHEMA}],"text":{"format":{"type":"json_schema","name":"form","schema":$SCHEMA}}}'
    ),
    "/v1/completions": '{"model":"m","prompt":"TEXT","stop":"end","user":"u1","stream":false}',
    "/v1/embeddings": '{"model":"m","input":["TEXT","more TEXT"],"user":"u1"}',
    "/v1/messages": (
        '{"model":"m","max_tokens":16,"system":"TEXT","messages":[{"role":"user","content":"TEXT"},'
        '{"role":"assistant","content":[{"type":"text","text":"TEXT"}]},{"role":"user","content":'
        '[{"type":"text","text":"see TEXT"},$BLOCK,{"type":"tool_result","tool_use_id":"t1","content":'
        '[{"type":"text","text":"TEXT"},$BLOCK]}]}],"tools":[{"name":"look","description":"TEXT",'
        '"input_schema":$SCHEMA}]}'
    ),
    "/v1/messages/count_tokens": (
        '{"model":"m","system":"TEXT","messages":[{"role":"user","content":"TEXT"}]}'
    ),
}


def _numbered(text: str) -> str:
    # Each text is another, so that none is taken for shown because its like was.
    numbers = count(1)
    whole = text.replace("$SCHEMA", SCHEMA).replace("$IMAGE", IMAGE).replace("$BLOCK", BLOCK)
    return re.sub("TEXT", lambda _: f"TEXT {next(numbers)}", whole)


BASES = {path: _numbered(text) for path, text in _WRITTEN.items()}
# What the model does not read as text: ids, marks of form, where to stop, and pictures.
UNREAD = frozenset(
    {
        *("id", "call_id", "tool_call_id", "tool_use_id", "stop", "stop_sequences"),
        *("url", "image_url", "data", "media_type"),
    }
)
WORDS = {
    *("system", "user", "assistant", "tool", "text", "function", "message", "function_call"),
    *("function_call_output", "input_text", "input_image", "image_url", "json_schema", "object"),
    *("auto", "none", "required", "low", "high", "float", "custom", "tool_use", "tool_result"),
    *("image", "base64"),
}
ESCAPE = re.compile(r"\\(u[0-9a-f]{4}|.)")
FIELD = re.compile(r"[a-z_]{1,32}")


def sent_of(path: str, data: bytes) -> tuple[ModelRequest, bytes] | None:
    """Return a request and the bytes that go upstream for it, null where it is refused."""
    dialect = DIALECTS[path]
    try:
        request = dialect.parse(data)
    except DialectError:
        return None
    return request, dialect.upstream_body(request, CANDIDATE, model=UPSTREAM_MODEL, max_tokens=7)


@cache
def accepted(path: str) -> dict[str, tuple[ModelRequest, bytes]]:
    """Return what goes upstream for each hostile body that is not refused."""
    found = {name: sent_of(path, data) for name, data in hostile_bodies(BASES[path].encode())}
    return {name: sent for name, sent in found.items() if sent is not None}


def strings(value: Any) -> Iterator[tuple[str, bool]]:
    """Yield every text that a model may read, and whether it is a key: not what is `UNREAD`."""
    if isinstance(value, str):
        yield value, False
    elif isinstance(value, dict):
        for key, each in value.items():
            yield key, True
            if key not in UNREAD:
                yield from strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from strings(each)


def shown_to_safeguards(request: ModelRequest) -> set[str]:
    """Return the texts of all parts, and those inside parts that are JSON."""
    shown = {PROMPT, UPSTREAM_MODEL}
    for part in request.inspected:
        shown.add(part.text)
        # The other reading of an escaped JSON text need not be JSON.
        with contextlib.suppress(json.JSONDecodeError):
            shown.update(text for text, _ in strings(json.loads(part.text)))
    return shown


@pytest.mark.parametrize("path", DIALECTS)
def test_a_plain_body_of_every_dialect_is_taken(path: str) -> None:
    assert {"plain", "space around"} <= set(accepted(path))


@pytest.mark.parametrize("parser", ["node", "go", "c++"])
def test_another_parser_reads_what_was_sent_as_we_do(
    parser: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    command = parser_command(parser, tmp_path_factory.mktemp("parser"))
    names = [(path, name) for path in DIALECTS for name in accepted(path)]
    documents = [accepted(path)[name][1] for path, name in names]
    read = read_all(command, documents)
    ours = [dump(json.loads(document)) for document in documents]
    assert len(read) == len(names)
    assert [name for name, one, other in zip(names, ours, read, strict=True) if one != other] == []


def test_the_comparison_sees_a_difference(tmp_path: Path) -> None:
    read = read_all(parser_command("node", tmp_path), [b'{"a":1,"a":2}', rb'"\ud800"', b"1e400"])
    ours = [dump({"a": 1}), dump("\ud800"), dump(1.5)]
    assert all(one != other for one, other in zip(ours, read, strict=True))


def own_system_apart(body: dict[str, Any]) -> dict[str, Any]:
    """Return a body in which the candidate's own system text is not joined with a caller's."""
    system = body.get("system")
    if isinstance(system, str) and system.startswith(PROMPT):
        return body | {"system": [PROMPT, system.removeprefix(PROMPT).removeprefix("\n\n")]}
    return body


@pytest.mark.parametrize("path", DIALECTS)
def test_every_text_that_is_sent_was_shown_to_the_safeguards(path: str) -> None:
    for name, (request, document) in accepted(path).items():
        shown = shown_to_safeguards(request)
        unseen = [
            text
            for text, is_key in strings(own_system_apart(parse_json(document)))
            if text not in shown and not (FIELD.fullmatch(text) if is_key else text in WORDS)
        ]
        assert unseen == [], name


@pytest.mark.parametrize("path", DIALECTS)
def test_every_text_that_was_shown_is_sent(path: str) -> None:
    for name, (request, document) in accepted(path).items():
        sent = encode_json(own_system_apart(parse_json(document))).decode()
        for part in request.parts:
            # As a text of its own, or as the JSON that stands in it.
            assert encode_json(part.text).decode() in sent or part.text in sent, (name, part)
        plain = {letters(ESCAPE.sub("", part.text)) for part in request.parts}
        assert all(letters(reading.text) in plain for reading in request.readings), name


def letters(text: str) -> str:
    """Return the letters and digits of a text: no escape that we write stands for one."""
    return "".join(char for char in text if char.isascii() and char.isalnum())


@pytest.mark.parametrize("path", DIALECTS)
def test_what_is_sent_has_no_two_keys_that_a_parser_could_take_for_one(path: str) -> None:
    def check(value: Any) -> None:
        if isinstance(value, dict):
            assert len({key.casefold() for key in value}) == len(value)
            for each in value.values():
                check(each)
        elif isinstance(value, list):
            for each in value:
                check(each)

    for _, document in accepted(path).values():
        assert b"\\u0000" not in document.replace(b"\\\\", b"")
        # Strict parsing refuses duplicate keys, half characters and unsafe numbers by itself.
        check(parse_json(document))


@pytest.mark.parametrize("path", DIALECTS)
def test_no_field_of_an_engine_goes_upstream(path: str) -> None:
    known = set(json.loads(accepted(path)["plain"][1]))
    for name, (_, document) in accepted(path).items():
        more = set(json.loads(document)) - known
        assert not more & set(ENGINE_FIELDS), name
        assert more <= {"max_tokens", "max_output_tokens", "n", "dimensions", "stream_options"}


@pytest.mark.parametrize("path", DIALECTS)
@pytest.mark.parametrize("field", STATE_FIELDS)
def test_what_needs_a_memory_upstream_is_refused(path: str, field: str) -> None:
    body = json.loads(BASES[path]) | {field: STATE_FIELDS[field]}
    assert sent_of(path, json.dumps(body).encode()) is None


HARMLESS = re.compile(
    r"plain|space around|\w+ escaped|field .* None|text .*(?<!in a key)|"
    r"number .*|(max_tokens|max_output_tokens|n|dimensions) .*"
)


@pytest.mark.parametrize("path", DIALECTS)
def test_nothing_but_other_texts_and_numbers_is_taken(path: str) -> None:
    taken = [name for name in accepted(path) if not HARMLESS.fullmatch(name)]
    assert taken == []
    for name in ("byte order mark", "model twice", "NUL behind", "deep array", "comment"):
        assert name not in accepted(path)
