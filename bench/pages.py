"""docs/performance.md and its chart, drawn from the newest file in bench/results.

Invariants
- Every figure on the page is computed here from that file; the same file gives the same bytes.
- Without a file the page says so and shows none.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.budgets import BUDGETS, LEDGER_BUDGETS, Budget, judge
from bench.chart import bar_chart
from bench.figures import NAMES, capacity_of, median

__all__ = ["RESULTS", "draw", "newest", "render_chart", "render_page"]

RESULTS: Final = Path(__file__).parent / "results"
_DOCS: Final = Path(__file__).parent.parent / "docs"
_HEAD = """\
# Performance

How fast the gateway is with everything on, beside proxies that do nothing and gateways that do less,
in one run on one machine. This page is drawn by `make bench-docs` from the newest file in
bench/results, which `make bench-gateway` writes. No figure here was typed.
"""
_PROFILE_ROWS: Final = 31
_PROFILE: Final = """
Sampled by py-spy in a run of its own (`make bench-profile BENCH_ARGS=--keep`), own time of the
thirty heaviest modules; what the kernel does for a module counts as its own:

```text
{profile}
```
"""
_HOW = """\
## How it is measured

- **One core.** Everything that is Gatelift runs on one core: a worker, the keeper, control and a
  witness, started by `gatelift up` and set up with the public commands. Each peer runs on the same core,
  alone: whoever is not at its turn is frozen. Load and mock upstream share the other core.
- **Everything on** means: API keys from signed grants in four organisations, nine caps over four kinds of
  subject, safeguards on prompt and answer, every exchange recorded, committed with `fdatasync` and put
  into the requests log, drift probes, status each second. The plan is bench/plan.yaml: as wide as the
  annotated plan, with limits that a benchmark does not reach. `Nothing on` is bench/bare.py: the same
  HTTP code on both sides and no more.
- **Load.** `wrk` with 128 connections, requests of 1024 bytes, each prompt another one, answers of about 1 KB. One request in a thousand
  is blocked by a safeguard, one comes from a caller whose cap is spent. The mock is nginx with one fixed answer;
  it refuses calls without its credential.
- **Rounds.** One contender after the other, again and again. A ratio is taken within a round, and the median
  over the rounds is told.
- **Latency.** Open loop: a request is sent when it is due and timed from when it was due, over kept
  connections. Added is the percentile through a gateway less the percentile straight to the mock. The
  disk's own `fdatasync` is measured in the journal's folder between the rounds.
- **Streams.** Each token says when it was sent. The added gap of a token is its delay less the delay of the one
  before it. CPU and memory are the worker's, taken while all streams are open.
- **Memory** is the worker's resident memory. **Start** runs from the start of the process to the first 200 of
  a chat. **Stop** runs from before the order is posted to control until the last byte that any caller
  of an open stream gets, with four workers on the one core under closed-loop load.
- **Valid** means: every answer past `identify` has its finish record, those that say `upstream: true` are
  as many as the mock counted, and nothing but the intended requests was turned away. Records are counted
  with the journal's own reader, which recomputes each batch's root. A run that is not valid says why.

## What it does not show

- TLS, long prompts, and networks: everything is on loopback.
- Many cores. Workers share nothing but the keeper, but that is no measurement.
- Peers with keys, budgets and records in a database. LiteLLM checks one master key, Portkey and the proxies
  check nothing. With what Gatelift does they would be slower.
"""


def newest(results: Path = RESULTS, what: str = "gateway") -> dict[str, Any] | None:
    """Return the newest kept run of gateway or ledger, null when there is none."""
    found = sorted(results.glob(f"*-{what}.json"))
    if not found:
        return None
    value: dict[str, Any] = json.loads(found[-1].read_text("utf-8"))
    return value


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def render_chart(run: Mapping[str, Any]) -> str:
    """Return the chart of a run: requests a second of one core."""
    bars = [
        (NAMES[each.name], each.rps, each.name == "gatelift")
        for each in capacity_of(run)
        if each.rps is not None
    ]
    bars.sort(key=lambda bar: -bar[1])
    connections = run["settings"]["connections"]
    return bar_chart(
        f"Requests a second of one core, 1 KB chat, {connections} connections (log scale)",
        "req/s",
        bars or [("no run", 1.0, True)],
    )


def _verdicts(run: Mapping[str, Any], budgets: Sequence[Budget] = BUDGETS) -> str:
    rows = [
        [
            each.budget.what,
            f"{_number(each.value)} {each.budget.unit}",
            f"{_number(each.budget.must)}",
            f"{_number(each.budget.goal)}",
            f"**{each.word}**" if each.word == "missed" else each.word,
        ]
        for each in judge(run["summary"], budgets)
    ]
    return _table(["what", "measured", "must", "goal", "reached"], rows)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _capacity(run: Mapping[str, Any]) -> str:
    rows = []
    for each in capacity_of(run):
        if each.rps is None:
            reason = run["absent"].get(each.name, "no sound round: see the raw file")
            rows.append([NAMES[each.name], f"not measured: {reason}", "", "", "", "", ""])
            continue
        rows.append(
            [
                NAMES[each.name],
                _number(each.rps),
                "" if each.name == "gatelift" else f"{_number(each.share)} x",
                _number(sum(each.cpu_us.values())),
                _share(each.gateway_core),
                _share(each.load_core),
                _number(each.rss_mb),
            ]
        )
    head = ["who", "req/s of one core", "Gatelift is", "CPU us a request"]
    head += ["its core busy", "load's core busy", "memory MB"]
    told = (
        "\nWhere the load's core is busier than the gateway's, the load was the limit, and that "
        "contender could do more. Memory is the worker's where there are several processes.\n"
    )
    return _table(head, rows) + told


def newest_profile(results: Path = RESULTS) -> str:
    """Return the newest kept profile's first lines: the whole, and own time by module."""
    found = sorted(results.glob("*-profile.txt"))
    if not found:
        return ""
    rows = found[-1].read_text("utf-8").splitlines()
    begin = next(number for number, row in enumerate(rows) if row.startswith("own time by module"))
    return "\n".join([rows[0], "", *rows[begin : begin + _PROFILE_ROWS]])


def _breakdown(run: Mapping[str, Any], profile: str) -> str:
    """Return where the CPU of one request goes: HTTP alone, the promises, the node's keeper."""
    found = {each.name: each.cpu_us for each in capacity_of(run)}
    ours, bare = found["gatelift"], sum(found["gatelift_nothing_on"].values())
    if not ours or not bare:
        return ""
    mine = round(ours["worker"] - bare, 1)
    rows = [
        ["HTTP on both sides (measured with nothing on)", _number(bare)],
        ["keys, caps, safeguards, records, tickets in the worker", _number(mine)],
    ]
    rows += [[part, _number(us)] for part, us in ours.items() if part != "worker"]
    return (
        _table(["CPU of one request with everything on", "us"], rows)
        + ("\n`make bench-profile` shows the worker's share function by function.\n")
        + (_PROFILE.format(profile=profile) if profile else "")
    )


def _latency(run: Mapping[str, Any]) -> str:
    part = run["parts"]["latency"]
    if not part:
        return "Not measured.\n"
    rows = []
    for name in ("direct", *NAMES):
        mine = [each for each in part["runs"] if each["target"] == name]
        if mine:
            p50, p99 = ([each[f] for each in mine] for f in ("p50_ms", "p99_ms"))
            label = "straight to the mock" if name == "direct" else NAMES[name]
            rows.append([label, _number(median(p50)), _number(median(p99))])
    return _table(["at 200 requests a second, ms", "p50", "p99"], rows)


def _streams(run: Mapping[str, Any]) -> str:
    part = run["parts"]["streams"]
    if not part:
        return "Not measured.\n"
    rows = []
    for each in part["scenes"]:
        scene, direct, through = each["scene"], each["direct"], each["through"]
        rows.append(
            [
                f"{scene['count']:,} at {scene['rate']:g}/s",
                _number(through["gap_p99_ms"]),
                _number(direct["gap_p99_ms"]),
                _number(through["delay_p99_ms"]),
                _number(through["chunk_us"]["worker"]),
                _number(through["stream_kib"]),
                f"{through['clean']:,}",
            ]
        )
        if scene["reason"]:
            rows.append([scene["reason"], "", "", "", "", "", ""])
    head = [
        "open streams",
        "p99 added gap ms",
        "the same without a gateway",
        "p99 delay of a token ms",
        "CPU us a chunk",
        "KiB a stream",
        "ended cleanly",
    ]
    return _table(head, rows)


def _lifecycle(run: Mapping[str, Any]) -> str:
    memory, start, stop = (run["parts"].get(name) for name in ("memory", "start", "stop"))
    lines = []
    if memory:
        lines.append(
            f"- After {memory['requests']:,} requests the worker holds {_number(memory['rss_mb'])} MB; "
            f"before, {_number(memory['points'][0][1])} MB."
        )
    if start:
        times = len(start["seconds"])
        lines.append(
            f"- A worker starts and answers in {_number(start['median_s'])} s (median of {times})."
        )
    if stop:
        lines.append(
            f"- {len(stop['stops'])} stops: last byte after {_number(stop['p50_ms'])} ms (median), "
            f"{_number(stop['max_ms'])} ms (longest)."
        )
    return "\n".join(lines) + "\n"


def _ledger(run: Mapping[str, Any]) -> str:
    """Return the section of a run of `make bench-ledger`."""
    found = run["summary"]
    count = found["verify_1m_extrapolated_from"]
    how = "measured at a million" if count is None else f"from {count:,}, by proportion"
    errors = "; ".join(found["append_errors"]) or "none"
    return (
        "## The ledger\n\n"
        + _verdicts(run, LEDGER_BUDGETS)
        + f"""
`make bench-ledger`, {run["at"][:10]}, on the same kind of machine, load and ledger on both cores. One control,
one witness; each append is a signed commitment: verified, durable, then answered.

- Appends: {_number(found["appends_per_s"])} a second in transactions of up to 64, median {_number(found["append_p50_ms"])} ms; errors: {errors}.
- A keeper that begins anew is back in {_number(found["restart_s"])} s from what it last kept, in {_number(found["refold_s"])} s from its journals alone ({_number(found["records_hashed"])} records).
- Receipts: {found["receipts"]} asked for under {_number(found["receipts_under_rps"])} requests a second, median {_number(found["receipt_p50_s"])} s.
- Verifying: {how}; the one-file verifier takes {_number(found["verify_1m_one_file_s"])} s for the same.
"""
    )


def _machine(run: Mapping[str, Any]) -> str:
    machine = run["machine"]
    rows = [
        [
            "processor",
            f"{machine['cpu']}, {machine['cores']} cores, one for the gateway and one for load and mock",
        ],
        ["memory", f"{machine['memory_gib']} GiB"],
        [
            "system",
            f"{machine['system']}, Python {machine['python']}, journals on {machine.get('disk', 'unknown')}",
        ],
        ["fdatasync, median", f"{_number(run['summary']['fdatasync_ms'])} ms"],
        ["measured", run["at"][:10]],
    ]
    return _table(["", ""], rows)


def render_page(
    run: Mapping[str, Any] | None, profile: str = "", ledger: Mapping[str, Any] | None = None
) -> str:
    """Return the page of a run, with the tables of a profile and of a run of the ledger's."""
    if run is None:
        return f"{_HEAD}\nNo run has been kept yet.\n\n{_HOW}"
    state = "The run is valid: every count agreed."
    if not run["summary"]["valid"]:
        state = "**The run is not valid**: " + "; ".join(run["faults"])
    sections = [
        _HEAD,
        "![Requests a second of one core](performance.svg)\n",
        state + "\n",
        "## Against the budgets\n",
        _verdicts(run),
        "## Throughput\n",
        _capacity(run),
        _breakdown(run, profile),
        "## Latency\n",
        _latency(run),
        "## Streams\n",
        _streams(run),
        "## Memory, start, stop\n",
        _lifecycle(run),
        "## The machine\n",
        _machine(run),
        "" if ledger is None else _ledger(ledger),
        _HOW,
    ]
    return "\n".join(section for section in sections if section)


def pages(run: Mapping[str, Any] | None) -> dict[Path, str]:
    """Return the text of each file that is drawn."""
    found = {_DOCS / "performance.md": render_page(run, newest_profile(), newest(what="ledger"))}
    if run is not None:
        found[_DOCS / "performance.svg"] = render_chart(run)
    return found


def draw(*, check: bool) -> int:
    """Write the page, or say whether it is what the newest run gives."""
    wrong = 0
    for path, text in pages(newest()).items():
        if check:
            stands = path.exists() and path.read_text("utf-8") == text
            if not stands:
                print(
                    f"{path.name} is not what the newest run gives: make bench-docs",
                    file=sys.stderr,
                )
            wrong += not stands
        else:
            path.write_text(text, "utf-8")
            print(path)
    return 1 if wrong else 0
