"""Promise 2: missing evidence is never good news.

Attacked here: the full quorum, with genuine keys, asks for a certificate of `internal` while the
evidence is absent, promised only, of a commit that nobody logged, half errors, cut short after
enough clean rows, undetermined, stale, withdrawn, and complete but unreviewed. Each time the command must be refused, say
which piece is missing and what would open it, and the gateway must not serve the stage. At the end
the missing pieces are supplied, and the same quorum succeeds: the refusals were about evidence.

Seen to fail: with errors, undetermined and missing attempts no longer counted against the candidate
(`decide.evidence._counts` returning only `n` and `s`) the run of errors and the one cut short ruled
the level out and left only the review to ask for (red).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.promises.hands import Hands, digest_of, new_id, now_ms
from tests.promises.outside import PLANS, Deployment, Said
from tests.support.upstream import ScriptedUpstream

QUORUM = ("operator", "safety")
THRESHOLD = {"assessment": "cyber-proxy", "metric": "end_to_end_success"}
MEASURE = {"assessment": "safeguard-red-team", "metric": "attack_success"}


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    found = ScriptedUpstream(key="upstream-key-of-promise-two")
    yield found
    found.close()


@pytest.fixture
def deployment(
    upstream: ScriptedUpstream, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Deployment]:
    found = Deployment(
        tmp_path / "d",
        upstream=upstream.url,
        upstream_key=upstream.key,
        plan=PLANS / getattr(request, "param", "harbour.yaml"),
    )
    yield found
    found.stop()


def promise(deployment: Deployment, tmp_path: Path, what: str, attempts: int) -> str:
    """Commit to the threshold's or the measure's run; return the commit's id."""
    items = tmp_path / "items.jsonl"
    items.write_text('{"id":"1","prompt":"an item"}\n')
    name = ["--threshold", "cyber_uplift"] if what == "threshold" else ["--measure", what]
    said = deployment.cli(
        *["commit", *name, "--data-set", items, "--attempts", str(attempts)],
        who=("evaluator",),
    )
    return str(said.must()["id"])


def result(
    deployment: Deployment,
    tmp_path: Path,
    commit: str,
    what: dict[str, Any],
    *,
    under: tuple[str, ...] = ("leak:cut", "misuse:block"),
    **counts: int,
) -> Said:
    """Submit a result of a commit, signed by the evaluator."""
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps({"rows": counts, "of": commit}))
    value = {
        "id": new_id("evidence"),
        "commit": commit,
        "fingerprint": Hands(deployment).fingerprint,
        "assessment": what["assessment"],
        "metric": what["metric"],
        "n": 0,
        "s": 0,
        "undetermined": 0,
        "errors": 0,
        "tool": "by hand",
        "tool_version": "1",
        "seed": "00" * 32,
        "stage": "assess",
        "started": now_ms(),
        "finished": now_ms(),
        "results": digest_of(rows.read_bytes()),
        "under": list(under),
        **counts,
    }
    path = tmp_path / "result.json"
    path.write_text(json.dumps(value))
    return deployment.cli("evidence", "submit", path, "--results", rows, who=("evaluator",))


def review(deployment: Deployment, who: str = "safety") -> None:
    deployment.cli(
        *["review", "--stage", "internal", "--approve", "--note", "seen"], who=(who,)
    ).must()


def refused(deployment: Deployment, upstream: ScriptedUpstream, *codes: str) -> None:
    """Have the whole quorum ask for `internal`; it must be refused for exactly these reasons."""
    said = deployment.cli("certify", "--stage", "internal", who=QUORUM)
    assert said.code == 1, said.text
    found = said.reasons()
    assert set(found) == set(codes), said.text
    for code in codes:
        assert found[code]["subject"], found[code]
        assert found[code]["message"], found[code]
        assert found[code]["opens_with"], found[code]
    stages = {each["name"]: each for each in deployment.admin("/state").json()["stages"]}
    assert stages["internal"]["certificate"] is None
    preview = {each["stage"]: each for each in deployment.admin("/preview").json()["stages"]}
    assert not preview["internal"]["standing"]
    assert {each["code"] for each in preview["internal"]["blocked_by"]} == set(codes)
    assert not any("not this one" in json.dumps(body) for body in list(upstream.bodies))


def test_every_kind_of_missing_evidence_keeps_the_gate_shut(
    deployment: Deployment, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    api_key = deployment.grant("insider", stage="internal")
    # Nothing at all: no evidence, no review.
    refused(deployment, upstream, "evidence_missing", "review_missing")
    assert deployment.chat("not this one", key=api_key).status_code == 403
    # A review of nothing does not stand in for evidence.
    review(deployment)
    refused(deployment, upstream, "evidence_missing")
    # A promise is not a result.
    commit = promise(deployment, tmp_path, "threshold", 120)
    refused(deployment, upstream, "evidence_missing", "commit_pending")
    # A result that nobody promised is not taken, or counts for nothing.
    result(deployment, tmp_path, new_id("commit"), THRESHOLD, n=120)
    refused(deployment, upstream, "evidence_missing", "commit_pending")
    # 60 clean rows would rule the level out; 60 more ended in errors, which count as successes.
    result(deployment, tmp_path, commit, THRESHOLD, n=60, errors=60).must()
    review(deployment)
    assert verdict(deployment) != "ruled_out"
    refused(deployment, upstream, "evidence_missing")
    assert deployment.chat("not this one", key=api_key).status_code == 403
    # The measure's run is cut short: 60 clean rows would do, but 200 were promised.
    commit = promise(deployment, tmp_path, MEASURE["assessment"], 200)
    result(deployment, tmp_path, commit, MEASURE, n=60).must()
    review(deployment)
    refused(deployment, upstream, "measure_unproven")
    assert deployment.chat("not this one", key=api_key).status_code == 403


@pytest.mark.parametrize("deployment", ["tides.yaml"], indirect=True)
def test_a_stale_a_truncated_and_an_undetermined_run_rule_nothing_out(
    deployment: Deployment, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    # Complete and clean, and older than the plan allows by the time that anybody asks.
    commit = promise(deployment, tmp_path, "threshold", 60)
    result(deployment, tmp_path, commit, THRESHOLD, n=60).must()
    review(deployment)
    time.sleep(6)
    refused(deployment, upstream, "evidence_stale")
    commit = promise(deployment, tmp_path, "threshold", 200)
    result(deployment, tmp_path, commit, THRESHOLD, n=60).must()
    assert verdict(deployment) != "ruled_out"
    commit = promise(deployment, tmp_path, MEASURE["assessment"], 60)
    result(deployment, tmp_path, commit, MEASURE, n=30, undetermined=30).must()
    review(deployment)
    refused(deployment, upstream, "measure_unproven")


def verdict(deployment: Deployment) -> str:
    """Return what a certificate drafted now would say of the threshold."""
    draft = deployment.admin("/draft/certificate?stage=internal").json()
    return str(draft["certificate"]["thresholds"]["cyber_uplift"])


def test_complete_evidence_with_a_review_opens_and_a_revocation_shuts(
    deployment: Deployment, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    commit = promise(deployment, tmp_path, "threshold", 60)
    said = result(deployment, tmp_path, commit, THRESHOLD, n=60).must()
    # Complete, clean and fresh, but nobody looked at it.
    refused(deployment, upstream, "review_missing")
    assert verdict(deployment) == "ruled_out"
    review(deployment)
    # It was reviewed, and then withdrawn.
    deployment.cli(
        *["evidence", "revoke", said["digest"], "--reason", "wrong harness"], who=("evaluator",)
    ).must()
    refused(deployment, upstream, "evidence_revoked")
    # A fresh complete run of all that was promised, reviewed, opens.
    commit = promise(deployment, tmp_path, "threshold", 60)
    result(deployment, tmp_path, commit, THRESHOLD, n=60).must()
    refused(deployment, upstream, "review_other_digests")
    review(deployment)
    deployment.cli("certify", "--stage", "internal", who=QUORUM).must()
    api_key = deployment.grant("insider", stage="internal")
    deployment.wait_serving(api_key)
    assert deployment.chat("this one", key=api_key).headers["gatelift-stage"] == "internal"
