"""The official `anthropic` client through a worker to llama.cpp's own server and a real model.

The small model's chat template knows no tools: the server takes them and never makes a call. That a
call passes is shown with a scripted server only (`test_anthropic_sdk`).
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest

from gatelift.messages import Finish, Outcome
from gatelift.terms import Endpoint
from tests.integration.test_gateway_worker import API_KEY, PLAN, Deployment

pytestmark = pytest.mark.slow
ENDPOINTS = (Endpoint.MESSAGES, Endpoint.COUNT_TOKENS)
ASKED: dict[str, Any] = {
    "model": "smollm2-135m",
    "max_tokens": 12,
    "messages": [{"role": "user", "content": "Say hello."}],
}


class RealModel:
    """A model server as a process; `url` and `key` are what a deployment needs of it."""

    def __init__(self, directory: Path) -> None:
        self.key = "a-key-of-the-real-model"
        file = directory / "model.key"
        file.write_text(self.key)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        call = ["-m", "examples.model_server", "--port", str(port), "--api-key-file", str(file)]
        self.process = subprocess.Popen(
            [sys.executable, *call, "--slots", "2"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        said = self.process.stdout.readline() if self.process.stdout else b""
        if not said:
            self.close()
            pytest.skip("the model or its engine is not installed")
        assert json.loads(said)["ready"] is True

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        if self.process.stdout:
            self.process.stdout.close()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    directory = tmp_path_factory.mktemp("real")
    model = RealModel(directory)
    plan = PLAN.replace(b"endpoints: [chat, models]", b"endpoints: [messages, count_tokens]")
    plan = plan.replace(b"tools: none, agent_steps: 0", b"tools: [get_time], agent_steps: 2")
    made = Deployment(directory, model, plan, ENDPOINTS)  # type: ignore[arg-type]
    yield made
    made.close()
    model.close()


@pytest.fixture
def client(house: Deployment) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(
        base_url=house.url, api_key=API_KEY, max_retries=0, timeout=60
    ) as made:
        yield made


def test_a_message_and_a_stream(client: anthropic.Anthropic, house: Deployment) -> None:
    message = client.messages.create(**ASKED, system="Be brief.")
    assert message.content[0].text
    assert message.stop_reason in ("end_turn", "max_tokens")
    assert 1 <= message.usage.output_tokens <= 12
    assert message.usage.input_tokens > 10
    with client.messages.stream(**ASKED) as stream:
        said = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert said == final.content[0].text != ""
    assert 1 <= final.usage.output_tokens <= 12
    finishes = [record for record in house.records() if isinstance(record, Finish)]
    assert {record.outcome for record in finishes} == {Outcome.SERVED}


def test_tokens_are_counted_by_the_server_itself(client: anthropic.Anthropic) -> None:
    asked = {name: ASKED[name] for name in ("model", "messages")}
    few = client.messages.count_tokens(**asked).input_tokens
    more = client.messages.count_tokens(**asked, system="Be brief. " * 20).input_tokens
    assert 0 < few < more


def test_a_conversation_with_a_tools_result_is_taken(client: anthropic.Anthropic) -> None:
    call = {"type": "tool_use", "id": "toolu_1", "name": "get_time", "input": {"city": "Paris"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "noon"}
    message = client.messages.create(
        **ASKED
        | {
            "tools": [{"name": "get_time", "input_schema": {"type": "object"}}],
            "messages": [
                {"role": "user", "content": "What time is it in Paris?"},
                {"role": "assistant", "content": [call]},
                {"role": "user", "content": [result]},
            ],
        }
    )
    assert message.type == "message"
    assert message.usage.output_tokens >= 1
