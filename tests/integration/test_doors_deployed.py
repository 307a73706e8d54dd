"""A model server without a lock, a private endpoint, bait: real processes, judged from outside.

Console, page, ledger and status say `open`, stage zero serves, and nothing above internal opens.
When the server is given a lock, the next start says `declared`.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.promises.hands import opened
from tests.promises.outside import PLANS, Deployment, gatelift, wait_for
from tests.support.upstream import ScriptedUpstream


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    found = ScriptedUpstream(key="")
    yield found
    found.close()


@pytest.fixture(scope="module")
def deployment(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    found = Deployment(
        tmp_path_factory.mktemp("open") / "d",
        upstream=upstream.url,
        upstream_key="a-key-that-the-server-never-asks-for",
        plan=PLANS / "pier.yaml",
    )
    yield found
    found.stop()


def sealing(deployment: Deployment) -> list[str]:
    return [each["probe"]["sealing"] for each in deployment.admin("/state").json()["probes"]]


def entries(deployment: Deployment, kind: str) -> list[dict[str, Any]]:
    found = deployment.admin("/entries?limit=200").json()["entries"]
    return [each for each in found if each["header"]["kind"] == kind]


def blocked(deployment: Deployment, stage: str) -> set[str]:
    stages = deployment.admin("/preview").json()["stages"]
    (found,) = (each for each in stages if each["stage"] == stage)
    return {each["code"] for each in found["blocked_by"]}


def test_an_open_upstream_is_said_everywhere_and_opens_nothing_above_internal(
    deployment: Deployment,
) -> None:
    wait_for(lambda: sealing(deployment) == ["open"])
    assert deployment.chat().status_code == 200, "stage zero serves, and says what it is"
    access = httpx.get(
        f"{deployment.base_url}/access",
        headers={"authorization": f"Bearer {deployment.api_key}"},
    ).json()
    assert access["levels"]["sealing"] == "open"
    probes = entries(deployment, "probe")
    assert probes
    digest = probes[-1]["header"]["body"].removeprefix("sha256:")
    logged = opened((deployment.folder / "files/sha256" / digest).read_bytes())["predicate"]
    assert (logged["sealing"], logged["up"]) == ("open", True)
    page = httpx.get(f"{deployment.admin_url}/").text
    assert "newest probe: open" in page
    assert "a second door" in page
    status = gatelift("status", "--admin", deployment.admin_url, *token(deployment))
    assert "open" in status.stdout
    doctor = gatelift("doctor", "--dir", deployment.folder)
    assert "OPEN: it answers anybody" in doctor.stdout
    assert doctor.returncode != 0
    wait_for(lambda: "sealing_below" in blocked(deployment, "researchers"))
    assert "sealing_below" not in blocked(deployment, "internal")
    refused = deployment.cli("certify", "--stage", "researchers", who=("operator", "safety"))
    assert refused.code == 1
    assert "sealing_below" in refused.text


def token(deployment: Deployment) -> list[str]:
    return ["--token-file", str(deployment.folder / "keys/reader.token")]


def restart_keeper(deployment: Deployment) -> None:
    (before,) = deployment.processes("keeper")
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: deployment.processes("keeper") not in ([], [before]), seconds=20)


def test_a_private_endpoint_is_drawn_by_the_command_and_taken_there_only(
    deployment: Deployment, tmp_path: Path
) -> None:
    words = ["grant", "--principal", "p-private", "--organisation", "local", "--stage", "assess"]
    said = deployment.cli(*words, "--private-endpoint", who=("admissions",)).must()
    path, header = said["base_path"], {"authorization": f"Bearer {said['api_key']}"}
    host = deployment.base_url.removesuffix("/v1")
    wait_for(lambda: httpx.get(f"{host}{path}/access", headers=header).status_code == 200)
    assert httpx.get(f"{deployment.base_url}/access", headers=header).status_code == 404
    mine = {"authorization": f"Bearer {deployment.api_key}"}
    assert httpx.get(f"{host}{path}/access", headers=mine).status_code == 404
    kept = tmp_path / "k"
    more = ("--private-endpoint", "--api-key-out", kept)
    told = deployment.cli(*words, *more, who=("admissions",)).must()
    assert "base_path" not in told
    segment = kept.with_name("k.endpoint").read_text().strip().split("/")[2]
    assert len(segment) == 32
    for file in (deployment.folder / "files/sha256").iterdir():
        assert segment.encode() not in file.read_bytes()
    for log in [*(deployment.folder / "run").glob("*.log"), deployment.folder.parent / "d-up.log"]:
        assert path.split("/")[2] not in log.read_text()


def test_each_start_probes_anew_and_a_lock_is_seen(
    deployment: Deployment, upstream: ScriptedUpstream
) -> None:
    upstream.key = "a-key-that-the-server-never-asks-for"
    restart_keeper(deployment)
    wait_for(lambda: sealing(deployment) == ["declared"], seconds=20)
    wait_for(lambda: "sealing_below" not in blocked(deployment, "researchers"))
    upstream.unguarded = frozenset({"/invocations"})
    restart_keeper(deployment)
    wait_for(lambda: sealing(deployment) == ["open"], seconds=20)
    wait_for(lambda: "sealing_below" in blocked(deployment, "researchers"))


def test_bait_that_is_touched_opens_an_incident_and_stands_in_the_dossier(
    deployment: Deployment, tmp_path: Path
) -> None:
    bait = deployment.grant("p-bait", organisation="nobody")
    path = deployment.folder / "keys/honey.json"
    path.touch(mode=0o600)
    listed = {"keys": [bait.split("_")[1]], "models": ["mock-unfiltered"], "paths": ["/v1/secrets"]}
    path.write_text(json.dumps(listed))
    for pid in deployment.processes("worker"):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: touched(deployment, key=bait) == 401, seconds=20)
    assert touched(deployment, key=bait) == 401
    answer = deployment.chat(model="mock-unfiltered")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")

    def incidents() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = deployment.admin("/state").json()["incidents"]
        return found

    (opened_by,) = wait_for(incidents, seconds=20)
    assert "honey" in json.dumps(opened_by)
    assert "SEV-3" in json.dumps(opened_by)
    for file in [*(deployment.folder / "run").glob("*.log")]:
        assert bait not in file.read_text()
        assert "mock-unfiltered" not in file.read_text()
    folder = tmp_path / "dossier"
    deployment.cli("dossier", "export", "--dir", deployment.folder, "--out", folder).must()
    anchor = (deployment.folder / "root.sha256").read_text().strip()
    verified = gatelift("verify", folder, "--root", anchor)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def touched(deployment: Deployment, key: str) -> int:
    try:
        return deployment.chat(key=key).status_code
    except httpx.TransportError:
        return 0
