"""Checks of harm conditions: that the safeguard could ever speak as the condition says.

Invariants
- A condition that no verdict can meet would count nothing and read as clean, so it is a problem.
- Sides come from the safeguards' own cards, never from a second list here.

Does not check that the safeguard is in force in a stage: `plan.stage_checks` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatelift.plan.problems import Report
from gatelift.safeguards import CARDS
from gatelift.terms import Category

__all__ = ["check_condition"]


def check_condition(condition: Mapping[str, Any], path: str, report: Report) -> None:
    """Report a side on which the safeguard never speaks, and a band that it never gives."""
    category, side = condition.get("safeguard"), condition.get("side")
    if category is None:
        return
    sides = CARDS[category].sides
    if side is not None and side not in sides:
        report.add(
            f"{path}.side",
            f"the safeguard {category} never speaks about the {side}, so nothing would be counted",
            " or ".join(sides),
        )
    if "band" in condition and category is not Category.MISUSE:
        report.add(
            f"{path}.band",
            f"only misuse tells bands apart, {category} does not",
            "the condition without band",
        )
