"""docs/reference/availability.md, made from the availability contract."""

from __future__ import annotations

from gatelift.gateway.availability import ROWS, Failure
from gatelift.gateway.replies import CODES

__all__ = ["render_availability"]


def _codes(row: Failure) -> str:
    if not row.codes:
        return "-"
    told = []
    for code in row.codes:
        known = CODES[code]
        told.append(f"{known.status} `{code}`, {'retry-after' if known.retry else 'no retry'}")
    return "; ".join(told)


def _link(test: str) -> str:
    path, _, name = test.partition("::")
    return f"[{name.removeprefix('test_').replace('_', ' ')}](../../{path})"


def render_availability() -> str:
    """Return docs/reference/availability.md."""
    head = (
        "# What callers see when something fails",
        "",
        "Made from `gatelift.gateway.availability.ROWS`; each row links the tests that show it. Every",
        "failure closes, none opens. A 503 here says `retry-after` in seconds and means that asking",
        "again helps; `no retry` is said as `x-should-retry: false`. Records, caps and orders",
        "hold through all of it.",
        "",
        "| what fails | callers see | code | at the latest after | on-call |",
        "|---|---|---|---|---|",
    )
    rows = [f"| {r.what} | {r.sees} | {_codes(r)} | {r.within} | {r.on_call} |" for r in ROWS]
    shown = [f"- {r.what}: {'; '.join(_link(test) for test in r.tests)}" for r in ROWS]
    tail = (
        "",
        "## Where it is shown",
        "",
        *shown,
        "",
        "## Restarting without `gatelift up`",
        "",
        "`up` keeps the listening sockets, so a new worker takes over the queue of the one it replaces.",
        "A worker started alone has a socket of its own. On SIGTERM it lets in who waits in its queue",
        "and serves them before it ends; a connection that arrives in the microseconds until the socket",
        "is closed, or whose handshake is still under way across a slow network, is reset and has to",
        "be tried again. Take such a node out of the load balancer first.",
    )
    return "\n".join((*head, *rows, *tail)) + "\n"
