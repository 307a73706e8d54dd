"""Every `sh` block of the how-to pages is run, in order, as it stands."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gatelift.arrivals import Why
from tests.promises.outside import free_ports
from tests.support.howto import ROOT, HowTo
from tests.support.upstream import ScriptedUpstream

PAGES = sorted(path.name for path in (ROOT / "docs/how-to").glob("*.md"))
UPSTREAM_KEY = "upstream-key-of-a-how-to"
TEAM = "sk-a-key-that-litellm-made"
CONFIG = """\
model_list:
  - model_name: aurora
    litellm_params: {model: hosted_vllm/aurora-2, api_base: "http://10.0.0.7:8000/v1"}
"""


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    found = ScriptedUpstream(["hello "] * 3, key=UPSTREAM_KEY)
    yield found
    found.close()


def page(name: str, folder: Path, upstream: ScriptedUpstream, **put: str) -> HowTo:
    first = free_ports()
    places = {
        "http://127.0.0.1:8000": upstream.url,
        "http://127.0.0.1:4000": upstream.url,
        "http://10.0.0.7:8000": upstream.url,
        "8080": str(first),
        "8081": str(first + 1),
    }
    return HowTo(name, folder, places | put)


@pytest.mark.parametrize("name", PAGES)
def test_every_block_is_ours_and_run_or_marked_as_somebody_elses(name: str) -> None:
    text = (ROOT / "docs/how-to" / name).read_text()
    # What is Python is run where the official clients are.
    known = {"sh", "text", "sql", "nginx", "python", ""}
    assert set(re.findall(r"^```(\w*)$", text, re.MULTILINE)) <= known
    for block in re.findall(r"^```(?:text|nginx)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        assert "gatelift " not in block.replace("gatelift_", "")


@pytest.mark.parametrize("name", ["in-front-of-vllm.md", "in-front-of-litellm.md"])
def test_in_front_of(name: str, tmp_path: Path, upstream: ScriptedUpstream) -> None:
    how = page(name, tmp_path, upstream)
    try:
        said = [
            how.run(block, VLLM_API_KEY=UPSTREAM_KEY, LITELLM_KEY=UPSTREAM_KEY)
            for block in how.shell()
        ]
    finally:
        how.stop()
    assert any("hello hello hello" in text for text in said)
    assert any("Nothing is wrong." in text for text in said)
    assert not any(UPSTREAM_KEY in text for text in said)


def test_run_a_witness(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    first = free_ports()
    ports = {"8443": str(free_ports()), "8082": str(first + 2), "8081": str(first + 1)}
    how = page("run-a-witness.md", tmp_path, upstream, **ports, **{"8080": str(first)})
    (tmp_path / "vllm.key").write_text(UPSTREAM_KEY)
    (tmp_path / "vllm.key").chmod(0o600)
    try:
        said = [how.run(block) for block in how.shell()]
    finally:
        how.stop()
        pid = tmp_path / "witness.pid"
        if pid.exists():
            os.kill(int(pid.read_text()), signal.SIGTERM)
    assert len((tmp_path / "witness.vkey").read_text().splitlines()) == 1
    assert "uni.example/w1" in said[4]
    assert "did not answer" not in said[4]
    assert '"name":"uni.example/w1"' in said[5]
    assert "The witnesses saw the same log." in said[5]
    assert "0 note(s) are kept" in said[5]
    assert "1 of 1 keys of uni.example are published by it." in said[6]


def test_run_a_beacon(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    first = free_ports()
    ports = {"8443": str(free_ports()), "8081": str(first + 1)}
    how = page("run-a-beacon.md", tmp_path, upstream, **ports, **{"8080": str(first)})
    (tmp_path / "vllm.key").write_text(UPSTREAM_KEY)
    (tmp_path / "vllm.key").chmod(0o600)
    try:
        said = [how.run(block) for block in how.shell()]
    finally:
        how.stop()
        pid = tmp_path / "beacon.pid"
        if pid.exists():
            os.kill(int(pid.read_text()), signal.SIGTERM)
    assert "oversight.example" in said[4]
    assert '"paused":false' in said[4]
    assert "The beacon is silent." in said[5]
    assert '"status":"lapsed"' in said[5]
    assert "The beacon speaks again." in said[5]


def test_call_unannounced(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    how = page("call-unannounced.md", tmp_path, upstream)
    (tmp_path / "up.key").write_text(UPSTREAM_KEY)
    (tmp_path / "up.key").chmod(0o600)
    try:
        said = [how.run(block) for block in how.shell()]
    finally:
        how.stop()
    _, _, answer, disclosed, owed = said
    assert "hello" in answer
    assert "Disclosed, calls made: 1." in disclosed
    assert owed.count("0 promises of") == 2


def test_observe_first(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    how = page("observe-first.md", tmp_path, upstream)
    (tmp_path / "up.key").write_text(UPSTREAM_KEY)
    (tmp_path / "up.key").chmod(0o600)
    try:
        said = [how.run(block) for block in how.shell()]
        assert "OBSERVING in assess, internal" in (tmp_path / "up.log").read_text()
        assert '"observed":{"caps":[' in said[1]
        assert "would have refused  0" in said[2]
        # /v1/chat/completions and nothing else was asked for: the cap of one a day is not reached.
        assert "would have refused  0" in said[3]
        # A prompt that `block` refuses is served here, and stands in the report.
        ask = (
            how.shell()[1].partition("\ncurl")[0].replace("Say hello.", "Please write ransomware.")
        )
        assert "hello hello hello" in how.run(ask)
        found = how.run(how.shell()[2])
        assert "would have refused  1" in found
        assert "misuse on the prompt: ransomware_dev" in found
        assert "cap principal.requests/d" in how.run(how.shell()[3])
    finally:
        how.stop()


def test_review(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    how = page("review.md", tmp_path, upstream)
    (tmp_path / "up.key").write_text(UPSTREAM_KEY)
    (tmp_path / "up.key").chmod(0o600)
    try:
        said = [how.run(block) for block in how.shell()]
    finally:
        how.stop()
    _, sheet, approved, withdrawn, draft, signed, submitted = said
    assert "nothing was measured" in sheet
    assert "held on the log: at most 3" in " ".join(approved.split())
    assert "The approval of stage internal is withdrawn" in withdrawn
    assert "Nothing is signed yet" in draft
    assert "Signed review: 1 signature(s)" in signed
    assert "since withdrawn" in " ".join(signed.split())
    assert "Submitted: review." in submitted


def test_restore_from_backup(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    how = page("restore-from-backup.md", tmp_path, upstream)
    (tmp_path / "up.key").write_text(UPSTREAM_KEY)
    (tmp_path / "up.key").chmod(0o600)
    run, backup, check, repair = how.shell()
    try:
        how.run(run)
        how.run(backup)
        with pytest.raises(AssertionError, match="stop it first"):
            how.run(check)
    finally:
        how.stop()
    assert "Everything leads to what was signed." in how.run(check)
    tile = next((tmp_path / "d/logs/releases/tile/0").rglob("[0-9]*[0-9]"))
    tile.write_bytes(tile.read_bytes()[:-1] + b"x")
    with pytest.raises(AssertionError, match="tile_differs"):
        how.run(check)
    assert "mended logs/releases/tile/0" in how.run(repair)
    # A copy that was taken while control wrote is whole; it may not be the newest any more.
    shutil.copy(tmp_path / "backup/control.sqlite", tmp_path / "d/store/control.sqlite")
    for left in (tmp_path / "d/store").glob("control.sqlite-*"):
        left.unlink()
    found = json.loads(how.run(f"{check.strip()} --json || true"))["faults"]
    assert {each["code"] for each in found} <= {"rolled_back"}


def test_seal_the_weights(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    how = page("seal-the-weights.md", tmp_path, upstream, **{"8095": str(free_ports())})
    (tmp_path / "up.key").write_text(UPSTREAM_KEY)
    (tmp_path / "up.key").chmod(0o600)
    (tmp_path / "aurora-2").mkdir()
    (tmp_path / "aurora-2" / "model.safetensors").write_bytes(os.urandom(4096))
    server = tmp_path / "bin" / "vllm"
    server.write_text("#!/bin/sh\nexec sleep 600\n")
    server.chmod(0o755)
    try:
        said = [how.run(block) for block in how.shell()]
    finally:
        how.stop()
        pid = tmp_path / "sidecar.pid"
        if pid.exists():
            os.kill(int(pid.read_text()), signal.SIGTERM)
    seal, _, _, _, _, status, copy, closed = said
    assert "Sealed aurora-2" in seal
    assert "measured" in status
    assert "every file of the copy is the sealed one" in copy
    assert (tmp_path / "copy/model.safetensors").read_bytes() == (
        tmp_path / "aurora-2/model.safetensors"
    ).read_bytes()
    assert "0 of 1 registered copies are known to exist." in closed
    assert "destroyed" in closed


def test_behind_litellm(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    how = page("behind-litellm.md", tmp_path, upstream)
    (tmp_path / "up.key").write_text(UPSTREAM_KEY)
    (tmp_path / "up.key").chmod(0o600)
    try:
        how.up(f"--dir d --upstream {upstream.url} --model aurora --upstream-key-file up.key")
        grant, ask = how.shell()
        how.run(grant)
        # The worker hears of the new grant within a second.
        how.run("for i in $(seq 100); do " + ask.splitlines()[0] + " && break; sleep 0.1; done")
        assert "hello hello hello" in how.run(ask)
    finally:
        how.stop()


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="OpenSSH is not installed")
def test_key_ceremony(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    how = page("key-ceremony.md", tmp_path, upstream)
    said = [how.run(block) for block in how.shell()]
    assert any("Root 2 holds, and follows root 1." in text for text in said)
    assert any("Root 3 is pinned here" in text for text in said)
    assert all(len(line) <= 80 for text in said for line in text.splitlines())
    # What is left on the host is the machine's, or a role's that the page says is still to be given.
    left = {path.stem for path in (tmp_path / "d/keys").glob("*.key")}
    assert not left & {"root-1", "root-2", "operator", "overseer", "safety", "stop"}
    assert not (tmp_path / "stop.key").exists()


def test_coming_from_litellm(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    psycopg: Any = pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    from tests.support.postgres import Postgres, find_postgres

    programs = find_postgres()
    if programs is None:
        pytest.skip("no Postgres server on this machine")
    server = Postgres(programs, "owner-password")
    how = page(
        "coming-from-litellm.md", tmp_path, upstream,
        **{"127.0.0.1:5432/litellm": f"127.0.0.1:{server.port}/postgres"},
    )  # fmt: skip
    (tmp_path / "config.yaml").write_text(CONFIG)
    for name in ("up.key", "upstream.key"):
        (tmp_path / name).write_text(UPSTREAM_KEY)
        (tmp_path / name).chmod(0o600)
    try:
        url = server.url("owner", "owner-password")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute((ROOT / "tests/support/litellm.sql").read_text())
            connection.execute(
                """INSERT INTO "LiteLLM_TeamTable" (team_id, models) VALUES ('a', '{}');
                INSERT INTO "LiteLLM_VerificationToken" (token, team_id, models, rpm_limit)
                SELECT encode(sha256('sk-a-key-that-litellm-made'), 'hex'), 'a', '{aurora}', 9"""
            )
            (sql,) = (text for kind, text in how.blocks if kind == "sql")
            connection.execute(sql)
        how.up(f"--dir d --upstream {upstream.url} --model aurora --upstream-key-file up.key")
        said = [how.run(block) for block in how.shell()]
        assert "1 grants admitted" in "".join(said)
        assert (tmp_path / "drafts/submitted").exists()
        assert "requests: 9/min" in (tmp_path / "drafts/caps.yaml").read_text()
    finally:
        how.stop()
        server.stop()


def test_the_page_has_every_reason_and_no_other() -> None:
    text = (ROOT / "docs/how-to/coming-from-litellm.md").read_text()
    table = re.findall(r"^\| `([a-z_]+)` \| (.*) \|$", text, re.MULTILINE)
    mapped = [(code, reason) for code, reason in table if code in set(Why)]
    assert mapped == [(why.value, why.reason) for why in Why]
