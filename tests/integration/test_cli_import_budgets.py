"""`gatelift import litellm`: budgets of a config.yaml come out as a plan takes them, to the digit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.promises.outside import PLANS

ROOT = Path(__file__).parents[2]
CONFIG = """\
model_list:
  - model_name: aurora
    litellm_params:
      model: hosted_vllm/mock
      api_base: http://127.0.0.1:9/v1
      input_cost_per_token: 0.0000025
    model_info: {output_cost_per_token: 1e-05, input_cost_per_token_above_128k_tokens: 5e-06}
litellm_settings:
  max_budget: 1000
  budget_duration: 30d
"""


def run(*words: object, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "gatelift", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "80"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_budget_and_its_prices_are_shown_and_a_plan_with_both_is_taken(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    words = ("import", "litellm", "config.yaml", "--plan", PLANS / "harbour.yaml")
    words += ("--stage", "internal")
    text = " ".join(run(*words, "--dry-run", cwd=tmp_path).split())
    # 1000 / 31 = 32.258064516...
    assert "stage.cost/d 32.258064 USD" in text
    assert "prices: {currency: USD, input: 2.5, output: 10}" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml"]
    found = json.loads(run(*words, "--dry-run", "--json", cwd=tmp_path))
    assert found["caps_changed"] == [{"cap": "stage.cost/d", "limit": 32_258_064}]
    assert found["prices"] == {
        "currency": "USD",
        "input_micros": 2_500_000,
        "output_micros": 10_000_000,
    }
    assert [(each["what"], each["why"]) for each in found["left"]] == [
        ("model aurora: input_cost_per_token_above_128k_tokens", "other_price"),
        ("litellm_settings: max_budget, 1/31 of it a day", "budget_share"),
    ]
    run(*words, "--out", "drafts", cwd=tmp_path)
    (tmp_path / "prompt.txt").write_bytes((PLANS / "prompt.txt").read_bytes())
    (tmp_path / "plan.yaml").write_text(_with_drafts(tmp_path / "drafts"))
    run("plan", "check", "plan.yaml", cwd=tmp_path)
    words = ("import", "litellm", "config.yaml", "--plan", "plan.yaml", "--stage", "internal")
    again = json.loads(run(*words, "--dry-run", "--json", cwd=tmp_path))
    assert (again["caps_changed"], again["proposes_prices"]) == ([], False)


def _with_drafts(drafts: Path) -> str:
    """Return the plan with the drafts put where their own comments say."""
    plan = (PLANS / "harbour.yaml").read_text()
    before, stage, after = plan.partition("  - name: internal\n")
    lines = after.splitlines()
    (at,) = (number for number, line in enumerate(lines) if line.startswith("    caps:"))
    caps = (drafts / "caps.yaml").read_text().splitlines()
    lines[at : at + 1] = [f"    {line}" for line in caps]
    prices = (drafts / "prices.yaml").read_text()
    return before.replace("stages:\n", f"{prices}stages:\n") + stage + "\n".join(lines) + "\n"
