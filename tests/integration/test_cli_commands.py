"""The command line from outside, without a running deployment: output, exit codes, width."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gatelift.cli.app import COMMANDS
from gatelift.plan import parse_plan

SRC = str(Path(__file__).parents[2] / "src")
BROKEN = """\
apiVersion: gatelift/v1
kind: Release
metadata: {name: Aurora!}
candidate: {model: m, dialect: openai, sampling: {temperature: hot, top_p: 0.9}}
trust: {quorum: [safety]}
stages: []
"""


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": SRC, "COLUMNS": "80"}
    return subprocess.run(
        [sys.executable, "-m", "gatelift", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        env=environment,
        check=False,
    )


def one_line(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    assert done.stdout.count("\n") == 1
    assert done.stdout.endswith("\n")
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def assert_fits(text: str) -> None:
    long = [line for line in text.splitlines() if len(line) > 80]
    assert not long, long


def test_help_lists_every_command_in_80_columns() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert all(f" {entry.name} " in done.stdout for entry in COMMANDS)
    assert_fits(done.stdout)


@pytest.mark.parametrize("name", sorted({entry.module: entry.name for entry in COMMANDS}.values()))
def test_every_module_loads_and_its_help_fits(name: str) -> None:
    done = run(name, "--help")
    assert done.returncode == 0, done.stderr
    assert_fits(done.stdout)


def test_help_and_signing_need_no_heavy_room() -> None:
    code = (
        "import sys; from gatelift.cli import app; app._root();"
        "import gatelift.cli.orders;"
        "print([m for m in ('litestar', 'sqlalchemy', 'uvicorn', 'httpx', 'gatelift.control',"
        " 'gatelift.ledger') if m in sys.modules])"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": SRC}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.strip() == "[]"


def test_an_unknown_command_is_bad_usage() -> None:
    done = run("stattus")
    assert done.returncode == 2
    assert "status" in done.stderr


def test_plan_check_says_every_problem_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(BROKEN)
    done = run("plan", "check", "plan.yaml", cwd=tmp_path)
    assert done.returncode == 2
    for place in ("plan.yaml:3:", "plan.yaml:4:", "plan.yaml:6:"):
        assert place in done.stdout
    assert "[bad_plan]" in done.stderr
    assert "Traceback" not in done.stderr
    assert_fits(done.stdout)
    found = one_line(run("plan", "check", "plan.yaml", "--json", cwd=tmp_path))
    problems = found["problems"]
    assert isinstance(problems, list)
    assert len(problems) >= 3
    assert all(p["line"] >= 1 and p["column"] >= 1 and p["write_instead"] for p in problems)


def test_observe_selects_what_the_plan_observes_and_nothing_else(tmp_path: Path) -> None:
    plan = Path(__file__).parents[1] / "promises" / "plans" / "harbour.yaml"
    words = ("up", "--observe", "--dir", "d", "--upstream", "http://127.0.0.1:9", "--plan")
    done = run(*words, str(plan), cwd=tmp_path)
    assert done.returncode == 2
    assert "nothing_observed" in done.stderr
    assert not (tmp_path / "d").exists()


def test_init_with_defaults_writes_a_deployment_and_a_to_do_list(tmp_path: Path) -> None:
    done = run("init", "d", "--yes", "--operator", "olga@lab.example", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_fits(done.stdout)
    folder = tmp_path / "d"
    plan = parse_plan((folder / "plan.yaml").read_bytes())
    assert len(plan.stages) == 5
    to_do = (folder / "TODO.md").read_text()
    assert "olga" in to_do
    assert (folder / "root.sha256").read_text().strip() in to_do
    checked = run("plan", "check", "d/plan.yaml", cwd=tmp_path)
    assert checked.returncode == 0
    assert_fits(checked.stdout)
    again = run("init", "d", "--yes", "--json", cwd=tmp_path)
    assert again.returncode == 2
    error = one_line(again)["error"]
    assert isinstance(error, dict)
    assert error["code"] == "deployment_exists"


def test_init_asks_six_questions(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": SRC, "COLUMNS": "80"}
    answers = (
        "aurora\nmy/model\nhttp://127.0.0.1:9\nolga@lab.example\nvera@oversight.example\nsmall\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "gatelift", "init", "d"],
        input=answers,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    plan = parse_plan((tmp_path / "d" / "plan.yaml").read_bytes())
    assert (plan.name, plan.candidate.model, len(plan.stages)) == ("aurora", "my/model", 2)


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("plan", "check", "nowhere.yaml"), 2, "unreadable_input"),
        (("doctor", "--dir", "nowhere"), 2, "unreadable_input"),
        (("up", "--dir", "new"), 2, "unreadable_input"),
        (("status", "--admin", "http://127.0.0.1:1"), 4, "admin_unreachable"),
        (("status",), 2, "unreadable_input"),
        (("status", "--admin", "http://example.com"), 2, "unreadable_input"),
        (("verify", "nowhere"), 2, "unreadable_input"),
        (("halt", "--reason", "r", "--release", "x", "--key", "none.key"), 2, "key_file_missing"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_an_error_is_a_sentence_a_code_and_an_exit_code(
    tmp_path: Path, arguments: tuple[str, ...], code: int, word: str
) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == code
    assert f"[{word}]" in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr
    assert_fits(done.stderr)
    found = one_line(run(*arguments, "--json", cwd=tmp_path))
    assert found["ok"] is False


def test_a_key_is_made_once_and_only_its_public_half_is_shown(tmp_path: Path) -> None:
    done = run("keys", "new", "me.key", "--json", cwd=tmp_path)
    found = one_line(done)
    assert found == one_line(run("keys", "show", "me.key", "--json", cwd=tmp_path))
    assert (tmp_path / "me.key").read_text().strip() not in done.stdout
    assert run("keys", "new", "me.key", cwd=tmp_path).returncode == 2
    (tmp_path / "me.key").chmod(0o644)
    assert run("keys", "show", "me.key", cwd=tmp_path).returncode == 2


def test_an_order_is_signed_without_a_network_and_dropped_on_a_host(tmp_path: Path) -> None:
    assert run("init", "d", "--yes", cwd=tmp_path).returncode == 0
    order = ("halt", "--reason", "fire", "--key", "d/keys/stop.key", "--json")
    written = one_line(run(*order, "--release", "my-model-1", "--out", "o.json", cwd=tmp_path))
    assert written["submitted"] is False
    assert (tmp_path / "o.json").exists()
    dropped = one_line(run(*order, "--drop", "d", cwd=tmp_path))
    assert (tmp_path / "d" / "incoming" / f"{dropped['id']}.order.json").exists()
    nowhere = run(*order, "--release", "my-model-1", cwd=tmp_path)
    assert nowhere.returncode == 2
