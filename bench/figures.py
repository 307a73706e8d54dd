"""What a kept run says of each contender, as medians over its sound rounds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any, Final

import msgspec

__all__ = ["NAMES", "ContenderFigures", "capacity_of", "median"]

NAMES: Final = {
    "nginx": "nginx, bare proxy_pass",
    "envoy": "Envoy, bare pass-through",
    "gatelift_nothing_on": "Gatelift, nothing on",
    "gatelift": "Gatelift, everything on",
    "portkey": "Portkey",
    "litellm": "LiteLLM, master key",
}


class ContenderFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One contender. `share` is Gatelift's rate divided by its own, taken round by round.

    `cpu_us` is the CPU of a request by part; `gateway_core` and `load_core` are the shares of time in
    which the cores were busy. Null or empty where it did not run.
    """

    name: str
    rps: float | None
    share: float | None
    cpu_us: dict[str, float]
    gateway_core: float | None
    load_core: float | None
    rss_mb: float | None


def median(values: list[float]) -> float | None:
    """Return the median, null of nothing."""
    return statistics.median(values) if values else None


def capacity_of(run: Mapping[str, Any]) -> list[ContenderFigures]:
    """Return the figures of every contender, also of those that did not run."""
    sound = [each for each in run["parts"]["capacity"] or () if not each["faults"]]
    ours = {each["round"]: each["rps"] for each in sound if each["contender"] == "gatelift"}
    rows = []
    for name in NAMES:
        mine = [each for each in sound if each["contender"] == name]

        def typical(field: str, mine: list[dict[str, Any]] = mine) -> float | None:
            return median([each[field] for each in mine])

        parts = mine[0]["cpu_us"] if mine else ()
        rows.append(
            ContenderFigures(
                name=name,
                rps=typical("rps"),
                share=median([ours[e["round"]] / e["rps"] for e in mine if e["round"] in ours]),
                cpu_us={p: statistics.median([e["cpu_us"][p] for e in mine]) for p in parts},
                gateway_core=typical("gateway_core_busy"),
                load_core=typical("load_core_busy"),
                rss_mb=typical("rss_mb"),
            )
        )
    return rows
