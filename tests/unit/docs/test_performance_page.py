"""docs/performance.md is what the newest kept run gives, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

from bench.pages import RESULTS, newest, pages, render_page
from bench.run import SUMMARY_KEYS


def test_the_page_and_its_chart_are_drawn_from_the_newest_run() -> None:
    for path, text in pages(newest()).items():
        assert path.read_text("utf-8") == text, f"{path.name}: make bench-docs"


def test_every_kept_run_has_the_same_summary_and_is_no_smoke_run() -> None:
    for path in RESULTS.glob("*.json"):
        run = json.loads(path.read_text("utf-8"))
        assert tuple(run["summary"]) == SUMMARY_KEYS
        assert not run["settings"]["quick"]
        assert run["summary"]["valid"] is not bool(run["faults"])


def test_the_newest_run_is_the_one_of_the_latest_day(tmp_path: Path) -> None:
    for day in ("2026-02-01", "2026-11-03", "2026-09-09"):
        (tmp_path / f"{day}-gateway.json").write_text(json.dumps({"at": day}))
    assert newest(tmp_path) == {"at": "2026-11-03"}


def test_without_a_run_the_page_shows_no_figure() -> None:
    text = render_page(None)
    assert "No run has been kept yet." in text
    assert "## Against the budgets" not in text
