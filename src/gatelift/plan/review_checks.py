"""Checks of the reviews that a gate asks for: deputies stand for roles that are asked, and after a time.

Invariant: a deputy without `answer_by` would count at once, and one of a role that is not asked never;
neither is taken for what somebody may have meant. A stage with deputies takes public notice for at
least as long, so that the silence is proved by the witnesses' time and not by the log's alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatelift.plan.problems import Report

__all__ = ["check_deputies"]


def check_deputies(
    reviews: Mapping[str, Any], notice_ms: int | None, path: str, report: Report
) -> None:
    """Report deputies of roles that nobody asks, and deputies or `answer_by` without the other.

    `notice_ms` is the stage's notice, none where the plan's was refused.
    """
    deputies = reviews.get("deputies", {})
    roles = reviews.get("roles", ())
    for role in deputies:
        if roles and role not in roles:
            report.add(
                f"{path}.deputies.{role}",
                f"no review by {role} is asked for here",
                f"a deputy of {' or '.join(str(each) for each in roles)}",
            )
    if report.given(f"{path}.deputies") and not report.given(f"{path}.answer_by"):
        report.add(path, "deputies without a date by which the role answers", "answer_by: 5d")
    answer_by_ms = reviews.get("answer_by")
    if answer_by_ms is not None and notice_ms is not None and notice_ms < answer_by_ms:
        report.add(
            f"{path}.answer_by",
            f"the stage's notice of {notice_ms} ms is shorter: no witness would prove so long a silence",
            "a shorter one, or a notice: of this stage that is at least as long",
        )
    if report.given(f"{path}.answer_by") and not report.given(f"{path}.deputies"):
        report.add(
            f"{path}.answer_by",
            "nobody speaks when that time is over: silence approves nothing",
            "deputies: {safety: a person of the root}",
        )
