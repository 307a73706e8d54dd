"""`gatelift status` and `gatelift log`: what is live, what blocks, and what was written down."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gatelift.cli.desk import AdminOption, Desk, TokenOption
from gatelift.cli.output import JsonFlag, ago, at_text, facts, say, short, show, table
from gatelift.encoding import parse_base64, parse_json
from gatelift.trust import parse_envelope

__all__ = ["log", "status"]

_PAGE = 256


def status(
    admin: AdminOption = None, token_file: TokenOption = None, json_output: JsonFlag = False
) -> None:
    """Show the release now: stages, placements, orders, incidents, the last decision."""
    found = Desk(admin, token_file).state
    show({"ok": True} | found, lambda: _render_status(found))


def _render_status(found: dict[str, Any]) -> None:
    head = found["checkpoint"]
    rows: list[tuple[str, object]] = [
        ("release", found["release"] or "no plan is in force"),
        ("candidate", found["fingerprint"] or "-"),
        ("plan", found["plan_digest"] or "-"),
        ("log", f"{found['size']} entries, {head['size'] if head else 0} cosigned"),
        ("node", f"{found['node'] or '-'}{'' if found['node_connected'] else ' (not connected)'}"),
        ("last status", at_text(found["status_signed_at"])),
    ]
    if head and head["confirmed_at"]:
        age = ago(found["at"] - head["confirmed_at"])
        late = found["at"] > head["fresh_until"]
        rows.append(
            ("confirmed", f"by a quorum {age} ago{': TOO OLD, nodes refuse it' if late else ''}")
        )
    if found["witness_problem"]:
        rows.append(("not cosigned", found["witness_problem"]))
    if found["plan_problem"]:
        rows.append(("plan problem", found["plan_problem"]))
    facts(rows)
    say()
    table(
        ("stage", "serves", "until", "grants", "who signs", "held down by"),
        [
            (
                each["name"],
                "withheld" if each["withheld"] else "yes" if each["standing"] else "no",
                at_text(each["certificate"]["not_after"]) if each["certificate"] else "-",
                each["grants"],
                ", ".join(each["quorum"]),
                f"{len(each['held_down_by'])} order(s)" if each["held_down_by"] else "-",
            )
            for each in found["stages"]
        ],
    )
    for each in found["stages"]:
        if each["withheld"]:
            say(f"Stage {each['name']} is withheld: {each['withheld']}.")
    _render_witnesses(found)
    _render_beacons(found)
    _render_facts(found)


def _render_witnesses(found: dict[str, Any]) -> None:
    if found["witnesses"]:
        say()
        table(
            ("witness", "organisation", "cosigned", "at", "problem"),
            [
                (
                    w["name"],
                    f"{w['organisation']}{'' if w['independent'] else ' (not independent)'}",
                    "-" if w["size"] is None else w["size"],
                    at_text(w["cosigned_at"]) if w["cosigned_at"] else "-",
                    w["problem"] or "-",
                )
                for w in found["witnesses"]
            ],
        )


def _render_beacons(found: dict[str, Any]) -> None:
    if found["beacons"]:
        say()
        table(
            ("beacon", "organisation", "signed", "problem"),
            [
                (
                    b["url"],
                    b["organisation"] or "-",
                    at_text(b["signed_at"]) if b["signed_at"] else "-",
                    b["problem"] or "-",
                )
                for b in found["beacons"]
            ],
        )


def _render_facts(found: dict[str, Any]) -> None:
    if found["probes"]:
        say()
        table(
            ("placement", "up", "changed", "sealing", "binding", "reason"),
            [
                (
                    p["placement"],
                    "yes" if p["up"] else "no",
                    f"{p['changed']}/{p['of']}",
                    p["sealing"],
                    p["binding"],
                    p["reason"] or "-",
                )
                for p in (each["probe"] for each in found["probes"])
            ],
        )
    if found["metrics"]:
        say()
        table(
            ("metric", "stage", "harmful", "units", "organisations"),
            [
                (m["metric"], m["stage"], f"{m['s']} of {m['n']}", m["units"], m["organisations"])
                for m in found["metrics"]
            ],
        )
    standing = [each for each in found["orders"] if each["cleared_index"] is None]
    if standing:
        say()
        table(
            ("order", "on", "by", "why"),
            [
                (
                    each["order"]["id"],
                    f"{each['order']['target']['kind']} {each['order']['target']['name']}",
                    each["by"],
                    "; ".join(each["order"]["reasons"]),
                )
                for each in standing
            ],
        )
    out = [each["export"] for each in found["copies"] if each["closing"] is None]
    if out:
        say()
        table(
            ("copy of the weights", "with", "at", "due back"),
            [(e["id"], e["custodian"], e["destination"], at_text(e["expires_at"])) for e in out],
        )
    opened = [each["incident"] for each in found["incidents"] if each["open"]]
    if opened:
        say()
        table(
            ("incident", "severity", "since", "what"),
            [(i["id"], i["severity"], at_text(i["detected_at"]), i["title"]) for i in opened],
        )
    held = found["last_decision"]
    if held is not None:
        decision = held["decision"]
        say()
        say(
            f"Decision {decision['kind']} (entry {held['index']}), stage {decision['stage'] or '-'}"
        )
        for each in decision["reasons"]:
            say(f"  - {each['message']} [{each['code']}]")


def log(
    start: Annotated[int, typer.Option("--start", min=0, help="From this entry on.")] = 0,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 1000,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", help="Only entries of this kind.")
    ] = None,
    admin: AdminOption = None,
    token_file: TokenOption = None,
    json_output: JsonFlag = False,
) -> None:
    """List entries of the releases log; with --json their statements too."""
    client = Desk(admin, token_file).client
    entries: list[dict[str, Any]] = []
    position, size = start, start + 1
    while position < size and len(entries) < limit:
        page = client.get("/entries", start=position, limit=_PAGE)
        size = page["size"]
        entries += [
            _opened(each) for each in page["entries"] if not kind or each["header"]["kind"] in kind
        ]
        position += max(1, len(page["entries"]))
    entries = entries[:limit]

    def render() -> None:
        table(
            ("entry", "at", "kind", "signed by", "body"),
            [
                (
                    each["index"],
                    at_text(each["header"]["at"]),
                    each["header"]["kind"],
                    "\n".join(each["header"]["actor"]),
                    short(each["header"]["body"]),
                )
                for each in entries
            ],
        )

    show({"ok": True, "size": size, "entries": entries}, render)


def _opened(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the entry with its payload in place of the envelope's base64; nothing is verified."""
    body = entry.get("body")
    if body is None:
        return entry
    payload = parse_json(parse_envelope(parse_base64(body)).unverified_payload())
    opened = {name: value for name, value in entry.items() if name != "body"}
    statement = payload.get("predicate", payload) if isinstance(payload, dict) else payload
    return opened | {"statement": statement}
