"""Showing a preview: for each stage what blocks it, who must sign, what remains, what is unseen."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from gatelift.cli.output import ago, at_text, facts, say, show, table

__all__ = ["show_preview"]


def show_preview(found: dict[str, Any]) -> None:
    """Print what `GET /preview` said."""
    show({"ok": True} | found, lambda: _render(found))


def _render(found: dict[str, Any]) -> None:
    say(f"Release {found.get('release') or '-'} at {at_text(found.get('at'))}")
    for each in found.get("problems", ()):
        say(f"  {each['message']} [{each['code']}]")
    for stage in found.get("stages", ()):
        say()
        _render_stage(stage)
    if found.get("blindness"):
        say()
        say("What could go unseen (95 % confidence), and how soon a bad rate is found:")
        table(
            ("metric", "limit", "seen", "rate still possible", "found by waiting above"),
            [
                (
                    each["metric"],
                    each["limit"],
                    f"{each['s']} of {each['n']}",
                    _rate(each["unseen_bound"]),
                    _rate(each["blind_rate"]),
                )
                for each in found["blindness"]
            ],
        )


def _rate(value: object) -> str:
    return f"{Decimal(str(value)):.4f}"


def _render_stage(stage: dict[str, Any]) -> None:
    if stage["standing"]:
        say(f"{stage['stage']}: stands until {at_text(stage['not_after'])}")
    else:
        say(f"{stage['stage']}: shut; signed by {', '.join(stage['must_sign'])}")
        for each in stage["blocked_by"]:
            about = f" ({each['subject']})" if each.get("subject") else ""
            say(f"  - {each['message']}{about} [{each['code']}]")
            if each.get("opens_with"):
                say(f"    opens with: {each['opens_with']}")
    rows: list[tuple[str, object]] = []
    for left in stage["remaining"]:
        if left["what"].startswith("ms of "):
            have, need = ago(left["have"]), ago(left["need"] or 0)
            rows.append((f"  {left['what'].removeprefix('ms of ')}", f"{have} of {need}"))
        else:
            need_text = left["need"] if left["need"] is not None else "no number would do"
            rows.append((f"  {left['what']}", f"{left['have']} of {need_text}"))
    if not stage["standing"]:
        when = at_text(stage["earliest_at"]) if stage["earliest_at"] else stage["why_unknown"]
        rows.append(("  earliest", when))
    facts(rows)
