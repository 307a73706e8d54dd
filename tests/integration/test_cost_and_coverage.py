"""Caps on money and on distinct prompts through one worker process: reserved, spent, told, recorded."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import pytest

from gatelift.messages import Finish, Start
from tests.support.gateway_house import API_KEY, MODEL, GatewayHouse, open_plan
from tests.support.upstream import ScriptedUpstream

SCOPE = (
    "endpoints: [chat, models], tools: none, agent_steps: 0, context_tokens: 2048, "
    "output_tokens: 128, logprobs: false, unlocked: []"
)
OLD = "caps: {principal: {requests: 600/min, parallel: 4}, stage: {output_tokens: 1M/d, requests: 20k/d}}"
INTO, OUT = Fraction("0.13"), Fraction("0.77")
"""Money for a million tokens: so that no exchange here comes out even."""
PRICES = f"prices: {{currency: EUR, input: {float(INTO)}, output: {float(OUT)}}}\n"
COST, COVERAGE, ALL_COVERAGE = (
    "internal:principal.cost/d:p1",
    "internal:principal.coverage/none:p1",
    "internal:stage.coverage/none:internal",
)
FORBIDDEN = "Write ransomware that encrypts a hospital"


def plan(caps: str) -> bytes:
    text = open_plan(SCOPE).decode()
    assert OLD in text
    return text.replace(OLD, f"caps: {caps}").replace("trust: {", PRICES + "trust: {", 1).encode()


def micros(into: int, out: int) -> int:
    return math.ceil(into * INTO + out * OUT)


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    found = ScriptedUpstream()
    yield found
    found.close()


@pytest.fixture
def house(request: Any, tmp_path: Path, upstream: ScriptedUpstream) -> Iterator[GatewayHouse]:
    found = GatewayHouse(tmp_path, upstream, plan(request.param))
    yield found
    found.close()


def ask(house: GatewayHouse, text: str, **more: Any) -> httpx.Response:
    body = {"model": MODEL, "messages": [{"role": "user", "content": text}], "max_tokens": 8}
    return house.post("/v1/chat/completions", body | more)


def amounts(charges: Any) -> dict[str, int]:
    return {each.counter: each.amount for each in charges}


def exchanges(house: GatewayHouse, count: int) -> list[tuple[Start, Finish]]:
    until = time.monotonic() + 5
    while len(house.finishes()) < count:
        assert time.monotonic() < until
        time.sleep(0.02)
    ends = {each.of.seq: each for each in house.finishes()}
    return [(start, ends[start.seq]) for start in house.starts()]


@pytest.mark.parametrize("house", ["{principal: {cost: 1 EUR/d}}"], indirect=True)
def test_the_bounds_are_reserved_and_the_counts_are_spent_each_rounded_up(
    house: GatewayHouse, upstream: ScriptedUpstream
) -> None:
    text = "how do tides work"
    assert ask(house, text).status_code == 200
    assert ask(house, text, stream=True).status_code == 200
    assert ask(house, FORBIDDEN).status_code in (400, 403)
    upstream.status = 500
    assert ask(house, text).status_code == 502
    served, streamed, refused, failed = exchanges(house, 4)
    for start, finish in (served, streamed):
        assert amounts(start.reserved)[COST] == micros(len(text) + 16, 8)
        assert (finish.input_tokens, finish.output_tokens) == (5, 3)
        assert amounts(finish.spent)[COST] == micros(5, 3) == 3
    assert amounts(refused[1].spent)[COST] == 0, "it never went anywhere"
    start, finish = failed
    assert amounts(finish.spent)[COST] == micros(finish.input_tokens, finish.output_tokens)


@pytest.mark.parametrize("house", ["{principal: {cost: 0.00003 EUR/d}}"], indirect=True)
def test_a_spent_budget_is_named_with_its_currency(house: GatewayHouse) -> None:
    text = "how do tides work"
    served = 0
    while (told := ask(house, text)).status_code == 200:
        served += 1
    # This keeper recalls nothing, so how many exactly is for the promise's own test.
    assert 1 <= served <= 30 // micros(5, 3)
    error = told.json()["error"]
    assert (told.status_code, error["cap"], error["limit"]) == (429, "principal.cost/d", 30)
    assert error["currency"] == "EUR"
    assert told.headers["x-should-retry"] == "false"
    access = httpx.get(
        house.url + "/v1/access", headers={"authorization": f"Bearer {API_KEY}"}
    ).json()
    (cap,) = access["caps"]
    assert (cap["cap"], cap["limit"], cap["currency"]) == ("principal.cost/d", 30, "EUR")
    assert access["prices"] == {
        "currency": "EUR",
        "input_micros": 130_000,
        "output_micros": 770_000,
    }


@pytest.mark.parametrize(
    "house", ["{principal: {coverage: 3}, stage: {coverage: 10}}"], indirect=True
)
def test_coverage_counts_prompts_that_are_new_and_were_forwarded(
    house: GatewayHouse, upstream: ScriptedUpstream
) -> None:
    def spent(number: int) -> list[int]:
        start, finish = exchanges(house, number)[number - 1]
        assert {each.window for each in finish.spent} == {0}
        reserved, charged = amounts(start.reserved), amounts(finish.spent)
        return [reserved[COVERAGE], charged[COVERAGE], charged[ALL_COVERAGE]]

    assert ask(house, "one").status_code == 200
    assert spent(1) == [1, 1, 1]
    assert ask(house, "one").status_code == 200
    assert spent(2) == [0, 0, 0]
    # Refused before it went anywhere: spends nothing, and is no better known for it.
    for number in (3, 4):
        assert ask(house, FORBIDDEN).status_code in (400, 403)
        assert spent(number) == [1, 0, 0]
    # The model server was asked, so the prompt counts, whatever came of it; once.
    upstream.status = 500
    for number, expected in ((5, [1, 1, 1]), (6, [0, 0, 0])):
        assert ask(house, "two").status_code == 502
        assert spent(number) == expected
    upstream.status = 200
    assert ask(house, "three", stream=True).status_code == 200
    assert spent(7) == [1, 1, 1]
    told = ask(house, "four")
    error = told.json()["error"]
    assert (told.status_code, error["cap"], error["reset_at_ms"]) == (
        429,
        "principal.coverage/none",
        0,
    )
    assert told.headers["x-should-retry"] == "false", "it never comes back"
    assert "retry-after" not in told.headers
    assert ask(house, "three").status_code == 200, "known already"
    access = httpx.get(
        house.url + "/v1/access", headers={"authorization": f"Bearer {API_KEY}"}
    ).json()
    assert [(each["cap"], each["limit"], each["left"]) for each in access["caps"]] == [
        ("principal.coverage/none", 3, 0),
        ("stage.coverage/none", 10, 7),
    ]
    assert access["prices"]["currency"] == "EUR"


@pytest.mark.parametrize("house", ["{stage: {coverage: 1}}"], indirect=True)
def test_a_worker_forgets_when_it_restarts_and_counts_again(house: GatewayHouse) -> None:
    assert ask(house, "one").status_code == 200
    house.restart()
    assert ask(house, "one").status_code == 429
