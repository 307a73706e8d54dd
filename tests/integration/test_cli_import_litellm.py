"""`gatelift import` against a real Postgres, and a partner who keeps the key of LiteLLM."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.promises.outside import PLANS, Deployment
from tests.support.postgres import Postgres, find_postgres
from tests.support.upstream import ScriptedUpstream

psycopg: Any = pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")

ROOT = Path(__file__).parents[2]
SCHEMA = (ROOT / "tests/support/litellm.sql").read_text()
PASSWORD = "pw-PLANTED-database"
PARTNER = "sk-partner-key-0123456789"
PLANTED = (
    PASSWORD,
    PARTNER,
    "PLANTED",
    "Alpha Team",
    "ann@acme.example",
)
CONFIG = """\
model_list:
  - model_name: aurora
    litellm_params:
      model: hosted_vllm/mock
      api_base: http://127.0.0.1:9/v1
      api_key: sk-PLANTED-provider
      rpm: 500
general_settings:
  master_key: sk-PLANTED-master
  database_url: postgresql://owner:PLANTED@db/litellm
"""


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    programs = find_postgres()
    if programs is None:
        pytest.skip("no Postgres server on this machine")
    found = Postgres(programs, PASSWORD)
    try:
        with psycopg.connect(found.url("owner", PASSWORD), autocommit=True) as connection:
            connection.execute(SCHEMA)
            fill(connection)
        yield found
    finally:
        found.stop()


def fill(connection: Any) -> None:
    def insert(table: str, **values: Any) -> None:
        names = ", ".join(f'"{name}"' for name in values)
        marks = ", ".join(["%s"] * len(values))
        connection.execute(
            f'INSERT INTO "LiteLLM_{table}" ({names}) VALUES ({marks})', list(values.values())
        )

    insert("TeamTable", team_id="t1", team_alias="Alpha Team", models=[], rpm_limit=1000)
    insert("TeamTable", team_id="t2", team_alias="Beta Team", models=["gpt-4o"])
    insert("UserTable", user_id="ann@acme.example", password="PLANTED-user", models=[])
    insert("CredentialsTable", credential_name="c", credential_values='{"api_key": "PLANTED"}')
    insert("ProxyModelTable", model_id="m", model_name="aurora", litellm_params='{"k": "PLANTED"}')
    insert(
        "VerificationToken",
        token=digest(PARTNER),
        key_name="sk-...PLANTED",
        team_id="t1",
        user_id="ann@acme.example",
        models=["aurora"],
        rpm_limit=60,
        tpm_limit=100_000,
        expires="2126-01-01",
        metadata='{"guardrails": ["PLANTED"], "note": "PLANTED"}',
    )
    insert("VerificationToken", token=digest("old"), team_id="t1", models=[], expires="2020-01-01")
    insert("VerificationToken", token=digest("other"), team_id="t2", models=[])
    insert("VerificationToken", token="sk-PLANTED-in-clear", team_id="t1", models=[])


def run(
    *words: object, cwd: Path, url: str | None = None, code: int = 0
) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "80"}
    if url is not None:
        environment["LITELLM_DATABASE_URL"] = url
    done = subprocess.run(
        [sys.executable, "-m", "gatelift", "import", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        env=environment,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    if "--json" not in words:
        assert all(len(line) <= 80 for line in done.stdout.splitlines()), done.stdout
    assert not [secret for secret in PLANTED if secret in done.stdout + done.stderr]
    return done


def test_a_dry_run_says_all_and_writes_nothing(server: Postgres, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    url = server.url("owner", PASSWORD, query="?schema=public&connection_limit=5")
    words = ("litellm", "config.yaml", "--dry-run")
    text = run(*words, cwd=tmp_path, url=url).stdout
    assert "Nothing was written." in text
    found = json.loads(run(*words, "--json", cwd=tmp_path, url=url).stdout)
    assert [each["public_id"] for each in found["keys"]] == [f"sha256-{digest(PARTNER)[:32]}"]
    assert [each["base_url"] for each in found["placements"]] == ["http://127.0.0.1:9"]
    assert {each["cap"]: each["limit"] for each in found["caps"]} == {
        "organisation.requests/min": 1000,
        "principal.input_tokens/min": 50_000,
        "principal.output_tokens/min": 50_000,
        "principal.requests/min": 60,
        "stage.requests/min": 500,
    }
    assert {each["why"] for each in found["left"]} == {
        "credential",
        "key_expired",
        "key_not_digest",
        "key_other_model",
        "key_setting",
        "models_in_database",
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml"]


def test_drafts_hold_no_secret_and_no_name(server: Postgres, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    words = ["litellm", "config.yaml", "--plan", PLANS / "harbour.yaml", "--stage", "internal"]
    url = server.url("owner", PASSWORD)
    refused = run(*words, "--out", "d", cwd=tmp_path, url=url, code=1)
    assert "identity" in refused.stderr
    run(*words, "--proof", "identity", "--out", "d", cwd=tmp_path, url=url)
    folder = tmp_path / "d"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    private = folder / "pseudonyms.json"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert "Alpha Team" in private.read_text()
    files = [path for path in folder.rglob("*") if path.is_file() and path != private]
    assert {path.name for path in files} > {"caps.yaml", "placements.json", "report.md"}
    for path in files:
        text = path.read_text()
        assert not [secret for secret in PLANTED if secret in text], path
    (draft,) = (json.loads(path.read_text()) for path in (folder / "grants").iterdir())
    assert draft["keys"] == [
        {
            "public_id": f"sha256-{digest(PARTNER)[:32]}",
            "digest": f"sha256:{digest(PARTNER)}",
            "binding": None,
        }
    ]
    assert draft["not_after"] - draft["not_before"] == 90 * 86_400_000
    again = run(*words, "--out", "d", "--proof", "identity", cwd=tmp_path, url=url, code=2)
    assert "exists" in again.stderr
    more = ("--proof", "identity", "--pseudonyms", "d/pseudonyms.json", "--out", "e")
    run(*words, *more, cwd=tmp_path, url=url)
    (same,) = (json.loads(p.read_text()) for p in (tmp_path / "e/grants").iterdir())
    assert (same["organisation"], same["principal"]) == (draft["organisation"], draft["principal"])


def test_what_cannot_be_read_is_a_sentence_without_the_address(
    server: Postgres, tmp_path: Path
) -> None:
    with psycopg.connect(server.url("owner", PASSWORD), autocommit=True) as connection:
        connection.execute("CREATE DATABASE empty")
        connection.execute("CREATE DATABASE old")
        connection.execute(f"CREATE ROLE stranger LOGIN PASSWORD '{PASSWORD}'")
    with psycopg.connect(server.url("owner", PASSWORD, "old"), autocommit=True) as connection:
        connection.execute(SCHEMA.replace("blocked boolean,", ""))
    dry = ("litellm", "--dry-run", "--model", "aurora")
    for url, code, words in (
        (server.url("owner", "PLANTED"), 4, "password is not the right one"),
        (server.url("owner", PASSWORD, "nowhere"), 4, "no such database"),
        (server.url("owner", PASSWORD, "empty"), 2, "LiteLLM_VerificationToken"),
        (server.url("owner", PASSWORD, "old"), 2, "lacks blocked"),
        (server.url("stranger", PASSWORD), 2, "right to read"),
        (f"postgresql://owner:{PASSWORD}@127.0.0.1:1/x", 4, "does the server answer"),
        (f"postgresql://owner:{PASSWORD}%zz@127.0.0.1/x", 2, "refused"),
        (f"postgresql://owner:{PASSWORD}@[::1/x", 2, "expected --db"),
        (f"mysql://owner:{PASSWORD}@127.0.0.1/x", 2, "expected --db"),
    ):
        done = run(*dry, cwd=tmp_path, url=url, code=code)
        assert words in " ".join(done.stderr.split()), done.stderr
    (tmp_path / "bad.yaml").write_text("model_list:\n  - model_name: [PLANTED\n")
    done = run("litellm", "bad.yaml", "--dry-run", cwd=tmp_path, code=2)
    assert "bad.yaml: line 3" in done.stderr
    assert "bad_arrival" in done.stderr


def test_the_session_is_read_only(server: Postgres) -> None:
    with psycopg.connect(server.url("owner", PASSWORD), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET log_statement = 'all'")
        connection.execute("SELECT pg_reload_conf()")
    url = server.url("owner", PASSWORD)
    run("litellm", "--dry-run", "--model", "aurora", cwd=ROOT, url=url)
    log = (server.folder / "log").read_text()
    assert "READ ONLY" in log
    statements = [line for line in log.splitlines() if "LiteLLM_" in line and "CREATE" not in line]
    assert statements
    assert not [s for s in statements if "litellm_params" in s or '"password"' in s]


def test_a_partner_keeps_its_key_once_admissions_signed(server: Postgres, tmp_path: Path) -> None:
    upstream = ScriptedUpstream(["word "] * 8, key="upstream-key-of-an-import")
    deployment = Deployment(
        tmp_path / "d",
        upstream=upstream.url,
        upstream_key="upstream-key-of-an-import",
        plan=PLANS / "harbour.yaml",
    )
    try:
        words = ["litellm", "--model", "aurora", "--plan", PLANS / "harbour.yaml"]
        words += ["--stage", "assess", "--out", "drafts"]
        run(*words, cwd=tmp_path, url=server.url("owner", PASSWORD))
        assert deployment.chat(key=PARTNER).status_code == 401
        said = deployment.cli("import", "sign", tmp_path / "drafts", who=("safety",))
        assert said.code == "wrong_role" or said.error
        said = deployment.cli("import", "sign", tmp_path / "drafts", who=("admissions",)).must()
        assert len(said["grants"]) == 1
        deployment.wait_known(PARTNER)
        assert deployment.chat(key=PARTNER).status_code == 200
        assert deployment.chat(key=PARTNER + "x").status_code == 401
        assert deployment.chat(key=digest(PARTNER)).status_code == 401
        again = deployment.cli("import", "sign", tmp_path / "drafts", who=("admissions",)).must()
        assert again["grants"] == []
        key_id = f"sha256-{digest(PARTNER)[:32]}"
        halt = ["halt", "--reason", "moved", "--api-key-id", key_id]
        deployment.cli(*halt, who=("stop",)).must()
        _until_refused(deployment)
        for path in (tmp_path / "d").rglob("*"):
            if path.is_file() and not path.is_symlink():
                assert PARTNER.encode() not in path.read_bytes(), path
    finally:
        deployment.stop()
        upstream.close()


def _until_refused(deployment: Deployment) -> None:
    for _ in range(50):
        if deployment.chat(key=PARTNER).status_code == 403:
            return
    raise AssertionError("the order on the carried key does not stop it")


def test_a_password_on_the_command_line_is_warned_of(server: Postgres, tmp_path: Path) -> None:
    url = server.url("owner", PASSWORD)
    done = run("litellm", "--dry-run", "--model", "aurora", "--db", url, cwd=tmp_path)
    assert "LITELLM_DATABASE_URL" in done.stderr
    done = run("litellm", "--dry-run", "--model", "aurora", cwd=tmp_path, url=url)
    assert done.stderr == ""


def test_without_the_driver_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "psycopg.py").write_text("raise ImportError('not here')\n")
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT / 'src'}",
    }
    done = subprocess.run(
        [
            *(sys.executable, "-m", "gatelift", "import", "litellm", "--dry-run"),
            *("--db", "postgresql://127.0.0.1/x"),
        ],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 2
    assert "gatelift[postgres]" in " ".join(done.stderr.split())
