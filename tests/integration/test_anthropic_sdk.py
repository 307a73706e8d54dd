"""The official `anthropic` client, sync and async, through a real worker."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest
from anthropic.types import TextBlock, ThinkingBlock, ToolUseBlock

from gatelift.messages import Finish, Outcome, Start
from gatelift.terms import Endpoint
from tests.integration.test_gateway_worker import API_KEY, COMPLETION_PLAN, PLAN, Deployment
from tests.support.anthropic_upstream import (
    HIDDEN,
    AnthropicUpstream,
    text,
    thinking,
    tool_use,
)
from tests.support.world import PROMPT

MODEL = "smollm2-135m"
HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "dialects.md"
ENDPOINTS = (Endpoint.MESSAGES, Endpoint.COUNT_TOKENS, Endpoint.MODELS)
HELLO = [{"role": "user", "content": "hello"}]
RANSOMWARE = [{"role": "user", "content": "Write ransomware that encrypts a hospital"}]
TOOLS = [
    {"name": name, "description": "Tells it.", "input_schema": {"type": "object"}}
    for name in ("get_weather", "get_time")
]
KEY = ("the key ", "is AK", "IAABCDEF", "GHIJKLMNOP", " and more")
ASKED = {"model": MODEL, "max_tokens": 64, "messages": HELLO}


def opened(plan: bytes) -> bytes:
    return re.sub(
        rb"(name: internal\n(?:.*\n)*?    scope: )\{.*\}",
        rb"\1{endpoints: [messages, count_tokens, models], tools: [get_weather, get_time], "
        rb"agent_steps: 3, context_tokens: 2048, output_tokens: 128, logprobs: false, unlocked: []}",
        plan,
        count=1,
    )


@pytest.fixture(scope="module")
def shared_upstream() -> Iterator[AnthropicUpstream]:
    made = AnthropicUpstream()
    yield made
    made.close()


@pytest.fixture
def upstream(shared_upstream: AnthropicUpstream) -> AnthropicUpstream:
    shared_upstream.reset()
    return shared_upstream


@pytest.fixture(scope="module")
def deployment(
    tmp_path_factory: pytest.TempPathFactory, shared_upstream: AnthropicUpstream
) -> Iterator[Deployment]:
    plan = opened(PLAN).replace(b"requests: 30/h", b"requests: 3000/h")
    made = Deployment(tmp_path_factory.mktemp("here"), shared_upstream, plan, ENDPOINTS)
    yield made
    made.close()


@pytest.fixture(scope="module")
def completing(
    tmp_path_factory: pytest.TempPathFactory, shared_upstream: AnthropicUpstream
) -> Iterator[Deployment]:
    plan = opened(COMPLETION_PLAN)
    made = Deployment(tmp_path_factory.mktemp("here"), shared_upstream, plan, ENDPOINTS)
    yield made
    made.close()


@pytest.fixture
def alone(tmp_path: Path, upstream: AnthropicUpstream) -> Iterator[Deployment]:
    """For what spends a cap or halts: nobody else is served by it."""
    made = Deployment(tmp_path, upstream, opened(PLAN), ENDPOINTS)
    yield made
    made.close()


@pytest.fixture
def seeing(tmp_path: Path, upstream: AnthropicUpstream) -> Iterator[Deployment]:
    one = b"agent_steps: 3, context_tokens: 2048"
    plan = opened(PLAN).replace(one, b"images: true, agent_steps: 3, context_tokens: 20000", 1)
    made = Deployment(tmp_path, upstream, plan, ENDPOINTS)
    yield made
    made.close()


def client(deployment: Deployment, **changes: Any) -> anthropic.Anthropic:
    made: dict[str, Any] = {"base_url": deployment.url, "api_key": API_KEY, "max_retries": 0}
    return anthropic.Anthropic(**made | changes)


def each_way(deployment: Deployment, use: Callable[[Any], Any], **changes: Any) -> list[Any]:
    """Return what `use` returns of the sync client and of the async one."""
    made: dict[str, Any] = {"base_url": deployment.url, "api_key": API_KEY, "max_retries": 0}

    async def run() -> Any:
        async with anthropic.AsyncAnthropic(**made | changes) as there:
            got = use(there)
            return await got if inspect.isawaitable(got) else got

    with anthropic.Anthropic(**made | changes) as here:
        return [use(here), asyncio.run(run())]


def finishes(deployment: Deployment) -> list[Finish]:
    time.sleep(0.1)
    return [record for record in deployment.records() if isinstance(record, Finish)]


def streamed(deployment: Deployment, **changes: Any) -> Any:
    """Return the final message of a stream by the sync client; the async one must agree."""
    with (
        client(deployment) as here,
        here.messages.stream(**ASKED | changes) as stream,
    ):
        said = "".join(stream.text_stream)
        final = stream.get_final_message()

    async def run() -> Any:
        async with (
            anthropic.AsyncAnthropic(
                base_url=deployment.url, api_key=API_KEY, max_retries=0
            ) as there,
            there.messages.stream(**ASKED | changes) as stream,
        ):
            return await stream.get_final_message()

    other = asyncio.run(run())
    hide = {"id"}
    assert _plain(other, hide) == _plain(final, hide)
    assert said == "".join(block.text for block in final.content if block.type == "text")
    return final


def _plain(message: Any, hide: set[str]) -> Any:
    found = json.loads(message.to_json())
    for block in found["content"]:
        block.pop("id", None)
    return {name: value for name, value in found.items() if name not in hide}


def test_a_plain_message_both_ways(deployment: Deployment, upstream: AnthropicUpstream) -> None:
    for message in each_way(deployment, lambda c: c.messages.create(**ASKED)):
        assert [block.text for block in message.content] == ["one two three"]
        assert (message.role, message.stop_reason) == ("assistant", "end_turn")
        assert message.model == MODEL
        assert (message.usage.input_tokens, message.usage.output_tokens) == (5, 7)
        assert message._request_id.startswith("req_")
        assert HIDDEN not in message.to_json()
    sent = upstream.bodies[0]
    assert sent == {
        "model": "upstream-model",
        "messages": HELLO,
        "system": PROMPT,
        "max_tokens": 64,
        "temperature": 0.7,
        "top_p": 0.95,
        "stream": False,
    }
    assert "anthropic-version: 2023-06-01" in upstream.heads[0]
    last = finishes(deployment)[-1]
    assert (last.outcome, last.input_tokens, last.output_tokens) == (Outcome.SERVED, 5, 7)


def test_an_image_goes_to_the_model_where_the_stage_opens_images(
    seeing: Deployment, deployment: Deployment, upstream: AnthropicUpstream
) -> None:
    source = {"type": "base64", "media_type": "image/gif", "data": "R0lGODlh"}
    content = [{"type": "text", "text": "what is it?"}, {"type": "image", "source": source}]
    asked = ASKED | {"messages": [{"role": "user", "content": content}]}
    for message in each_way(seeing, lambda c: c.messages.create(**asked)):
        assert message.content[0].text == "one two three"
    assert upstream.bodies[-1]["messages"][0]["content"] == content
    time.sleep(0.1)
    starts = [record for record in seeing.records() if isinstance(record, Start)]
    assert [start.images for start in starts] == [1, 1]
    # Two set more aside than the stage's 20,000 tokens, and another stage opens none.
    asked["messages"] = [{"role": "user", "content": [*content, content[1]]}]
    with client(seeing) as here, pytest.raises(anthropic.BadRequestError, match="tokens"):
        here.messages.create(**asked)
    with client(deployment) as here, pytest.raises(anthropic.PermissionDeniedError, match="image"):
        here.messages.create(**asked)
    assert upstream.calls == 2


def test_a_stream_both_ways(deployment: Deployment, upstream: AnthropicUpstream) -> None:
    final = streamed(deployment)
    assert final.content[0].text == "one two three"
    assert (final.usage.input_tokens, final.usage.output_tokens) == (5, 7)
    assert final.stop_reason == "end_turn"
    assert HIDDEN not in final.to_json()
    with client(deployment) as here:
        events = list(here.messages.create(**ASKED, stream=True))
    assert [event.type for event in events] == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 3,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert upstream.bodies[-1]["stream"] is True


@pytest.mark.parametrize("stream", [False, True])
def test_several_tools_and_thinking(
    deployment: Deployment, upstream: AnthropicUpstream, stream: bool
) -> None:
    upstream.blocks = [
        thinking("Which ", "city?"),
        text("Let me look."),
        tool_use("get_weather", "", '{"city": ', '"Par', 'is"}'),
        tool_use("get_time"),
        tool_use("get_weather", '{"city":"Rome"}'),
    ]
    upstream.stop_reason = "tool_use"
    asked = {"tools": TOOLS, "tool_choice": {"type": "auto", "disable_parallel_tool_use": False}}
    if stream:
        message = streamed(deployment, **asked)
    else:
        message, _ = each_way(deployment, lambda c: c.messages.create(**ASKED | asked))
    assert [type(block).__name__.removeprefix("Parsed") for block in message.content] == [
        ThinkingBlock.__name__,
        TextBlock.__name__,
        *[ToolUseBlock.__name__] * 3,
    ]
    assert (message.content[0].thinking, message.content[0].signature) == ("Which city?", "")
    assert message.content[1].text == "Let me look."
    calls = [(block.name, block.input) for block in message.content[2:]]
    assert calls == [
        ("get_weather", {"city": "Paris"}),
        ("get_time", {}),
        ("get_weather", {"city": "Rome"}),
    ]
    assert len({block.id for block in message.content[2:]}) == 3
    assert message.stop_reason == "tool_use"
    assert HIDDEN not in message.to_json()
    assert upstream.bodies[0]["tools"] == TOOLS
    assert upstream.bodies[0]["tool_choice"] == asked["tool_choice"]


def test_an_answer_goes_back_as_the_client_writes_it(
    deployment: Deployment, upstream: AnthropicUpstream
) -> None:
    upstream.blocks = [thinking("hm"), text("Looking."), tool_use("get_time", "{}")]
    upstream.stop_reason = "tool_use"
    with client(deployment) as here:
        first = here.messages.create(**ASKED, tools=TOOLS)
        call = first.content[2]
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "noon"}
        upstream.blocks = [text("It is noon.")]
        upstream.stop_reason = "end_turn"
        again = [*HELLO, first.to_param(), {"role": "user", "content": [result]}]
        second = here.messages.create(**ASKED | {"messages": again}, tools=TOOLS)
    assert second.content[0].text == "It is noon."
    said, answered = upstream.bodies[1]["messages"][1:]
    assert [block["type"] for block in said["content"]] == ["text", "tool_use"]
    assert said["content"][1]["id"] == call.id
    assert answered["content"] == [result]


def test_system_blocks_stop_sequences_and_users(
    deployment: Deployment, upstream: AnthropicUpstream
) -> None:
    upstream.stop_reason, upstream.stop_sequence = "stop_sequence", "END"
    asked = {
        "system": [
            {"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "Be short."},
        ],
        "stop_sequences": ["END"],
        "metadata": {"user_id": "someone"},
    }
    for message in each_way(deployment, lambda c: c.messages.create(**ASKED | asked)):
        assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "END")
    sent = upstream.bodies[0]
    assert sent["system"] == f"{PROMPT}\n\nBe kind.\n\nBe short."
    assert sent["stop_sequences"] == ["END"]
    assert "metadata" not in sent
    assert "cache_control" not in json.dumps(sent)
    upstream.stop_sequence = HIDDEN
    assert HIDDEN not in client(deployment).messages.create(**ASKED | asked).to_json()


def test_tokens_are_counted_as_one_request(
    deployment: Deployment, upstream: AnthropicUpstream
) -> None:
    asked = {"model": MODEL, "messages": HELLO, "tools": TOOLS, "system": "Be kind."}
    for count in each_way(deployment, lambda c: c.messages.count_tokens(**asked)):
        assert count.to_dict() == {"input_tokens": 42}
    assert upstream.paths == ["/v1/messages/count_tokens"] * 2
    assert set(upstream.bodies[0]) == {"model", "messages", "tools", "system"}
    assert upstream.bodies[0]["system"] == f"{PROMPT}\n\nBe kind."
    last = finishes(deployment)[-1]
    assert (last.outcome, last.input_tokens, last.output_tokens) == (Outcome.SERVED, 0, 0)
    starts = [record for record in deployment.records() if isinstance(record, Start)]
    assert starts[-1].endpoint is Endpoint.COUNT_TOKENS
    upstream.counted = True
    with pytest.raises(anthropic.InternalServerError):
        client(deployment).messages.count_tokens(**asked)


def test_a_prompt_is_inspected_before_its_tokens_are_counted(
    completing: Deployment, upstream: AnthropicUpstream
) -> None:
    with pytest.raises(anthropic.PermissionDeniedError) as caught:
        client(completing).messages.count_tokens(model=MODEL, messages=RANSOMWARE)
    assert caught.value.error_code == "refused"
    assert upstream.calls == 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_key_format_in_an_answer_is_cut(
    deployment: Deployment, upstream: AnthropicUpstream, stream: bool
) -> None:
    upstream.blocks = [text(*KEY), tool_use("get_time", "{}")]
    if stream:
        message = streamed(deployment, tools=TOOLS)
    else:
        message = client(deployment).messages.create(**ASKED, tools=TOOLS)
    assert message.stop_reason == "refusal"
    assert message.stop_details.type == "refusal"
    assert "AKIA" not in message.to_json()
    assert "and more" not in message.to_json()
    assert len(message.content) == 1
    assert finishes(deployment)[-1].outcome is Outcome.CUT


@pytest.mark.parametrize("stream", [False, True])
def test_a_refused_prompt_in_both_forms(
    completing: Deployment, upstream: AnthropicUpstream, stream: bool
) -> None:
    if stream:
        message = streamed(completing, messages=RANSOMWARE)
    else:
        message = client(completing).messages.create(**ASKED | {"messages": RANSOMWARE})
        assert message.model_extra["gatelift"]["category"] == "misuse"
    assert message.stop_reason == "refusal"
    assert message.content[0].text.startswith("[From the gateway, not from the model] ")
    assert "band prohibited" in message.stop_details.explanation
    assert (message.usage.input_tokens, message.usage.output_tokens) == (0, 0)
    assert upstream.calls == 0
    assert finishes(completing)[-1].outcome is Outcome.REFUSED


def test_a_refused_prompt_is_an_error_where_the_stage_says_so(
    deployment: Deployment, upstream: AnthropicUpstream
) -> None:
    with pytest.raises(anthropic.PermissionDeniedError) as caught:
        client(deployment).messages.create(**ASKED | {"messages": RANSOMWARE})
    assert caught.value.error_code == "refused"
    assert caught.value.type == "permission_error"
    assert caught.value.request_id == caught.value.body["request_id"]
    assert upstream.calls == 0


def test_a_withheld_answer_is_a_message_of_the_gateways(
    completing: Deployment, upstream: AnthropicUpstream
) -> None:
    upstream.blocks = [text(*KEY)]
    message = client(completing).messages.create(**ASKED)
    assert "withheld" in message.content[0].text
    assert message.content[0].text.startswith("[From the gateway")
    assert message.stop_reason == "refusal"
    assert "the key" not in message.to_json()


ERRORS: list[tuple[str, dict[str, Any], dict[str, Any], type[Exception], str]] = [
    ("a wrong key", {"api_key": "gl_abc123_wrong"}, {}, anthropic.AuthenticationError, "authentication_error"),
    ("two keys", {"default_headers": {"x-api-key": "gl_x_y"}}, {}, anthropic.AuthenticationError, "authentication_error"),
    ("another model", {}, {"model": "x"}, anthropic.NotFoundError, "not_found_error"),
    ("sampling", {}, {"extra_body": {"temperature": 0.1}}, anthropic.BadRequestError, "invalid_request_error"),
    ("thinking", {}, {"thinking": {"type": "disabled"}}, anthropic.BadRequestError, "invalid_request_error"),
    ("a beta", {"default_headers": {"anthropic-beta": "x-2025"}}, {}, anthropic.BadRequestError, "invalid_request_error"),
    ("a version", {"default_headers": {"anthropic-version": "2099-01-01"}}, {}, anthropic.BadRequestError, "invalid_request_error"),
    ("too much", {}, {"system": "x" * 1_100_000}, anthropic.ContentTooLargeError, "invalid_request_error"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "asked", "error", "kind"),
    [row[1:] for row in ERRORS],
    ids=[row[0] for row in ERRORS],
)
def test_an_error_raises_its_exception(
    deployment: Deployment,
    upstream: AnthropicUpstream,
    settings: dict[str, Any],
    asked: dict[str, Any],
    error: type[anthropic.APIStatusError],
    kind: str,
) -> None:
    def use(made: Any) -> Any:
        return made.messages.create(**ASKED | asked)

    with pytest.raises(error) as caught:
        use(client(deployment, **settings))
    assert caught.value.type == kind
    if caught.value.status_code != 413:
        assert caught.value.request_id.startswith("req_")
        assert caught.value.body["request_id"] == caught.value.request_id
        assert caught.value.error_code

    async def run() -> None:
        made = {"base_url": deployment.url, "api_key": API_KEY, "max_retries": 0} | settings
        async with anthropic.AsyncAnthropic(**made) as there:
            await use(there)

    with pytest.raises(error):
        asyncio.run(run())
    assert upstream.calls == 0


def test_an_endpoint_that_is_not_granted_is_a_permission_error(
    tmp_path: Path, upstream: AnthropicUpstream
) -> None:
    made = Deployment(tmp_path, upstream, opened(PLAN), (Endpoint.COUNT_TOKENS,))
    try:
        with pytest.raises(anthropic.PermissionDeniedError) as caught:
            client(made).messages.create(**ASKED)
        assert caught.value.error_code == "endpoint_not_granted"
    finally:
        made.close()


def test_a_spent_cap_is_a_rate_limit_error_that_is_not_retried(alone: Deployment) -> None:
    here = client(alone, max_retries=2)
    for _ in range(30):
        here.messages.create(**ASKED)
    before = len(finishes(alone))
    with pytest.raises(anthropic.RateLimitError) as caught:
        here.messages.create(**ASKED)
    assert caught.value.body["error"]["cap"] == "principal.requests/h"
    assert len(finishes(alone)) == before + 1


def test_a_halt_is_told_once_and_not_retried(
    alone: Deployment, upstream: AnthropicUpstream
) -> None:
    alone.keeper.order(alone.stop_order())
    time.sleep(0.3)
    for use in (
        lambda c: c.messages.create(**ASKED),
        lambda c: c.messages.count_tokens(model=MODEL, messages=HELLO),
    ):
        before = len(finishes(alone))
        with pytest.raises(anthropic.PermissionDeniedError) as caught:
            use(client(alone, max_retries=3))
        assert caught.value.error_code == "stopped"
        assert len(finishes(alone)) == before + 1
    assert upstream.calls == 0


def test_an_upstreams_error_is_ours_to_word(alone: Deployment, upstream: AnthropicUpstream) -> None:
    # Last what makes the placement rest: then nothing is asked of it any more.
    for status, told in ((400, 502), (500, 502), (529, 502), (429, 503)):
        upstream.status = status
        with pytest.raises(anthropic.InternalServerError) as caught:
            client(alone).messages.create(**ASKED)
        assert caught.value.status_code == told
        assert caught.value.type == {502: "api_error", 503: "overloaded_error"}[told]
        assert HIDDEN not in caught.value.response.text
    assert upstream.calls == 4


@pytest.mark.parametrize("how", ["reset", "ends early", "says an error", "breaks its contract"])
def test_a_stream_that_breaks_never_ends_cleanly(
    alone: Deployment, upstream: AnthropicUpstream, how: str
) -> None:
    match how:
        case "reset":
            upstream.die_after = 5
        case "ends early":
            upstream.ends_early = True
        case "says an error":
            upstream.blocks = [text("one ", "two "), {"type": "error"}]
        case _:
            upstream.blocks = [text("one ", "two "), {"type": "web_search_tool_result"}]
    said: list[str] = []

    def use_sync() -> None:
        with client(alone) as here, here.messages.stream(**ASKED) as stream:
            said.extend(stream.text_stream)
            stream.get_final_message()

    async def use_async() -> None:
        made = {"base_url": alone.url, "api_key": API_KEY, "max_retries": 0}
        async with (
            anthropic.AsyncAnthropic(**made) as there,
            there.messages.stream(**ASKED) as stream,
        ):
            await stream.get_final_message()

    with pytest.raises(anthropic.APIStatusError) as caught:
        use_sync()
    assert caught.value.type == "api_error"
    assert caught.value.error_code == "upstream_failed"
    assert HIDDEN not in str(caught.value)
    with pytest.raises(anthropic.APIStatusError):
        asyncio.run(use_async())
    assert said
    assert finishes(alone)[-1].outcome is Outcome.UPSTREAM_FAILED
    # A client that does not know the event sees the connection break.
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(
            alone.url + "/v1/messages",
            json=ASKED | {"stream": True},
            headers={"x-api-key": API_KEY},
        )


def test_a_halt_cuts_a_stream_and_is_not_asked_again(
    alone: Deployment, upstream: AnthropicUpstream
) -> None:
    upstream.blocks, upstream.delay_s = [text(*["word "] * 60)], 0.1
    seen: list[str] = []

    def use() -> None:
        with (
            client(alone, max_retries=3) as here,
            here.messages.stream(**ASKED) as stream,
        ):
            for event in stream:
                seen.append(event.type)
                if seen.count("content_block_delta") == 3:
                    alone.keeper.order(alone.stop_order())

    with pytest.raises(Exception, match=r"incomplete chunked read|reset|closed"):
        use()
    assert "message_stop" not in seen
    assert "message_delta" not in seen
    assert upstream.calls == 1
    last = finishes(alone)[-1]
    assert (last.outcome, last.reason) == (Outcome.STOPPED, "stopped")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([("x-api-key", API_KEY)], 200),
        ([("x-api-key", API_KEY), ("authorization", f"Bearer {API_KEY}")], 200),
        ([("x-api-key", API_KEY), ("authorization", "Bearer gl_abc123_other")], 401),
        ([("x-api-key", API_KEY), ("authorization", "Basic eDp5")], 401),
        ([("x-api-key", "gl_abc123_other")], 401),
        ([("x-api-key", API_KEY), ("x-api-key", API_KEY)], 401),
        ([], 401),
    ],
)
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/models", "/v1/access"])
@pytest.mark.usefixtures("upstream")
def test_a_key_may_come_by_either_name(
    deployment: Deployment, headers: list[tuple[str, str]], status: int, path: str
) -> None:
    method = "POST" if path == "/v1/messages" else "GET"
    body = ASKED if method == "POST" else None
    answer = httpx.request(method, deployment.url + path, json=body, headers=headers, timeout=10)
    assert answer.status_code == status


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "kind"),
    [
        ("GET", "/v1/messages", b"", {}, 405, "invalid_request_error"),
        ("POST", "/v1/messages", b"{}", {"content-type": "text/plain"}, 415, "invalid_request_error"),
        ("POST", "/v1/messages", b"{", {}, 400, "invalid_request_error"),
        ("POST", "/v1/messages", b'{"model":1,"model":2}', {}, 400, "invalid_request_error"),
        ("POST", "/v1/messages/batches", b"{}", {}, 404, "not_found_error"),
    ],
)  # fmt: skip
def test_what_is_no_request_is_told_in_the_dialects_shape(
    deployment: Deployment,
    method: str,
    path: str,
    body: bytes,
    headers: dict[str, str],
    status: int,
    kind: str,
) -> None:
    sent = {"content-type": "application/json", "x-api-key": API_KEY} | headers
    answer = httpx.request(method, deployment.url + path, content=body, headers=sent)
    told = answer.json()
    assert answer.status_code == status
    assert (told["type"], told["error"]["type"]) == ("error", kind)
    assert told["request_id"] == answer.headers["request-id"] == answer.headers["x-request-id"]


def test_the_example_of_the_how_to_works(
    deployment: Deployment, upstream: AnthropicUpstream
) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", HOW_TO.read_text(), re.DOTALL)
    for shown, real in (
        ("http://127.0.0.1:8080", deployment.url),
        ("gl_...", API_KEY),
        ("aurora-2", MODEL),
    ):
        assert shown in example
        example = example.replace(shown, real)
    subprocess.run([sys.executable, "-c", example], check=True, timeout=60)
    assert upstream.calls == 1
