"""A worker whose node finds the model server less sealed than the certificate says."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import httpx2
import openai
import pytest

from gatelift.messages import Finish, Outcome
from gatelift.terms import Sealing
from tests.integration import test_gateway_worker as worker
from tests.support.upstream import ScriptedUpstream

PLAN = re.sub(
    rb"(name: internal\n(?:.*\n)*?    sealing: )open", rb"\1declared", worker.PLAN, count=1
)


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[worker.Deployment]:
    upstream = ScriptedUpstream(["word "] * 200, delay_s=0.05)
    made = worker.Deployment(tmp_path, upstream, PLAN)
    yield made
    made.close()
    upstream.close()


def access(it: worker.Deployment) -> dict[str, object]:
    header = {"authorization": f"Bearer {worker.API_KEY}"}
    told: dict[str, object] = httpx.get(f"{it.url}/v1/access", headers=header).json()
    return told


def probed(it: worker.Deployment, sealing: Sealing) -> None:
    it.keeper.sealing = sealing
    it.keeper.push(it.keeper.placement())


def test_an_open_door_cuts_what_runs_and_shuts_the_stage_until_it_is_closed(
    deployment: worker.Deployment,
) -> None:
    assert access(deployment)["sealing_seen"] == "declared"
    stream = deployment.client().chat.completions.create(
        model="smollm2-135m", messages=[{"role": "user", "content": "hi"}], stream=True
    )
    next(iter(stream))
    probed(deployment, Sealing.OPEN)
    left = []
    with pytest.raises((openai.APIError, httpx.TransportError, httpx2.TransportError)):
        left.extend(stream)
    # Ten seconds of words were to come.
    assert len(left) < 100
    assert not any(choice.finish_reason for chunk in left for choice in chunk.choices)
    refused = deployment.post(max_tokens=1)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "sealing_below")
    assert refused.headers["retry-after"]
    told = access(deployment)
    assert (told["may"], told["sealing_seen"]) == (False, "open")
    assert told["reason"]["code"] == "sealing_below"  # type: ignore[index]
    probed(deployment, Sealing.DECLARED)
    until = time.monotonic() + 3
    while deployment.post(max_tokens=1).status_code != 200:
        assert time.monotonic() < until
        time.sleep(0.05)
    ends = [r.outcome for r in deployment.records() if isinstance(r, Finish)]
    assert (ends[0], ends[-1]) == (Outcome.STOPPED, Outcome.SERVED)


def test_a_worker_that_begins_before_an_open_door_serves_nothing(
    deployment: worker.Deployment,
) -> None:
    deployment.keeper.sealing = Sealing.OPEN
    deployment.process.terminate()
    deployment.process.wait(15)
    deployment.process = deployment.launch()
    until = time.monotonic() + 10
    while True:
        try:
            answer = deployment.post(max_tokens=1)
        except httpx.TransportError:
            answer = None
        if answer is not None and answer.json().get("error", {}).get("code") == "sealing_below":
            break
        assert answer is None or answer.status_code != 200, "served before an open door"
        assert time.monotonic() < until
        time.sleep(0.05)
