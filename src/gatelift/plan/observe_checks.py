"""Checks of what a stage observes and does not enforce.

Invariants
- Only a stage of evaluators or our own people may observe: beyond them the envelope in force is what
  the evidence was for, and nothing stands beside it.
- What is observed is tighter than what is in force, or it would say nothing.

Source: docs/adr/0009-observe-is-no-permission.md.
"""

from __future__ import annotations

from gatelift.plan.stage_checks import Known, Tree
from gatelift.terms import Posture, Tier, at_least, format_money, meet_posture

__all__ = ["check_observe"]


def check_observe(known: Known, index: int) -> None:
    """Report what is wrong with a stage's `observe`."""
    stage, path, report = known.stages[index], f"stages[{index}].observe", known.report
    observed = stage.get("observe")
    if observed is None:
        return
    tier = stage.get("audience", {}).get("tier")
    if tier is not None and not at_least(Tier.INTERNAL, tier):
        report.add(
            path,
            f"a stage for {tier} enforces all that it says; only evaluators and internal observe",
            "the caps and safeguards themselves, without observe:",
        )
    if not observed.get("caps") and not observed.get("safeguards"):
        report.add(path, "expected caps or safeguards to observe", "caps: or safeguards: in it")
    _check_caps(known, stage, observed, path)
    _check_postures(known, stage, observed, path)


def _check_caps(known: Known, stage: Tree, observed: Tree, path: str) -> None:
    for subject, units in observed.get("caps", {}).items():
        for unit, limits in units.items():
            held = {
                window: limit
                for limit, window, _ in stage.get("caps", {}).get(subject, {}).get(unit, ())
            }
            for limit, window, currency in limits:
                if limit >= held.get(window, limit + 1):
                    known.report.add(
                        f"{path}.caps.{subject}.{unit}",
                        f"{_said(held[window], currency)} is in force already, "
                        f"{_said(limit, currency)} would never be reached",
                        f"less than {_said(held[window], currency)}",
                    )


def _said(limit: int, currency: str) -> str:
    return format_money(limit, currency) if currency else str(limit)


def _check_postures(known: Known, stage: Tree, observed: Tree, path: str) -> None:
    for category, posture in observed.get("safeguards", {}).items():
        held = stage.get("safeguards", {}).get(category)
        where = f"{path}.safeguards.{category}"
        if held is None:
            known.report.add(
                where,
                f"{category} has no posture in force, so nothing would be recorded",
                f"{category}: observe under the stage's safeguards",
            )
        elif posture == held or meet_posture(Posture(held), Posture(posture)) != posture:
            known.report.add(
                where, f"{held} is in force already, {posture} is no tighter", "a tighter posture"
            )
