"""The official client, sync and async, through a real worker, on every route of its dialects."""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import Iterator
from operator import attrgetter
from typing import Any

import openai
import pydantic
import pytest

from gatelift.messages import Outcome
from tests.support.gateway_house import API_KEY, MODEL, GatewayHouse, open_plan
from tests.support.openai_upstream import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    RESPONSES,
    OpenAIUpstream,
    chat,
    chat_stream,
    completion,
    completion_stream,
    message,
    response,
    response_stream,
)

SCOPE = (
    "endpoints: [chat, responses, completions, embeddings, models], tools: [weather, clock], "
    "agent_steps: 4, context_tokens: 60000, output_tokens: 128, logprobs: false, images: true, "
    "unlocked: []"
)
HELLO = [{"role": "user", "content": "hello"}]
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
    for name in ("weather", "clock")
]
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 40).decode()


class Sdk:
    """Calls a method of the client by its path, blocking or not; a stream comes as a list."""

    def __init__(self, house: GatewayHouse, kind: str) -> None:
        self._kind = kind
        self._settings: dict[str, Any] = {
            "base_url": house.url + "/v1",
            "api_key": API_KEY,
            "max_retries": 0,
            "timeout": 20,
        }

    def __call__(self, path: str, settings: dict[str, Any] | None = None, **asked: Any) -> Any:
        made = self._settings | (settings or {})
        if self._kind == "sync":
            with openai.OpenAI(**made) as client:
                answer = attrgetter(path)(client)(model=MODEL, **asked)
                return list(answer) if asked.get("stream") else answer
        return asyncio.run(self._later(path, made, asked))

    async def _later(self, path: str, made: dict[str, Any], asked: dict[str, Any]) -> Any:
        async with openai.AsyncOpenAI(**made) as client:
            answer = await attrgetter(path)(client)(model=MODEL, **asked)
            return [event async for event in answer] if asked.get("stream") else answer

    def models(self) -> list[str]:
        if self._kind == "sync":
            with openai.OpenAI(**self._settings) as client:
                return [model.id for model in client.models.list()]

        async def later() -> list[str]:
            async with openai.AsyncOpenAI(**self._settings) as client:
                return [model.id async for model in client.models.list()]

        return asyncio.run(later())


@pytest.fixture(scope="module")
def upstream() -> Iterator[OpenAIUpstream]:
    made = OpenAIUpstream()
    yield made
    made.close()


@pytest.fixture(scope="module")
def house(
    tmp_path_factory: pytest.TempPathFactory, upstream: OpenAIUpstream
) -> Iterator[GatewayHouse]:
    made = GatewayHouse(tmp_path_factory.mktemp("house"), upstream, open_plan(SCOPE))
    yield made
    made.close()


@pytest.fixture(scope="module")
def bare(
    tmp_path_factory: pytest.TempPathFactory, upstream: OpenAIUpstream
) -> Iterator[GatewayHouse]:
    """A candidate without a system prompt; refusals are said as completions."""
    plan = open_plan(SCOPE, prompt=False, refusal="completion")
    made = GatewayHouse(tmp_path_factory.mktemp("bare"), upstream, plan)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def fresh(upstream: OpenAIUpstream) -> None:
    upstream.script = {}
    upstream.bodies.clear()


@pytest.fixture(params=["sync", "async"])
def sdk(house: GatewayHouse, request: pytest.FixtureRequest) -> Sdk:
    return Sdk(house, request.param)


@pytest.fixture(params=["sync", "async"])
def bare_sdk(bare: GatewayHouse, request: pytest.FixtureRequest) -> Sdk:
    return Sdk(bare, request.param)


# Chat completions.


def test_a_chat_is_answered(sdk: Sdk, upstream: OpenAIUpstream) -> None:
    upstream.script[CHAT] = chat({"content": "hi there", "reasoning_content": "they greet"})
    answer = sdk("chat.completions.create", messages=HELLO)
    said = answer.choices[0].message
    assert (said.content, said.reasoning_content) == ("hi there", "they greet")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (5, 3)
    assert "upstream-id" not in answer.to_json()


@pytest.mark.parametrize("asks", [True, False])
def test_a_chat_streams_and_says_its_usage_only_if_asked(
    sdk: Sdk, upstream: OpenAIUpstream, asks: bool
) -> None:
    upstream.script[CHAT] = chat_stream(
        {"reasoning_content": "hm"}, {"content": "one "}, {"content": "two"}
    )
    options = {"stream_options": {"include_usage": True}} if asks else {}
    chunks = sdk("chat.completions.create", messages=HELLO, stream=True, **options)
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == "one two"
    assert "".join(getattr(delta, "reasoning_content", "") or "" for delta in deltas) == "hm"
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == ([8] if asks else [])
    assert upstream.bodies[0]["stream_options"] == {"include_usage": True}


def call(number: int, name: str, arguments: str) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"index": number, "id": f"up_{number}", "type": "function", "function": function}


def test_parallel_calls_come_whole_and_go_back(sdk: Sdk, upstream: OpenAIUpstream) -> None:
    calls = [call(0, "weather", '{"city":"Rome"}'), call(1, "clock", "{}")]
    upstream.script[CHAT] = chat({"content": None, "tool_calls": calls}, finish="tool_calls")
    answer = sdk(
        "chat.completions.create",
        messages=HELLO,
        tools=TOOLS,
        tool_choice="required",
        parallel_tool_calls=True,
    )
    assert answer.choices[0].finish_reason == "tool_calls"
    said = answer.choices[0].message
    told = [(each.function.name, each.function.arguments) for each in said.tool_calls]
    assert told == [("weather", '{"city":"Rome"}'), ("clock", "{}")]
    assert "up_0" not in answer.to_json()
    sent = upstream.bodies[0]
    assert (sent["tool_choice"], sent["parallel_tool_calls"]) == ("required", True)
    results = [
        {"role": "tool", "tool_call_id": each.id, "content": "sunny"} for each in said.tool_calls
    ]
    upstream.script[CHAT] = chat({"content": "It is sunny."})
    history = [*HELLO, said.model_dump(exclude_none=True), *results]
    again = sdk("chat.completions.create", messages=history, tools=TOOLS)
    assert again.choices[0].message.content == "It is sunny."


def test_parallel_calls_stream(sdk: Sdk, upstream: OpenAIUpstream) -> None:
    upstream.script[CHAT] = chat_stream(
        {"tool_calls": [call(0, "weather", "")]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '"Rome"}'}}]},
        {"tool_calls": [call(1, "clock", "{}")]},
        finish="tool_calls",
    )
    chunks = sdk("chat.completions.create", messages=HELLO, tools=TOOLS, stream=True)
    found: dict[int, list[str]] = {}
    for chunk in chunks:
        for each in chunk.choices[0].delta.tool_calls or ():
            told = found.setdefault(each.index, ["", ""])
            told[0] += each.function.name or ""
            told[1] += each.function.arguments or ""
    assert found == {0: ["weather", '{"city":"Rome"}'], 1: ["clock", "{}"]}
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_several_choices_come_each_whole(sdk: Sdk, upstream: OpenAIUpstream) -> None:
    upstream.script[CHAT] = chat({"content": "left"}, {"content": "right"})
    answer = sdk("chat.completions.create", messages=HELLO, n=2)
    assert [choice.message.content for choice in answer.choices] == ["left", "right"]
    upstream.script[CHAT] = chat_stream(
        (0, {"content": "le"}), (1, {"content": "right"}), (0, {"content": "ft"}), choices=2
    )
    texts = ["", ""]
    for chunk in sdk("chat.completions.create", messages=HELLO, n=2, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == ["left", "right"]


def test_an_image_goes_to_the_model_and_is_counted_in_the_record(
    sdk: Sdk, house: GatewayHouse, upstream: OpenAIUpstream
) -> None:
    upstream.script[CHAT] = chat({"content": "a pixel"})
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    content = [{"type": "text", "text": "what is it?"}, image]
    answer = sdk("chat.completions.create", messages=[{"role": "user", "content": content}])
    assert answer.choices[0].message.content == "a pixel"
    assert upstream.bodies[0]["messages"][-1]["content"] == content
    assert house.starts()[-1].images == 1


def test_each_image_sets_its_bound_aside(sdk: Sdk, upstream: OpenAIUpstream) -> None:
    upstream.script[CHAT] = chat({"content": "pixels"})
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    # Four times 16,384 is more than the 60,000 tokens of the stage.
    with pytest.raises(openai.BadRequestError, match="65552 tokens"):
        sdk("chat.completions.create", messages=[{"role": "user", "content": [image] * 4}])
    assert upstream.bodies == []
    answer = sdk("chat.completions.create", messages=[{"role": "user", "content": [image] * 3}])
    assert answer.choices[0].message.content == "pixels"


class Weather(pydantic.BaseModel):
    city: str


def test_an_answer_is_parsed_into_the_schema_that_was_asked_for(
    sdk: Sdk, upstream: OpenAIUpstream
) -> None:
    upstream.script[CHAT] = chat({"content": '{"city":"Rome"}'})
    answer = sdk("chat.completions.parse", messages=HELLO, response_format=Weather)
    assert answer.choices[0].message.parsed == Weather(city="Rome")
    assert upstream.bodies[0]["response_format"]["json_schema"]["name"] == "Weather"
    upstream.script[RESPONSES] = response(message('{"city":"Oslo"}'))
    told = sdk("responses.parse", input="hello", text_format=Weather)
    assert told.output_parsed == Weather(city="Oslo")


# Responses.


def test_a_response_is_answered_and_its_items_go_back(
    sdk: Sdk, house: GatewayHouse, upstream: OpenAIUpstream
) -> None:
    reasoning = {
        "type": "reasoning",
        "id": "u",
        "summary": [{"type": "summary_text", "text": "hm"}],
    }
    calls = [
        {"type": "function_call", "call_id": "u1", "name": "weather", "arguments": "{}"},
        {"type": "function_call", "call_id": "u2", "name": "clock", "arguments": "{}"},
    ]
    tools = [{"type": "function", "name": name, "parameters": {}} for name in ("weather", "clock")]
    upstream.script[RESPONSES] = response(reasoning, message("Let me see."), *calls)
    answer = sdk("responses.create", input="hello", instructions="Be kind.", tools=tools)
    assert answer.output_text == "Let me see."
    assert [item.type for item in answer.output] == [
        "reasoning",
        "message",
        "function_call",
        "function_call",
    ]
    assert answer.output[0].summary[0].text == "hm"
    assert answer.usage.output_tokens == 3
    sent = upstream.bodies[0]
    assert sent["store"] is False
    assert sent["instructions"].startswith("You are a helpful assistant")
    assert sent["input"][0] == {"type": "message", "role": "system", "content": "Be kind."}
    results = [
        {"type": "function_call_output", "call_id": item.call_id, "output": "sunny"}
        for item in answer.output[2:]
    ]
    upstream.script[RESPONSES] = response(message("Sunny."))
    history = [{"role": "user", "content": "hello"}, *answer.output, *results]
    again = sdk("responses.create", input=history, tools=tools)
    assert again.output_text == "Sunny."
    kinds = [item["type"] for item in upstream.bodies[1]["input"]]
    assert kinds == ["message", "message", *["function_call"] * 2, *["function_call_output"] * 2]
    assert house.finishes()[-1].outcome is Outcome.SERVED


STREAM = (
    {"type": "response.reasoning_summary_text.delta", "item_id": "r", "delta": "hm"},
    {"type": "response.output_text.delta", "item_id": "m", "delta": "one "},
    {"type": "response.output_text.delta", "item_id": "m", "delta": "two"},
    {"type": "response.output_text.done", "item_id": "m", "text": "one two"},
    {
        "type": "response.output_item.added",
        "output_index": 2,
        "item": {"type": "function_call", "id": "f", "name": "weather", "arguments": ""},
    },
    {"type": "response.function_call_arguments.delta", "item_id": "f", "delta": "{}"},
    {"type": "response.function_call_arguments.done", "item_id": "f", "arguments": "{}"},
)


def test_a_response_streams_every_event_in_order(sdk: Sdk, upstream: OpenAIUpstream) -> None:
    upstream.script[RESPONSES] = response_stream(*STREAM)
    events = sdk("responses.create", input="hello", stream=True)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type.removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_item.added",
        "function_call_arguments.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    final = events[-1].response
    assert final.output_text == "one two"
    # Five pieces were released: more than the upstream says, so our own count stands.
    assert (final.usage.input_tokens, final.usage.output_tokens) == (5, 5)
    assert final.output[2].arguments == "{}"
    assert all("upstream" not in event.to_json() for event in events)


def test_the_clients_own_accumulation_of_a_chat_agrees(
    house: GatewayHouse, upstream: OpenAIUpstream
) -> None:
    upstream.script[CHAT] = chat_stream(
        {"content": "one "},
        {"content": "two"},
        {"tool_calls": [call(0, "weather", '{"city":')]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '"Rome"}'}}]},
    )
    with (
        openai.OpenAI(base_url=house.url + "/v1", api_key=API_KEY) as client,
        client.chat.completions.stream(model=MODEL, messages=HELLO, tools=TOOLS) as stream,
    ):
        said = stream.get_final_completion().choices[0].message
    assert said.content == "one two"
    assert said.tool_calls[0].function.arguments == '{"city":"Rome"}'


def test_the_clients_own_accumulation_of_a_response_agrees(
    house: GatewayHouse, upstream: OpenAIUpstream
) -> None:
    upstream.script[RESPONSES] = response_stream(*STREAM)
    with (
        openai.OpenAI(base_url=house.url + "/v1", api_key=API_KEY) as client,
        client.responses.stream(model=MODEL, input="hello") as stream,
    ):
        said = [e.snapshot for e in stream if e.type == "response.output_text.delta"]
        assert said == ["one ", "one two"]
        assert stream.get_final_response().output_text == "one two"


def test_the_last_event_may_be_long(sdk: Sdk, upstream: OpenAIUpstream) -> None:
    # Servers say the whole answer again in it, and what was asked.
    upstream.script[RESPONSES] = response_stream(*STREAM, instructions="x" * 1_000_000)
    assert sdk("responses.create", input="hi", stream=True)[-1].type == "response.completed"


def test_an_unfinished_response_says_why(sdk: Sdk, upstream: OpenAIUpstream) -> None:
    cut = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    upstream.script[RESPONSES] = response(message("on and"), **cut)
    answer = sdk("responses.create", input="hello", max_output_tokens=16)
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert upstream.bodies[0]["max_output_tokens"] == 16


@pytest.mark.parametrize(
    "state",
    [
        {"store": True},
        {"background": True},
        {"previous_response_id": "resp_1"},
        {"conversation": "conv_1"},
        {"include": ["reasoning.encrypted_content"]},
        {"truncation": "auto"},
        {"tools": [{"type": "web_search"}]},
        {"temperature": 0},
        {"reasoning": {"effort": "high"}},
    ],
)
def test_what_needs_a_memory_or_belongs_to_the_candidate_is_refused_by_name(
    sdk: Sdk, upstream: OpenAIUpstream, state: dict[str, Any]
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        sdk("responses.create", input="hello", **state)
    assert next(iter(state)) in caught.value.param
    assert upstream.calls == 0 or not upstream.bodies


# Completions.


def test_a_completion_is_answered_where_no_system_prompt_is_lost(
    bare_sdk: Sdk, upstream: OpenAIUpstream
) -> None:
    upstream.script[COMPLETIONS] = completion(" time", " day")
    answer = bare_sdk("completions.create", prompt="Once upon a", n=2, max_tokens=4, stop="end")
    assert [choice.text for choice in answer.choices] == [" time", " day"]
    assert answer.usage.total_tokens == 8
    sent = upstream.bodies[0]
    assert (sent["prompt"], sent["max_tokens"], sent["stop"]) == ("Once upon a", 4, ["end"])
    assert sent["temperature"] == 0.7


@pytest.mark.parametrize("asks", [True, False])
def test_a_completion_streams(bare_sdk: Sdk, upstream: OpenAIUpstream, asks: bool) -> None:
    upstream.script[COMPLETIONS] = completion_stream(" a", " time")
    options = {"stream_options": {"include_usage": True}} if asks else {}
    chunks = bare_sdk("completions.create", prompt="Once upon", stream=True, **options)
    texts = [chunk.choices[0].text for chunk in chunks if chunk.choices]
    assert "".join(texts) == " a time"
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == ([8] if asks else [])


def test_a_completion_that_would_lose_the_system_prompt_is_refused(
    sdk: Sdk, upstream: OpenAIUpstream
) -> None:
    upstream.script[COMPLETIONS] = completion(" time")
    with pytest.raises(openai.BadRequestError) as caught:
        sdk("completions.create", prompt="Once upon a")
    assert caught.value.code == "candidate_has_system_prompt"
    assert upstream.bodies == []


@pytest.mark.parametrize(
    "more",
    [{"suffix": "x"}, {"echo": True}, {"best_of": 2}, {"logprobs": 1}, {"prompt": [1, 2]}],
)
def test_what_a_completion_does_not_take_is_refused_by_name(
    bare_sdk: Sdk, upstream: OpenAIUpstream, more: dict[str, Any]
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        bare_sdk("completions.create", **({"prompt": "x"} | more))
    assert caught.value.param == next(iter(more))
    assert upstream.bodies == []


# Embeddings and models.


@pytest.mark.parametrize("form", [{}, {"encoding_format": "float"}])
def test_texts_are_embedded(
    sdk: Sdk, house: GatewayHouse, upstream: OpenAIUpstream, form: dict[str, Any]
) -> None:
    vectors = [{"index": 1, "embedding": [0.5, -1.25]}, {"index": 0, "embedding": [1, 2]}]
    upstream.script[EMBEDDINGS] = {"data": vectors, "usage": {"prompt_tokens": 4}}
    answer = sdk("embeddings.create", input=["one", "two"], dimensions=2, **form)
    assert [vector.embedding for vector in answer.data] == [[1.0, 2.0], [0.5, -1.25]]
    assert answer.usage.total_tokens == 4
    assert upstream.bodies[0]["encoding_format"] == "float"
    record = house.finishes()[-1]
    assert (record.outcome, record.input_tokens, record.output_tokens) == (Outcome.SERVED, 4, 0)


@pytest.mark.parametrize("asked", [[1, 2, 3], [[1, 2]], [], ["x"] * 65])
def test_only_a_bounded_list_of_texts_is_embedded(
    sdk: Sdk, upstream: OpenAIUpstream, asked: Any
) -> None:
    with pytest.raises(openai.BadRequestError):
        sdk("embeddings.create", input=asked)
    assert upstream.bodies == []


def test_the_one_model_is_listed_and_looked_up(sdk: Sdk) -> None:
    assert sdk.models() == [MODEL]
    assert sdk("models.retrieve").id == MODEL


def raw_get(house: GatewayHouse, path: str) -> bytes:
    """Return the reply to a path that no client would send as it is."""
    with socket.create_connection(("127.0.0.1", house.port), timeout=10) as caller:
        head = f"GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {API_KEY}\r\n\r\n"
        caller.sendall(head.encode())
        return caller.recv(4096)


def test_another_model_is_not_found(house: GatewayHouse) -> None:
    with openai.OpenAI(base_url=house.url + "/v1", api_key=API_KEY) as client:
        with pytest.raises(openai.NotFoundError) as caught:
            client.models.retrieve("another")
        assert caught.value.param == "model"
    assert house.finishes()[-1].status == 404


@pytest.mark.parametrize("name", ["", "/", ".", "..", f"{MODEL}/", f"/{MODEL}", f"x/../{MODEL}"])
def test_what_is_no_name_of_a_model_is_no_route(house: GatewayHouse, name: str) -> None:
    before = len(house.starts())
    reply = raw_get(house, f"/v1/models/{name}")
    assert reply.startswith(b"HTTP/1.1 404")
    assert len(house.starts()) == before
