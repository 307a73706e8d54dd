"""`report.html`: a picture of the release over time, drawn from the log. No network, no script."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from examples.demo.stage import Stage, codes, predicate
from examples.demo.story import Story

__all__ = ["write_report"]

STAGES = ("assess", "internal", "researchers", "partners", "public")
WIDTH, LEFT, ROW = 960, 130, 54
_COLOURS = {
    "advance": "#2b6cb0",
    "hold": "#6b7280",
    "rescope": "#b45309",
    "roll_back": "#b91c1c",
    "halt": "#b91c1c",
    "resume": "#15803d",
}
_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:1000px;margin:2rem auto;padding:0 1rem;
color:#1f2933;background:#fff}h1{font-size:1.6rem;margin-bottom:.2rem}h2{font-size:1.15rem;
margin-top:2rem}svg{width:100%;height:auto}table{border-collapse:collapse;width:100%;
font-size:.9rem}th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #d9e0e6;
vertical-align:top}td.n{text-align:right;font-variant-numeric:tabular-nums}
.quiet{color:#52606d}text{font:13px system-ui,sans-serif}
@media(prefers-color-scheme:dark){body{background:#14181d;color:#e4e7eb}
th,td{border-color:#323f4b}.quiet{color:#9aa5b1}svg text{fill:#e4e7eb}}
"""


def _spans(stage: Stage, end: int) -> list[tuple[str, int, int, bool]]:
    """Return (stage, from, to, narrowed) for each stretch of service, from certificates and orders."""
    events: list[tuple[int, int, str, dict[str, Any]]] = [
        (entry["header"]["at"], entry["index"], kind, predicate(entry))
        for kind in ("certificate", "order")
        for entry in stage.entries(kind)
    ]
    open_from: dict[str, tuple[int, bool]] = {}
    spans: list[tuple[str, int, int, bool]] = []
    for at, _, kind, body in sorted(events, key=lambda event: event[:2]):
        if kind == "certificate":
            name = body["stage"]
            if name in open_from:
                begin, narrowed = open_from.pop(name)
                spans.append((name, begin, at, narrowed))
            open_from[name] = (at, False)
            continue
        target = body["target"]
        named = [target["name"]] if target["kind"] == "stage" else list(open_from)
        for name in named if target["kind"] in ("stage", "release") else []:
            if name not in open_from:
                continue
            begin, narrowed = open_from.pop(name)
            spans.append((name, begin, at, narrowed))
            if body["ceiling"] is not None:
                open_from[name] = (at, True)
    spans += [(name, begin, end, narrowed) for name, (begin, narrowed) in open_from.items()]
    return spans


def _picture(
    stage: Stage, decisions: list[tuple[int, dict[str, Any]]], begin: int, end: int
) -> str:
    def x(at: int) -> float:
        return LEFT + (WIDTH - LEFT - 20) * (at - begin) / max(1, end - begin)

    at_of = {e["index"]: e["header"]["at"] for e in stage.entries("decision")}
    height = ROW * len(STAGES) + 70
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Stages over time">']
    for number, name in enumerate(STAGES):
        y = 20 + ROW * number
        parts.append(f'<text x="0" y="{y + 24}" fill="currentColor">{name}</text>')
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - 20}" y1="{y + 38}" y2="{y + 38}" stroke="#cbd5e0"/>'
        )
    for name, start, stop, narrowed in _spans(stage, end):
        y = 20 + ROW * STAGES.index(name)
        fill = "#d97706" if narrowed else "#2f855a"
        word = "narrowed" if narrowed else "served"
        width = max(2.0, x(stop) - x(start))
        parts.append(
            f'<rect x="{x(start):.1f}" y="{y + 8}" width="{width:.1f}" height="26" rx="4" '
            f'fill="{fill}"><title>{name}: {word}</title></rect>'
        )
    base = 20 + ROW * len(STAGES)
    for index, decision in decisions:
        kind = decision["kind"]
        place = x(at_of[index])
        parts.append(
            f'<circle cx="{place:.1f}" cy="{base + 14}" r="5" fill="{_COLOURS[kind]}">'
            f"<title>{kind} (entry {index})</title></circle>"
        )
    parts.append(f'<text x="0" y="{base + 18}" fill="currentColor">decisions</text>')
    seconds = (end - begin) / 1000
    parts.append(
        f'<text x="{WIDTH - 20}" y="{base + 42}" text-anchor="end" fill="currentColor">'
        f"{seconds:.0f} s</text></svg>"
    )
    return "".join(parts)


def _rows(rows: list[tuple[str, ...]], heads: tuple[str, ...]) -> str:
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def write_report(stage: Stage, story: Story, path: Path) -> None:
    """Write the report."""
    decisions = stage.decisions()
    times = [e["header"]["at"] for kind in ("plan", "probe") for e in stage.entries(kind)]
    begin, end = min(times), max(times)
    told = [
        (f"{index}", decision["kind"], ", ".join(codes(decision["reasons"])))
        for index, decision in decisions
    ]
    figures = [
        (str(f["name"]), str(f["value"]), str(f["source"].get("entry", "requests log")))
        for f in story.figures
    ]
    seen = [(str(f["name"]), str(f["value"]), "observed") for f in story.seen]
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>aurora: a staged release</title>'
        f"<style>{_STYLE}</style></head><body><h1>aurora: a staged release</h1>"
        '<p class="quiet">One machine, a small real model, every person unproven: assurance dev. '
        "Green: served. Amber: served, narrowed by an order. Blank: not served.</p>"
        + _picture(stage, decisions, begin, end)
        + "<h2>Decisions</h2>"
        + _rows(told, ("entry", "decision", "reasons"))
        + "<h2>Figures</h2>"
        + _rows(figures + seen, ("figure", "value", "source"))
        + "</body></html>\n"
    )
    path.write_text(page)
