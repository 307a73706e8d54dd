"""Checks of the plan as a whole: that it can be held to, and that its gates can open.

Invariants
- Every check looks at what was read, skips what was refused already, and reports to `Report`; so a
  typo in one place hides nothing in another.
- A check says what to write instead.
- What is missing is never taken as good: a metric without its safeguard in force would be clean by
  silence, so it is a problem.

Checks of one stage are in `plan.stage_checks`; this module looks at the head, at thresholds and at
stages against each other. Does not judge whether a plan is wise.

Source: DESIGN.md section 5; statistics in `gatelift.stats`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from gatelift.plan.conditions import check_condition
from gatelift.plan.kinds import BAD
from gatelift.plan.observe_checks import check_observe
from gatelift.plan.price_checks import check_prices
from gatelift.plan.problems import Report
from gatelift.plan.review_checks import check_deputies
from gatelift.plan.stage_checks import Known, check_gate, check_stage, check_watches
from gatelift.stats import attempts_to_rule_out
from gatelift.terms import Assurance, Durability, Tier, WatchRole, at_least

__all__ = ["check_plan"]

Tree = Mapping[str, Any]


def check_plan(tree: Tree, report: Report) -> None:
    """Report what is wrong with a plan beyond its single values."""
    stages = [each if each is not BAD else {} for each in tree.get("stages", ())]
    thresholds = [each if each is not BAD else {} for each in tree.get("thresholds", ())]
    known = Known(
        report=report,
        stages=tuple(stages),
        metrics=tree.get("metrics", {}),
        metrics_given=frozenset(tree.get("metrics", {})) | _names_given(tree, report),
        thresholds=tuple(each["name"] for each in thresholds if "name" in each),
        thresholds_complete=all("name" in each for each in thresholds),
        false_assurance=tree.get("false_assurance"),
        quorum=tree.get("trust", {}).get("quorum"),
    )
    _check_head(tree, report)
    _check_unique(stages, "stages", "stage", report)
    _check_unique(thresholds, "thresholds", "threshold", report)
    for index, threshold in enumerate(thresholds):
        _check_threshold(threshold, f"thresholds[{index}]", report)
    for name, metric in tree.get("metrics", {}).items():
        check_condition(metric.get("harmful_when", {}), f"metrics.{name}.harmful_when", report)
    for index in range(len(stages)):
        check_stage(known, index)
        check_gate(known, index)
        check_deputies(
            stages[index].get("gate", {}).get("reviews", {}),
            stages[index].get("notice", tree.get("trust", {}).get("notice") if index else 0),
            f"stages[{index}].gate.reviews",
            report,
        )
        check_watches(known, index)
        check_observe(known, index)
    _check_order(stages, report)
    _check_threshold_use(stages, thresholds, report)
    _check_one_limit(stages, report)
    check_prices(tree, stages, report)


def _names_given(tree: Tree, report: Report) -> frozenset[str]:
    # A metric that is in the file but was refused: naming it elsewhere is no second mistake.
    watched = {
        each["metric"]
        for stage in tree.get("stages", ())
        if stage is not BAD
        for each in (*stage.get("watch", ()), *stage.get("gate", {}).get("clear", ()))
        if each is not BAD and "metric" in each
    }
    return frozenset(name for name in watched if report.given(f"metrics.{name}"))


def _check_head(tree: Tree, report: Report) -> None:
    quorum = tree.get("trust", {}).get("quorum")
    if quorum is not None and len(set(quorum)) < 2:
        report.add(
            "trust.quorum",
            "expected at least two distinct roles: nobody alone may widen",
            "two roles, such as [safety, security]",
        )
    _check_durability(tree, report)
    drift = tree.get("drift", {})
    if drift.get("changed", 3) > drift.get("probes", 16):
        report.add(
            "drift.changed",
            f"{drift.get('changed', 3)} of {drift.get('probes', 16)} probes can never change",
            "at most as many as there are probes",
        )
    if "stretch" in tree and tree.get("units_per_organisation", 0) > tree["stretch"]:
        report.add(
            "units_per_organisation",
            f"a stretch has {tree['stretch']} units, so the limit of "
            f"{tree['units_per_organisation']} an organisation is none",
            f"at most {tree['stretch']}",
        )


def _check_durability(tree: Tree, report: Report) -> None:
    if tree.get("trust", {}).get("durability") is not Durability.RELAXED:
        return
    for stage in tree.get("stages", ()):
        assurance = BAD if stage is BAD else stage.get("assurance", BAD)
        if assurance is not BAD and at_least(assurance, Assurance.OVERSEEN):
            report.add(
                "trust.durability",
                f"stage {stage.get('name', '?')} is overseen, and relaxed loses records that an overseer "
                "would ask for",
                "node or replicated",
            )
            return


def _check_unique(values: list[Any], path: str, word: str, report: Report) -> None:
    seen: set[str] = set()
    for index, each in enumerate(values):
        name = each.get("name")
        if name in seen:
            report.add(f"{path}[{index}].name", f"{word} {name} stands twice", "another name")
        elif name is not None:
            seen.add(name)


def _check_threshold(threshold: Tree, path: str, report: Report) -> None:
    evidence = threshold.get("evidence", {})
    if {"limit", "margin", "attempts", "confidence"} <= evidence.keys():
        _check_attempts(
            evidence, f"{path}.evidence", evidence["limit"], evidence["margin"], "attempts", report
        )
    measures = threshold.get("unless_ruled_out")
    if measures is None:
        return
    keys = ("audience", "safeguards", "evidence")
    if not any(measures.get(key) for key in keys) and not any(
        report.given(f"{path}.unless_ruled_out.{key}") and key not in measures for key in keys
    ):
        report.add(
            f"{path}.unless_ruled_out",
            "it switches nothing on, so that reaching the threshold would change nothing",
            "an audience, safeguards or evidence that the level demands",
        )
    for index, each in enumerate(measures.get("evidence", ())):
        if each is not BAD and {"below", "min_attempts", "confidence"} <= each.keys():
            inner = f"{path}.unless_ruled_out.evidence[{index}]"
            _check_attempts(each, inner, each["below"], Decimal(0), "min_attempts", report)


def _check_attempts(
    values: Tree, path: str, limit: Decimal, margin: Decimal, key: str, report: Report
) -> None:
    # One run without a single success must be able to show it, or the gate could never open.
    if margin >= limit:
        report.add(
            f"{path}.margin", f"margin {margin} leaves nothing below {limit}", "a smaller one"
        )
        return
    need = attempts_to_rule_out(limit, margin, values["confidence"])
    if need is None:
        report.add(
            f"{path}.limit", f"no number of attempts shows less than {limit}", "a higher one"
        )
    elif values[key] < need:
        report.add(
            f"{path}.{key}",
            f"{values[key]} attempts without one success cannot show a rate below {limit}"
            + (f" by {margin}" if margin else ""),
            f"{need} or more",
        )


def _check_order(stages: list[Tree], report: Report) -> None:
    ladder = list(Tier)
    widest, named = Tier.NOBODY, ""
    for index, stage in enumerate(stages):
        tier = stage.get("audience", {}).get("tier")
        if tier is None:
            continue
        if ladder.index(tier) < ladder.index(widest):
            report.add(
                f"stages[{index}].audience.tier",
                f"{tier} is tighter than {widest} of the earlier stage {named}: stages stand in "
                "order of exposure",
                f"{widest} or wider, or move the stage",
            )
        else:
            widest, named = tier, stage.get("name", f"stages[{index}]")


def _check_threshold_use(stages: list[Tree], thresholds: list[Tree], report: Report) -> None:
    asked: dict[str, str] = {}
    for index, stage in enumerate(stages):
        path = f"stages[{index}].gate"
        gate = stage.get("gate")
        here = (gate or {}).get("thresholds", ())
        if gate is None or BAD in here or (report.given(f"{path}.thresholds") and not here):
            return
        dropped = [name for name in asked if name not in here]
        if here and dropped:
            report.add(
                f"{path}.thresholds",
                f"it drops {', '.join(dropped)}, which the gate of {asked[dropped[0]]} asks for",
                "every threshold of the earlier gates too",
            )
        for name in here:
            asked.setdefault(name, stage.get("name", path))
    for index, threshold in enumerate(thresholds):
        name = threshold.get("name")
        if len(stages) > 1 and name is not None and name not in asked:
            report.add(
                f"thresholds[{index}].name", f"no gate asks for {name}", "it in a gate's thresholds"
            )


def _guardrails(stages: list[Tree]) -> Iterator[tuple[str, str, Decimal]]:
    for index, stage in enumerate(stages):
        for place, each in enumerate(stage.get("watch", ())):
            if (
                each is not BAD
                and each.get("role") is WatchRole.GUARDRAIL
                and {"metric", "limit"} <= each.keys()
            ):
                yield f"stages[{index}].watch[{place}].limit", each["metric"], each["limit"]


def _check_one_limit(stages: list[Tree], report: Report) -> None:
    # One process a metric runs through the whole rollout; a second limit would be a second process
    # whose share of false_alarm nobody has set aside.
    first: dict[str, Decimal] = {}
    for path, metric, limit in _guardrails(stages):
        if first.setdefault(metric, limit) != limit:
            report.add(
                path,
                f"the guardrail on {metric} has the limit {first[metric]} in another stage; one "
                "account of false alarms holds over all stages",
                f"{first[metric]}, or a second metric with its own limit",
            )
