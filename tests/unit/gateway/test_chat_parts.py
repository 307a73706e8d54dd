"""Images, formats and calls in a chat: what is inspected, what is sent, what is refused."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from gatelift.gateway.dialects import DialectError
from gatelift.gateway.dialects.chat_request import ChatRequest, parse_chat, upstream_chat
from gatelift.plan import parse_candidate
from gatelift.safeguards import PartKind
from tests.support.world import World

CANDIDATE = parse_candidate(World().candidate_bytes)
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 8


def url(data: bytes = PNG, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def image(address: str, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": address, **more}}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def asked(content: Any = "hi", **changes: Any) -> ChatRequest:
    made = {"model": "m", "messages": [{"role": "user", "content": content}]}
    return parse_chat(json.dumps(made | changes).encode())


def sent(chat: ChatRequest) -> dict[str, Any]:
    return json.loads(upstream_chat(chat, CANDIDATE, model="up", max_tokens=7))


def test_an_image_is_counted_and_sent_between_the_texts_around_it() -> None:
    chat = asked([text("what is "), image(url(), detail="low"), text("this")])
    assert chat.images == 1
    assert [(p.kind, p.text) for p in chat.parts] == [
        (PartKind.USER, "what is "),
        (PartKind.USER, "this"),
    ]
    assert sent(chat)["messages"][-1]["content"] == [
        text("what is "),
        image(url(), detail="low"),
        text("this"),
    ]


@pytest.mark.parametrize(
    "address",
    [
        "https://example.com/cat.png",
        "http://169.254.169.254/latest",
        "file:///etc/passwd",
        url(kind="svg+xml"),
        url(b"GIF89a", "png"),
        url() + "=",
        url().replace("base64,", "base64,\n"),
        "data:image/png,abc",
        url(PNG + b"\0" * 700_000),
    ],
)
def test_only_whole_images_of_a_known_kind_are_taken(address: str) -> None:
    with pytest.raises(DialectError) as caught:
        asked([image(address)])
    assert caught.value.param == "messages[0].content[0].image_url.url"


def test_what_is_wrong_beside_an_image_is_named_by_its_place() -> None:
    with pytest.raises(DialectError) as caught:
        asked([image(url()), {"type": "text"}])
    assert caught.value.param == "messages[0].content[1].text"


def test_images_are_bounded_in_number_and_belong_to_users() -> None:
    with pytest.raises(DialectError):
        asked([image(url())] * 9)
    for role in ("system", "assistant", "tool"):
        with pytest.raises(DialectError):
            asked(
                messages=[{"role": role, "content": [image(url())], "tool_call_id": "x"}],
            )


@pytest.mark.parametrize(
    "form",
    [
        {"type": "text"},
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "n", "schema": {"title": "deep"}}},
    ],
)
def test_an_answers_format_is_sent_and_its_texts_are_inspected(form: dict[str, Any]) -> None:
    chat = asked(response_format=form)
    assert sent(chat)["response_format"] == form
    system = [part.text for part in chat.parts if part.kind is PartKind.SYSTEM]
    assert any("deep" in said for said in system) == ("json_schema" in form)


@pytest.mark.parametrize(
    "form",
    [
        {"type": "grammar"},
        {"type": "json_object", "grammar": "x"},
        {"type": "json_schema", "json_schema": {"name": "two words"}},
        {"type": "json_schema", "json_schema": {"name": "n", "x": 1}},
        {"type": "json_schema", "json_schema": {"name": "n", "schema": {"a": 1, "A": 2}}},
        {"type": "json_schema", "json_schema": {"name": "n", "schema": {"ſ": 1, "s": 2}}},
        "json_object",
    ],
)
def test_another_format_is_refused(form: Any) -> None:
    with pytest.raises(DialectError):
        asked(response_format=form)


@pytest.mark.parametrize("name", ["logprobs", "top_logprobs"])
def test_log_probabilities_are_refused(name: str) -> None:
    with pytest.raises(DialectError) as caught:
        asked(**{name: 1})
    assert caught.value.param == name


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (r'{"q": "ran\u0073om"}', '{"q": "ransom"}'),
        (r'{"q": "ran\u0073om", broken', '{"q": "ransom", broken'),
        (r"kill\nswitch \/ \"x\" \\n", 'kill\nswitch / "x" \\n'),
        (r"\ud83d\ude00 \ud83d", "\U0001f600 \ufffd"),
        ("[" * 5000 + r"\u0061", "[" * 5000 + "a"),
    ],
)
def test_arguments_with_escapes_are_inspected_under_both_readings(written: str, read: str) -> None:
    call = {"id": "c", "function": {"name": "f", "arguments": written}}
    chat = asked(messages=[{"role": "assistant", "tool_calls": [call]}])
    assert [part.text for part in chat.parts] == ["f", written]
    assert [part.text for part in chat.inspected] == ["f", written, read]
    # It is one step of an agent, not two.
    kinds = [part.kind for part in chat.inspected]
    assert kinds.count(PartKind.TOOL_CALL_ARGUMENTS) == 1
    assert sent(chat)["messages"][-1]["tool_calls"][0]["function"]["arguments"] == written


def test_arguments_without_escapes_are_inspected_once() -> None:
    call = {"id": "c", "function": {"name": "f", "arguments": '{"q":1}'}}
    chat = asked(messages=[{"role": "assistant", "tool_calls": [call]}])
    assert [part.text for part in chat.parts] == ["f", '{"q":1}']


@pytest.mark.parametrize("code", ["lone_surrogate", "nul"])
def test_half_a_character_and_a_nul_are_refused(code: str) -> None:
    escape = {"lone_surrogate": "\\ud83d", "nul": "\\u0000"}[code]
    with pytest.raises(DialectError) as caught:
        parse_chat(b'{"model":"m","messages":[{"role":"user","content":"%b"}]}' % escape.encode())
    assert caught.value.code == code
    # The same characters behind an escaped backslash are six harmless ones.
    parse_chat(b'{"model":"m","messages":[{"role":"user","content":"\\%b"}]}' % escape.encode())
