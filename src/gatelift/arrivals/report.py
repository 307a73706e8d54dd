"""The report of an import, as data and as a page, and the caps as a piece of a plan.

Invariants
- Only pseudonyms, public ids, names of settings and of models, and addresses of enrolled servers.
- The same arrival gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gatelift.arrivals.limits import Difference
from gatelift.arrivals.litellm import Arrival
from gatelift.terms import Cap, CapKey, CapUnit, Prices, Subject, Window, format_money

__all__ = ["caps_yaml", "limit_text", "prices_yaml", "render_report", "report_value"]


_NOT_IN_FORCE = (
    "Nothing here is in force. Grants count once admissions signed them, caps once the plan's "
    "quorum signed a plan with them."
)
_CREDENTIALS = (
    "Put each credential into a file of its own, mode 0600, and give it as `--upstream-key-file`. "
    "It is not in this folder."
)


def report_value(arrival: Arrival) -> dict[str, Any]:
    """Return the report as plain data; limits on cost are in micro-units, as on the wire."""
    return {
        "model": arrival.model,
        "organisations": list(arrival.organisations),
        "keys": [
            {
                "public_id": key.key.public_id,
                "organisation": key.organisation,
                "principal": key.principal,
                "project": key.project,
                "not_after": key.not_after,
            }
            for key in arrival.keys
        ],
        "placements": list(arrival.placements),
        "prices": arrival.prices,
        "proposes_prices": arrival.proposes_prices,
        "caps": [_cap(cap) for cap in arrival.caps.caps],
        "caps_changed": [_cap(cap) for cap in arrival.caps.changed],
        "differences": [
            {
                "who": each.who,
                "cap": each.cap,
                "there": each.there,
                "here": each.here,
                "effect": each.effect,
            }
            for each in arrival.caps.differences
        ],
        "left": [
            {
                "what": each.what,
                "why": each.why.value,
                "reason": each.why.reason,
                "line": each.line,
            }
            for each in arrival.left
        ],
    }


def _cap(cap: Cap) -> dict[str, object]:
    return {"cap": cap.key, "limit": cap.limit}


def limit_text(key: CapKey, limit: int, currency: str) -> str:
    """Return a limit as people read it: money with its currency, all else as a number."""
    is_money = key.split("/")[0].endswith(f".{CapUnit.COST.value}")
    return format_money(limit, currency) if is_money else str(limit)


def caps_yaml(caps: Iterable[Cap], currency: str) -> str:
    """Return the `caps:` of a stage as a plan with prices in `currency` writes them."""
    found: dict[str, dict[str, list[str]]] = {}
    for cap in caps:
        units = found.setdefault(cap.subject.value, {})
        window = "" if cap.window is Window.NONE else f"/{cap.window.value}"
        text = limit_text(cap.key, cap.limit, currency)
        units.setdefault(cap.unit.value, []).append(f"{text}{window}")
    lines = ["caps:"]
    for subject in (each.value for each in Subject if each.value in found):
        lines.append(f"  {subject}:")
        for unit, limits in sorted(found[subject].items()):
            text = limits[0] if len(limits) == 1 else f"[{', '.join(limits)}]"
            lines.append(f"    {unit}: {text}")
    return "\n".join(lines if found else ["caps: {}"]) + "\n"


def prices_yaml(prices: Prices) -> str:
    """Return the `prices:` of a plan."""
    into, out = (
        format_money(micros, prices.currency).partition(" ")[0]
        for micros in (prices.input_micros, prices.output_micros)
    )
    return f"prices: {{currency: {prices.currency}, input: {into}, output: {out}}}\n"


def render_report(arrival: Arrival) -> str:
    """Return the report as a page in Markdown."""
    value = report_value(arrival)
    return "\n".join(
        (
            f"# Import from LiteLLM: model {arrival.model}",
            "",
            _NOT_IN_FORCE,
            "",
            f"## Grants: {len(arrival.keys)} keys of {len(arrival.organisations)} organisations",
            "",
            *_table(
                ("key", "organisation", "principal", "project"),
                (
                    (k["public_id"], k["organisation"], k["principal"], k["project"])
                    for k in value["keys"]
                ),
            ),
            f"## Placements: {len(arrival.placements)}",
            "",
            *_table(
                ("name", "base URL", "model there", "credential stands in"),
                ((p.name, p.base_url, p.model, p.credential) for p in arrival.placements),
            ),
            _CREDENTIALS,
            "",
            "## Caps",
            "",
            "Caps count alike for everybody in the stage.",
            "",
            *_yaml(caps_yaml(arrival.caps.caps, arrival.currency)),
            *_prices(arrival),
            f"### Who had another limit: {len(arrival.caps.differences)}",
            "",
            *_table(
                ("who", "cap", "there", "here", "so"),
                (_difference(each, arrival.currency) for each in arrival.caps.differences),
            ),
            f"## What does not come along: {len(arrival.left)}",
            "",
            *_table(
                ("what", "line", "why", "code"),
                (
                    (each.what, each.line or "-", each.why.reason, each.why.value)
                    for each in arrival.left
                ),
            ),
        )
    )


def _prices(arrival: Arrival) -> list[str]:
    if arrival.prices is None or not arrival.proposes_prices:
        return []
    says = "Caps on cost count at these prices, beside `stages:` in the plan; they are rounded up:"
    return [says, "", *_yaml(prices_yaml(arrival.prices))]


def _yaml(text: str) -> list[str]:
    return ["```yaml", text.rstrip("\n"), "```", ""]


def _difference(each: Difference, currency: str) -> tuple[object, ...]:
    there = "none" if each.there is None else limit_text(each.cap, each.there, currency)
    return (each.who, each.cap, there, limit_text(each.cap, each.here, currency), each.effect)


def _table(columns: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> list[str]:
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    found = [f"| {' | '.join(str(cell).replace('|', '/') for cell in row)} |" for row in rows]
    return [*lines, *found, ""] if found else ["None.", ""]
