"""docs/performance.md is what the newest kept run gives, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.pages import RESULTS, newest, newest_profile, pages, render_chart, render_page
from bench.run import SUMMARY_KEYS


def test_the_page_and_its_chart_are_drawn_from_the_newest_run() -> None:
    for path, text in pages(newest()).items():
        assert path.read_text("utf-8") == text, f"{path.name}: make bench-docs"


def test_every_kept_run_has_the_same_summary_and_is_no_smoke_run() -> None:
    for path in RESULTS.glob("*-gateway.json"):
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


def kept_run() -> dict[str, Any]:
    """Return a small run, as `bench.run` keeps it: nginx and Gatelift in two rounds, Envoy absent."""

    def one(contender: str, number: int, rps: float, parts: dict[str, float]) -> dict[str, Any]:
        return {
            "contender": contender,
            "round": number,
            "rps": rps,
            "cpu_us": parts,
            "gateway_core_busy": 0.99,
            "load_core_busy": 0.5,
            "rss_mb": 61.5,
            "faults": [],
        }

    parts = {"worker": 25.0, "keeper": 4.0, "control": 0.5, "witness": 0.1}
    runs = [one("nginx", 1, 70_000.0, {"nginx": 12.0}), one("gatelift", 1, 28_000.0, parts)]
    runs += [one("nginx", 2, 60_000.0, {"nginx": 12.0}), one("gatelift", 2, 30_000.0, parts)]
    runs.append(one("gatelift_nothing_on", 1, 50_000.0, {"gatelift_nothing_on": 17.0}))
    seen = {
        "gap_p99_ms": 3.5,
        "delay_p99_ms": 4.5,
        "chunk_us": {"worker": 12.5},
        "stream_kib": 15.25,
        "clean": 500,
    }
    scene = {"count": 500, "rate": 20.0, "asked_for": 500, "reason": ""}
    summary = dict.fromkeys(SUMMARY_KEYS) | {"ratio_nginx": 0.45, "rps": 29_000.0, "valid": True}
    return {
        "at": "2026-11-22T10:00:00+00:00",
        "summary": summary,
        "faults": [],
        "absent": {"envoy": "not installed"},
        "settings": {"connections": 128, "quick": False},
        "machine": {
            "cpu": "a processor",
            "cores": 2,
            "memory_gib": 4,
            "system": "Linux 6",
            "python": "3.11",
        },
        "parts": {
            "capacity": runs,
            "latency": None,
            "streams": {"scenes": [{"scene": scene, "direct": seen, "through": seen}]},
            "memory": {"requests": 1_000_000, "rss_mb": 58.0, "points": [[0, 55.0]]},
            "start": None,
            "stop": {"stops": [{}], "p50_ms": 40.0, "max_ms": 44.0},
        },
    }


def test_a_page_shows_the_runs_figures_and_why_a_peer_is_missing() -> None:
    text = render_page(kept_run())
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in text.splitlines()}
    # The median of 28/70 and 30/60.
    assert "| 0.45 x |" in rows["nginx, bare proxy_pass"]
    assert "| 29,000 |" in rows["Gatelift, everything on"]
    assert "not measured: not installed" in rows["Envoy, bare pass-through"]
    assert "| 17 |" in rows["HTTP on both sides (measured with nothing on)"]
    assert "| 8 |" in rows["keys, caps, safeguards, records, tickets in the worker"]
    assert "| 12.5 | 15.25 | 500 |" in rows["500 at 20/s"]
    assert rows["throughput of one core, of nginx's bare proxy"].endswith("| goal |")
    assert rows["CPU a streamed chunk"].endswith("| not measured |")
    assert "After 1,000,000 requests the worker holds 58 MB; before, 55 MB." in text


def test_a_page_shows_the_ledgers_figures_against_their_budgets() -> None:
    found = {
        "append_p99_ms": 101.0,
        "append_p50_ms": 55.0,
        "appends_per_s": 1100.5,
        "append_errors": [],
        "receipt_s": 0.407,
        "receipt_p50_s": 0.352,
        "receipts": 41,
        "receipts_under_rps": 2966.2,
        "records_per_s": 431_344,
        "records_hashed": 113_350,
        "refold_s": 1.02,
        "restart_s": 0.01,
        "verify_1m_s": 19.1,
        "verify_1m_one_file_s": 47.2,
        "verify_1m_extrapolated_from": 200_000,
        "cert_cached_us": 0.279,
        "cert_uncached_ms": None,
    }
    run = {"at": "2026-12-01T10:00:00+00:00", "summary": found}
    text = render_page(kept_run(), ledger=run)
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in text.splitlines()}
    assert rows["64 appenders at once, p99 of an append"].endswith(
        "| 101 ms | 100 | 100 | **missed** |"
    )
    assert rows["a dossier of a million records verified"].endswith("| must |")
    assert rows["certificate check, uncached"].endswith("| not measured |")
    assert "from 200,000, by proportion" in text
    assert "errors: none" in text
    assert "## The ledger" not in render_page(kept_run())


def test_a_page_of_a_run_that_is_not_valid_says_so_first() -> None:
    run = kept_run()
    run["summary"]["valid"], run["faults"] = False, ["streams: counts differ"]
    text = render_page(run)
    assert "**The run is not valid**: streams: counts differ" in text.split("## ")[0]


def test_a_chart_has_a_bar_for_each_that_ran() -> None:
    chart = render_chart(kept_run())
    assert chart.count("<rect") == 3
    assert "29,000 req/s" in chart
    assert "Envoy" not in chart


def test_the_page_shows_the_newest_profiles_first_table_alone(tmp_path: Path) -> None:
    for day in ("2026-02-01", "2026-11-03"):
        rows = [f"100.0 us on {day}", "", "thread 1", "", "own time by module   us", "a.py  9"]
        (tmp_path / f"{day}-profile.txt").write_text("\n".join(rows) + "\n")
    shown = newest_profile(tmp_path)
    assert shown == "100.0 us on 2026-11-03\n\nown time by module   us\na.py  9"
    assert shown in render_page(kept_run(), shown)
    assert newest_profile(tmp_path / "nowhere") == ""
