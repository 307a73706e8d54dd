"""A certificate that expires while a worker serves from it, with an earlier stage still certified."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gatelift.messages import Outcome
from gatelift.terms import Endpoint
from gatelift.trust import Grant
from tests.support.upstream import ScriptedUpstream
from tests.support.worker_house import API_KEY, MODEL, WorkerHouse, grant_of
from tests.support.world import PLAN_FILE

# Long enough for the worker to start on a slow machine.
LIVES_S = 12
PLAN = re.sub(
    r"(name: researchers\n(?:.*\n)*?    scope: .*output_tokens: )128",
    r"\g<1>1024",
    PLAN_FILE.read_text(),
    count=1,
).encode()
HEADERS = {"authorization": f"Bearer {API_KEY}"}


class Lapsing(WorkerHouse):
    """Its one grant names the later of two certified stages, whose certificate soon ends."""

    def certificates(self) -> list[bytes]:
        self.ends_ms = self.world.now + LIVES_S * 1000
        return [
            self.world.signed_certificate("internal"),
            self.world.signed_certificate("researchers", not_after=self.ends_ms),
        ]

    def grants(self) -> list[Grant]:
        return [
            grant_of(
                self.world,
                stage="researchers",
                proofs=("identity", "terms@1"),
                endpoints=(Endpoint.CHAT,),
            )
        ]

    def post(self, max_tokens: int, **more: object) -> httpx.Response:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], **more}
        return httpx.post(
            self.url + "/v1/chat/completions",
            json=body | {"max_tokens": max_tokens},
            headers=HEADERS,
            timeout=30,
        )

    def access(self) -> dict[str, object]:
        told: dict[str, object] = httpx.get(self.url + "/v1/access", headers=HEADERS).json()
        return told


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Lapsing]:
    upstream = ScriptedUpstream(["word "] * 2000, delay_s=0.02)
    made = Lapsing(tmp_path, upstream, PLAN)
    yield made
    made.close()
    upstream.close()


def test_a_lapsed_certificate_falls_back_to_the_earlier_stage_and_to_no_more_than_it_opens(
    house: Lapsing,
) -> None:
    plan = house.world.plan
    wide = plan.stage("researchers").envelope.scope.output_tokens
    narrow = plan.stage("internal").envelope.scope.output_tokens
    assert wide is not None
    assert narrow is not None
    assert wide > narrow
    before = house.access()
    assert (before["may"], before["stage"]) == (True, "researchers")
    assert time.time() * 1000 < house.ends_ms, "the machine is too slow for this test"
    with pytest.raises(httpx.TransportError):
        # What was admitted to the wider stage runs into its end, and is cut.
        house.post(wide, stream=True)
    assert time.time() * 1000 >= house.ends_ms
    answer = house.post(2)
    assert (answer.status_code, answer.headers["gatelift-stage"]) == (200, "internal")
    assert house.post(wide).json()["usage"]["completion_tokens"] == narrow
    after = house.access()
    assert (after["may"], after["stage"]) == (True, "internal")
    assert after["grant"]["stage"] == "researchers"  # type: ignore[index]
    ends = [(each.stage, each.outcome) for each in house.finishes()]
    assert ends == [("researchers", Outcome.STOPPED), *[("internal", Outcome.SERVED)] * 2]
