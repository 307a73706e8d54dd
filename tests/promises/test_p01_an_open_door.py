"""Promise 1, what stands behind a certificate: `declared` is not served once strangers are answered.

Attacked here: the model server keeps its key at chat and opens another door to everybody, after the
certificate was signed; then the node starts again and looks from outside, as at every start.

Seen to fail: with a worker that passes over what its node says of the sealing, it served on (red).
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.promises.outside import Deployment, say, wait_for
from tests.promises.siege import ask, write_plan
from tests.support.upstream import ScriptedUpstream

CAPS = {"principal": {"requests": "1M/d"}, "stage": {"output_tokens": "100M/d"}}
DOOR = frozenset({"/v1/completions"})


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    found = ScriptedUpstream(["word "] * 10, key="upstream-key-of-an-open-door")
    yield found
    found.close()


@pytest.fixture(scope="module")
def deployment(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("p01-door")
    found = Deployment(
        folder / "d",
        upstream=upstream.url,
        upstream_key=upstream.key,
        plan=write_plan(folder / "plan", CAPS, sealing="declared"),
    )
    yield found
    found.stop()


def told(deployment: Deployment) -> tuple[int, str]:
    found = ask(deployment, deployment.api_key, "x", max_tokens=1)
    return found.status, found.error.get("code", "")


def access(deployment: Deployment) -> dict[str, object]:
    header = {"authorization": f"Bearer {deployment.api_key}"}
    found: dict[str, object] = httpx.get(f"{deployment.base_url}/access", headers=header).json()
    return found


def status(deployment: Deployment) -> dict[str, object]:
    stage: dict[str, object] = deployment.admin("/state").json()["stages"][0]
    return stage


def test_a_door_that_opens_later_shuts_what_was_certified_behind_it(
    deployment: Deployment, upstream: ScriptedUpstream
) -> None:
    assert told(deployment)[0] == 200
    assert access(deployment)["levels"]["sealing"] == "declared"  # type: ignore[index]
    assert status(deployment)["withheld"] is None
    upstream.unguarded = DOOR
    try:
        deployment.kill("keeper")
        wait_for(lambda: told(deployment) == (503, "sealing_below"), seconds=20)
        calls = upstream.calls
        seen = {told(deployment) for _ in range(20)}
        assert seen == {(503, "sealing_below")}
        say(f"20 asked, {upstream.calls - calls} calls of the model by probes meanwhile")
        shown = access(deployment)
        assert (shown["may"], shown["sealing_seen"]) == (False, "open")
        wait_for(lambda: "is open" in str(status(deployment)["withheld"]))
        page = httpx.get(deployment.admin_url).text
        assert "withheld" in page
    finally:
        upstream.unguarded = frozenset()
    deployment.kill("keeper")
    wait_for(lambda: told(deployment)[0] == 200, seconds=20)
    wait_for(lambda: status(deployment)["withheld"] is None)
