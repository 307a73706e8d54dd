"""Write what the docs draw from the code.

The floors from real imports, the tables of the exchange, the breaker and the failures, the error codes,
the reason codes, the shapes of entries, the tamperings that are found, and the plan's schema. `--check` writes nothing and fails on a difference.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import grimp

from gatelift.decide import render_reasons
from gatelift.gateway import breaker
from gatelift.gateway.availability_page import render_availability
from gatelift.gateway.exchange import TABLE
from gatelift.gateway.refused_routes import render_endpoints
from gatelift.gateway.replies import render_codes
from gatelift.gateway.routes import ROUTES
from gatelift.messages.entries_page import render_entries
from gatelift.plan import plan_json_schema

DOCS = Path(__file__).parents[1] / "docs"
sys.path.insert(0, str(DOCS.parent))  # the tables that tests go by are beside the package
tamperings = importlib.import_module("tests.support.tampering_page")
FLOORS = (
    ("ground", ("errors", "encoding")),
    (
        "1 pure",
        (
            "tlog",
            "stats",
            "terms",
            "safeguards",
            "plan",
            "trust",
            "messages",
            "incidents",
            "watch",
            "decide",
            "arrivals",
        ),
    ),
    ("2 disk and wire", ("journal", "wire", "store", "ledger")),
    ("3 processes", ("gateway", "keeper", "witness", "beacon", "assess", "sidecar")),
    ("4", ("control",)),
    ("5 rim", ("web", "cli")),
)


def _imports() -> dict[str, set[str]]:
    graph = grimp.build_graph("gatelift")
    found: dict[str, set[str]] = {}
    for module in graph.modules:
        parts = module.split(".")
        if len(parts) < 2 or parts[1] == "__main__":
            continue
        for other in graph.find_modules_directly_imported_by(module):
            there = other.split(".")
            if len(there) > 1 and there[1] != parts[1]:
                found.setdefault(parts[1], set()).add(there[1])
    return found


def draw_floors() -> str:
    """Return docs/floors.md: rooms by floor, and an arrow for each pair of rooms that import."""
    imports = _imports()
    rooms = [room for _, names in FLOORS for room in names]
    unknown = (set(imports) | {there for names in imports.values() for there in names}) - set(rooms)
    if unknown:
        raise SystemExit(f"rooms that stand on no floor: {sorted(unknown)}: add them to FLOORS")
    lines = ["# Floors, drawn from the imports", "", "Made by `make docs`; do not edit.", ""]
    lines += ["| floor | room | imports |", "|---|---|---|"]
    for floor, names in FLOORS:
        for room in names:
            lower = [other for other in rooms if other in imports.get(room, set())]
            upward = [o for o in lower if rooms.index(o) > rooms.index(room)]
            if upward:
                raise SystemExit(f"{room} imports upwards: {upward}")
            lines.append(f"| {floor} | `{room}` | {', '.join(lower) or '-'} |")
    lines += ["", "No arrow goes up and none goes back, so there is no cycle.", ""]
    return "\n".join(lines)


def draw_exchange() -> str:
    """Return docs/reference/exchange.md: the table of one exchange as a diagram."""
    lines = ["# The life of one exchange", "", "Made by `make docs` from `gateway.exchange.TABLE`."]
    lines += ["", "```mermaid", "stateDiagram-v2", "    [*] --> received"]
    for state, moves in TABLE.items():
        lines += [f"    {state.value} --> {to.value}: {event.value}" for event, to in moves.items()]
        if not moves:
            lines.append(f"    {state.value} --> [*]")
    return "\n".join([*lines, "```", ""])


def draw_breaker() -> str:
    """Return docs/reference/breaker.md: the table of a placement's breaker as a diagram."""
    lines = ["# A placement's breaker", "", "Made by `make docs` from `gateway.breaker.TABLE`."]
    lines += ["", "```mermaid", "stateDiagram-v2", "    [*] --> closed"]
    for state, moves in breaker.TABLE.items():
        lines += [f"    {state.value} --> {to.value}: {event.value}" for event, to in moves.items()]
    return "\n".join([*lines, "```", ""])


def pages() -> dict[Path, str]:
    """Return every page that is made, by its path."""
    schema = json.dumps(plan_json_schema(), indent=2, ensure_ascii=False) + "\n"
    return {
        DOCS / "floors.md": draw_floors(),
        DOCS / "reference" / "exchange.md": draw_exchange(),
        DOCS / "reference" / "breaker.md": draw_breaker(),
        DOCS / "reference" / "errors.md": render_codes(),
        DOCS / "reference" / "availability.md": render_availability(),
        DOCS / "reference" / "endpoints.md": render_endpoints(
            (method, path) for path, method in ROUTES.items()
        ),
        DOCS / "reference" / "entries.md": render_entries(),
        DOCS / "reference" / "reasons.md": render_reasons(),
        DOCS / "reference" / "tamperings.md": tamperings.render_tamperings(),
        DOCS / "plan" / "schema.json": schema,
    }


def main() -> int:
    """Write or check all pages."""
    check = "--check" in sys.argv[1:]
    stale = []
    for path, text in pages().items():
        if path.exists() and path.read_text() == text:
            continue
        stale.append(path)
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    for path in stale:
        print(f"{'stale' if check else 'wrote'} {path.relative_to(DOCS.parent)}")
    if check and stale:
        print("run `make docs`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
